"""The meter of failovers: what it measures, what it refuses, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from aiozk import exc

import aioelect
from aioelect.testing import Cluster, EmbeddedServer, FailoverMeter, FaultProxy, MeasurementFailed, summarise
from aioelect.testing import failover as module
from aioelect.testing.zookeeper import free_ports
from tests import elections
from tests.processes import MARK, marked

embedded, hosts = elections.embedded, elections.hosts

T = 1.0


Contenders = Callable[[], dict[int, str]]
Meddle = Callable[[], Awaitable[None]]
Interfere = Callable[..., None]


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch) -> Contenders:
    """The processes that a meter has started, guards included: their command lines, by process id."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    return lambda: marked(mark)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # processes tell of nothing
            await asyncio.sleep(0.02)


def read_environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


async def left_on(hosts: str, cluster: Cluster | None = None) -> list[str]:
    async with (cluster or Cluster(hosts)).connect() as client:
        return [name for name in await client.get_children("/") if "bench" in name]


async def test_handovers_and_kills(hosts: str, contenders: Contenders) -> None:
    async with FailoverMeter(hosts, session_timeout=T) as meter:
        assert meter.session_timeout == T
        handovers = [await meter.hand_over() for _ in range(5)]
        killed = await meter.kill()
        handovers.append(await meter.hand_over())
        assert len(contenders()) == 2
    # A resignation tells the next one; only the session timeout tells that a leader was killed.
    assert 0 < summarise(handovers).median < killed
    assert len(meter.joins) == 1 + 7
    assert len(meter.writes) == 2 * 7
    assert all(0 < seconds < 1 for seconds in meter.joins + meter.writes)
    assert await left_on(hosts) == []
    assert contenders() == {}


async def test_a_guard_makes_kills_cheap(hosts: str, contenders: Contenders) -> None:
    async with FailoverMeter(hosts, session_timeout=4.0, guard=True) as meter:
        killed = [await meter.kill() for _ in range(2)]
    assert max(killed) < 3.0  # less than the session timeout by more than the time between two renewals
    assert await left_on(hosts) == []
    await eventually(lambda: contenders() == {})


async def test_no_session_is_left(embedded: EmbeddedServer) -> None:
    async with FailoverMeter(embedded.hosts, session_timeout=T, guard=True) as meter:
        await meter.hand_over()
        await meter.kill()
    await elections.eventually(lambda: not embedded.sessions)  # a probe of the server's tick may have to expire


@pytest.mark.parametrize("acl", ["creator", "creator+read"])
async def test_credentials_reach_the_contenders_and_nobody_else(
    hosts: str, acl: Literal["creator", "creator+read"], contenders: Contenders
) -> None:
    cluster = Cluster(hosts, user="app", password="5e(ret", acl=acl)
    assert "5e(ret" not in repr(cluster)
    async with FailoverMeter(cluster, session_timeout=T, guard=True) as meter:
        await meter.hand_over()
        async with aioelect.connect(hosts) as stranger:
            with pytest.raises(exc.NoAuth):
                await stranger.create(f"{meter.folder}/x")
        running = contenders()
        assert len(running) == 2 + 2
        for pid, command in running.items():
            assert "5e(ret" not in command + read_environment(pid)
        await meter.kill()
    assert await left_on(hosts, cluster) == []


async def test_an_error_in_the_block_comes_out_and_nothing_is_left(hosts: str, contenders: Contenders) -> None:
    with pytest.raises(LookupError, match="by the user"):
        async with FailoverMeter(hosts, session_timeout=T) as meter:
            await meter.hand_over()
            raise LookupError("by the user")
    assert await left_on(hosts) == []
    assert contenders() == {}


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3, 0.5])
async def test_a_cancellation_at_any_time_leaves_nothing(
    embedded: EmbeddedServer, delay: float, contenders: Contenders
) -> None:
    async def measure() -> None:
        async with FailoverMeter(embedded.hosts, session_timeout=T) as meter:
            while True:
                await meter.hand_over()
                await meter.kill()

    measuring = asyncio.create_task(measure())
    await asyncio.sleep(delay)  # somewhere; where it hits matters not
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert await left_on(embedded.hosts) == []
    await eventually(lambda: contenders() == {})


