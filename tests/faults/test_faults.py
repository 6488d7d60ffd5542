"""Each fault once, on a real ensemble, with contenders as processes.

``python -m tests.faults`` repeats them and prints a table.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from .faults import FAULTS, play
from .stage import Stage

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all faults, since the network lives in it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    async def enter() -> Stage:
        return await Stage().__aenter__()

    stage = runner.run(enter())
    try:
        yield stage
    finally:
        runner.run(stage.__aexit__(None, None, None))


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, runner: asyncio.Runner, stage: Stage) -> None:
    """Where a machine has no time for them, servers stand still beside the fault: what came too late gets a second chance."""
    chance = random.Random(name)
    result = runner.run(play(stage, FAULTS[name], chance))
    if result.problems and result.is_safe:
        result = runner.run(play(stage, FAULTS[name], chance))
    assert not result.problems, "\n".join([*result.problems, result.story])


def test_leaders_that_believe_too_long_are_caught(runner: asyncio.Runner, stage: Stage) -> None:
    """What they prove is what they believe: the recorder and the bodies both show two leaders."""
    result = runner.run(play(stage, FAULTS["network_closed"], random.Random(0), credulous=True))
    assert result.overlaps == 2, "\n".join([*result.problems, result.story])
