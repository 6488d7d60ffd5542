"""The pure tree: what the contract tests can't see from outside."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect.testing import datatree, jute
from aioelect.testing.datatree import MAX_CREATES, OPEN_ACL, Caller, Created, DataTree, MultiRefused, Refused
from aioelect.testing.jute import (
    Check,
    Code,
    Create,
    Delete,
    EventType,
    Identity,
    MultiOperation,
    Opcode,
    SetData,
    WatcherType,
    WatchEvent,
)

if TYPE_CHECKING:
    from types import ModuleType

EPHEMERAL, SEQUENTIAL = jute.EPHEMERAL, jute.SEQUENTIAL
CALLER = Caller(session=7)
REFUSED = Check("/none", -1)


class Recorder:
    """A watcher that may read everything that the world may."""

    identities: tuple[Identity, ...] = ()

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []

    def notify(self, event: WatchEvent) -> None:
        self.events.append(event)


def create(path: str, flags: int = 0, opcode: Opcode = Opcode.CREATE) -> Create:
    return Create(opcode, path, b"", OPEN_ACL, flags)


def snapshot(tree: DataTree, path: str = "/") -> object:
    """Everything that clients can see at and below a path, without the zxid of the tree itself."""
    data, stat = tree.get_data(path, CALLER)
    names, _ = tree.get_children(path, CALLER)
    below = {name: snapshot(tree, f"{path.rstrip('/')}/{name}") for name in sorted(names)}
    return data, stat, tree.get_acl(path, CALLER), below, sorted(tree.ephemerals(7)), len(tree)


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
versions = st.sampled_from([-1, -1, 0, 1])
operations: st.SearchStrategy[MultiOperation] = st.one_of(
    st.builds(create, paths, st.sampled_from([0, EPHEMERAL, SEQUENTIAL, EPHEMERAL | SEQUENTIAL])),
    st.builds(create, paths, st.just(jute.CONTAINER), st.just(Opcode.CREATE_CONTAINER)),
    st.builds(Delete, paths, versions),
    st.builds(SetData, paths, st.sampled_from([None, b"", b"x"]), versions),
    st.builds(Check, paths, versions),
)


def attempt(tree: DataTree, operation: MultiOperation) -> None:
    try:
        tree.write(operation, CALLER, now=1)
    except Refused:
        pass


def watch_everything(tree: DataTree) -> Recorder:
    recorder = Recorder()
    for path in ("/", "/a", "/b", "/a/a", "/a/b"):
        if path in tree:
            tree.get_data(path, CALLER, recorder)
            tree.get_children(path, CALLER, recorder)
    return recorder


@given(st.lists(operations, max_size=20), st.lists(operations, max_size=8))
def test_refused_multi_changes_nothing(before: list[MultiOperation], tried: list[MultiOperation]) -> None:
    tree = DataTree()
    for operation in before:
        attempt(tree, operation)
    recorder = watch_everything(tree)
    seen, zxid = snapshot(tree), tree.zxid
    with pytest.raises(MultiRefused) as refused:
        tree.multi([*tried, REFUSED], CALLER, now=2)
    assert snapshot(tree) == seen
    assert tree.zxid == zxid + 1
    assert recorder.events == []
    codes = refused.value.codes
    assert len(codes) == len(tried) + 1
    index = next(index for index, code in enumerate(codes) if code is not Code.OK)
    assert set(codes[index + 1 :]) <= {Code.RUNTIME_INCONSISTENCY}


@given(st.lists(operations, max_size=20), st.lists(operations, max_size=8))
def test_multi_does_what_single_writes_do(before: list[MultiOperation], tried: list[MultiOperation]) -> None:
    """The same results, events and znodes; only zxids differ."""
    one, other = DataTree(), DataTree()
    for tree in (one, other):
        for operation in before:
            attempt(tree, operation)
    recorders = [watch_everything(tree) for tree in (one, other)]
    try:
        results = one.multi(tried, CALLER, now=2)
    except MultiRefused as refused:
        allowed = tried[: next(index for index, code in enumerate(refused.codes) if code is not Code.OK)]
        results = one.multi(allowed, CALLER, now=2)
    singles = [other.write(operation, CALLER, now=2) for operation in tried[: len(results)]]
    assert [_without_zxids(result) for result in results] == [_without_zxids(result) for result in singles]
    assert recorders[0].events == recorders[1].events
    assert sorted(one.ephemerals(7)) == sorted(other.ephemerals(7))
    assert len(one) == len(other)


def _without_zxids(result: datatree.Result) -> object:
    if isinstance(result, Created):
        return result.path, _without_zxids(result.stat)
    return result and result._replace(czxid=0, mzxid=0, pzxid=0)


def test_containers_are_reaped_when_they_had_children() -> None:
    tree = DataTree()
    for path in ("/used", "/unused", "/full"):
        tree.write(create(path, opcode=Opcode.CREATE_CONTAINER), CALLER, now=1)
    for path in ("/used/x", "/full/x"):
        tree.write(create(path), CALLER, now=1)
    tree.write(Delete("/used/x", -1), CALLER, now=1)
    recorder = Recorder()
    tree.exists("/used", recorder)
    assert tree.reap_containers() == ("/used",)
    assert recorder.events == [WatchEvent(EventType.DELETED, "/used")]
    assert [path in tree for path in ("/used", "/unused", "/full")] == [False, True, True]
    assert tree.reap_containers() == ()


def test_container_that_came_back_is_not_forgotten() -> None:
    tree = DataTree()
    tree.write(create("/c", opcode=Opcode.CREATE_CONTAINER), CALLER, now=1)
    tree.write(create("/c/x"), CALLER, now=1)
    tree.write(Delete("/c/x", -1), CALLER, now=1)
    with pytest.raises(MultiRefused):
        tree.multi([Delete("/c", -1), REFUSED], CALLER, now=1)
    assert tree.reap_containers() == ("/c",)


def test_forgotten_watcher_is_not_told() -> None:
    tree = DataTree()
    recorder, other = Recorder(), Recorder()
    for watcher in (recorder, other):
        tree.get_data("/", CALLER, watcher)
        tree.get_children("/", CALLER, watcher)
        with pytest.raises(Refused):
            tree.exists("/a", watcher)
    tree.forget_watcher(recorder)
    tree.write(create("/a"), CALLER, now=1)
    assert recorder.events == []
    assert other.events == [
        WatchEvent(EventType.CREATED, "/a"),
        WatchEvent(EventType.CHILDREN_CHANGED, "/"),
    ]
    with pytest.raises(Refused):
        tree.check_watches("/", WatcherType.ANY, recorder)


def test_closing_a_session_takes_one_zxid() -> None:
    tree = DataTree()
    for name in "abc":
        tree.write(create(f"/{name}", EPHEMERAL), CALLER, now=1)
    tree.write(create("/other", EPHEMERAL), Caller(session=8), now=1)
    before = tree.zxid
    tree.close_session(7)
    assert tree.zxid == before + 1
    assert tree.node("/").pzxid == tree.zxid
    assert (tree.ephemerals(7), tree.ephemerals(8)) == ((), ("/other",))


def test_numbers_run_out() -> None:
    tree = DataTree()
    tree.write(create("/p"), CALLER, now=1)
    tree.node("/p").creates = MAX_CREATES - 1
    for number in (MAX_CREATES - 1, MAX_CREATES):
        created = tree.write(create("/p/n_", SEQUENTIAL), CALLER, now=1)
        assert isinstance(created, Created)
        assert created.path == f"/p/n_{number}"
    with pytest.raises(Refused, match="NODE_EXISTS"):
        tree.write(create("/p/n_", SEQUENTIAL), CALLER, now=1)
    stat = tree.exists("/p")
    assert stat.cversion == -4, "2 * MAX_CREATES - 2, in 32 bits"
    assert len(jute.stat(stat)) == 68


def test_refusal_tells_what_and_where() -> None:
    with pytest.raises(Refused, match="NO_NODE '/none'"):
        DataTree().node("/none")
    with pytest.raises(MultiRefused, match="operation 2 of 3: NO_NODE '/none'"):
        DataTree().multi([create("/a"), REFUSED, create("/b")], CALLER, now=1)


@pytest.mark.parametrize("module", [jute, datatree])
def test_module_is_pure(module: ModuleType) -> None:
    """No clock, no randomness, no input and output: time is an argument."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert imported <= {
        "__future__",
        "aioelect.testing.jute",
        "collections",
        "collections.abc",
        "dataclasses",
        "enum",
        "re",
        "struct",
        "typing",
    }
