"""``python -m benchmarks``: starts servers, runs everybody, prints tables, keeps raw samples and draws them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aioelect.testing.zookeeper import ZooKeeperNotFound, ZooKeeperServer
from benchmarks import guard, handover, idle, joining, many, outages, queue_length, startup, takeover
from benchmarks.ensemble import MAX_SESSION_TIMEOUT, Ensemble
from benchmarks.publish import publish
from benchmarks.report import Result, describe_machine, load, save, show
from benchmarks.setting import Setting
from benchmarks.systems import SYSTEMS, available

BENCHMARKS: dict[str, Callable[[Setting], list[Result]]] = {
    "handover": handover.run,
    "queue_length": queue_length.run,
    "outages": outages.run,
    "guard": guard.run,
    "startup": startup.run,
    "joining": joining.run,
    "takeover": takeover.run,
    "idle": idle.run,
    "many": many.run,
}

ENSEMBLE = ("handover", "outages", "guard")
"""What needs the ensemble: one after the other, for one of them kills members."""


def main() -> int:
    options = _parse()
    logging.disable()
    console = Console(width=None if sys.stdout.isatty() else 150)
    out = options.out or Path(tempfile.mkdtemp(prefix="aioelect-benchmarks-"))
    if options.replay:
        results, machine = load(options.replay)
        for result in results:
            show(console, result)
        is_complete = True
    else:
        try:
            results, machine, is_complete = _run(options, console, out / "results.json")
        except ZooKeeperNotFound as e:
            print(e, file=sys.stderr)
            return 2
    _draw(console, results, out, options.format)
    if options.publish and is_complete:
        publish(results, machine)
        console.print("published: benchmarks/results.json, the plots, benchmarks/README.md and README.md")
    return 0 if is_complete else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few rounds of everything, in less than a minute: no numbers to quote"
    )
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), help="one benchmark alone; may be repeated"
    )
    parser.add_argument(
        "--system", action="append", choices=[system.name for system in SYSTEMS], help="may be repeated"
    )
    parser.add_argument(
        "--out", type=Path, help="a folder for results.json and the plots (default: a new one in the temporary folder)"
    )
    parser.add_argument("--format", default="png", choices=["png", "svg"], help="of the plots (default: png)")
    parser.add_argument("--replay", type=Path, metavar="JSON", help="runs nothing: tables and plots of earlier samples")
    parser.add_argument(
        "--publish", action="store_true", help="writes samples, tables and plots into benchmarks/ and the README"
    )
    options = parser.parse_args()
    if options.publish and (options.quick or options.only or options.system):
        parser.error("--publish replaces all that is published: leave --quick, --only and --system out")
    return options


def _run(options: argparse.Namespace, console: Console, path: Path) -> tuple[list[Result], dict[str, str], bool]:
    """The results, what they were measured on, and whether nothing is missing."""
    began, machine = time.monotonic(), describe_machine()
    wanted = [name for name in BENCHMARKS if options.only is None or name in options.only]
    systems, missing = available(options.system)
    for why in missing:
        console.print(f"left out: {why}", style="yellow", markup=False, highlight=False)
    results: list[Result] = []
    failed = False
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ZooKeeperServer(tick_time=2.0, max_session_timeout=MAX_SESSION_TIMEOUT))
        ensemble = stack.enter_context(Ensemble()) if set(ENSEMBLE).intersection(wanted) else None
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        setting = Setting(server, ensemble, systems, progress, options.quick)
        for name, found, why, took in _run_all(wanted, setting):
            if why:
                failed = True
                console.print(f"{name} failed: {why}", style="red", markup=False, highlight=False)
            for result in found:
                result.notes += missing
                results.append(result)
                show(console, result)
                save(path, results, machine)
            console.print(f"{name}: {took:.0f} s\n", highlight=False)
    console.print(f"{time.monotonic() - began:.0f} s; raw samples: {path}", highlight=False, soft_wrap=True)
    return results, machine, not failed


Outcome = tuple[str, list[Result], str, float]
"""The name of a benchmark, its results, why it failed if it did, and the seconds that it took."""


def _run_all(wanted: Sequence[str], setting: Setting) -> Iterator[Outcome]:
    """In turn; in quick mode, where no time is worth anything, those that share no server's members side by side."""
    if not setting.quick:
        yield from (_run_one(name, setting) for name in wanted)
        return
    lanes = [[name for name in wanted if (name in ENSEMBLE) is there] for there in (True, False)]
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(lambda lane: [_run_one(name, setting) for name in lane], lane) for lane in lanes]
        for lane in running:
            yield from lane.result()


def _run_one(name: str, setting: Setting) -> Outcome:
    """Twice if it fails at first: the others take minutes, and their numbers are good."""
    began = time.monotonic()
    failures: list[str] = []
    while len(failures) < 2:
        try:
            found = BENCHMARKS[name](setting)
        except Exception:
            failures.append(traceback.format_exc().strip())
            continue
        for result in found:
            result.notes += [f"measured at the second attempt, after {why.splitlines()[-1]}" for why in failures]
        return name, found, "", time.monotonic() - began
    return name, [], "\n".join(failures), time.monotonic() - began


def _draw(console: Console, results: list[Result], out: Path, suffix: str) -> None:
    try:
        from benchmarks.plots import draw
    except ImportError as e:
        console.print(f"no plots: {e} (pip install --group bench)", style="yellow", highlight=False)
        return
    for name in draw(results, out, suffix):
        console.print(f"plot: {out / name}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
