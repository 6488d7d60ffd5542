"""What the demo's verdict makes of recorded leaderships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aioelect.cli.verdict import Kind, Takeover, judge
from aioelect.testing.recorder import Interval, LeadershipRecorder


def led(contender: str, token: int, start: float, end: float) -> Interval:
    return Interval(start, end, contender, token, 100 + token, ended=True)


A, B, C, D = led("a", 1, 0, 10), led("b", 2, 10.002, 20), led("c", 3, 22, 30), led("d", 4, 31.9, 40)

TAKEOVERS = [
    Takeover(Kind.RESIGN, 9.999, 10.0, "a", "b", 1, 2),
    Takeover(Kind.KILL, 20.0, 20.0, "b", "c", 2, 3),
    Takeover(Kind.CUT, 30.0, 31.5, "c", "d", 3, 4),
]


def test_all_is_well() -> None:
    summary = judge(TAKEOVERS, [B, A, D, C], rounds=1)
    assert summary.ok
    assert (summary.intervals, summary.overlaps) == (4, 0)
    assert [each.latency for each in summary.takeovers] == pytest.approx([0.003, 2.0, 1.9])
    assert [each.gap for each in summary.takeovers] == pytest.approx([0.002, 2.0, 0.4])


def test_latencies_by_kind() -> None:
    later = Takeover(Kind.KILL, 39.0, 39.0, "d", "e", 4, 5)
    summary = judge([*TAKEOVERS, later], [A, B, C, D, led("e", 5, 42, 50)], rounds=1)
    (kills,) = [each for each in summary.by_kind if each.kind is Kind.KILL]
    assert (kills.median, kills.worst, kills.shortest_gap) == pytest.approx((2.5, 3.0, 2.0))


def test_summary_for_programs_is_json() -> None:
    said = json.loads(json.dumps(judge(TAKEOVERS, [A, B, C, D], rounds=1).as_json()))
    assert said["ok"] is True
    assert said["takeovers"]["kill"] == {
        "expected": 1,
        "count": 1,
        "latency_median": 2.0,
        "latency_worst": 2.0,
        "gap_shortest": 2.0,
    }
    assert said["overlaps"] == 0


def write_records(folder: Path, *intervals: Interval) -> tuple[Interval, ...]:
    for each in intervals:
        facts = {"contender": each.contender, "token": each.token, "pid": each.pid}
        stamps = [{"stamp": "begin", "time": each.start, **facts}, {"stamp": "end", "time": each.end}]
        (folder / f"{each.pid}-{each.token}.jsonl").write_text("".join(json.dumps(stamp) + "\n" for stamp in stamps))
    return LeadershipRecorder(folder).intervals()


def test_overlap(tmp_path: Path) -> None:
    recorded = write_records(tmp_path, A, B, C, D, led("x", 5, 39.99, 41))
    summary = judge(TAKEOVERS, recorded, rounds=1)
    assert not summary.ok
    assert summary.overlaps == 1
    assert summary.problems == ("d (token 0x4) and x (token 0x5) led at once, for 10.0 ms",)


def test_takeover_is_missing() -> None:
    summary = judge(TAKEOVERS[:2], [A, B, C], rounds=1, mishap="nobody took over")
    assert not summary.ok
    assert summary.problems == ("nobody took over", "1 of 1 takeovers after a network cut did not happen")


@pytest.mark.parametrize("token", [2, 3])
def test_tokens_do_not_grow(token: int) -> None:
    summary = judge(TAKEOVERS, [A, B, C, D, led("x", token, 50, 60)], rounds=1)
    assert summary.problems == (f"tokens must grow: x (token {token:#x}) led after d (token 0x4)",)


def test_new_leader_is_not_on_record() -> None:
    summary = judge(TAKEOVERS, [A, B, C], rounds=1)
    assert "nothing was recorded of the leadership of d (token 0x4)" in summary.problems
    assert "1 of 1 takeovers after a network cut did not happen" in summary.problems


def test_takeover_came_before_its_cause() -> None:
    early = Takeover(Kind.CUT, 32.0, 31.5, "c", "d", 3, 4)
    summary = judge([*TAKEOVERS[:2], early], [A, B, C, D], rounds=1)
    assert "d (token 0x4) led before the network cut of c (token 0x3), not because of it" in summary.problems


def test_old_block_had_not_ended() -> None:
    late = Takeover(Kind.CUT, 30.0, 31.95, "c", "d", 3, 4)
    summary = judge([*TAKEOVERS[:2], late], [A, B, C, D], rounds=1)
    assert summary.problems == ("c (token 0x3) was still at work 50.0 ms after d had begun",)
