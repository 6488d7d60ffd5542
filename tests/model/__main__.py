"""``python -m tests.model [states]``: searches each world as far as that many states, and prints what it found."""

from __future__ import annotations

import sys

from tests.model.checker import Report, explore
from tests.model.scopes import ASSUMPTIONS, MUTANTS, SCOPES


def row(name: str, report: Report[object]) -> None:
    """One line of the table."""
    extent = "all" if report.complete else f"depth {report.depth}"
    verdict = report.violation or "holds"
    if report.violation:
        verdict += f", in {len(report.trace) - 1} steps"
    print(f"| {name} | {report.states:,} | {extent} | {report.seconds:.1f} | {verdict} |", flush=True)


def table(title: str) -> None:
    """The head of a table."""
    print(f"\n| {title} | states | extent | seconds | verdict |\n|---|---|---|---|---|")


def main(limit: int = 250_000) -> int:
    """Returns 1 where the real machines fail, or a mutant is not found out."""
    states, failed, traces = 0, False, list[str]()
    table("real machines")
    for name, scope in SCOPES.items():
        report = explore(scope, limit=limit)
        states += report.states
        failed |= report.violation is not None
        row(name, report)
        if report.violation:
            traces.append(f"{name}: {report}")
    for title, worlds in (("mutant", MUTANTS), ("without the assumption that", ASSUMPTIONS)):
        table(title)
        for name, world in worlds.items():
            report = explore(world, limit=limit)
            states += report.states
            failed |= report.violation is None
            row(name, report)
            traces.append(f"{name}: {report}")
    print(f"\n{states:,} states in all.", *traces, sep="\n\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
