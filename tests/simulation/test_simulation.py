"""The promises hold in a few hundred runs, each of which its seed replays: ``python -m tests.simulation --seed N``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .chaos import KINDS
from .loop import Kernel, Livelock, ProcessLoop
from .run import Report, Setting, Simulation, simulate
from .scenarios import STORMS, Storm

SEEDS = 200
CHUNK = 5

HAPPENS = {
    *(
        f"ended: {reason}"
        for reason in (
            "by itself",
            "client_closed",
            "deadline_passed",
            "in a freeze",
            "node_deleted",
            "resigned",
            "step_down_requested",
        )
    ),
    *(
        f"asked for another leader: {outcome}"
        for outcome in ("another leads", "the chosen one leads", "SwitchoverTimeout", "given up")
    ),
    "terms after a clean end",
    "terms after an unclean end",
    "Expired",
    "Reconnected",
}
"""What can happen to terms and sessions."""

_played: set[int] = set()
_faults: Counter[str] = Counter()
_counts: Counter[str] = Counter()


def play(seed: int) -> Report:
    """One run, which is remembered in this process."""
    report = simulate(seed)
    _played.add(seed)
    _faults.update(report.faults)
    _counts.update(report.counts)
    return report


def verdict(report: Report) -> str:
    """What a failure prints: how to replay it, and what happened last."""
    said = "\n".join([*report.violations, "", *report.log[-40:]])
    return f"replay with: python -m tests.simulation --seed {report.seed}\n{said}"


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_promises_hold_whatever_goes_wrong(start: int) -> None:
    for seed in range(start, start + CHUNK):
        report = play(seed)
        assert not report.violations, verdict(report)


@pytest.mark.timeout(240)
def test_those_runs_were_worth_their_while() -> None:
    """Every fault was injected, and everything that can happen to a term did. Other processes may have played some of them."""

    def missing() -> set[str]:
        return set(KINDS) - set(_faults) | {happens for happens in HAPPENS if not _counts[happens]}

    for seed in range(SEEDS):
        if missing() and seed not in _played:
            play(seed)
    assert not missing()
    assert set(_faults) == set(KINDS)
    assert _counts["Reconnected"] > _counts["Expired"]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("storm", "setting"), STORMS)
def test_promises_hold_in_storms_that_are_written_down(storm: Storm, setting: Setting, seed: int) -> None:
    report = Simulation(seed, setting).run(storm)
    assert not report.violations, "\n".join([*report.violations, "", *report.log[-60:]])


def test_a_seed_replays_its_run() -> None:
    first, second = simulate(4), simulate(4)
    assert first.log == second.log
    assert first.digest != simulate(5).digest


def test_a_seed_replays_its_run_in_another_process_with_another_hash_seed() -> None:
    code = "from tests.simulation.run import simulate; print(*(simulate(seed).digest for seed in range(3)))"
    root = Path(__file__).parents[2]
    digests = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert digests[0] == digests[1] == " ".join(simulate(seed).digest for seed in range(3)) + "\n"


# The kernel


def test_a_frozen_process_stands_still_while_others_and_time_go_on() -> None:
    kernel = Kernel(0.0)
    ticks: dict[str, list[float]] = {"a": [], "b": []}

    async def tick(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            ticks[name].append(round(kernel.now, 3))

    loops = [ProcessLoop(kernel, name) for name in ticks]
    tasks = [loop.create_task(tick(loop.name)) for loop in loops]
    kernel.call_at(1.5, kernel.freeze, loops[0], 2.0)
    kernel.run(10)
    assert ticks == {"a": [1.0, 3.5, 4.5], "b": [1.0, 2.0, 3.0]}
    for loop, task in zip(loops, tasks, strict=True):
        assert task.done()
        loop.close()


def test_a_process_can_be_frozen_in_the_middle_of_a_callback() -> None:
    kernel = Kernel(0.0)
    said: list[tuple[str, float]] = []
    blocked, free = ProcessLoop(kernel, "blocked"), ProcessLoop(kernel, "free")

    def block() -> None:
        kernel.block(blocked, 2.0)
        said.append(("blocked", round(kernel.now, 3)))

    blocked.call_later(1, block)
    free.call_later(2, lambda: said.append(("free", round(kernel.now, 3))))
    kernel.run(10)
    assert said == [("free", 2.0), ("blocked", 3.0)]
    for loop in (blocked, free):
        loop.close()


def test_a_process_that_spins_is_found_out() -> None:
    kernel = Kernel(0.0)
    loop = ProcessLoop(kernel, "spinner")

    def spin() -> None:
        loop.call_soon(spin)

    loop.call_soon(spin)
    with pytest.raises(Livelock, match="spinner"):
        kernel.run(1)
    loop.close()
