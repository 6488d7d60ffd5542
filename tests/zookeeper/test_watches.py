"""The registry of watches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiozk import exc, protocol
from aiozk.protocol import WatchEvent

from aioelect.zookeeper.watches import CHUNK, Kind, Watches

CREATED, DELETED = WatchEvent.CREATED, WatchEvent.DELETED
DATA_CHANGED, CHILDREN_CHANGED = WatchEvent.DATA_CHANGED, WatchEvent.CHILDREN_CHANGED
NO_NODE = exc.NoNode.error_code

EXISTS = protocol.ExistsRequest(path="/a", watch=True)
GET_DATA = protocol.GetDataRequest(path="/a", watch=True)
GET_CHILDREN = protocol.GetChildrenRequest(path="/a", watch=True)
GET_CHILDREN_2 = protocol.GetChildren2Request(path="/a", watch=True)


def ignore(path: str) -> None:
    """A callback."""


def record(czxid: int = 5) -> Any:
    """The part of an answer that counts."""
    return SimpleNamespace(stat=SimpleNamespace(created_zxid=czxid))


def listening(*event_types: int) -> Watches:
    """Somebody listens to these events of /a."""
    watches = Watches()
    for event_type in event_types:
        watches.add(event_type, "/a", ignore)
    return watches


def watch(watches: Watches, path: str) -> None:
    """Somebody watches a znode that exists."""
    watches.add(DELETED, path, ignore)
    watches.answered(protocol.ExistsRequest(path=path, watch=True), record(), 0)


def headings(watches: Watches) -> dict[Kind, list[str]]:
    """Under which headings the paths stand in SetWatches."""
    found: dict[Kind, list[str]] = {}
    for request in watches.set_watches(0):
        for kind in Kind:
            found.setdefault(kind, []).extend(getattr(request, f"{kind.value}_watches"))
    return {kind: paths for kind, paths in found.items() if paths}


# Kinds


@pytest.mark.parametrize(
    ("request_", "error", "kind"),
    [
        (EXISTS, 0, Kind.DATA),
        (EXISTS, NO_NODE, Kind.EXIST),
        (GET_DATA, 0, Kind.DATA),
        (GET_CHILDREN, 0, Kind.CHILD),
        (GET_CHILDREN_2, 0, Kind.CHILD),
    ],
)
def test_the_answer_tells_the_kind(request_: Any, error: int, kind: Kind) -> None:
    event = CHILDREN_CHANGED if kind is Kind.CHILD else CREATED
    watches = listening(event)
    watches.answered(request_, None if error else record(), error)
    assert headings(watches) == {kind: ["/a"]}
    assert watches.missing("/a") == []


def test_the_children_of_an_answer_without_a_stat() -> None:
    watches = listening(CHILDREN_CHANGED)
    watches.answered(GET_CHILDREN, SimpleNamespace(children=[]), 0)
    assert watches.missing("/a") == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (GET_DATA, exc.NoAuth.error_code),
        (GET_CHILDREN_2, exc.NoAuth.error_code),
        (EXISTS, exc.SessionMoved.error_code),
        (protocol.ExistsRequest(path="/a", watch=False), 0),
        (protocol.GetDataRequest(path="/b", watch=True), 0),
        (protocol.SyncRequest(path="/a"), 0),
        (None, 0),
    ],
)
def test_answers_that_set_no_watch(request_: Any, error: int) -> None:
    watches = listening(CREATED, DELETED, CHILDREN_CHANGED)
    size = len(watches)
    assert watches.answered(request_, None if error else record(), error) == []
    assert watches.missing("/a") == [Kind.DATA, Kind.CHILD]
    assert len(watches) == size


@pytest.mark.parametrize("request_", [GET_DATA, GET_CHILDREN, GET_CHILDREN_2])
def test_only_exists_sets_a_watch_on_a_znode_that_is_not_there(request_: Any) -> None:
    watches = listening(CREATED, DELETED, CHILDREN_CHANGED)
    watches.answered(request_, None, NO_NODE)
    assert watches.missing("/a") == [Kind.DATA, Kind.CHILD]


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([CREATED], [Kind.DATA]),
        ([DELETED], [Kind.DATA]),
        ([DATA_CHANGED], [Kind.DATA]),
        ([CHILDREN_CHANGED], [Kind.CHILD]),
        ([CREATED, DELETED], [Kind.DATA]),
        ([CREATED, CHILDREN_CHANGED], [Kind.DATA, Kind.CHILD]),
        ([DELETED, CHILDREN_CHANGED], [Kind.CHILD]),
        ([DELETED, DATA_CHANGED, CHILDREN_CHANGED], [Kind.DATA, Kind.CHILD]),
    ],
)
def test_what_listeners_need(events: list[int], kinds: list[Kind]) -> None:
    watches = listening(*events)
    assert watches.missing("/a") == kinds
    assert watches.missing("/b") == []


@pytest.mark.parametrize("error", [0, NO_NODE])
@pytest.mark.parametrize("event", [CREATED, DELETED, DATA_CHANGED])
def test_a_watch_on_a_znode_serves_whoever_awaits_its_coming_or_going(event: int, error: int) -> None:
    watches = listening(event)
    watches.answered(EXISTS, None if error else record(), error)
    assert watches.missing("/a") == []


@pytest.mark.parametrize("request_", [GET_DATA, GET_CHILDREN_2])
def test_every_watch_serves_who_awaits_the_deletion(request_: Any) -> None:
    watches = listening(DELETED)
    watches.answered(request_, record(), 0)
    assert watches.missing("/a") == []


@pytest.mark.parametrize("event", [CREATED, DATA_CHANGED])
def test_a_watch_on_children_does_not_serve_who_awaits_anything_else_of_the_znode(event: int) -> None:
    watches = listening(event, DELETED)
    watches.answered(GET_CHILDREN_2, record(), 0)
    assert watches.missing("/a") == [Kind.DATA]


def test_a_watch_on_children_outlives_a_change_of_data() -> None:
    watches = listening(DELETED)
    watches.answered(GET_CHILDREN_2, record(), 0)
    watches.fired(DATA_CHANGED, "/a")
    assert watches.missing("/a") == []
    watches.fired(CHILDREN_CHANGED, "/a")
    assert watches.missing("/a") == [Kind.DATA]


# Events


def test_whoever_listens_is_called_in_order() -> None:
    watches = Watches()
    callbacks = [lambda path, n=n: n for n in range(3)]
    for callback in callbacks:
        watches.add(DELETED, "/a", callback)
    assert list(watches.listening(DELETED, "/a")) == callbacks
    assert list(watches.listening(CREATED, "/a")) == []
    assert list(watches.listening(DELETED, "/b")) == []


def test_who_is_removed_by_one_called_before_is_not_called() -> None:
    watches = Watches()
    for each in (ignore, print, repr):
        watches.add(DELETED, "/a", each)
    called: list[object] = []
    for callback in watches.listening(DELETED, "/a"):
        called.append(callback)
        watches.remove(DELETED, "/a", print)
        watches.remove(DELETED, "/a", callback)
    assert called == [ignore, repr]
    assert len(watches) == 0


def test_who_comes_while_others_are_called_waits_for_the_next_event() -> None:
    watches = listening(DELETED)
    for _ in watches.listening(DELETED, "/a"):
        watches.add(DELETED, "/a", print)
    assert list(watches.listening(DELETED, "/a")) == [ignore, print]


@pytest.mark.parametrize(
    ("event", "used_up"),
    [
        (CREATED, {Kind.DATA}),
        (DATA_CHANGED, {Kind.DATA}),
        (CHILDREN_CHANGED, {Kind.CHILD}),
        (DELETED, {Kind.DATA, Kind.CHILD}),
    ],
)
def test_an_event_uses_watches_up_also_for_those_who_await_another(event: int, used_up: set[Kind]) -> None:
    watches = listening(CREATED, DELETED, CHILDREN_CHANGED)
    watches.answered(GET_DATA, record(), 0)
    watches.answered(GET_CHILDREN_2, record(), 0)
    assert watches.missing("/a") == []
    watches.fired(event, "/a")
    assert set(watches.missing("/a")) == used_up


@pytest.mark.parametrize("event", [CREATED, DELETED, DATA_CHANGED])
def test_the_watch_on_a_missing_znode_is_used_up_too(event: int) -> None:
    watches = listening(CREATED)
    watches.answered(EXISTS, None, NO_NODE)
    watches.fired(event, "/a")
    assert watches.missing("/a") == [Kind.DATA]
    assert watches.used_up() == ["/a"]


def test_only_watches_that_were_set_are_used_up() -> None:
    watches = listening(DELETED)
    assert watches.used_up() == []
    watches.answered(EXISTS, record(), 0)
    assert watches.used_up() == []
    watches.fired(DATA_CHANGED, "/a")
    assert watches.used_up() == ["/a"]
    watches.answered(EXISTS, record(), 0)
    assert watches.used_up() == []


def test_an_event_of_another_path_uses_nothing_up() -> None:
    watches = listening(DELETED)
    watches.answered(EXISTS, record(), 0)
    watches.fired(DELETED, "/b")
    assert watches.missing("/a") == []


# What no event told

LOST: list[tuple[list[tuple[str, int]], list[int]]] = [
    ([("seen", 5)], []),
    ([("absent", 0)], []),
    ([("seen", 5), ("seen", 5)], []),
    ([("absent", 0), ("absent", 0)], []),
    ([("seen", 5), ("absent", 0)], [DELETED]),
    ([("absent", 0), ("seen", 5)], [CREATED]),
    ([("seen", 5), ("seen", 6)], [DELETED, CREATED]),
    ([("seen", 5), ("event", DELETED), ("absent", 0)], []),
    ([("seen", 5), ("event", DELETED), ("seen", 6)], [CREATED]),
    ([("seen", 5), ("event", DATA_CHANGED), ("seen", 5)], []),
    ([("seen", 5), ("event", DATA_CHANGED), ("seen", 6)], [DELETED, CREATED]),
    ([("seen", 5), ("event", DATA_CHANGED), ("absent", 0)], [DELETED]),
    ([("absent", 0), ("event", CREATED), ("seen", 6)], []),
    ([("absent", 0), ("event", CREATED), ("absent", 0)], [DELETED]),
    ([("absent", 0), ("event", CREATED), ("seen", 6), ("seen", 7)], [DELETED, CREATED]),
    ([("event", CREATED), ("seen", 6)], []),
    ([("event", DELETED), ("seen", 6)], []),
]


@pytest.mark.parametrize(("steps", "missed"), LOST)
def test_an_answer_tells_what_no_event_told(steps: list[tuple[str, int]], missed: list[int]) -> None:
    watches = listening(DELETED)
    found: list[int] = []
    for what, value in steps:
        if what == "event":
            watches.fired(value, "/a")
        else:
            absent = what == "absent"
            found = watches.answered(EXISTS, None if absent else record(value), NO_NODE if absent else 0)
    assert found == missed


@pytest.mark.parametrize("request_", [GET_DATA, GET_CHILDREN, GET_CHILDREN_2])
def test_any_answer_without_a_znode_tells_that_it_is_gone(request_: Any) -> None:
    watches = listening(DELETED)
    watches.answered(EXISTS, record(), 0)
    assert watches.answered(request_, None, NO_NODE) == [DELETED]


def test_what_was_known_is_forgotten_with_the_last_listener() -> None:
    watches = listening(DELETED)
    watches.answered(EXISTS, record(5), 0)
    watches.remove(DELETED, "/a", ignore)
    watches.add(DELETED, "/a", ignore)
    assert watches.answered(EXISTS, record(6), 0) == []


# A new connection


def test_a_watch_on_a_znode_that_existed_stands_under_data_even_for_who_awaits_its_creation() -> None:
    watches = listening(CREATED)
    watches.answered(EXISTS, record(), 0)
    assert headings(watches) == {Kind.DATA: ["/a"]}


def test_a_watch_on_a_znode_that_did_not_exist_stands_under_exist_even_for_who_awaits_its_deletion() -> None:
    watches = listening(DELETED)
    watches.answered(EXISTS, None, NO_NODE)
    assert headings(watches) == {Kind.EXIST: ["/a"]}


def test_what_was_never_set_is_not_set_by_a_new_connection() -> None:
    assert listening(DELETED, CHILDREN_CHANGED).set_watches(0) == []


def test_a_watch_is_sent_once_for_all_listeners() -> None:
    watches = listening(DELETED, DATA_CHANGED, CREATED)
    watches.add(DELETED, "/a", print)
    watches.answered(GET_DATA, record(), 0)
    assert headings(watches) == {Kind.DATA: ["/a"]}


def test_nothing_is_sent_where_nobody_listens() -> None:
    watches = Watches()
    assert watches.set_watches(5) == []
    watches.add(DELETED, "/a", ignore)
    watches.answered(EXISTS, record(), 0)
    watches.remove(DELETED, "/a", ignore)
    assert watches.set_watches(5) == []


def test_the_last_zxid_goes_out_with_every_request() -> None:
    watches = Watches()
    for n in range(10):
        watch(watches, f"/{n:010d}")
    requests = watches.set_watches(77, chunk=40)
    assert len(requests) > 1
    assert {request.relative_zxid for request in requests} == {77}


@pytest.mark.parametrize("path", ["/election/n_{:010d}", "/wähler/☃_{:010d}", "/" + "x" * 5000 + "{:d}"])
def test_requests_stay_below_the_limit(path: str) -> None:
    watches = Watches()
    paths = [path.format(n) for n in range(10_000 if len(path) < 100 else 200)]
    for each in paths:
        watch(watches, each)
        watches.answered(protocol.GetChildren2Request(path=each, watch=True), record(), 0)
    requests = watches.set_watches(0)
    assert len(requests) > 1
    assert all(len(request.serialize(1)) <= CHUNK + 64 for request in requests)
    assert [each for request in requests for each in request.data_watches] == paths
    assert [each for request in requests for each in request.child_watches] == paths
    assert len(requests) <= 2 + 2 * sum(len(each.encode()) + 4 for each in paths) / (CHUNK - 2 * len(paths[0].encode()))


def test_a_path_longer_than_a_chunk_has_a_request_of_its_own() -> None:
    watches = Watches()
    for path in ("/a", "/" + "x" * 100, "/b"):
        watch(watches, path)
    assert [len(request.data_watches) for request in watches.set_watches(0, chunk=50)] == [1, 1, 1]


# Growth


@pytest.mark.parametrize("armed", [True, False])
def test_nothing_grows(armed: bool) -> None:
    watches = Watches()
    for n in range(10_000):
        path = f"/{n}"
        watches.add(DELETED, path, ignore)
        watches.add(CREATED, path, ignore)
        if armed:
            watches.answered(protocol.ExistsRequest(path=path, watch=True), record(), 0)
    assert len(watches) == (30_000 if armed else 10_000)
    for n in range(10_000):
        watches.remove(DELETED, f"/{n}", ignore)
        watches.remove(CREATED, f"/{n}", ignore)
    assert len(watches) == 0
    assert watches.callbacks == {}


def test_answers_and_events_of_paths_that_nobody_listens_to_leave_nothing() -> None:
    watches = Watches()
    watches.answered(EXISTS, record(), 0)
    watches.fired(DELETED, "/a")
    assert len(watches) == 0


def test_watches_that_come_and_go_on_one_path_leave_nothing() -> None:
    watches = listening(DELETED)
    sizes = set()
    for czxid in range(1, 100):
        watches.answered(EXISTS, record(czxid), 0)
        watches.fired(DELETED, "/a")
        sizes.add(len(watches))
    assert sizes == {2}  # who listens, and what is known of the znode


def test_a_callback_counts_once_however_often_it_is_added() -> None:
    watches = listening(DELETED, DELETED)
    assert list(watches.listening(DELETED, "/a")) == [ignore]
    watches.remove(DELETED, "/a", ignore)
    assert len(watches) == 0


def test_removing_what_is_not_there_does_nothing() -> None:
    watches = listening(DELETED)
    watches.remove(CREATED, "/a", ignore)
    watches.remove(DELETED, "/b", ignore)
    watches.remove(DELETED, "/a", print)
    assert list(watches.listening(DELETED, "/a")) == [ignore]


def test_a_path_is_kept_while_anyone_listens() -> None:
    watches = listening(DELETED, CREATED)
    watches.answered(EXISTS, record(), 0)
    watches.remove(DELETED, "/a", ignore)
    assert headings(watches) == {Kind.DATA: ["/a"]}
