"""``aioelect bench``: how fast leadership changes hands on your servers, or on one that it brings along."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from aioelect.cli import signals
from aioelect.cli.options import TIME_LIMIT, check_path_option, identity, make_cluster, session_timeout, tell_error
from aioelect.cli.server import CAN_NOT_START, Choice, server
from aioelect.cli.text import clean, seconds
from aioelect.errors import AioelectError, ZooKeeperError
from aioelect.testing.cluster import Cluster
from aioelect.testing.failover import FailoverMeter, MeasurementFailed
from aioelect.testing.latency import Latency, summarise

__all__ = ["bench"]

CONNECT_TIMEOUT = 10.0
"""Seconds within which the servers must be reached."""

FLOOR = "write"

MEASURES = {
    FLOOR: ("a small write", "asked for by this process, until its answer is there: the floor"),
    "join": ("join the queue", "from the call, on an open session, until it is next in line"),
    "handover": ("graceful handover", "from resign() in one process to the first line of the next leader in the other"),
    "kill_guard": ("kill -9, with a guard", "from the system call to the first line of the next leader"),
    "kill": ("kill -9, without", "the same, when nobody tells ZooKeeper before the session times out"),
}
"""What is measured, by its name for programs: its name for people, and from which instant to which."""


@dataclasses.dataclass(slots=True)
class Plan:
    """What was asked for; times in seconds."""

    server: Choice
    cluster: Cluster
    folder: str | None
    rounds: int
    kills: int
    kills_without_guard: int
    session_timeout: float
    time_limit: float

    def meter(self, cluster: Cluster, *, guard: bool) -> FailoverMeter:
        """Raises ``ValueError``."""
        timeouts = {"session_timeout": self.session_timeout, "timeout": CONNECT_TIMEOUT}
        return FailoverMeter(cluster, self.folder, guard=guard, **timeouts)


class Findings:
    """What has been measured so far: seconds, by the names of ``MEASURES``."""

    def __init__(self, plan: Plan) -> None:
        self.session_timeout = plan.session_timeout
        self.where = ""
        self.samples: dict[str, list[float]] = {name: [] for name in MEASURES}
        self.notes: list[str] = []
        self.complete = False
        self._plan = plan

    @property
    def granted(self) -> str:
        """The session timeout, for people."""
        asked = self._plan.session_timeout
        more = f" ({asked:g} s were asked for)" if abs(asked - self.session_timeout) > 0.001 else ""
        return f"{self.session_timeout:g} s{more}"

    def summaries(self) -> dict[str, Latency]:
        """Of whatever has been measured at all."""
        return {name: summarise(samples) for name, samples in self.samples.items() if samples}

    def as_json(self) -> dict[str, Any]:
        """For programs; times in seconds."""
        plan = self._plan
        return {
            "aioelect": version("aioelect"),
            "server": plan.server.name,
            "complete": self.complete,
            "notes": self.notes,
            "asked": {
                "rounds": plan.rounds,
                "kills": plan.kills,
                "kills_without_guard": plan.kills_without_guard,
                "session_timeout": plan.session_timeout,
                "time_limit": plan.time_limit,
            },
            "session_timeout": self.session_timeout,
            "summary": {name: dataclasses.asdict(each) for name, each in self.summaries().items()},
            "samples": self.samples,
        }


def _check_json(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not (value.parent.is_dir() and os.access(value.parent, os.W_OK)):
        raise click.BadParameter(
            f"{str(value)!r} can't be written: {str(value.parent)!r} is no folder that we may write to"
        )
    return value


@click.command()
@server
@click.option(
    "--election-folder",
    metavar="PATH",
    callback=check_path_option("election folder"),
    help="The znode to work below: made, and removed in the end.  [default: /aioelect-bench- and random digits]",
)
@click.option(
    "--rounds", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many graceful handovers."
)
@click.option(
    "--kills",
    type=click.IntRange(0, 10_000),
    default=10,
    show_default=True,
    help="How many leaders with a guard are killed (kill -9).",
)
@click.option(
    "--kills-without-guard",
    type=click.IntRange(0, 1_000),
    default=1,
    show_default=True,
    help="How many without: each takes a session timeout.",
)
@session_timeout(10.0, help="To be asked for; the servers may grant another.")
@click.option(
    "--time-limit",
    type=TIME_LIMIT,
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="When to stop, even if not all is done.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_check_json,
    help="Write all samples there, in seconds.",
)
@click.option(
    "--acl",
    type=click.Choice(["open", "creator", "creator+read"]),
    default="open",
    show_default=True,
    help="Of the znodes that are made.",
)
@identity
def bench(
    hosts: str | None,
    zookeeper: bool,
    election_folder: str | None,
    json_file: Path | None,
    acl: str,
    **options: Any,
) -> None:
    """Measure how fast leadership changes hands on your servers.

    Two contenders, each a process of its own on this machine, take over from each other: the leader resigns, or is killed. A
    small write is timed as well, for nothing that ZooKeeper agrees on takes less. Without --hosts, it is a small server inside
    this process that is measured, which needs nothing to be installed.

    It works on a znode of its own and leaves nothing behind, also after Ctrl-C. The exit status is 0 if all was measured, 1 if
    not, 2 for bad arguments.
    """
    numbers = {name: options.pop(name) for name in _NUMBERS}
    choice = Choice(hosts, zookeeper)
    if hosts is None and any(options[name] for name in ("tls", "ca", "cert", "key", "server_hostname")):
        raise click.UsageError(f"{choice} speaks no TLS: name yours with --hosts")
    cluster = make_cluster(hosts or "localhost", acl=acl, **options)
    plan = Plan(choice, cluster, election_folder, **numbers)
    try:
        plan.meter(cluster, guard=False)  # which sees what can't be, before anything is started
    except ValueError as e:
        raise click.UsageError(clean(str(e))) from None
    findings = Findings(plan)
    status = _run(plan, findings)
    if findings.summaries():
        _show(Console(), plan, findings)
    else:
        for note in findings.notes:
            click.echo(f"aioelect bench: {clean(note)}", err=True)
    if json_file is not None:
        json_file.write_text(json.dumps(findings.as_json(), indent=2) + "\n", encoding="utf-8")
    sys.exit(status)


_NUMBERS = ("rounds", "kills", "kills_without_guard", "session_timeout", "time_limit")


def _run(plan: Plan, findings: Findings) -> int:
    """Measures, and says what came between; gives the exit status."""
    try:
        signals.run(_measure(plan, findings))
    except signals.Signalled as e:
        click.echo(f"aioelect bench: {e.name}, all contenders have left, and nothing is left on the servers", err=True)
        return e.status
    except (AioelectError, ZooKeeperError, MeasurementFailed, *CAN_NOT_START) as e:
        tell_error("bench", e)
    return 0 if findings.complete else 1


async def _measure(plan: Plan, findings: Findings) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=silent) as progress:
        async with plan.server.serve() as hosts:
            findings.where = hosts
            cluster = dataclasses.replace(plan.cluster, hosts=hosts)
            try:
                async with asyncio.timeout(plan.time_limit) as limit:
                    await _measure_all(plan, cluster, findings, progress)
            except TimeoutError:
                if not limit.expired():
                    raise
                findings.notes.append(f"the time limit of {plan.time_limit:g} s was over before all was measured")
            else:
                findings.complete = True


async def _measure_all(plan: Plan, cluster: Cluster, findings: Findings, progress: Progress) -> None:
    def track(what: str, times: int) -> Iterator[int]:
        return iter(progress.track(range(times), description=MEASURES[what][0]))

    kills = plan.kills
    try:
        cluster.connect(guard=kills > 0)
    except ValueError as e:
        findings.notes.append(f"no leader with a guard was killed: {e}")
        kills = 0
    async with _meter(plan, cluster, findings, guard=kills > 0) as meter:
        for _ in track("handover", plan.rounds):
            findings.samples["handover"].append(await meter.hand_over())
        for _ in track("kill_guard", kills):
            findings.samples["kill_guard"].append(await meter.kill())
    if plan.kills_without_guard:
        async with _meter(plan, cluster, findings, guard=False) as meter:
            for _ in track("kill", plan.kills_without_guard):
                findings.samples["kill"].append(await meter.kill())


@contextlib.asynccontextmanager
async def _meter(plan: Plan, cluster: Cluster, findings: Findings, *, guard: bool) -> AsyncIterator[FailoverMeter]:
    meter = plan.meter(cluster, guard=guard)
    try:
        async with meter:
            findings.session_timeout = meter.session_timeout
            yield meter
    finally:
        findings.samples[FLOOR] += meter.writes
        findings.samples["join"] += meter.joins


def _show(console: Console, plan: Plan, findings: Findings) -> None:
    found = findings.summaries()
    table = Table("what", box=box.ROUNDED, title_justify="left", title_style="bold")
    where = f"{plan.server} at {clean(findings.where)}"
    table.title = Text(f"Two contenders on {where}, session timeout {findings.granted}")
    for heading in ("n", "median", "p99", "worst", "median / floor"):
        table.add_column(heading, justify="right")
    for name, each in found.items():
        times = (seconds(value) for value in (each.median, each.p99, each.worst))
        ratio = f"{each.median / found[FLOOR].median:.1f}" if FLOOR in found else ""
        table.add_row(MEASURES[name][0], str(each.count), *times, ratio)
    console.print(table)
    for name in found:
        what, how = MEASURES[name]
        console.print(f"{what}: {how}.", highlight=False)
    if plan.server.name == "embedded":
        console.print(
            "The server was the embedded one, a part of this process that keeps nothing on a disk and has no quorum: this is "
            "what the software takes by itself. For your own servers: aioelect bench --hosts zk1:2181,zk2:2181",
            highlight=False,
        )
    for note in findings.notes:
        console.print(f"Note: {clean(note)}", style="yellow", highlight=False, markup=False)
