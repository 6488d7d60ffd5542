"""The worlds that are searched with the real machines: none may hold a violation. And what each assumption is for."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from tests.model.checker import Model
from tests.model.lease_model import LeaseModel
from tests.model.lease_mutants import CHANGE, CUT, LEASE_MUTANTS, RESUME, STALL
from tests.model.queue_model import ALIKE, Faults, QueueModel
from tests.model.queue_mutants import AT_ONCE, QUEUE_MUTANTS
from tests.model.whole_model import WholeModel

__all__ = ["ASSUMPTIONS", "MUTANTS", "SCOPES", "without_mutation"]

SCOPES: dict[str, Model[Any]] = {
    "lease: a member is cut off": CUT,
    "lease: two packets under way, a member is cut off": LeaseModel(flight=2, disconnects=0),
    "lease: a link stalls while the session expires": STALL,
    "lease: two resumes": RESUME,
    "lease: a member is cut off, a resume at either": LeaseModel(),
    "lease: another ZooKeeper leader, resumed with a longer timeout": CHANGE,
    "queue: three enter, a disconnect": QueueModel(Faults(disconnects=1), laggards=AT_ONCE),
    "queue: three enter, members lag": QueueModel(),
    "queue: three of one kind enter, a disconnect": QueueModel(Faults(disconnects=1), prefixes=ALIKE, laggards=AT_ONCE),
    "queue: three of one kind enter, one resigns, requests in any order": QueueModel(
        Faults(resignations=1), prefixes=ALIKE, laggards=AT_ONCE, shuffled=True
    ),
    "queue: two enter, all faults": QueueModel(Faults(1, 1, 1, 1, 1), contenders=2),
    "queue: two enter, requests in any order": QueueModel(
        Faults(expiries=1, deletions=1), contenders=2, laggards=AT_ONCE, shuffled=True
    ),
    "queue: two of one kind enter, a wipe, a disconnect, requests in any order": QueueModel(
        Faults(disconnects=1, wipes=1), contenders=2, prefixes=ALIKE, laggards=AT_ONCE, shuffled=True
    ),
    "queue: three stand, a disconnect, an expiry, a deletion": QueueModel(Faults(1, 1, 1), settled=True),
    "queue: three stand, two disconnects, an expiry": QueueModel(Faults(disconnects=2, expiries=1), settled=True),
    "queue: three stand, a wipe, a disconnect": QueueModel(Faults(disconnects=1, wipes=1), settled=True),
    "queue: three stand, two resign and return, a disconnect": QueueModel(
        Faults(disconnects=1, resignations=2), settled=True, returns=True
    ),
    "queue: three of one kind stand, two resign and return, a disconnect": QueueModel(
        Faults(disconnects=1, resignations=2), settled=True, returns=True, prefixes=ALIKE
    ),
    "queue: three of one kind stand, a wipe, two disconnects": QueueModel(
        Faults(disconnects=2, wipes=1), settled=True, prefixes=ALIKE
    ),
    "queue: three of one kind stand, two have been idle, an expiry, a deletion": QueueModel(
        Faults(expiries=1, deletions=1, idles=2), settled=True, prefixes=ALIKE
    ),
    "queue: three stand, two have been idle, one resigns, a disconnect": QueueModel(
        Faults(disconnects=1, resignations=1, idles=2), settled=True
    ),
    "queue: three stand, one has been idle, an expiry, a deletion": QueueModel(
        Faults(expiries=1, deletions=1, idles=1), settled=True
    ),
    "whole: two contenders": WholeModel(contenders=2),
    "whole: two contenders, a longer timeout": WholeModel(contenders=2, timeout=3),
    "whole: three contenders": WholeModel(),
    "whole: three contenders, three cuts": WholeModel(cuts=3),
}

MUTANTS: dict[str, Model[Any]] = {**LEASE_MUTANTS, **QUEUE_MUTANTS}

ASSUMPTIONS: dict[str, Model[Any]] = {
    "a member hands its table over in less than a tick": LeaseModel(disconnects=0, handover=3),
    "the sessions of an expired bucket are closed within half a tick": replace(STALL, slow_close=True),
    "no member grants a shorter timeout than the session has": LeaseModel(
        members=1, cuts=0, disconnects=2, resumed_timeouts=(2,)
    ),
}
"""Worlds in which one assumption of the proof does not hold. There the real machines fail, too."""


def without_mutation(model: Any) -> Model[Any]:
    """The same world with the real machines."""
    real = {
        field.name: field.default for field in fields(model) if field.name in ("lease", "machine", "dialect", "shell")
    }
    mended: Model[Any] = replace(model, **real)
    return mended
