"""What is public: these names and no others, documented, and typed so that a strict checker helps its user."""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import aioelect

PUBLIC = {
    "AioelectError",
    "AuthenticationFailed",
    "Candidate",
    "Client",
    "ClientClosed",
    "ConnectTimeout",
    "ConnectionLoss",
    "Contender",
    "Deposed",
    "Digest",
    "ElectionTimeout",
    "Executed",
    "ForeignContender",
    "Gssapi",
    "Leader",
    "LeadershipLost",
    "LossReason",
    "NoLeader",
    "NotContending",
    "OutcomeUnknown",
    "SaslDigestMd5",
    "SequenceExhausted",
    "ServerSilent",
    "SessionExpired",
    "Standing",
    "Standings",
    "SwitchoverTimeout",
    "Timing",
    "TlsError",
    "Transaction",
    "TransactionRefused",
    "UnexpectedAcl",
    "campaign",
    "connect",
    "errors",
    "events",
    "get_standing",
    "hand_over",
    "leadership",
    "observe",
    "step_down",
}

OPTIONAL = ("aioelect.cli", "aioelect.testing", "aioelect.__main__")
"""Modules that need an extra, or do something when they are imported."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(aioelect.__path__, "aioelect.")
    if not module.name.startswith(OPTIONAL)
)


def test_public_names_are_exactly_these() -> None:
    assert set(aioelect.__all__) == PUBLIC
    assert len(aioelect.__all__) == len(PUBLIC)
    assert list(aioelect.__all__) == sorted(aioelect.__all__)
    assert dir(aioelect) == aioelect.__all__
    visible = {name for name in vars(aioelect) if not name.startswith("_")}
    submodules = {name.removeprefix("aioelect.").partition(".")[0] for name in MODULES} | {"testing", "cli"}
    assert visible - submodules - {"TYPE_CHECKING"} <= PUBLIC


@pytest.mark.parametrize("name", ["aioelect", *MODULES])
def test_module_says_what_it_is_and_what_it_hands_out(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    if name in ("aioelect.zookeeper", "aioelect.guard"):
        return
    assert all(hasattr(module, public) for public in module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC) + [f"events.{name}" for name in aioelect.events.__all__])
def test_every_public_thing_is_documented(name: str) -> None:
    thing: object = aioelect
    for part in name.split("."):
        thing = getattr(thing, part)
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or isinstance(thing, ModuleType)):
        return  # an alias has no docstring of its own
    assert own_docstring(thing), f"{name} has no docstring"
    if inspect.isclass(thing):
        for attribute, value in vars(thing).items():
            described = inspect.isroutine(value) or isinstance(value, (property, classmethod, staticmethod))
            if described and not attribute.startswith(("_", "session_")):
                assert inspect.getdoc(getattr(thing, attribute)), f"{name}.{attribute} has no docstring"


def own_docstring(thing: object) -> str | None:
    """Not the one that a dataclass makes up from its fields."""
    doc = thing.__doc__
    return None if doc and inspect.isclass(thing) and doc.startswith(f"{thing.__name__}(") else doc


def test_package_says_that_it_is_typed() -> None:
    assert (pathlib.Path(aioelect.__file__).parent / "py.typed").exists()


def test_testing_and_pytest_are_not_imported_by_the_package() -> None:
    code = (
        "import sys, aioelect; "
        "print([m for m in sys.modules if m.startswith(('aioelect.testing', 'aioelect.cli', 'pytest', 'click', 'rich'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


GOOD = """
import asyncio
from typing import assert_type
import aioelect
from aioelect import events


def on_event(event: events.Event) -> None:
    if isinstance(event, events.Elected):
        assert_type(event.token, int)
        assert_type(event.trigger, float)


async def work(leader: aioelect.Leader) -> str:
    return leader.identity


