"""Who was faster, or took less: read off the samples, so that no page can say what its numbers don't."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Result
from benchmarks.stats import format_bytes, format_seconds, percentile
from benchmarks.systems import SYSTEMS

__all__ = ["Measure", "count_ahead", "measures", "peers_ahead"]

OURS = "aioelect"

PEERS = {system.name: system.title for system in SYSTEMS if not system.is_raw and not system.is_ours}


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing in which systems can be compared: ``values`` by their names; less is better, unless ``more_is_better``."""

    title: str
    values: Mapping[str, float]
    show: Callable[[float], str]
    more_is_better: bool = False

    def ahead(self) -> list[str]:
        """The peers that did better than aioelect, the best first."""
        sign = -1 if self.more_is_better else 1
        ours = sign * self.values[OURS]
        return sorted(
            (name for name in self.values if name in PEERS and sign * self.values[name] < ours),
            key=lambda name: sign * self.values[name],
        )


def peers_ahead(results: Sequence[Result]) -> list[str]:
    """A line for each measure in which a peer did better."""
    lines = []
    for measure in (measure for result in results for measure in measures(result)):
        if ahead := measure.ahead():
            those = ", ".join(f"{PEERS[name]} {measure.show(measure.values[name])}" for name in ahead)
            lines.append(f"- {measure.title}: {those}; aioelect {measure.show(measure.values[OURS])}")
    return lines


def count_ahead(results: Sequence[Result]) -> str:
    """In how many measures of which tables a peer did better, as the end of a sentence."""
    counts = []
    for result in results:
        compared = list(measures(result))
        if ahead := sum(bool(measure.ahead()) for measure in compared):
            counts.append(f"*{_short(result)}* ({ahead} of {len(compared)} measures)")
    return ", ".join(counts) or "nothing"


def measures(result: Result) -> Iterator[Measure]:
    """What can be compared of a result in which both aioelect and a peer took part."""
    for measure in _READERS.get(result.name, _nothing)(result):
        if OURS in measure.values and measure.values.keys() & PEERS.keys():
            yield measure


def _nothing(result: Result) -> Iterator[Measure]:
    yield from ()


def _latencies(result: Result) -> Iterator[Measure]:
    samples: Mapping[str, Sequence[float]] = result.samples["seconds"]
    for name, part in (("median", 0.5), ("p99", 0.99)):
        values = {system: percentile(times, part) for system, times in samples.items() if times}
        yield Measure(f"{result.title}, {name}", values, format_seconds)


def _by_column(result: Result) -> Iterator[Measure]:
    """Of samples by system and column; who has none, though others have, never came to an end."""
    samples: Mapping[str, Mapping[str, Sequence[float]]] = result.samples["seconds"]
    columns: Mapping[str, str] = result.samples.get("faults", {})
    for column in dict.fromkeys(column for found in samples.values() for column in found):
        values = {
            system: percentile(found[column], 0.5) if found[column] else math.inf
            for system, found in samples.items()
            if column in found
        }
        named = columns.get(column) or f"{int(column):,} contenders"
        yield Measure(f"{result.title}: {named}, median", values, format_seconds)


def _traffic(result: Result) -> Iterator[Measure]:
    samples: Mapping[str, Mapping[str, Mapping[str, float]]] = result.samples
    for size in next(iter(samples.values()), {}):
        values = {system: found[size]["bytes"] for system, found in samples.items()}
        yield Measure(f"{_short(result)}, bytes among {int(size):,} contenders", values, format_bytes)


def _rest(result: Result) -> Iterator[Measure]:
    samples: Mapping[str, Mapping[str, Mapping[str, float]]] = result.samples
    for role in next(iter(samples.values()), {}):
        for name, what, show in (("frames", "frames", _count), ("cpu", "CPU time", format_seconds)):
            values = {system: found[role][name] for system, found in samples.items()}
            yield Measure(f"{result.title}: {what} of the {role}", values, show)


def _many(result: Result) -> Iterator[Measure]:
    samples: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] = result.samples
    for count in next(iter(samples.values()), {}):
        done = {system: found[count] for system, found in samples.items() if found[count]["memory"]}
        rates = {system: int(count) / percentile(each["seconds"], 0.5) for system, each in done.items()}
        memory = {system: percentile(each["memory"], 0.5) for system, each in done.items()}
        yield Measure(f"{result.title}: {int(count):,}, elections a second", rates, _count, more_is_better=True)
        yield Measure(f"{result.title}: {int(count):,}, memory for each", memory, format_bytes)


def _short(result: Result) -> str:
    return result.title.partition(":")[0]


def _count(value: float) -> str:
    return f"{value:,.0f}"


_READERS: dict[str, Callable[[Any], Iterator[Measure]]] = {
    "handover": _latencies,
    "handover_ensemble": _latencies,
    "queue_length": _by_column,
    "outages": _by_column,
    "startup": _latencies,
    "joining": _traffic,
    "takeover": _traffic,
    "idle": _rest,
    "many": _many,
}
