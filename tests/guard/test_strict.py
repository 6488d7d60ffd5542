"""``guard="strict"``: a process that lets its deadline pass is killed, and no other."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

import aioelect
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.watchdog import boottime
from tests.elections import eventually, expire, soon
from tests.guard.guarded import Guarded, end_session, guarded, is_running, successor

T = 4.0
"""The session timeout, in seconds."""


@pytest.mark.parametrize("fate", ["block", "SIGSTOP", "close"])
async def test_a_process_that_does_not_stand_down_is_killed_before_its_session_can_expire(
    zookeeper: ZooKeeperServer, path: str, fate: str
) -> None:
    async with (
        aioelect.connect(zookeeper.hosts, session_timeout=T) as client,
        guarded(zookeeper.hosts, path, T, "strict") as program,
    ):
        await program.leads()
        async with successor(client, path) as next_one:
            loop = asyncio.get_running_loop()
            at = loop.time()
            if fate == "SIGSTOP":
                program.kill(signal.SIGSTOP)
            else:
                program.order(fate)
            assert await soon(program.process.wait()) == -signal.SIGKILL
            died = loop.time()
            print(f"killed after {died - at:.2f} s, replaced {1000 * (await next_one.led() - died):.1f} ms later")
            assert died - at < T
            assert await next_one.led() - died < T / 4


async def can_unshare() -> bool:
    """Whether processes of a PID namespace of their own may be started here."""
    try:
        tried = await asyncio.create_subprocess_exec(*NAMESPACE, "true", stderr=asyncio.subprocess.DEVNULL)
    except FileNotFoundError:
        return False
    return await tried.wait() == 0


NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh")
"""Before a command. /proc stays that of the namespace outside; the shell is process 1, which nobody inside can kill."""


async def test_a_process_is_killed_though_its_proc_belongs_to_another_pid_namespace(
    zookeeper: ZooKeeperServer, path: str
) -> None:
    if not await can_unshare():
        pytest.skip("unshare(1), which makes PID namespaces, is missing or not permitted here")
    program = await Guarded.start(zookeeper.hosts, path, 1, "strict", within=NAMESPACE)
    try:
        await program.leads()
        program.order("block")
        assert await soon(program.process.wait()) == 128 + signal.SIGKILL
    finally:
        await program.end()  # and with its process 1 all of the namespace


async def test_a_stopped_process_is_killed_only_by_a_strict_guard(zookeeper: ZooKeeperServer, path: str) -> None:
    async with guarded(zookeeper.hosts, path, 1, "yes") as program:
        pid = await program.leads()
        program.order("block")
        await program.hear("Blocks")
        await asyncio.sleep(3)
        assert program.process.returncode is None
        assert is_running(pid)


async def test_a_body_that_ends_in_time_is_left_alone(zookeeper: ZooKeeperServer, path: str) -> None:
    async with FaultProxy(zookeeper.hosts) as proxy, guarded(proxy.hosts, path, 1, "strict") as program:
        await program.leads()
        proxy.blackhole()
        await program.hear("Stops")
        await asyncio.sleep(2)  # the deadline is long past
        assert program.process.returncode is None
        proxy.heal()
        await program.hear("Leads", 2)


async def test_a_body_that_refuses_to_end_is_killed_when_its_session_was_ended(
    zookeeper: ZooKeeperServer, path: str
) -> None:
    async with guarded(zookeeper.hosts, path, T, "strict", "--stubborn") as program:
        led = await program.hear("Leads")
        await end_session(zookeeper, led["session"], bytes.fromhex(led["password"]))
        await program.hear("Stops")
        assert await soon(program.process.wait()) == -signal.SIGKILL


async def test_without_a_leader_nobody_is_killed(zookeeper: ZooKeeperServer, path: str) -> None:
    async with (
        aioelect.connect(zookeeper.hosts, session_timeout=T) as client,
        aioelect.leadership(client, path),
        guarded(zookeeper.hosts, path, 1, "strict") as program,
    ):
        await program.hear("NextInLine")
        program.order("block")
        await program.hear("Blocks")
        await asyncio.sleep(3)
        assert program.process.returncode is None


# The shared memory


@pytest.fixture
def toothless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that does nothing, and can't kill the tests."""
    helper = tmp_path / "python"
    helper.write_text("#!/bin/sh\nexec cat\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("sys.executable", str(helper))


@pytest.mark.usefixtures("toothless")
async def test_the_deadline_of_whoever_leads_is_shared(zookeeper: ZooKeeperServer, path: str) -> None:
    async with aioelect.connect(zookeeper.hosts, session_timeout=T, guard="strict") as client:
        guard, lease = client.guard, client.session.lease
        assert guard is not None
        assert guard.deadline == float("inf")
        async with aioelect.leadership(client, path):
            first = guard.deadline
            assert first == lease.deadline
            await eventually(lambda: guard.deadline > first)  # a renewal
            async with aioelect.leadership(client, f"{path}-2"):
                assert guard.deadline == lease.deadline
            assert guard.deadline == lease.deadline
        assert guard.deadline == float("inf")


@pytest.mark.usefixtures("toothless")
async def test_when_leadership_is_gone_the_body_has_its_drain_time(zookeeper: ZooKeeperServer, path: str) -> None:
    async with aioelect.connect(zookeeper.hosts, session_timeout=2, guard="strict") as client:
        guard = client.guard
        assert guard is not None
        with pytest.raises(aioelect.LeadershipLost):
            async with aioelect.leadership(client, path, drain=0.2):
                ending = asyncio.ensure_future(expire(client))
                try:
                    await asyncio.Event().wait()
                finally:
                    assert boottime() < guard.deadline < boottime() + 0.2
                    assert guard.deadline != client.session.lease.deadline
                    await ending
        assert guard.deadline == float("inf")


@pytest.mark.usefixtures("toothless")
@pytest.mark.parametrize("fate", ["close", "refusal"])
async def test_a_session_that_is_given_up_here_alone_moves_no_deadline_that_is_near(
    zookeeper: ZooKeeperServer, path: str, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the servers it ends when it would have ended anyway: a leader that is cut off can't say more."""
    drain = 0.6
    is_near = asyncio.Event()

    async def refuse(*_: object) -> bool:
        await is_near.wait()
        raise aioelect.AuthenticationFailed("a server refused the credentials")

    async with aioelect.connect(zookeeper.hosts, session_timeout=2, tick_time=0.5, guard="strict") as client:
        guard, session = client.guard, client.session
        assert guard is not None
        async with aioelect.Candidate(client, path, drain=drain) as candidate:
            leader = await candidate.wait_elected()
            monkeypatch.setattr(session, "_join", refuse)
            session.drop("by the test")
            await eventually(lambda: session.lease.remaining(boottime()) < drain / 2)
            told = guard.deadline
            assert told == session.lease.deadline
            if fate == "close":
                await session.close(abandon=True)
            else:
                is_near.set()
                await eventually(lambda: session.failure is not None)
                with pytest.raises(aioelect.AuthenticationFailed):
                    await client.start()
            assert leader.remaining() == 0
            assert guard.deadline == told
        assert guard.deadline == float("inf")


@pytest.mark.usefixtures("toothless")
async def test_a_client_that_is_started_again_keeps_the_deadline_of_a_body_that_goes_on(
    zookeeper: ZooKeeperServer, path: str
) -> None:
    client = await aioelect.connect(zookeeper.hosts, session_timeout=2, guard="strict")
    guard = client.guard
    assert guard is not None
    candidate = await aioelect.Candidate.enter(client, path)
    await candidate.wait_elected()
    await client.close()  # waits no longer than its time to drain
    told = guard.deadline
    assert told < float("inf")
    await client.start()
    assert guard.deadline == told
    await candidate.withdraw()
    assert guard.deadline == float("inf")
    await client.close()


@pytest.mark.usefixtures("toothless")
async def test_a_forked_child_does_not_touch_it(zookeeper: ZooKeeperServer) -> None:
    async with aioelect.connect(zookeeper.hosts, session_timeout=T, guard="strict") as client:
        guard = client.guard
        assert guard is not None
        guard.hold("term", 5.0)
        if (child := os.fork()) == 0:
            guard.release("term")
            os._exit(0)
        assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
        assert guard.deadline == 5.0
        guard.release("term")
        assert guard.deadline == float("inf")
