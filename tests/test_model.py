"""Values, the inequalities of Timing, and the events that carry them."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect import events
from aioelect.model import Contender, LossReason, Standing, Timing

SECONDS = st.floats(0.001, 1000.0)


@given(st.floats(0.4, 600.0))
def test_the_defaults_are_valid(session_timeout: float) -> None:
    timing = Timing.derive(session_timeout)
    assert timing.ride_out == pytest.approx(session_timeout / 4)


def test_derived_times() -> None:
    assert dataclasses.astuple(Timing.derive(10.0)) == (10.0, 5.0, 1.0, 0.5, 1.0, 2.5)
    given_all = Timing.derive(10.0, tick_time=2.0, renew_every=0.5, margin=0.25, drain=3.0)
    assert given_all == Timing(10.0, 2.0, 0.5, 0.25, 3.0)


def test_ride_out_is_what_the_other_times_leave() -> None:
    assert Timing(10.0, 2.0, 1.0, 0.5, 1.0).ride_out == 5.5
    assert dataclasses.replace(Timing.derive(10.0), tick_time=2.0).ride_out == 5.5


@pytest.mark.parametrize("name", ["session_timeout", "tick_time", "renew_every", "margin", "drain"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_every_time_is_a_positive_number(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a positive number of seconds, not {value!r}$"):
        dataclasses.replace(Timing.derive(10.0), **{name: value})


def test_a_session_lives_for_two_ticks_at_least() -> None:
    assert Timing.derive(10.0, tick_time=5.0).tick_time == 5.0
    with pytest.raises(
        ValueError, match=r"tick_time=5\.001 is more than half of session_timeout=10: .*tickTime, or ask for a"
    ):
        Timing.derive(10.0, tick_time=5.001)


def test_an_outage_of_one_renewal_must_be_survived() -> None:
    assert Timing(10.0, 2.0, 2.0, 1.0, 2.5).ride_out == 2.5
    with pytest.raises(ValueError, match="no time is left between two renewals"):
        Timing(10.0, 2.0, 2.0, 1.0, 3.0)  # 2 is left, and the next renewal comes after 2


@pytest.mark.parametrize(
    ("times", "advice"),
    [
        ({"drain": 3.0}, "Lower drain to 1, state tick_time if the servers' is below 4.5, or ask"),
        ({"margin": 3.0}, "Lower margin to 0.5, state tick_time if the servers' is below 4, or ask"),
        ({"renew_every": 2.0}, "Lower renew_every to 1, state tick_time if the servers' is below 4.5, or ask"),
        ({"renew_every": 2.0, "drain": 2.0}, "Lower renew_every to 1 and drain to 1, state tick_time if the"),
        ({"drain": 9.0}, "Lower drain to 1, or ask for a longer session_timeout"),
    ],
)
def test_the_error_names_what_to_change(times: dict[str, float], advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        Timing.derive(10.0, **times)


@given(SECONDS, st.floats(0.001, 0.5), SECONDS, SECONDS, SECONDS)
def test_the_advice_helps(
    session_timeout: float, ticks: float, renew_every: float, margin: float, drain: float
) -> None:
    times = {
        "session_timeout": session_timeout,
        "tick_time": session_timeout * ticks,
        "renew_every": renew_every,
        "margin": margin,
        "drain": drain,
    }
    try:
        Timing(**times)
    except ValueError as e:
        error = str(e)
    else:
        return
    lower = {name: float(value) for name, value in re.findall(r"(\w+) to ([\d.e+-]*\d)", error)}
    assert lower
    assert all(value < times[name] for name, value in lower.items())
    Timing(**times | lower)
    if below := re.search(r"the servers' is below ([\d.e+-]*\d)", error):
        Timing(**times | {"tick_time": float(below[1]) * 0.999})
    Timing(**times | {"session_timeout": session_timeout + 10_000.0})


@pytest.mark.parametrize(("drain", "ahead"), [(None, 1.375), (1.0, 1.375), (0.2, 0.775), (2.5, 2.5), (3.0, 3.0)])
def test_a_proof_is_asked_for_in_time_for_its_answer_and_for_the_body(drain: float | None, ahead: float) -> None:
    assert Timing.derive(10.0).ahead(drain) == pytest.approx(ahead)


def test_the_leader_is_the_first_in_the_queue() -> None:
    first, second = (Contender(name, b"", token, f"/e/{name}", 0.0) for token, name in enumerate("ab"))
    assert Standing((first, second)).leader is first
    assert Standing().leader is None


@pytest.mark.parametrize("value", [Standing(), Contender("a", b"", 1, "/e/a", 0.0), Timing.derive(10.0)])
def test_values_are_frozen(value: Standing | Contender | Timing) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)
    assert hash(value) == hash(dataclasses.replace(value))


def test_each_reason_is_described() -> None:
    descriptions = {reason.describe() for reason in LossReason}
    assert len(descriptions) == len(LossReason)


@pytest.mark.parametrize("name", [name for name in events.__all__ if name != "OnEvent"])
def test_events_are_frozen_and_timestamped(name: str) -> None:
    kind = getattr(events, name)
    assert issubclass(kind, events.Event)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert "at" in fields
    assert all(field.kw_only for field in fields.values())
    event = kind(**dict.fromkeys(fields, 0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 1.0
