"""Records who led when, over all processes of a machine, and finds leaders that overlapped.

Every leading process writes to a file of its own, each stamp with one write, so that a SIGKILL loses nothing
that was stamped. Times are `time.monotonic` seconds, a clock that all processes of a machine share.

What is recorded is proof. A stamp is taken by reading the clock and then asking `leader.is_leader`, and kept
only when the answer is yes. So an interval holds what the leader could have acted on, and no more: that of a
process which was killed, or frozen and deposed meanwhile, ends at its last stamp.
"""

import asyncio
import heapq
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

__all__ = [
    "Interval",
    "LeadershipRecorder",
    "Leading",
    "find_disorder",
    "find_gaps",
    "find_overlaps",
]


class Leading(Protocol):
    """What the recorder asks of a leader."""

    @property
    def identity(self) -> str: ...

    @property
    def token(self) -> int: ...

    @property
    def is_leader(self) -> bool: ...


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A stretch of proven leadership, from the first stamp to the last, in `time.monotonic` seconds.

    `ended` tells that the body ran to its end and still led then.
    """

    start: float
    end: float
    contender: str
    token: int
    pid: int
    ended: bool


class LeadershipRecorder:
    """Collects leadership intervals in `folder`, which all processes of a test share; it is made if missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def leading(self, leader: Leading, *, every: float = 0.002) -> AsyncIterator[None]:
        """Record that `leader` leads while the block runs, with a stamp `every` so many seconds."""
        path = self._folder / f"{os.getpid()}-{leader.token}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            stamps = _Stamps(file, leader)
            stamps.put("acted")
            stamping = asyncio.create_task(stamps.put_again_and_again(every))
            try:
                yield
            finally:
                stamps.put("end")
                stamping.cancel()
                await asyncio.wait([stamping])
            if not stamping.cancelled():
                stamping.result()
        finally:
            os.close(file)

    def intervals(self) -> tuple[Interval, ...]:
        """All intervals recorded so far, by their start.

        Raises:
            ValueError: a file holds something else than stamps; a last line half written is passed over.
        """
        return tuple(sorted(interval for path in self._folder.glob("*.jsonl") for interval in _read(path)))

    def overlaps(self) -> tuple[tuple[Interval, Interval], ...]:
        """The pairs of intervals in which two led at once; see `find_overlaps`."""
        return find_overlaps(self.intervals())

    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Start and end of the stretches in which nobody led; see `find_gaps`."""
        return find_gaps(self.intervals())

    def disorder(self) -> tuple[tuple[Interval, Interval], ...]:
        """The pairs of intervals whose tokens did not grow with time; see `find_disorder`."""
        return find_disorder(self.intervals())


def find_overlaps(intervals: Iterable[Interval]) -> tuple[tuple[Interval, Interval], ...]:
    """All pairs, earlier start first, that have more than an edge in common.

    Takes n log n steps for n intervals, and one for each pair found.
    """
    found: list[tuple[Interval, Interval]] = []
    running: list[tuple[float, Interval]] = []
    for later in sorted(intervals):
        while running and running[0][0] <= later.start:
            heapq.heappop(running)
        found += ((earlier, later) for _, earlier in running if earlier.start < later.end)
        heapq.heappush(running, (later.end, later))
    return tuple(found)


def find_gaps(intervals: Iterable[Interval]) -> tuple[tuple[float, float], ...]:
    """The stretches between the first start and the last end that no interval covers."""
    ordered = sorted(intervals)
    found: list[tuple[float, float]] = []
    covered = ordered[0].end if ordered else 0.0
    for interval in ordered:
        if interval.start > covered:
            found.append((covered, interval.start))
        covered = max(covered, interval.end)
    return tuple(found)


def find_disorder(intervals: Iterable[Interval]) -> tuple[tuple[Interval, Interval], ...]:
    """Each interval with a smaller token than an earlier one, as a pair with the earlier highest one."""
    found: list[tuple[Interval, Interval]] = []
    highest: Interval | None = None
    for interval in sorted(intervals):
        if highest is None or interval.token >= highest.token:
            highest = interval
        else:
            found.append((highest, interval))
    return tuple(found)


class _Stamps:
    """Writes the stamps of one term; the first to be proven begins the interval."""

    def __init__(self, file: int, leader: Leading) -> None:
        self._file = file
        self._leader = leader
        self._begun = False

    def put(self, kind: str) -> None:
        """Write a stamp, if leadership is proven."""
        now = time.monotonic()
        if not self._leader.is_leader:
            return
        if not self._begun:
            self._begun = True
            leader = self._leader
            self._write("begin", now, contender=leader.identity, token=leader.token, pid=os.getpid())
        self._write(kind, now)

    async def put_again_and_again(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self.put("acted")

    def _write(self, kind: str, now: float, **facts: str | int) -> None:
        os.write(self._file, json.dumps({"stamp": kind, "time": now, **facts}).encode() + b"\n")


def _read(path: Path) -> Iterator[Interval]:
    """The intervals of one file: each goes from a "begin" to the last stamp before the next one."""
    whole, _, _ = path.read_text().rpartition("\n")
    interval: Interval | None = None
    for line in whole.splitlines():
        try:
            stamp = json.loads(line)
            kind, now = stamp["stamp"], stamp["time"]
            if kind == "begin":
                if interval is not None:
                    yield interval
                interval = Interval(now, now, stamp["contender"], stamp["token"], stamp["pid"], False)
            elif interval is not None:
                interval = replace(interval, end=now, ended=kind == "end")
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} holds a line that is no stamp: {line!r}") from error
    if interval is not None:
        yield interval
