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


def draw(results: Sequence[Result], folder: Path, suffix: str = "png") -> dict[str, str]:
    """Draws what there is; the names of the files by the name of the benchmark."""
    mpl.rcParams.update(
        {"font.size": 10, "svg.hashsalt": "aioelect", "svg.fonttype": "path", "axes.titleweight": "bold"}
    )
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for result in results:
        picture = PICTURES.get(result.name)
        if picture is not None:
            figure = picture(result)
            name = f"{result.name}.{suffix}"
            figure.savefig(
                folder / name, bbox_inches="tight", dpi=110, metadata={"Date": None} if suffix == "svg" else None
            )
            drawn[result.name] = name
    return drawn


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
    systems = _present(samples)
    figure = Figure(figsize=(9, 1.1 + len(faults) * (0.24 * len(systems) + 0.35)))
    rows = figure.subplots(len(faults), 1, sharex=True, squeeze=False)
    for axes, (fault, title) in zip(rows[:, 0], faults.items(), strict=True):
        for row, system in enumerate(reversed(systems)):
            times = samples[system.name][fault]
            if times:
                axes.barh(row, percentile(times, 0.5), left=0, color=system.colour, height=0.75)
                axes.plot(times, [row] * len(times), ".", color="black", markersize=4, alpha=0.6)
            axes.annotate(
                format_seconds(percentile(times, 0.5)) if times else "never",
                (1.01, row),
                xycoords=("axes fraction", "data"),
                verticalalignment="center",
                color=GREY if times else "red",
            )
        axes.set_xscale("log")
        axes.set_xlim(5e-4, 40)
        axes.axvline(timeout, color="black", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(systems)), [system.title for system in reversed(systems)], fontsize=8)
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(axis="x", which="major", alpha=0.25)
        _plain(axes)
    last = rows[-1, 0]
    _seconds_axis(last)
    last.set_xlabel(
        f"bar: median · dots: each time · dotted: the session timeout, {timeout:g} s      (left is better)", color=GREY
    )
    figure.tight_layout(h_pad=0.6)
    return figure


PICTURES: dict[str, Callable[[Result], Figure]] = {
    "handover": _distribution,
    "handover_ensemble": _distribution,
    "queue_length": _growth,
    "outages": _outages,
    "startup": _distribution,
}
