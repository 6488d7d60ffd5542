"""Servers, paths, and the check that no test leaves a task behind."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer

_numbers = itertools.count()

STARTS_SERVERS = {
    "cli/test_bench.py",
    "cli/test_demo.py",
    "testing/test_zookeeper.py",
    "tests/test_benchmarks.py",
    "tests/test_cutoff.py",
    "tests/test_public.py",
    "tests/test_script.py",
    "zookeeper/test_aiozk_suite.py",
    "zookeeper/test_large_replies.py",
    "zookeeper/test_session.py",
    "zookeeper/test_stock.py",
}
"""Test files that start servers of their own, or tools that are not there everywhere."""

SERVERS = {"zookeeper", "secure_zookeeper", "strict_zookeeper", "demanding_zookeeper", "shared_ensemble"}
"""Fixtures that are real servers."""

SHARED = SERVERS - {"zookeeper"} | {"quick", "stage", "whole"}
"""Fixtures of many processes: where tests run in several workers, one has all tests of each. Each worker has a ``zookeeper``."""

LONG = {"faults", "model", "simulation"}
"""Folders of tests that take minutes."""


Logged = Callable[[], list[logging.LogRecord]]


def pytest_sessionstart() -> None:
    """Asked for a loop where none was ever set, asyncio makes one; pytest-asyncio asks, and leaves it unclosed.

    A shell has what it runs in the background ignore SIGINT, and so would the processes that we start and interrupt.
    """
    asyncio.set_event_loop(None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what runs without a real ZooKeeper as ``unit``, and what runs best in one worker. Workers begin with what is long."""
    for item in items:
        folder, name = item.path.parent.name, item.path.name
        fixtures = set(getattr(item, "fixturenames", ()))
        starts_servers = f"{folder}/{name}" in STARTS_SERVERS or folder in LONG
        if not (starts_servers or SERVERS & fixtures or "zookeeper" in item.name):
            item.add_marker("unit")
        for shared in SHARED & fixtures:
            item.add_marker(pytest.mark.xdist_group(shared))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeperServer]:
    """One real server for all tests that do it no harm; sessions of 0.4 to 20 s."""
    with ZooKeeperServer(
        tick_time=0.2, max_session_timeout=20, properties={"znode.container.checkIntervalMs": "200"}
    ) as server:
        yield server


@pytest.fixture(scope="session")
def shared_ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Three real members for all tests; use it through ``ensemble``."""
    with ZooKeeperEnsemble(tick_time=0.2, max_session_timeout=20) as ensemble:
        yield ensemble


@pytest.fixture
def ensemble(shared_ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    """Three real members, healthy again after the test: resumed, linked, restarted."""
    yield shared_ensemble
    for index, member in enumerate(shared_ensemble.members):
        shared_ensemble.heal(index)
        try:
            member.resume()
        except RuntimeError:  # killed
            member.launch()
    shared_ensemble.wait_ready()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """What aioelect's own loggers said so far: asyncio may report a task of an earlier test at any time."""
    return lambda: [record for record in caplog.records if record.name.partition(".")[0] == "aioelect"]


@pytest.fixture
def path() -> str:
    """A path that no other test uses; nothing is there yet."""
    return f"/test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
async def task_check() -> AsyncIterator[None]:
    """Fails a test that leaves a task running in its event loop."""
    before = asyncio.all_tasks()
    yield
    left: set[asyncio.Task[object]] = set()
    for _ in range(20):  # transports and callbacks need some turns of the loop to end what is ending
        left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.01)
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(autouse=True)
def no_task_left(request: pytest.FixtureRequest) -> None:
    """Every coroutine test is checked; others have no event loop."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("task_check")