async def test_a_contender_that_dies_by_itself_ends_it(embedded: EmbeddedServer, contenders: Contenders) -> None:
    with pytest.raises(MeasurementFailed, match="contender-2 ended by itself, with status -9"):
        async with FailoverMeter(embedded.hosts, session_timeout=T) as meter:
            os.kill(max(contenders()), signal.SIGKILL)
            await meter.hand_over()
    assert await left_on(embedded.hosts) == []


async def test_what_a_contender_dies_of_is_told(embedded: EmbeddedServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    cluster = Cluster(embedded.hosts, user="app", password_file=str(password))
    meter = FailoverMeter(cluster, session_timeout=T)
    async with meter:
        password.unlink()
        with pytest.raises(MeasurementFailed, match=r"contender-3 gave up: ValueError: .*password"):
            await meter.kill()


async def test_nobody_takes_over(embedded: EmbeddedServer, contenders: Contenders) -> None:
    async with FailoverMeter(embedded.hosts, session_timeout=T) as meter:
        heir = max(contenders())
        os.kill(heir, signal.SIGSTOP)
        for player in meter._players:
            player._patience = 0.5
        with pytest.raises(MeasurementFailed, match=r"contender-2 did not come to 'Leads' within 0\.5 s"):
            await meter.hand_over()
        os.kill(heir, signal.SIGCONT)


@pytest.mark.parametrize("change", [FailoverMeter.hand_over, FailoverMeter.kill], ids=["hand_over", "kill"])
async def test_a_change_of_leaders_that_nobody_asked_for_is_not_taken_for_an_answer(
    hosts: str, contenders: Contenders, change: Callable[[FailoverMeter], Awaitable[float]]
) -> None:
    async with FailoverMeter(hosts, session_timeout=T) as meter:
        leader, heir = meter._players
        os.kill(leader.process.pid, signal.SIGSTOP)
        await eventually(lambda: any(event["event"] == "Leads" for event in heir._told))
        os.kill(leader.process.pid, signal.SIGCONT)
        with pytest.raises(
            MeasurementFailed, match=r"contender-2 led \d\.\d+ s before contender-1 was to .*: .*again with a new meter"
        ):
            await asyncio.wait_for(change(meter), 5)
    assert await left_on(hosts) == []
    assert contenders() == {}


async def test_the_folder_must_be_new_and_its_parent_there(embedded: EmbeddedServer) -> None:
    async with aioelect.connect(embedded.hosts) as client:
        await client.create("/bench-old")
        with pytest.raises(MeasurementFailed, match="/bench-old exists already: give a path that nobody uses"):
            await FailoverMeter(embedded.hosts, "/bench-old").__aenter__()
        assert await client.exists("/bench-old")
        with pytest.raises(MeasurementFailed, match="/apps does not exist: create it first, or give another path"):
            await FailoverMeter(embedded.hosts, "/apps/bench").__aenter__()
        await client.create("/apps")
        async with FailoverMeter(embedded.hosts, "/apps/bench"):
            assert set(await client.get_children("/apps/bench")) == {"election", "write"}
        assert await client.get_children("/apps") == []


@pytest.fixture
def interfere(monkeypatch: pytest.MonkeyPatch) -> Interfere:
    """Has a function awaited just before, or after, a client of a meter asks for the meter's folder."""

    def interfere(folder: str, *, before: Meddle | None = None, after: Meddle | None = None) -> None:
        async def meddled(client: aioelect.Client, path: str, *arguments: Any, **options: Any) -> str:
            mine = path == folder and options == {"container": True}
            if mine and before is not None:
                await before()
            try:
                return await create(client, path, *arguments, **options)
            finally:
                if mine and after is not None:
                    await after()

        create = aioelect.Client.create
        monkeypatch.setattr(aioelect.Client, "create", meddled)

    return interfere


async def test_a_folder_that_somebody_else_made_in_between_is_left_alone(
    hosts: str, path: str, interfere: Interfere
) -> None:
    async with aioelect.connect(hosts) as somebody:

        async def be_first() -> None:
            await somebody.create(path)
            await somebody.create(f"{path}/theirs")

        interfere(path, before=be_first)
        with pytest.raises(MeasurementFailed, match=f"{path} exists already: give a path that nobody uses"):
            await FailoverMeter(hosts, path, session_timeout=T).__aenter__()
        assert await somebody.get_children(path) == ["theirs"]
        await somebody.deleteall(path)


@pytest.mark.parametrize("is_made", [True, False], ids=["made", "not made, but by somebody else"])
async def test_a_folder_whose_making_was_not_answered_is_removed_if_it_is_ours(
    hosts: str, path: str, interfere: Interfere, is_made: bool
) -> None:
    async with aioelect.connect(hosts) as somebody, FaultProxy(hosts) as proxy:

        async def be_there() -> None:
            assert await somebody.exists(path) == is_made
            if not is_made:
                await somebody.create(path)

        interfere(path, after=be_there)
        (proxy.lose_reply if is_made else proxy.lose_request)(elections.CREATE_CONTAINER)
        with pytest.raises(aioelect.ConnectionLoss) as raised:
            await FailoverMeter(proxy.hosts, path, session_timeout=T).__aenter__()
        assert raised.value.executed is aioelect.Executed.UNKNOWN
        assert await somebody.exists(path) != is_made
        if not is_made:
            await somebody.delete(path)


async def test_a_folder_that_can_not_be_removed_is_told(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, contenders: Contenders
) -> None:
    monkeypatch.setattr(module, "CLEANING", 0.2)
    async with FailoverMeter(embedded.hosts, "/bench", session_timeout=T) as meter:

        async def refuse(path: str) -> None:
            raise exc.NoAuth

        monkeypatch.setattr(meter._client, "deleteall", refuse)
        leave = meter.__aexit__(None, None, None)
        with pytest.raises(MeasurementFailed, match="/bench could not be removed"):
            await leave
        assert contenders() == {}


async def test_a_chroot(hosts: str, path: str) -> None:
    async with aioelect.connect(hosts) as client:
        await client.create(path)
        async with FailoverMeter(f"{hosts}{path}", "/bench", session_timeout=T) as meter:
            assert await client.get_children(path) == ["bench"]
            await meter.hand_over()
        assert await client.get_children(path) == []
        await client.delete(path)


async def test_a_chroot_that_is_not_there_is_not_made(hosts: str, path: str) -> None:
    there = f"{hosts}{path}/deep"
    with pytest.raises(MeasurementFailed, match=f"{there}: {path}/deep does not exist: create it first, or"):
        await FailoverMeter(there, session_timeout=T).__aenter__()
    async with aioelect.connect(hosts) as client:
        assert not await client.exists(path)


async def test_servers_out_of_reach() -> None:
    meter = FailoverMeter(f"127.0.0.1:{free_ports(1)[0]}", timeout=0.2)
    with pytest.raises(aioelect.ConnectTimeout, match=r"within 0\.2 s"):
        await meter.__aenter__()


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("zk1:port",), {}, "'port' in 'zk1:port'"),
        (("zk1", "no-slash"), {}, "'no-slash'"),
        (("zk1", "/"), {}, "must not be '/'"),
        (("zk1",), {"session_timeout": 0}, "session_timeout must be a positive number of seconds, not 0"),
        (("zk1",), {"session_timeout": float("nan")}, "not nan"),
        (("zk1",), {"timeout": -1}, "timeout must be a positive number of seconds, not -1"),
        (("zk1",), {"guard": "never"}, "not 'never'"),
    ],
)
def test_bad_input_is_refused_at_the_call(arguments: tuple[Any, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        FailoverMeter(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"password": "x"}, "give user as well"),
        ({"user": "a:b", "password": "x"}, "'a:b'"),
        ({"user": "a"}, "password"),
        ({"user": "a", "password_env": "NOT_THERE"}, "NOT_THERE"),
        ({"tls": True, "ca": "/not/there.pem"}, "/not/there.pem"),
        ({"acl": "creator"}, "credentials"),
        ({"acl": "mine"}, "'mine'"),
    ],
)
def test_bad_clusters_are_refused_at_the_call(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Cluster("zk1", **options)


async def test_times_are_seconds(hosts: str) -> None:
    began = time.monotonic()
    async with FailoverMeter(hosts, session_timeout=T) as meter:
        handovers = [await meter.hand_over() for _ in range(20)]
    assert sum(handovers) + sum(meter.writes) < time.monotonic() - began
