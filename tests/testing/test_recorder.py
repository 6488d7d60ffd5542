import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioelect.testing.recorder import (
    Interval,
    LeadershipRecorder,
    find_disorder,
    find_gaps,
    find_overlaps,
)

SOON = 10.0


@dataclass
class Leader:
    identity: str = "one"
    token: int = 7
    is_leader: bool = True


def interval(start: float, end: float, token: int = 1) -> Interval:
    return Interval(start, end, "somebody", token, 1, True)


times = st.integers(0, 12)
intervals = st.lists(
    st.builds(
        lambda start, length, token: interval(start, start + length, token),
        times,
        st.integers(0, 5),
        st.integers(1, 9),
    ),
    max_size=12,
)


# The pure part.


@given(intervals)
def test_overlaps_are_all_pairs_with_more_than_an_edge_in_common(found: list[Interval]) -> None:
    ordered = sorted(found)
    expected = [
        (a, b) for later, b in enumerate(ordered) for a in ordered[:later] if a.start < b.end and b.start < a.end
    ]
    assert sorted(find_overlaps(found)) == sorted(expected)


@given(intervals)
def test_gaps_are_what_nobody_covers(found: list[Interval]) -> None:
    """Tried at every half tick, which no edge falls on."""
    gaps = find_gaps(found)
    for tick in range(20):
        moment = tick + 0.5
        before = any(i.start < moment for i in found)
        after = any(moment < i.end for i in found) or any(moment < i.start for i in found)
        covered = any(i.start < moment < i.end for i in found)
        assert any(a < moment < b for a, b in gaps) is (before and after and not covered)


@given(intervals)
def test_disorder_is_a_smaller_token_after_a_greater_one(found: list[Interval]) -> None:
    ordered = sorted(found)
    late = [b for n, b in enumerate(ordered) if any(a.token > b.token for a in ordered[:n])]
    pairs = find_disorder(found)
    assert [b for _, b in pairs] == late
    assert all(a.start <= b.start and a.token > b.token for a, b in pairs)


def test_a_moment_within_another_interval_overlaps_it() -> None:
    around, moment = interval(0, 2), interval(1, 1)
    assert find_overlaps([moment, around]) == ((around, moment),)


def test_one_after_the_other_is_no_overlap() -> None:
    assert find_overlaps([interval(0, 1), interval(1, 2), interval(2, 2)]) == ()


def test_a_large_recording_is_searched_fast() -> None:
    many = [interval(n, n + 1.5) for n in range(100_000)]
    began = time.process_time()
    assert len(find_overlaps(many)) == len(many) - 1
    assert time.process_time() - began < 10


# Recording.


async def test_an_interval_spans_the_block(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path / "new" / "folder")
    before = time.monotonic()
    async with recorder.leading(Leader("one", 7)):
        inside = time.monotonic()
    after = time.monotonic()
    [found] = recorder.intervals()
    assert before <= found.start <= inside <= found.end <= after
    assert (found.contender, found.token, found.pid, found.ended) == ("one", 7, os.getpid(), True)


