"""What a benchmark hands back, its tables, and the file of raw samples."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.stats import format_seconds, summarise
from benchmarks.systems import FLOOR, System

__all__ = ["LATENCY_HEAD", "Result", "describe_machine", "latency_rows", "load", "markdown", "save", "show", "table"]


@dataclass
class Result:
    """``method`` says what is measured, from which instant to which, and why that is fair. ``samples`` is what plots read."""

    name: str
    title: str
    method: str
    head: Sequence[str]
    rows: list[list[str]]
    samples: dict[str, Any]
    notes: list[str] = field(default_factory=list)


LATENCY_HEAD = ("system", "samples", "median", "p99", "worst", "median / floor", "p99 / floor")


def latency_rows(samples: Mapping[str, Sequence[float]], systems: Sequence[System]) -> Iterator[list[str]]:
    """One row for each system with samples; ratios where the floor was measured in the same run."""
    floor = summarise(samples[FLOOR.name]) if samples.get(FLOOR.name) else None
    for system in systems:
        if not samples.get(system.name):
            continue
        found = summarise(samples[system.name])
        ratios = [f"{found.median / floor.median:.2f}", f"{found.p99 / floor.p99:.2f}"] if floor else ["", ""]
        yield [
            system.title,
            str(found.count),
            *map(format_seconds, (found.median, found.p99, found.worst)),
            *ratios,
        ]


def describe_machine() -> dict[str, str]:
    """What the numbers depend on."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
    cpu = [
        line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")
    ]
    return {
        "cpu": f"{os.cpu_count()} x {cpu[0] if cpu else platform.processor() or platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "java": java[0] if java else "none",
        **{name: _version(name) for name in ("aioelect", "aiozk", "anyio", "kazoo", "uvloop")},
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def show(console: Console, result: Result) -> None:
    shown = Table(title=result.title, title_style="bold", title_justify="left")
    for index, column in enumerate(result.head):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for row in result.rows:
        shown.add_row(*row)
    console.print(shown)
    for note in result.notes:
        console.print(f"  {note}", style="yellow", markup=False, highlight=False)


def markdown(results: Sequence[Result], machine: Mapping[str, str], plots: Mapping[str, str]) -> str:
    """The results as a part of a page; ``plots`` are the files that belong to a benchmark, by its name."""
    lines = [" · ".join(f"{name}: {value}" for name, value in machine.items()), ""]
    for result in results:
        lines += [f"### {result.title}", "", result.method, ""]
        lines += [*table(result.head, result.rows), ""]
        lines += [f"- {note}" for note in result.notes] + ([""] if result.notes else [])
        if result.name in plots:
            lines += [f"![{result.title}]({plots[result.name]})", ""]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [_row(head), _row(["---"] + ["--:"] * (len(head) - 1)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def save(path: Path, results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """One line for each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(_rounded(asdict(result))) for result in results)
    path.write_text(f'{{"machine": {json.dumps(dict(machine))},\n"results": [\n{lines}\n]}}\n', encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Floats to six digits: the clock gives no more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def load(path: Path) -> tuple[list[Result], dict[str, str]]:
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**result) for result in kept["results"]], kept["machine"]
