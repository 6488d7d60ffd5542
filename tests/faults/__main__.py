"""``python -m tests.faults --rounds 10``: plays every fault so many times, and prints a table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import sys
import time

from .faults import FAULTS, Fault, Round, play
from .stage import Stage

HEAD = (
    *("fault", "T", "rounds", "overlaps", "tokens out of order", "losses", "wanted"),
    *("no leader, median", "worst", "longest without proof"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each fault is played")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="one fault alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="decides the moment and the length of faults")
    options = parser.parse_args()
    logging.disable()
    return asyncio.run(run([FAULTS[name] for name in options.only or FAULTS], options.rounds, options.seed))


async def run(faults: list[Fault], rounds: int, seed: int) -> int:
    """Plays them all; 1 if anything was found."""
    began, found = time.monotonic(), 0
    print(row(HEAD), row(["---"] * len(HEAD)), sep="\n", flush=True)
    async with Stage() as stage:
        for fault in faults:
            results = []
            for number in range(rounds):
                result = await play(stage, fault, random.Random(f"{seed}-{fault.name}-{number}"))
                results.append(result)
                if result.problems:
                    found += 1
                    print(*result.problems, result.story, sep="\n", file=sys.stderr, flush=True)
            print(row(summary(fault, results)), flush=True)
            await stage.dismiss()
    played = rounds * len(faults)
    print(f"\n{played} rounds in {time.monotonic() - began:.0f} s; {found} of them with something wrong")
    return bool(found)


def summary(fault: Fault, results: list[Round]) -> list[str]:
    gaps = [result.gap for result in results]
    return [
        fault.name.replace("_", " "),
        f"{fault.session_timeout:g}",
        str(len(results)),
        str(sum(result.overlaps for result in results)),
        str(sum(result.disorders for result in results)),
        str(sum(result.losses for result in results)),
        "0" if fault.keeps else str(len(results)),
        f"{statistics.median(gaps):.2f}",
        f"{max(gaps):.2f}",
        f"{max(result.unproven for result in results):.2f}" if fault.keeps else "",
    ]


def row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