async def test_stamps_are_taken_all_the_time(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    async with recorder.leading(Leader()):
        entered = time.monotonic()
        await until(lambda: recorder.intervals()[0].end > entered)
        assert not recorder.intervals()[0].ended


async def test_an_interval_ends_with_the_last_proof(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    leader = Leader()
    async with recorder.leading(leader):
        leader.is_leader = False
        lost = time.monotonic()
        await asyncio.sleep(0.02)
    [found] = recorder.intervals()
    assert found.end <= lost
    assert not found.ended


async def test_who_never_led_leaves_no_interval(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    async with recorder.leading(Leader(is_leader=False)):
        await asyncio.sleep(0.01)
    assert recorder.intervals() == ()


async def test_the_clock_is_read_before_the_leader_is_asked(tmp_path: Path) -> None:
    """A process stopped between the two must not stamp the time at which it woke up."""

    class Slow(Leader):
        asked = 0.0

        def __getattribute__(self, name: str) -> object:
            if name == "is_leader":
                Slow.asked = time.monotonic()
            return super().__getattribute__(name)

    recorder = LeadershipRecorder(tmp_path)
    async with recorder.leading(Slow()):
        pass
    assert recorder.intervals()[0].end <= Slow.asked


async def test_a_cancelled_body_ends_its_interval(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    entered = asyncio.Event()

    async def lead() -> None:
        async with recorder.leading(Leader()):
            entered.set()
            await asyncio.Event().wait()

    leading = asyncio.create_task(lead())
    await entered.wait()
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    assert recorder.intervals()[0].ended
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_the_body_comes_out(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    with pytest.raises(KeyError, match="mine"):
        async with recorder.leading(Leader()):
            raise KeyError("mine")
    assert recorder.intervals()[0].ended


async def test_an_error_of_the_stamping_comes_out(tmp_path: Path) -> None:
    class Broken(Leader):
        asked = 0

        def __getattribute__(self, name: str) -> object:
            if name == "is_leader":
                Broken.asked += 1
                if Broken.asked == 2:
                    raise OSError("broken")
            return super().__getattribute__(name)

    recording = LeadershipRecorder(tmp_path).leading(Broken())
    await recording.__aenter__()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    with pytest.raises(OSError, match="broken"):
        await recording.__aexit__(None, None, None)


async def test_terms_of_several_leaders_are_told_apart(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    async with recorder.leading(Leader("one", 7)):
        pass
    async with recorder.leading(Leader("two", 9)), recorder.leading(Leader("three", 8)):
        pass
    async with recorder.leading(Leader("one", 7)):
        pass
    found = recorder.intervals()
    assert [i.contender for i in found] == ["one", "two", "three", "one"]
    one, two, three, again = found
    assert recorder.overlaps() == ((two, three),)
    assert recorder.gaps() == ((one.end, two.start), (two.end, again.start))
    assert recorder.disorder() == ((two, three), (two, again))


async def test_a_half_written_last_line_is_passed_over(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    async with recorder.leading(Leader()):
        pass
    before = recorder.intervals()
    with (tmp_path / f"{os.getpid()}-7.jsonl").open("a") as half:
        half.write('{"stamp": "acted", "ti')
    assert recorder.intervals() == before


@pytest.mark.parametrize("line", ["garbage", "{}", "[]", '{"stamp": "begin", "time": 1}'])
def test_anything_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "1-1.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match="no stamp"):
        LeadershipRecorder(tmp_path).intervals()


# Other processes.


def test_a_killed_process_leaves_its_interval(tmp_path: Path) -> None:
    recorder = LeadershipRecorder(tmp_path)
    with leading_process(tmp_path) as process:
        eventually(lambda: bool(recorder.intervals()))
        started = recorder.intervals()[0]
        eventually(lambda: recorder.intervals()[0].end > started.end)
        process.kill()
        process.wait()
    killed = time.monotonic()
    [found] = recorder.intervals()
    assert started.start == found.start < found.end <= killed
    assert found.pid == process.pid
    assert not found.ended


def test_the_interval_of_a_frozen_process_ends_at_its_last_stamp(tmp_path: Path) -> None:
    """The leader's own check fails after the wake-up; here it holds for half a second."""
    recorder = LeadershipRecorder(tmp_path)
    with leading_process(tmp_path, believes="time.monotonic() - began < 0.5") as process:
        eventually(lambda: bool(recorder.intervals()))
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        frozen = time.monotonic()
        eventually(lambda: time.monotonic() > frozen + 0.6)
        process.send_signal(signal.SIGCONT)
        assert process.wait(SOON) == 0
    [found] = recorder.intervals()
    assert found.end <= frozen
    assert not found.ended


@contextmanager
def leading_process(folder: Path, believes: str = "True") -> Iterator["subprocess.Popen[bytes]"]:
    script = f"""
import asyncio, pathlib, time
from aioelect.testing.recorder import LeadershipRecorder

class Leader:
    identity, token = "other", 5
    is_leader = property(lambda self: {believes})

async def main():
    async with LeadershipRecorder(pathlib.Path({str(folder)!r})).leading(Leader()):
        while Leader().is_leader:
            await asyncio.sleep(0.001)

began = time.monotonic()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.001)
