"""Pictures of the samples, to be read at a glance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.report import Result
from benchmarks.stats import format_seconds, percentile
from benchmarks.systems import SYSTEMS, System

__all__ = ["draw"]

GREY = "#555555"


def draw(results: Sequence[Result], folder: Path, suffix: str = "png") -> list[str]:
    """Draws what there is; the names of the files, which are those of the benchmarks, and an overview."""
    mpl.rcParams.update(
        {"font.size": 10, "svg.hashsalt": "aioelect", "svg.fonttype": "path", "axes.titleweight": "bold"}
    )
    folder.mkdir(parents=True, exist_ok=True)
    figures = {result.name: PICTURES[result.name](result) for result in results if result.name in PICTURES}
    figures["overview"] = _overview({result.name: result for result in results})
    for name, figure in figures.items():
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(folder / f"{name}.{suffix}", bbox_inches="tight", dpi=110, metadata=metadata)
    return [f"{name}.{suffix}" for name in figures]


def _present(samples: Mapping[str, Any]) -> list[System]:
    return [system for system in SYSTEMS if samples.get(system.name)]


def _seconds_axis(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _distribution(result: Result) -> Figure:
    """A violin of dots would hide the tail: each line is the range from best to worst, thick between the quartiles."""
    samples = result.samples["seconds"]
    systems = _present(samples)
    figure = Figure(figsize=(8.5, 0.5 * len(systems) + 1.4))
    axes = figure.add_subplot()
    for row, system in enumerate(reversed(systems)):
        times = samples[system.name]
        axes.plot([min(times), max(times)], [row, row], color=system.colour, linewidth=1.2, solid_capstyle="round")
        axes.plot([percentile(times, 0.25), percentile(times, 0.75)], [row, row], color=system.colour, linewidth=11)
        median, p99 = percentile(times, 0.5), percentile(times, 0.99)
        axes.plot([median], [row], "o", color="white", markeredgecolor="black", markersize=8, zorder=3)
        axes.plot([p99], [row], "|", color="black", markersize=14, markeredgewidth=2, zorder=3)
        axes.annotate(
            f"{format_seconds(median)}   p99 {format_seconds(p99)}",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            verticalalignment="center",
            color=GREY,
        )
    axes.set_xscale("log")
    _seconds_axis(axes)
    axes.set_yticks(range(len(systems)), [system.title for system in reversed(systems)])
    axes.set_ylim(-0.6, len(systems) - 0.4)
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_title(result.title, loc="left")
    axes.set_xlabel("line: best to worst · thick: middle half · ○ median · | p99      (left is better)", color=GREY)
    _plain(axes)
    return figure


def _growth(result: Result) -> Figure:
    samples = result.samples["seconds"]
    figure = Figure(figsize=(8.5, 4.6))
    axes = figure.add_subplot()
    ends: list[tuple[float, System]] = []
    sizes: list[int] = []
    for system in _present(samples):
        sizes = [int(size) for size, times in samples[system.name].items() if times]
        medians = [percentile(samples[system.name][str(size)], 0.5) for size in sizes]
        ours = system.name in ("aioelect", "floor")
        axes.plot(sizes, medians, "o-", color=system.colour, linewidth=3 if ours else 1.6, markersize=5)
        ends.append((medians[-1], system))
    axes.set_xscale("log")
    axes.set_yscale("log")
    place = 0.0
    for value, system in sorted(ends, key=lambda end: end[0]):
        place = max(value, place * 1.28)  # labels must not cover each other
        axes.annotate(
            f"{system.title}  {format_seconds(value)}",
            (sizes[-1], value),
            xytext=(sizes[-1] * 1.25, place),
            verticalalignment="center",
            color=system.colour,
            fontweight="bold" if system.name == "aioelect" else "normal",
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(which="both", alpha=0.25)
    axes.set_xlabel("contenders in the queue", color=GREY)
    axes.set_title("Median handover against the length of the queue (lower is better)", loc="left")
    _plain(axes)
    return figure


def _outages(result: Result) -> Figure:
    samples, faults, timeout = (result.samples[name] for name in ("seconds", "faults", "session_timeout"))
    facing = {fault: [system for system in _present(samples) if fault in samples[system.name]] for fault in faults}
    heights = [len(systems) + 1 for systems in facing.values()]
    figure = Figure(figsize=(9, 0.8 + 0.27 * sum(heights)))
    rows = figure.subplots(len(faults), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, (fault, title) in zip(rows[:, 0], faults.items(), strict=True):
        _bars(axes, [(system.title, system.colour, samples[system.name][fault]) for system in facing[fault]])
        axes.axvline(timeout, color="black", linestyle=":", linewidth=1)
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(axis="x", which="major", alpha=0.25)
    last = rows[-1, 0]
    _seconds_axis(last)
    last.set_xlabel(
        f"bar: median · dots: each time · dotted: the session timeout, {timeout:g} s      (left is better)", color=GREY
    )
    figure.tight_layout(h_pad=0.6)
    return figure


def _bars(axes: Axes, lines: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    """Medians, with each time as a dot, of what has a title, a colour and samples; the median is written at the right."""
    for row, (_, colour, times) in enumerate(reversed(lines)):
        if times:
            axes.barh(row, percentile(times, 0.5), color=colour, height=0.75)
            axes.plot(times, [row] * len(times), ".", color="black", markersize=4, alpha=0.6)
        axes.annotate(
            format_seconds(percentile(times, 0.5)) if times else "never",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            verticalalignment="center",
            color=GREY if times else "red",
        )
    axes.set_yticks(range(len(lines)), [title for title, _, _ in reversed(lines)], fontsize=9)
    axes.set_ylim(-0.5, len(lines) - 0.5)
    axes.set_xscale("log")
    axes.set_xlim(5e-4, 40)
    axes.grid(axis="x", which="major", alpha=0.25)
    _plain(axes)


def _deaths(result: Result) -> Figure:
    samples = result.samples["seconds"]
    colours = {True: _BY_NAME["aioelect"].colour, False: _BY_NAME["guard"].colour}
    lines = [
        (f"{place}: {column}", colours[column.startswith("no guard")], times)
        for place, found in samples.items()
        for column, times in found.items()
    ]
    figure = Figure(figsize=(8.5, 0.6 + 0.32 * len(lines)))
    axes = figure.add_subplot()
    _bars(axes, lines)
    _seconds_axis(axes)
    axes.set_title("From kill -9 of the leader to the next leader", loc="left")
    axes.set_xlabel("bar: median · dots: each time      (left is better)", color=GREY)
    return figure


def _overview(results: Mapping[str, Result]) -> Figure:
    """What a glance is enough for: medians of handovers, alone and in a long queue, and after a death."""
    panels = _panels(results)
    figure = Figure(figsize=(3.4 * len(panels) + 0.6, 2.6))
    names = {name for _, samples in panels for name, times in samples.items() if times}
    systems = [system for system in SYSTEMS if system.name in names and not system.is_raw and system.name != "uvloop"]
    rows = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)
    for axes, (title, samples) in zip(rows[0], panels, strict=False):
        longest = max((percentile(times, 0.5) for times in samples.values() if times), default=1.0)
        for row, system in enumerate(reversed(systems)):
            times = samples.get(system.name)
            median = percentile(times, 0.5) if times else 0.0
            axes.barh(row, median, color=system.colour, height=0.72)
            axes.annotate(
                format_seconds(median) if times else "as without" if system.is_for_kills else "never",
                (median + 0.02 * longest, row),
                verticalalignment="center",
                fontweight="bold" if times and system.is_ours else "normal",
                color=GREY,
                alpha=1.0 if times else 0.6,
            )
        if times := samples.get("floor"):
            axes.axvline(percentile(times, 0.5), color="black", linestyle=":", linewidth=1)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlim(0, 1.35 * longest)
        axes.set_xticks([])
        axes.set_yticks(range(len(systems)), [system.title for system in reversed(systems)])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.supxlabel(
        "median time until another leads (shorter is better) · dotted: the floor, bare messages", color=GREY, fontsize=9
    )
    figure.tight_layout()
    return figure


def _panels(results: Mapping[str, Result]) -> list[tuple[str, Mapping[str, Sequence[float]]]]:
    """Titles, and samples by system, of what was measured."""
    panels: list[tuple[str, Mapping[str, Sequence[float]]]] = []
    if "handover" in results:
        panels.append(("The leader leaves", results["handover"].samples["seconds"]))
    if "queue_length" in results:
        found = results["queue_length"].samples["seconds"]
        longest = max(int(size) for sizes in found.values() for size in sizes)
        samples = {name: sizes[str(longest)] for name, sizes in found.items()}
        panels.append((f"... in a queue of {longest:,}", samples))
    if "outages" in results:
        found, timeout = (results["outages"].samples[name] for name in ("seconds", "session_timeout"))
        samples = {name: faults["killed"] for name, faults in found.items()}
        panels.append((f"It is killed (session timeout {timeout:g} s)", samples))
    return panels


_BY_NAME = {system.name: system for system in SYSTEMS}

PICTURES: dict[str, Callable[[Result], Figure]] = {
    "handover": _distribution,
    "handover_ensemble": _distribution,
    "queue_length": _growth,
    "outages": _outages,
    "guard": _deaths,
    "startup": _distribution,
}
