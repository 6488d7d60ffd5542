"""``python -m tests.simulation --seeds 10000``: runs seeds and prints what they found."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter

from .run import Report, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="one alone, with its whole log")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    options = parser.parse_args()
    logging.disable()
    if options.seed is not None:
        report = simulate(options.seed)
        print(*report.log, sep="\n")
        print_report(report)
        return bool(report.violations)
    return run_many(range(options.start, options.start + options.seeds), options.jobs)


def run_many(seeds: range, jobs: int) -> int:
    """Runs them all; 1 if any of them failed."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed, seconds, gaps, began = 0, 0.0, [0.0], time.monotonic()
    with multiprocessing.Pool(jobs) as pool:
        for report in pool.imap_unordered(attempt, seeds, chunksize=10):
            faults += report.faults
            counts += report.counts
            seconds += report.seconds
            gaps.append(report.gap)
            if report.violations:
                failed += 1
                print_report(report)
    print(f"\n{len(seeds)} seeds, {seconds / 3600:.1f} h of virtual time in {time.monotonic() - began:.0f} s\n")
    print_table("fault injected", faults)
    print_table("what happened", counts)
    gaps.sort()
    print(f"a leader again after everything worked: {gaps[len(gaps) // 2]:.2f} s (median), {gaps[-1]:.2f} s (longest)")
    print(f"{failed} seeds failed")
    return bool(failed)


def attempt(seed: int) -> Report:
    """Runs one seed; whatever breaks there has failed, and does not end the others."""
    try:
        report = simulate(seed)
    except Exception:
        return Report(
            seed, [f"broke the simulation itself: {traceback.format_exc()}"], Counter(), Counter(), 0.0, "", []
        )
    report.log.clear()
    return report


def print_report(report: Report) -> None:
    for violation in report.violations[:5]:
        print(f"seed {report.seed}: {violation}")
    if report.violations:
        print(f"    replay: python -m tests.simulation --seed {report.seed}", flush=True)


def print_table(title: str, counts: Counter[str]) -> None:
    width = max(map(len, [title, *counts]))
    print(f"| {title:{width}} | {'times':>9} |\n|{'-' * (width + 2)}|{'-' * 10}:|")
    for name, count in sorted(counts.items()):
        print(f"| {name:{width}} | {count:>9,} |")
    print()


if __name__ == "__main__":
    sys.exit(main())
