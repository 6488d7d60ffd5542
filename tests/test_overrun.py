"""What only the watchdog sees: bodies that block the event loop or refuse to be cancelled, and machines that were asleep."""

import asyncio
import logging
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import aioelect
from aioelect import LossReason, events
from aioelect.testing.embedded import EmbeddedServer
from tests import elections
from tests.elections import PATIENCE, Connect, Intercept, Tape, eventually, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept

T = 1.0


class Reports:
    """An ``on_overrun`` that remembers, for any thread."""

    def __init__(self) -> None:
        self.all: list[events.Overrun] = []
        self.threads: list[str] = []
        self.came = threading.Event()

    def __call__(self, overrun: events.Overrun) -> None:
        self.all.append(overrun)
        self.threads.append(threading.current_thread().name)
        self.came.set()


def block_until(reported: threading.Event) -> None:
    assert reported.wait(PATIENCE)


async def test_a_body_that_blocks_the_loop_is_reported_with_its_stack_while_it_does(
    connect: Connect, path: str
) -> None:
    reports = Reports()
    client = await connect(session_timeout=T)
    with pytest.raises(aioelect.LeadershipLost) as lost:
        async with aioelect.leadership(client, path, identity="stuck", on_overrun=reports) as leader:
            block_until(reports.came)
            assert not leader.is_leader
    assert lost.value.reason is LossReason.DEADLINE_PASSED
    (overrun,) = reports.all
    assert (overrun.identity, overrun.election, overrun.token) == ("stuck", path, leader.token)
    assert "block_until" in overrun.stack
    assert reports.threads == ["aioelect watchdog"]


async def test_by_default_the_report_is_logged(connect: Connect, path: str, caplog: pytest.LogCaptureFixture) -> None:
    logged = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR and "runs on" in record.getMessage():
                logged.set()

    log = logging.getLogger("aioelect.election")
    log.addHandler(handler := Handler())
    try:
        with pytest.raises(aioelect.LeadershipLost):
            async with aioelect.leadership(await connect(session_timeout=T), path):
                block_until(logged)
    finally:
        log.removeHandler(handler)


async def test_a_body_that_refuses_to_be_cancelled_is_reported(
    connect: Connect, intercept: Intercept, path: str
) -> None:
    reports = Reports()
    proxy = await intercept()
    client = await connect(proxy.hosts, session_timeout=T)
    with pytest.raises(aioelect.LeadershipLost):
        async with aioelect.leadership(client, path, on_overrun=reports):
            proxy.freeze()
            while not reports.came.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
    proxy.thaw()
    assert len(reports.all) == 1


async def test_after_a_loss_that_no_clock_foresaw_the_body_has_its_time_to_drain(
    connect: Connect, admin: aioelect.Client, path: str
) -> None:
    reports = Reports()
    tape = Tape()
    client = await connect(session_timeout=2.0)
    with pytest.raises(aioelect.LeadershipLost) as lost:
        async with aioelect.leadership(client, path, drain=0.3, on_overrun=reports, on_event=tape) as leader:
            deleting = asyncio.ensure_future(admin.delete(leader.path, force=True))
            while not reports.came.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
    await deleting
    assert lost.value.reason is LossReason.NODE_DELETED
    assert reports.all[0].at - tape.of(events.Losing)[0].at >= 0.3


@pytest.mark.parametrize("resumes", [False, True])
async def test_a_body_that_blocks_the_loop_while_it_ends_is_reported_also_after_a_resume(
    connect: Connect, path: str, resumes: bool
) -> None:
    reports, tape = Reports(), Tape()
    client = await connect(session_timeout=T)
    async with aioelect.leadership(client, path, on_overrun=reports, on_event=tape) as leader:
        leader.resign()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if resumes:
                client.session.drop("by the test")
                await tape.wait(events.Resumed)
            block_until(reports.came)
    assert len(reports.all) == 1


async def test_closing_the_client_of_a_leader_that_is_cut_off_puts_no_overrun_off(
    connect: Connect, intercept: Intercept, path: str
) -> None:
    """The session is given up here alone: at the servers it ends when it would have ended anyway."""
    reports, drain = Reports(), 0.6
    proxy = await intercept()
    session = (client := await connect(proxy.hosts, session_timeout=2.0, tick_time=0.5)).session
    candidate = await aioelect.Candidate.enter(client, path, drain=drain, on_overrun=reports)
    await candidate.wait_elected()
    proxy.freeze()
    await eventually(lambda: session.lease.remaining(session.world.clock()) < drain / 3)
    closed = session.world.monotonic()
    await session.close(abandon=True)
    await soon(asyncio.to_thread(block_until, reports.came))
    assert reports.all[0].at - closed < drain
    await candidate.withdraw()


