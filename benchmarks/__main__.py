"""``python -m benchmarks``: starts servers, runs everybody, prints tables, keeps raw samples and draws them."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aioelect.testing.zookeeper import ZooKeeperNotFound, ZooKeeperServer
from benchmarks import handover, idle, joining, many, outages, queue_length, startup, takeover
from benchmarks.ensemble import Ensemble
from benchmarks.report import Result, describe_machine, load, markdown, save, show
from benchmarks.setting import Setting
from benchmarks.systems import SYSTEMS, available

BENCHMARKS: dict[str, Callable[[Setting], list[Result]]] = {
    "handover": handover.run,
    "queue_length": queue_length.run,
    "outages": outages.run,
    "startup": startup.run,
    "joining": joining.run,
    "takeover": takeover.run,
    "idle": idle.run,
    "many": many.run,
}

NEEDS_ENSEMBLE = {"handover", "outages"}

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: python -m benchmarks --publish -->", "<!-- end of results -->"


def main() -> int:
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
    parser.add_argument("--publish", action="store_true", help="writes tables and plots into benchmarks/README.md")
    options = parser.parse_args()
    logging.disable()
    console = Console(width=None if sys.stdout.isatty() else 150)
    out = options.out or Path(tempfile.mkdtemp(prefix="aioelect-benchmarks-"))
    if options.replay:
        results, machine = load(options.replay)
        for result in results:
            show(console, result)
    else:
        try:
            results, machine = _run(options, console, out / "results.json")
        except ZooKeeperNotFound as e:
            print(e, file=sys.stderr)
            return 2
    _draw(console, results, out, options.format)
    if options.publish:
        _publish(results, machine)
    return 0


def _run(options: argparse.Namespace, console: Console, path: Path) -> tuple[list[Result], dict[str, str]]:
    began, machine = time.monotonic(), describe_machine()
    wanted = options.only or list(BENCHMARKS)
    systems, missing = available(options.system)
    for why in missing:
        console.print(f"left out: {why}", style="yellow", markup=False, highlight=False)
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ZooKeeperServer(tick_time=2.0))
        ensemble = stack.enter_context(Ensemble()) if NEEDS_ENSEMBLE.intersection(wanted) else None
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        setting = Setting(server, ensemble, systems, progress, options.quick)
        for name in wanted:
            begun = time.monotonic()
            for result in BENCHMARKS[name](setting):
                result.notes += [why for why in missing if name == "outages" or "guard" not in why]
                results.append(result)
                show(console, result)
                save(path, results, machine)
            console.print(f"{name}: {time.monotonic() - begun:.0f} s\n", highlight=False)
    console.print(f"{time.monotonic() - began:.0f} s; raw samples: {path}", highlight=False, soft_wrap=True)
    return results, machine


def _draw(console: Console, results: list[Result], out: Path, suffix: str) -> None:
    try:
        from benchmarks.plots import draw
    except ImportError as e:
        console.print(f"no plots: {e} (pip install --group bench)", style="yellow", highlight=False)
        return
    for name in draw(results, out, suffix).values():
        console.print(f"plot: {out / name}", highlight=False, soft_wrap=True)


def _publish(results: list[Result], machine: dict[str, str]) -> None:
    """Replaces what stands between the two marks."""
    from benchmarks.plots import draw

    plots = {name: f"plots/{file}" for name, file in draw(results, README.parent / "plots").items()}
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n\n{markdown(results, machine, plots)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
