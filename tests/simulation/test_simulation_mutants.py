"""The simulation is able to fail: each mistake that it can reach is put into the library, and some run has to notice."""

from __future__ import annotations

import contextlib
import io

import pytest

from .mutants import MUTANTS
from .run import Setting, Simulation
from .scenarios import (
    COLD,
    DEPOSED,
    DRAIN,
    FAR,
    PAIR,
    RESUME,
    TIMEOUT,
    Storm,
    cold_and_far,
    cold_when_elected,
    cut_between_pings,
    frozen_when_elected,
    leader_change_after_a_resume,
    resume_at_a_deposed_leader,
    resume_while_expiring,
    thaw_before_the_deadline,
)

REQUESTS = ("leader asked to step down", "leader asked to hand over")

ASKED = Setting(4.0, 0.2, 0.2, 0.15, processes=4, kinds=REQUESTS, pause=0.3)
DELAYED = Setting(
    4.0,
    0.2,
    0.2,
    0.15,
    processes=4,
    handover_delay=1.0,
    kinds=(*REQUESTS, "resignation", "client cut from all members", "administrator deleted a znode"),
    pause=0.6,
)
WRITTEN = Setting(4.0, 0.2, 0.2, 0.15, kinds=("administrator wrote to a znode", "resignation"), pause=0.6)
CLOSED = Setting(4.0, 0.2, 0.2, 0.15, kinds=("client closed",), pause=0.6)

CASES: dict[str, tuple[Setting | None, Storm | None, int]] = {
    "lease counted from the renewal's own send time": (PAIR, cut_between_pings, 20),
    "lease counted from the renewal's receive time": (PAIR, cut_between_pings, 20),
    "pair without the tick between": (PAIR, cut_between_pings, 60),
    "ping taken for proof": (PAIR, cut_between_pings, 20),
    "T of the newest connection": (TIMEOUT, leader_change_after_a_resume, 20),
    "resume counted after a lapse": (RESUME, resume_while_expiring, 30),
    "resume counted before a renewal went through": (DEPOSED, resume_at_a_deposed_leader, 10),
    "no watches set again after a reconnect": (None, None, 10),
    "watches that an event has used up not set again": (WRITTEN, None, 10),
    "names sorted as text": (None, None, 20),
    "nobody at k - 1 means nobody is before us": (None, None, 10),
    "somebody at k - 1 leads, whatever k is": (None, None, 10),
    "nobody at k - 2 means that k - 1 leads": (None, None, 10),
    "deadline not watched": (None, None, 10),
    "term begun without time for the next proof": (COLD, cold_when_elected, 20),
    "next proof not in time for the body's own drain": (COLD, cold_when_elected, 100),
    "next proof not in time for its answer": (FAR, cold_and_far, 20),
    "body started without a last look at the clock": (DRAIN, frozen_when_elected, 10),
    "body not cut short at its deadline": (DRAIN, thaw_before_the_deadline, 10),
    "client closed under its leaders": (CLOSED, None, 10),
    "request taken for anybody's": (ASKED, None, 10),
    "requests not looked at before leading": (ASKED, None, 10),
    "body started though another was chosen": (ASKED, None, 10),
    "requests not watched": (ASKED, None, 10),
    "request left behind": (ASKED, None, 10),
    "request outlives its asker": (ASKED, None, 10),
    "note written after the body started": (DELAYED, None, 10),
    "every end taken for a clean one": (DELAYED, None, 10),
    "no end taken for a clean one": (DELAYED, None, 10),
    "end remarked when the body began": (DELAYED, None, 10),
}
"""By mutant: the setting and the storm in which it shows, and the number of seeds among which one must fail; several do.

The two mutants that are missing here can't be reached through the shell: see docs/proof-simulation.md.
"""


@pytest.mark.parametrize("name", CASES)
def test_mutant_is_caught(name: str) -> None:
    setting, storm, seeds = CASES[name]
    with MUTANTS[name](), contextlib.redirect_stderr(io.StringIO()):
        assert any(Simulation(seed, setting).run(storm).violations for seed in range(seeds)), (
            f"{seeds} seeds did not notice: {name}"
        )


def test_every_mutant_is_tried_or_known_to_be_out_of_reach() -> None:
    assert set(MUTANTS) - set(CASES) == {
        "DELETED used before the own watch is confirmed",
        "SetWatches events taken one by one",
    }
