"""The pair rule: by example, and against a reference that keeps everything.

Times are numbers that floats hold exactly, so that "a tick later" means just that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect.lease import COLD, Lease

T = 40.0
TICK = 8.0
GRAIN = TICK / 16


def warm_lease(*, tick: float = TICK, margin: float = 0.0, session_timeout: float = T) -> Lease:
    """The lease of a session that was opened at 0."""
    lease = Lease()
    lease.tick = tick
    lease.margin = margin
    lease.opened(0.0, session_timeout)
    return lease


def lapsed_lease() -> Lease:
    """The lease of a session that is resumed at 100, long after its deadline."""
    lease = warm_lease()
    lease.disconnected()
    lease.resumed(100.0, 101.0, T)
    return lease


# Proof


def test_nothing_is_proven_at_first() -> None:
    lease = Lease()
    assert lease.deadline == COLD
    assert lease.remaining(0.0) == 0.0


def test_a_new_session_counts_from_its_connect_request() -> None:
    lease = Lease()
    lease.opened(5.0, T)
    assert lease.deadline == 5.0 + T


def test_a_ping_reply_proves_nothing() -> None:
    lease = warm_lease()
    for second in range(1, 30):
        lease.touched(float(second), second + 0.5)
    assert lease.deadline == T


def test_a_renewal_alone_proves_nothing() -> None:
    lease = warm_lease()
    assert not lease.renewed(20.0, 21.0)
    assert lease.deadline == T


def test_a_pair_counts_from_the_send_of_its_touch() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    assert lease.renewed(25.0, 26.0)
    assert lease.deadline == 10.0 + T


def test_the_renewal_is_sent_a_tick_after_the_acknowledgement_of_the_touch() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    assert not lease.renewed(11.0 + TICK - 0.25, 30.0)
    assert lease.deadline == T
    assert lease.renewed(11.0 + TICK, 30.0)
    assert lease.deadline == 10.0 + T


def test_a_renewal_acknowledged_late_counts_by_its_send() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    assert not lease.renewed(12.0, 38.0)
    assert lease.deadline == T


def test_the_newest_touch_that_fits_counts() -> None:
    lease = warm_lease()
    for sent in (10.0, 12.0, 14.0, 16.0):
        lease.touched(sent, sent + 1.0)
    assert lease.renewed(15.0 + TICK, 30.0)
    assert lease.deadline == 14.0 + T


def test_a_renewal_is_a_touch_for_the_next() -> None:
    lease = warm_lease()
    assert not lease.renewed(10.0, 11.0)
    assert lease.renewed(11.0 + TICK, 20.0)
    assert lease.deadline == 10.0 + T


def test_a_second_renewal_proves_nothing_new_without_a_newer_touch() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    assert lease.renewed(19.0, 20.0)
    assert not lease.renewed(20.0, 21.0)
    assert lease.deadline == 10.0 + T


def test_in_steady_state_each_renewal_completes_the_pair_of_one_a_tick_before() -> None:
    every, margin = 2.0, 1.0
    lease = warm_lease(margin=margin)
    for n in range(1, 100):
        sent = n * every
        lease.renewed(sent, sent)
        if sent > TICK:
            assert lease.remaining(sent) == T - TICK - margin
            assert lease.remaining(sent + every) == T - TICK - every - margin


@pytest.mark.parametrize("latency", [0.0, 1.0, 7.0])
def test_steady_state_with_latency_loses_no_more_than_the_round_trip_and_one_renewal(latency: float) -> None:
    every = 2.0
    lease = warm_lease()
    for n in range(1, 100):
        lease.renewed(n * every, n * every + latency)
    assert lease.deadline >= 99 * every + T - TICK - every - latency


def test_an_older_touch_takes_nothing_back() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.renewed(19.0, 20.0)
    lease.touched(5.0, 21.0)
    lease.renewed(30.0, 31.0)
    assert lease.deadline >= 10.0 + T


# The session timeout, the margin and the tick


def test_the_smallest_timeout_of_the_sessions_life_counts() -> None:
    lease = warm_lease(session_timeout=20.0)
    lease.disconnected()
    lease.resumed(5.0, 6.0, 60.0)
    lease.renewed(6.0, 7.0)
    assert lease.session_timeout == 20.0
    assert lease.deadline == 5.0 + 20.0


def test_a_smaller_timeout_counts_at_once() -> None:
    lease = warm_lease(session_timeout=60.0)
    lease.disconnected()
    lease.resumed(5.0, 6.0, 20.0)
    assert lease.deadline == 5.0 + 20.0


def test_a_smaller_timeout_counts_for_what_was_proven_before() -> None:
    lease = warm_lease(session_timeout=60.0)
    lease.disconnected()
    lease.resumed(65.0, 66.0, 20.0)
    assert lease.deadline == 20.0


def test_a_smaller_timeout_takes_nothing_from_an_old_proof_that_ends_before() -> None:
    """Whoever resumed the session, it lives until the old proof ends, or for the new timeout."""
    lease = warm_lease(session_timeout=60.0)
    lease.disconnected()
    lease.resumed(50.0, 51.0, 20.0)
    assert lease.deadline == 60.0
    assert lease.renewed(51.0, 52.0)
    assert lease.deadline == 50.0 + 20.0


def test_another_session_has_a_timeout_of_its_own() -> None:
    lease = warm_lease(session_timeout=20.0)
    lease.ended()
    lease.opened(100.0, 60.0)
    assert lease.deadline == 160.0


def test_the_margin_is_kept_free() -> None:
    lease = warm_lease(margin=3.0)
    assert lease.deadline == T - 3.0
    lease.margin = 5.0
    assert lease.deadline == T - 5.0


def test_remaining_falls_to_zero_and_no_further() -> None:
    lease = warm_lease(margin=3.0)
    assert lease.remaining(7.0) == T - 10.0
    assert lease.remaining(T - 3.0) == 0.0
    assert lease.remaining(1000.0) == 0.0


def test_a_new_tick_counts_for_the_next_pair() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.tick = 2.0
    assert lease.renewed(13.0, 14.0)
    assert lease.deadline == 10.0 + T


def test_without_a_tick_there_are_no_pairs() -> None:
    lease = Lease()
    lease.opened(0.0, T)
    lease.touched(1.0, 2.0)
    assert not lease.renewed(1e9, 1e9)
    assert lease.deadline == T


# Connections and sessions


def test_a_disconnect_alone_loses_nothing() -> None:
    lease = warm_lease()
    lease.disconnected()
    assert lease.deadline == T


def test_a_touch_of_an_old_connection_completes_no_pair_on_a_new_one() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.disconnected()
    lease.resumed(12.0, 13.0, T)
    lease.renewed(30.0, 31.0)
    assert lease.deadline == 12.0 + T


def test_a_disconnect_forgets_touches() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.disconnected()
    assert not lease.renewed(30.0, 31.0)
    assert lease.deadline == T


def test_resuming_forgets_touches_even_if_nobody_told_of_the_disconnect() -> None:
    lease = warm_lease()
    lease.touched(20.0, 21.0)
    lease.resumed(12.0, 13.0, T)
    lease.renewed(30.0, 31.0)
    assert lease.deadline == 12.0 + T


def test_a_resume_answered_before_the_deadline_counts_from_its_connect_request_after_a_renewal() -> None:
    lease = warm_lease()
    lease.disconnected()
    lease.resumed(30.0, T - 0.5, T)
    assert lease.deadline == T
    assert lease.renewed(T - 0.5, T - 0.25)
    assert lease.deadline == 30.0 + T


def test_a_resume_whose_renewal_is_answered_after_the_deadline_does_not_count() -> None:
    lease = warm_lease()
    lease.disconnected()
    lease.resumed(30.0, T - 0.5, T)
    assert not lease.renewed(T - 0.5, T)
    assert lease.deadline == T


def test_a_resume_is_proven_by_a_renewal_on_its_own_connection() -> None:
    lease = warm_lease()
    lease.disconnected()
    lease.resumed(30.0, 31.0, T)
    lease.disconnected()
    assert not lease.renewed(32.0, 33.0)
    assert lease.deadline == T


@pytest.mark.parametrize("answered", [T, T + 0.25, 3 * T])
def test_a_resume_answered_after_the_deadline_does_not_count(answered: float) -> None:
    lease = warm_lease()
    lease.disconnected()
    lease.resumed(30.0, answered, T)
    assert not lease.renewed(answered, answered + 0.25)
    assert lease.deadline == T


def test_the_lapse_is_judged_by_the_deadline_with_its_margin() -> None:
    lease = warm_lease(margin=5.0)
    lease.disconnected()
    lease.resumed(30.0, T - 5.0, T)
    assert not lease.renewed(T - 5.0, T - 5.0)
    assert lease.deadline == T - 5.0


def test_after_a_lapse_a_second_resume_does_not_count_either() -> None:
    lease = lapsed_lease()
    lease.disconnected()
    lease.resumed(102.0, 103.0, T)
    assert lease.remaining(103.0) == 0.0


def test_after_a_lapse_a_pair_warms_the_lease_when_a_later_renewal_confirms_it() -> None:
    lease = lapsed_lease()
    assert lease.remaining(101.0) == 0.0
    assert not lease.renewed(101.0, 102.0)
    assert not lease.renewed(102.0 + TICK, 111.0)
    assert lease.remaining(111.0) == 0.0
    assert lease.renewed(111.0 + TICK / 2, 116.0)
    assert lease.deadline == 101.0 + T


def test_after_a_lapse_the_confirmation_is_sent_half_a_tick_after_the_pair_was_acknowledged() -> None:
    """In the instant in which an expired bucket is closed, whatever arrives is acknowledged."""
    lease = lapsed_lease()
    lease.renewed(101.0, 102.0)
    lease.renewed(102.0 + TICK, 111.0)
    assert not lease.renewed(111.0 + TICK / 2 - 0.25, 120.0)
    assert lease.remaining(120.0) == 0.0
    assert lease.renewed(111.0 + TICK / 2, 120.0)


def test_an_idle_session_has_lapsed_as_well() -> None:
    """Nobody renewed it, and nothing ever broke."""
    lease = warm_lease()
    for second in range(1, 60):
        lease.touched(float(second), second + 0.25)
    assert not lease.renewed(60.0, 60.0)
    assert lease.renewed(60.0 + TICK / 2, 64.0)
    assert lease.deadline > 60.0 - TICK - 2 + T


def test_a_renewal_that_is_answered_after_the_deadline_comes_after_a_lapse() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    assert not lease.renewed(20.0, T)
    assert lease.deadline == T
    assert lease.renewed(T + TICK / 2, T + TICK / 2)
    assert lease.deadline == 10.0 + T


def test_once_confirmed_pairs_count_at_once_again() -> None:
    lease = lapsed_lease()
    lease.renewed(101.0, 102.0)
    lease.renewed(105.0, 106.0)
    lease.renewed(102.0 + TICK, 111.0)
    assert lease.renewed(111.0 + TICK / 2, 116.0)
    assert lease.deadline == 105.0 + T, "the confirmation completes a pair of its own"
    assert lease.renewed(119.0, 120.0)
    assert lease.deadline == 110.0 + T


def test_a_pair_that_waits_is_confirmed_on_its_own_connection() -> None:
    lease = lapsed_lease()
    lease.renewed(101.0, 102.0)
    lease.renewed(102.0 + TICK, 111.0)
    lease.disconnected()
    lease.resumed(112.0, 113.0, T)
    assert not lease.renewed(130.0, 131.0)
    assert lease.remaining(131.0) == 0.0


def test_a_pair_that_waits_is_not_put_off_by_the_next() -> None:
    lease = lapsed_lease()
    lease.renewed(101.0, 101.0)
    lease.renewed(109.0, 109.0)
    for quarter in range(1, 16):
        assert not lease.renewed(109.0 + quarter / 4, 109.0 + quarter / 4)
    assert lease.renewed(109.0 + TICK / 2, 109.0 + TICK / 2)


def test_a_pair_that_would_be_out_of_date_when_confirmed_does_not_wait() -> None:
    """It would hold up a better one."""
    lease = lapsed_lease()
    lease.touched(101.0, 102.0)
    lease.touched(125.0, 129.0)
    assert not lease.renewed(136.5, 137.0)
    assert lease.ripe_at == 129.0 + TICK
    assert not lease.renewed(137.0, 138.0)
    assert lease.renewed(138.0 + TICK / 2, 143.0)
    assert lease.deadline == 125.0 + T


def test_a_new_session_has_no_lapse() -> None:
    lease = lapsed_lease()
    lease.renewed(101.0, 102.0)
    lease.renewed(102.0 + TICK, 111.0)
    lease.opened(112.0, T)
    assert lease.deadline == 112.0 + T
    lease.touched(113.0, 114.0)
    assert lease.renewed(122.0, 123.0)
    assert lease.deadline == 113.0 + T


def test_the_end_of_the_session_ends_the_lease() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.ended()
    assert lease.deadline == COLD
    assert lease.remaining(12.0) == 0.0


def test_the_last_deadline_is_the_deadline_until_the_session_ends_and_remains_until_the_next() -> None:
    lease = Lease()
    assert lease.last_deadline == COLD
    lease = warm_lease(margin=2.0)
    assert lease.last_deadline == lease.deadline
    lease.resumed(1.0, 2.0, T - 5.0)
    assert lease.last_deadline == lease.deadline
    last = lease.deadline
    lease.ended()
    assert lease.last_deadline == last
    lease.disconnected()
    lease.ended()  # a client whose session has ended is closed
    assert lease.last_deadline == last
    lease.opened(3.0, T / 2)
    assert lease.last_deadline == lease.deadline == 3.0 + T / 2 - 2.0
    lease.ended()
    assert lease.last_deadline == 3.0 + T / 2 - 2.0


def test_an_ended_session_is_not_proven_by_a_late_renewal() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.ended()
    assert not lease.renewed(30.0, 31.0)
    assert lease.deadline == COLD


def test_touches_of_a_session_complete_no_pair_of_the_next() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.opened(5.0, T)
    assert not lease.renewed(30.0, 31.0)
    assert lease.deadline == 5.0 + T


# When to renew


def test_a_renewal_is_ripe_a_tick_after_the_oldest_touch_that_waits_for_one() -> None:
    lease = lapsed_lease()
    assert lease.ripe_at == float("inf")
    lease.touched(101.0, 102.0)
    lease.touched(105.0, 106.0)
    assert lease.ripe_at == 102.0 + TICK
    assert not lease.renewed(lease.ripe_at, 111.0)


def test_a_pair_that_waits_says_when_it_can_be_confirmed() -> None:
    lease = lapsed_lease()
    lease.touched(101.0, 102.0)
    lease.touched(105.0, 106.0)
    lease.renewed(lease.ripe_at, 111.0)
    assert lease.ripe_at == 111.0 + TICK / 2
    assert lease.renewed(lease.ripe_at, 116.0)
    assert lease.ripe_at == 110.0 + 1.0 + TICK, "the renewals are touches themselves"


# Memory


@pytest.mark.parametrize("latency", [0.0, 0.25, 30.0])
def test_memory_is_bounded(latency: float) -> None:
    lease = warm_lease()
    most = 0
    for n in range(20_000):
        sent = n / 64
        lease.touched(sent, sent + latency)
        most = max(most, len(lease._touches))
    assert most <= T / GRAIN + 3


def test_touches_of_a_stalled_connection_are_told_apart_by_their_sends() -> None:
    """They come back at once, though they were sent far apart: the newest is worth much more than the first."""
    lease = warm_lease()
    for sent in (10.0, 14.0, 18.0, 22.0):
        lease.touched(sent, 24.0)
    lease.touched(24.0, 24.25)
    lease.renewed(24.0 + TICK, 33.0)
    assert lease.deadline == 22.0 + T


@pytest.mark.parametrize("cutoff", [11.0 + n / 16 for n in range(64)])
def test_what_is_not_kept_costs_less_than_a_grain(cutoff: float) -> None:
    lease = warm_lease()
    for n in range(160):
        lease.touched(10.0 + n / 16, 10.0 + n / 16)
    lease.renewed(cutoff + TICK, cutoff + TICK)
    assert cutoff + T - GRAIN < lease.deadline <= cutoff + T


def test_a_touch_waits_for_a_slow_renewal() -> None:
    lease = warm_lease()
    lease.touched(10.0, 11.0)
    lease.touched(18.0, 38.0)
    assert lease.renewed(19.0, 39.0)
    assert lease.deadline == 10.0 + T


# Against a reference


@dataclass
class Renewal:
    """Which connection it was sent on, and when; ``in_time``: acknowledged before the deadline."""

    connection: int
    sent: float
    acknowledged: float
    in_time: bool


@dataclass
class Reference:
    """The rule, word by word: everything is kept, and nothing is clever.

    With ``slack``, deadlines are taken to be that much earlier where a lapse is judged, and after one nothing counts any more.
    """

    tick: float
    margin: float
    slack: float
    session_timeout: float = float("inf")
    starts: list[float] = field(default_factory=list)
    resumes: list[tuple[int, float]] = field(default_factory=list)
    touches: list[tuple[int, float, float]] = field(default_factory=list)
    renewals: list[Renewal] = field(default_factory=list)
    connection: int = 0

    @property
    def deadline(self) -> float:
        counted = [renewal for renewal in self.renewals if self.counts(renewal)]
        proofs = [
            *self.starts,
            *(
                sent
                for connection, sent in self.resumes
                if any(r.connection == connection and r.in_time for r in counted)
            ),
            *(
                sent
                for connection, sent, acknowledged in self.touches
                if any(r.connection == connection and r.sent >= acknowledged + self.tick for r in counted)
            ),
        ]
        return max(proofs, default=COLD) + self.session_timeout - self.margin if proofs else COLD

    def counts(self, renewal: Renewal) -> bool:
        return renewal.in_time or (
            not self.slack
            and any(
                renewal.connection == later.connection and later.sent >= renewal.acknowledged + self.tick / 2
                for later in self.renewals
            )
        )

    def in_time(self, now: float) -> bool:
        return now < self.deadline - self.slack

    def remaining(self, now: float) -> float:
        return max(0.0, self.deadline - now)

    def opened(self, sent: float, session_timeout: float) -> None:
        self.ended()
        self.session_timeout = session_timeout
        self.starts = [sent]

    def resumed(self, sent: float, answered: float, session_timeout: float) -> None:
        in_time, proven_until = self.in_time(answered), self.deadline + self.margin
        self.connection += 1
        self.session_timeout = min(self.session_timeout, session_timeout)
        if in_time:
            self.starts.append(min(proven_until - self.session_timeout, sent))
            self.resumes.append((self.connection, sent))

    def disconnected(self) -> None:
        self.connection += 1

    def ended(self) -> None:
        self.connection += 1
        self.starts, self.resumes, self.touches, self.renewals = [], [], [], []

    def touched(self, sent: float, acknowledged: float) -> None:
        self.touches.append((self.connection, sent, acknowledged))

    def renewed(self, sent: float, acknowledged: float) -> None:
        renewal = Renewal(self.connection, sent, acknowledged, in_time=False)
        self.renewals.append(renewal)  # it may confirm a pair, and so come in time itself
        renewal.in_time = self.in_time(acknowledged)
        self.touched(sent, acknowledged)


QUARTERS = st.one_of(st.integers(0, 8), st.integers(0, 160)).map(lambda n: n / 4)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["touch", "touch", "touch", "renew", "renew", "resume", "disconnect", "end", "open"]),
        QUARTERS,
        QUARTERS,
        st.sampled_from([24.0, 40.0, 60.0]),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0.0, 2.0]))
def test_the_deadline_is_never_later_than_the_rule_allows_nor_earlier_by_more_than_a_grain(
    steps: list[tuple[str, float, float, float]], margin: float
) -> None:
    lease, upper, lower = warm_lease(margin=margin), Reference(TICK, margin, 0.0), Reference(TICK, margin, GRAIN)
    upper.opened(0.0, T)
    lower.opened(0.0, T)
    sent = acknowledged = 0.0
    for what, gap, latency, session_timeout in steps:
        if what in ("resume", "open"):  # a new connection has nothing in flight
            sent = max(sent, acknowledged)
        sent += gap
        acknowledged = max(acknowledged, sent + latency)  # a connection answers in order
        for each in (lease, upper, lower):
            match what:
                case "touch":
                    each.touched(sent, acknowledged)
                case "renew":
                    each.renewed(sent, acknowledged)
                case "resume":
                    each.resumed(sent, acknowledged, session_timeout)
                case "disconnect":
                    each.disconnected()
                case "end":
                    each.ended()
                case "open":
                    each.opened(sent, session_timeout)
        assert lease.deadline <= upper.deadline
        assert lease.remaining(acknowledged) >= lower.remaining(acknowledged) - GRAIN


@given(STEPS, st.sampled_from([0.0, 0.25, 1.0]))
def test_steady_renewals_warm_the_lease_whatever_was_before(
    steps: list[tuple[str, float, float, float]], latency: float
) -> None:
    lease, now = warm_lease(), 0.0
    for what, gap, delay, _ in steps:
        sent, now = now + gap, now + gap + delay
        match what:
            case "touch":
                lease.touched(sent, now)
            case "renew":
                lease.renewed(sent, now)
            case "resume":
                lease.resumed(sent, now, T)
            case "disconnect" | "end" | "open":
                lease.disconnected()
    soonest = now + TICK + TICK / 2 + 2 * latency
    while lease.remaining(now) < T - TICK - TICK / 2 - 8.0:
        now += 1.0
        lease.renewed(now, now + latency)
        assert now <= soonest + TICK
