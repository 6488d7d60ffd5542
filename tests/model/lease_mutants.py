"""Leases that are wrong in one point each. The search must tell every one of them from the real one."""

from __future__ import annotations

from dataclasses import replace

from aioelect.lease import Lease
from tests.model.lease_model import LeaseModel
from tests.model.whole_model import WholeModel

__all__ = ["LEASE_MUTANTS"]


class CountsFromRenewalSend(Lease):
    """A write is taken for proof, from its own send time."""

    def renewed(self, sent: float, acknowledged: float) -> bool:
        self._proven = max(self._proven, sent)
        return True


class CountsFromRenewalReceive(Lease):
    """A write is taken for proof, from the time when its answer was read."""

    def renewed(self, sent: float, acknowledged: float) -> bool:
        self._proven = max(self._proven, acknowledged)
        return True


class CountsFromTouchReceive(Lease):
    """A pair counts from the answer to its touch; but a touch happens when the packet arrives."""

    def touched(self, sent: float, acknowledged: float) -> None:
        super().touched(acknowledged, acknowledged)


class NoTickBetween(Lease):
    """A renewal sent right after the touch completes the pair, though the table may still be with the member."""

    def renewed(self, sent: float, acknowledged: float) -> bool:
        tick, self.tick = self.tick, 0.0
        try:
            return super().renewed(sent, acknowledged)
        finally:
            self.tick = tick


class TickTooShort(Lease):
    """Half the tick between touch and renewal."""

    def renewed(self, sent: float, acknowledged: float) -> bool:
        tick, self.tick = self.tick, self.tick / 2
        try:
            return super().renewed(sent, acknowledged)
        finally:
            self.tick = tick


class TrustsPing(Lease):
    """A ping reply is taken for proof."""

    def touched(self, sent: float, acknowledged: float) -> None:
        super().touched(sent, acknowledged)
        self._proven = max(self._proven, sent)


class NewestTimeout(Lease):
    """T is what the newest connection negotiated."""

    def resumed(self, sent: float, answered: float, session_timeout: float) -> None:
        super().resumed(sent, answered, session_timeout)
        self.session_timeout = session_timeout


class CountsResumeAfterLapse(Lease):
    """A resume counts whenever it succeeds."""

    def resumed(self, sent: float, answered: float, session_timeout: float) -> None:
        super().resumed(sent, answered, session_timeout)
        self._proven = max(self._proven, sent)


class CountsPairAfterLapse(Lease):
    """A pair counts at once, also when the session may be expiring."""

    def _hold(self, sent: float, acknowledged: float) -> None:
        self._complete(sent)


class ConfirmedAtOnce(Lease):
    """A pair after a lapse is confirmed by any renewal sent after its acknowledgement."""

    def _confirm(self, sent: float) -> None:
        tick, self.tick = self.tick, 0.0
        try:
            super()._confirm(sent)
        finally:
            self.tick = tick


CUT = LeaseModel(disconnects=0)
RESUME = LeaseModel(members=1, cuts=0, disconnects=2)
STALL = LeaseModel(members=1, cuts=0, disconnects=0)
CHANGE = LeaseModel(members=1, cuts=0, changes=1, resumed_timeouts=(6,))

LEASE_MUTANTS: dict[str, LeaseModel | WholeModel] = {
    "lease counted from the renewal's own send time": replace(CUT, lease=CountsFromRenewalSend),
    "lease counted from the renewal's receive time": replace(CUT, lease=CountsFromRenewalReceive),
    "pair counted from the touch's receive time": replace(CUT, lease=CountsFromTouchReceive),
    "pair without the tick between": replace(CUT, lease=NoTickBetween),
    "pair with half a tick between": replace(CUT, lease=TickTooShort),
    "ping taken for proof": replace(CUT, lease=TrustsPing),
    "T taken from the newest connection": replace(CHANGE, lease=NewestTimeout),
    "resume counted after a lapse": replace(RESUME, lease=CountsResumeAfterLapse),
    "a pair after a lapse counts at once": replace(STALL, lease=CountsPairAfterLapse),
    "a pair after a lapse confirmed by the next renewal": replace(
        STALL, tick=1, timeout=3, handover=1, lease=ConfirmedAtOnce
    ),
    "two believers: lease counted from the renewal's own send time": WholeModel(
        contenders=2, lease=CountsFromRenewalSend
    ),
    "two believers: pair without the tick between": WholeModel(contenders=2, lease=NoTickBetween),
    "two believers: ping taken for proof": WholeModel(lease=TrustsPing),
    "two believers: resume counted after a lapse": WholeModel(
        contenders=2, cuts=0, resumes=2, lease=CountsResumeAfterLapse
    ),
}
"""The mutants, each in a small world in which it is seen to be wrong."""