async def test_a_body_that_uses_all_its_time_to_drain_is_no_overrun(
    connect: Connect, intercept: Intercept, path: str
) -> None:
    reports = Reports()
    proxy = await intercept()
    client = await connect(proxy.hosts, session_timeout=2.0)
    with pytest.raises(aioelect.LeadershipLost):
        async with aioelect.leadership(client, path, drain=0.5, on_overrun=reports):
            proxy.freeze()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.Event().wait()  # cancelled for good in time
    proxy.thaw()
    assert reports.all == []


async def test_a_candidate_that_is_not_withdrawn_is_an_overrun(
    connect: Connect, intercept: Intercept, path: str
) -> None:
    reports = Reports()
    proxy = await intercept()
    candidate = await aioelect.Candidate.enter(await connect(proxy.hosts, session_timeout=T), path, on_overrun=reports)
    leader = await candidate.wait_elected()
    proxy.freeze()
    assert await soon(leader.lost()) is LossReason.DEADLINE_PASSED
    await soon(asyncio.to_thread(block_until, reports.came))
    proxy.thaw()
    await candidate.withdraw()


ABORTS = """
    import asyncio, time
    import aioelect
    from aioelect.testing import EmbeddedServer

    def block_here():
        time.sleep(60)

    async def main():
        async with EmbeddedServer(tick_time=0.1) as server, aioelect.connect(server.hosts, session_timeout=1.0) as client:
            async with aioelect.leadership(client, "/election", identity="stuck", on_overrun="abort"):
                block_here()

    asyncio.run(main())
"""


def test_abort_ends_the_process_at_the_deadline_and_says_why() -> None:
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ABORTS)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=_no_core_dump,
    )
    assert ended.returncode == -signal.SIGABRT
    assert time.monotonic() - began < 30
    assert ended.stderr.startswith("aioelect ends this process: the body of 'stuck' runs on")
    assert "block_here" in ended.stderr


CLOSES = """
import os, time
from aioelect.watchdog import WATCHDOG
WATCHDOG.start()

def close_and_sleep(seconds):
    os.closerange(3, 4096)
    time.sleep(seconds)
"""


@pytest.mark.parametrize(
    "code",
    [
        CLOSES + "close_and_sleep(0)" + textwrap.dedent(ABORTS),
        CLOSES + textwrap.dedent(ABORTS).replace("time.sleep", "close_and_sleep"),
    ],
    ids=["before it leads", "while it leads"],
)
def test_abort_ends_a_process_that_closes_all_its_descriptors(code: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=_no_core_dump,
    )
    assert ended.returncode == -signal.SIGABRT
    assert ended.stderr.startswith("aioelect ends this process: the body of 'stuck' runs on")


def test_abort_ends_the_process_though_nobody_reads_its_stderr() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import os\nos.set_blocking(2, False)\n" + FILLS + textwrap.dedent(ABORTS)],
        stderr=subprocess.PIPE,
        preexec_fn=_no_core_dump,
    )
    try:
        assert process.wait(50) == -signal.SIGABRT
    finally:
        process.kill()
        process.communicate()


FILLS = """
try:
    while os.write(2, bytes(65536)):
        pass
except BlockingIOError:
    os.set_blocking(2, True)
"""


def _no_core_dump() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class SleepyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still for a while, as CLOCK_MONOTONIC does in a machine that is suspended."""

    stopped_at: float | None = None

    def time(self) -> float:
        return super().time() if self.stopped_at is None else self.stopped_at

    def fall_asleep(self) -> None:
        self.stopped_at = super().time()


def test_the_body_is_cancelled_within_50_ms_though_the_clock_of_the_loop_stands_still() -> None:
    late = []
    for _ in range(5):
        with asyncio.Runner(loop_factory=SleepyLoop) as runner:
            late.append(runner.run(_lead_and_fall_asleep()))
    assert statistics.median(late) < 0.05  # less than a millisecond on an idle machine


async def _lead_and_fall_asleep() -> float:
    """How many seconds after ``drain`` before its deadline the body was cancelled."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SleepyLoop)
    clock = aioelect.connect("127.0.0.1")._client.session.world.clock
    async with EmbeddedServer(tick_time=0.1) as server, aioelect.connect(server.hosts, session_timeout=T) as client:
        with pytest.raises(aioelect.LeadershipLost):
            async with aioelect.leadership(client, "/election") as leader:
                loop.fall_asleep()
                await asyncio.sleep(0)
                due = clock() + leader.remaining() - client.session.timing.drain
                try:
                    await asyncio.Event().wait()
                finally:
                    late = clock() - due
                    loop.stopped_at = None
    return late


@pytest.mark.parametrize("value", ["panic", None, 1])
async def test_what_is_no_reaction_is_refused(client: aioelect.Client, value: Any) -> None:
    with pytest.raises(ValueError, match="on_overrun must be 'report', 'abort' or a function"):
        aioelect.leadership(client, "/election", on_overrun=value)