async def use() -> str:
    client = await aioelect.connect("zk1:2181,zk2:2181/app", session_timeout=4.0, on_event=on_event)
    assert_type(client, aioelect.Client)
    async with aioelect.connect("zk1:2181") as other:
        assert_type(other, aioelect.Client)
    async with aioelect.leadership(client, "/election", identity="a", data=b"b", timeout=5, drain=1.0) as leader:
        assert_type(leader, aioelect.Leader)
        assert_type(leader.token, int)
        assert_type(leader.identity, str)
        assert_type(leader.path, str)
        assert_type(leader.since, float)
        assert_type(leader.is_leader, bool)
        assert_type(leader.remaining(), float)
        leader.check()
        leader.resign()
    assert_type(await client.get("/a"), tuple[bytes | None, aioelect.zookeeper.client.Stat])
    data, stat = await client.get("/a")
    assert_type(stat.created_zxid, int)
    assert_type(await client.exists("/a"), bool)
    assert_type(await client.create("/a", b"", ephemeral=True), str)
    assert_type(await client.get_children("/a"), list[str])
    assert_type(await aioelect.campaign(client, "/election", work), str | None)
    task = asyncio.create_task(aioelect.campaign("zk1:2181", "/election", work))
    assert_type(await task, str | None)
    candidate = await aioelect.Candidate.enter(client, "/election", on_event=on_event)
    assert_type(await candidate.wait_elected(), aioelect.Leader)
    assert_type(await leader.lost(), aioelect.LossReason)
    await candidate.withdraw()
    standing = await aioelect.get_standing(client, "/election")
    assert_type(standing, aioelect.Standing)
    assert_type(standing.leader, aioelect.Contender | None)
    async with aioelect.observe(client, "/election") as standings:
        async for each in standings:
            assert_type(each, aioelect.Standing)
    try:
        pass
    except aioelect.LeadershipLost as e:
        assert_type(e.reason, aioelect.LossReason)
        assert_type(e.token, int)
    return str(data)


async def reachable_after_the_block() -> int:
    async with aioelect.leadership("zk1:2181", "/election") as leader:
        return leader.token
    return 0  # after a resignation
"""

BAD = {
    "client.gett('/a')": "attr-defined",
    "client.create(5)": "arg-type",
    "aioelect.leadership(client, '/a', timout=1)": "call-arg",
    "aioelect.leadership(client, 5)": "arg-type",
    "aioelect.leadership(client, '/a', data='text')": "arg-type",
    "aioelect.leadership(client, '/a', on_event=lambda: None)": "arg-type",
    "aioelect.campaign(client, '/a', lambda leader: 5)": "arg-type|return-value|misc",
    "aioelect.connect(b'hosts')": "arg-type",
    "leader.tokn": "attr-defined",
    "leader.token.upper()": "attr-defined",
    "leader.resign(1)": "call-arg",
    "standing.leader.identity": "union-attr",
}


def check(tmp_path: pathlib.Path, source: str) -> str:
    """What ``mypy --strict`` says from a user's side."""
    (tmp_path / "user.py").write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--no-error-summary", "--config-file="]
    run = subprocess.run(
        [*command, "--cache-dir", str(tmp_path.parent / "mypy"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not run.stderr, run.stderr
    return run.stdout


@pytest.mark.timeout(180)
def test_user_code_passes_a_strict_checker(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    source = GOOD.replace("import aioelect\n", "import aioelect\nimport aioelect.zookeeper.client\n", 1)
    assert check(tmp_path, source) == ""


@pytest.mark.timeout(180)
def test_mistakes_are_found_by_a_strict_checker(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    head = [
        "import aioelect",
        "def use(client: aioelect.Client, leader: aioelect.Leader, standing: aioelect.Standing) -> None:",
    ]
    found = check(tmp_path, "\n".join([*head, *(f"    _ = {mistake}" for mistake in BAD)]))
    for number, (mistake, codes) in enumerate(BAD.items(), start=len(head) + 1):
        lines = [line for line in found.splitlines() if line.startswith(f"user.py:{number}: error")]
        assert any(f"[{code}]" in line for line in lines for code in codes.split("|")), f"{mistake}: {lines or found}"
