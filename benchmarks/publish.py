"""What is published: raw samples, plots, and two pages, all from one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.report import LATENCY_HEAD, Result, load, markdown, save, table
from benchmarks.systems import SYSTEMS
from benchmarks.verdict import count_ahead, peers_ahead

__all__ = ["SAMPLES", "pages", "publish"]

HERE = Path(__file__).parent
SAMPLES = HERE / "results.json"
PLOTS = HERE / "plots"

BEGIN = "<!-- results: python -m benchmarks --publish -->"
END = "<!-- end of results -->"


def publish(results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """Writes everything anew. What it says is read back from the published samples."""
    from benchmarks.plots import draw

    save(SAMPLES, results, machine)
    published, _ = load(SAMPLES)
    for old in PLOTS.glob("*.png"):
        old.unlink()
    draw(published, PLOTS)
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The pages as they must be for the published samples and plots: what stands between their marks is replaced."""
    results, machine = load(SAMPLES)
    plots = {result.name: f"plots/{result.name}.png" for result in results if (PLOTS / f"{result.name}.png").exists()}
    contents = {
        HERE / "README.md": [markdown(results, machine, plots), "### Where a peer is ahead", "", *peers_ahead(results)],
        HERE.parent / "README.md": list(_headline(results, machine)),
    }
    return {page: _insert(page.read_text(encoding="utf-8"), lines) for page, lines in contents.items()}


def _insert(text: str, lines: Sequence[str]) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has lost its marks: it needs {BEGIN} and {END}")
    return "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"])


def _headline(results: Sequence[Result], machine: Mapping[str, str]) -> Iterator[str]:
    """One picture and one table; every cell is one of the tables of all results."""
    cells = {
        (result.name, row[0], column): cell
        for result in results
        for row in result.rows
        for column, cell in zip(result.head, row, strict=True)
    }
    median, p99, ratio = LATENCY_HEAD[2], LATENCY_HEAD[3], LATENCY_HEAD[5]
    columns = {
        "handover: median": ("handover", median),
        "p99": ("handover", p99),
        "median / floor": ("handover", ratio),
        "in a queue of 10,000": ("queue_length", "10,000"),
        "after `kill -9`": ("outages", "kill -9"),
    }
    rows = []
    for system in SYSTEMS:
        found = [cells.get((name, system.title, column), "") for name, column in columns.values()]
        if any(found) and system.name != "bare":
            rows.append([system.title, *found])
    yield f"![Handover, alone and in a long queue, and after kill -9](benchmarks/{PLOTS.name}/overview.png)"
    yield ""
    yield from table(["", *columns], rows)
    yield ""
    timeout = next(result.samples["session_timeout"] for result in results if result.name == "outages")
    yield f"Median, and worst in brackets; session timeout {timeout:g} s; {machine['cpu']}, {machine['python']}, loopback."
    yield f"A peer is ahead in {count_ahead(results)}: [by how much](benchmarks/README.md#where-a-peer-is-ahead)."
