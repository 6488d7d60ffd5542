"""``aioelect demo``: contenders come and go before your eyes, on a server that it brings along, or on yours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import aioelect
from aioelect.cli import signals
from aioelect.cli.options import session_timeout, tell_error
from aioelect.cli.screen import LiveScreen, PlainScreen, Silence, show_summary
from aioelect.cli.server import CAN_NOT_START, Choice, server
from aioelect.cli.show import Show
from aioelect.cli.text import clean
from aioelect.cli.verdict import Summary, judge
from aioelect.cli.worker import Setting
from aioelect.errors import ZooKeeperError
from aioelect.testing.chroot import ChrootMissing, check_chroot
from aioelect.testing.cluster import Cluster
from aioelect.testing.recorder import LeadershipRecorder
from aioelect.zookeeper.hosts import Hosts

__all__ = ["demo"]

CONNECT_TIMEOUT = 10.0
"""Seconds within which the servers must be reached."""

CLEANING = 2.0
"""Seconds that removing the election may take."""

MOST = 50
"""Contenders: each is a process."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    server: Choice
    contenders: int
    rounds: int
    session_timeout: float
    json: bool


def _check_contenders(context: click.Context, parameter: click.Parameter, value: int) -> int:
    if value < 2:
        raise click.BadParameter(f"{value} can't take over from each other: give 2 or more, up to {MOST}")
    if value > MOST:
        raise click.BadParameter(f"{value} would be {value} processes: give {MOST} at the most")
    return value


@click.command()
@server
@click.option(
    "--contenders",
    type=int,
    default=5,
    show_default=True,
    callback=_check_contenders,
    help="How many processes contend.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="In each, a leader resigns, one is killed, and one is cut off.",
)
@session_timeout(2.0, help="How long ZooKeeper waits for one that died or was cut off.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but a summary, as JSON; times are in seconds.")
def demo(
    hosts: str | None, zookeeper: bool, contenders: int, rounds: int, session_timeout: float, as_json: bool
) -> None:
    """Watch leaders come and go.

    Starts contenders, each a process of its own, and a small ZooKeeper server inside this one. The leader resigns, is killed
    with SIGKILL, and has its network cut; each time another takes over, and you see how long it took. All the while it is
    recorded who led when.

    The exit status is 0 if every takeover happened, no two led at once, and tokens grew; 1 if not; 2 for bad arguments.
    Ctrl-C leaves nothing running.
    """
    options = Options(Choice(hosts, zookeeper), contenders, rounds, session_timeout, as_json)
    try:
        summary = signals.run(_run(options))
    except signals.Signalled as e:
        click.echo(f"aioelect demo: {e.name}, all contenders have left", err=True)
        sys.exit(e.status)
    except (aioelect.AioelectError, ZooKeeperError, ChrootMissing, *CAN_NOT_START) as e:
        tell_error("demo", e)
        sys.exit(1)
    sys.exit(0 if summary.ok else 1)


async def _run(options: Options) -> Summary:
    console = Console()
    async with contextlib.AsyncExitStack() as stack:
        records = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aioelect-demo-")))
        hosts = await stack.enter_async_context(options.server.serve())
        election = f"/aioelect-demo-{secrets.token_hex(4)}"
        await stack.enter_async_context(_prepared(hosts, election, options.session_timeout))
        setting = Setting(Hosts.parse(hosts), election, options.session_timeout, records)
        async with _screen(options, console, hosts) as screen:
            show = Show(setting, screen, contenders=options.contenders, rounds=options.rounds)
            await show.perform()
        intervals = LeadershipRecorder(records).intervals()
    summary = judge(show.takeovers, intervals, rounds=options.rounds, mishap=show.mishap)
    if options.json:
        click.echo(json.dumps(_asked(options) | summary.as_json(), indent=2))
    else:
        show_summary(console, summary, options.session_timeout)
    return summary


@asynccontextmanager
async def _prepared(hosts: str, election: str, session_timeout: float) -> AsyncIterator[None]:
    """Checks that the servers answer, have the chroot, and grant the session timeout; removes the election in the end.

    Also the znodes of killed contenders, whose sessions live on for a while.
    """
    await check_chroot(Cluster(hosts), timeout=CONNECT_TIMEOUT)
    async with aioelect.connect(hosts, session_timeout=session_timeout, timeout=CONNECT_TIMEOUT) as client:
        granted = client.session.timeout
        if abs(granted - session_timeout) > 0.001:
            raise click.BadParameter(
                f"{session_timeout:g} is out of the server's range, it grants {granted:g} instead; "
                f"give --session-timeout {granted:g}",
                param_hint="'--session-timeout'",
            )
        try:
            yield
        finally:
            with contextlib.suppress(ZooKeeperError, TimeoutError):
                async with asyncio.timeout(CLEANING):
                    while await client.exists(election):
                        with contextlib.suppress(ZooKeeperError):  # somebody's last znode has just come, or gone
                            await client.deleteall(election)


def _screen(options: Options, console: Console, hosts: str) -> Silence:
    where = f"{options.server} at {clean(hosts)}"
    title = f"{options.contenders} contenders on {where}, session timeout {options.session_timeout:g} s"
    if options.json:
        return Silence()
    lively = console.is_terminal and not console.is_dumb_terminal
    return (LiveScreen if lively else PlainScreen)(console, title, options.session_timeout)


def _asked(options: Options) -> dict[str, Any]:
    return {
        "aioelect": version("aioelect"),
        "server": options.server.name,
        "contenders": options.contenders,
        "rounds": options.rounds,
        "session_timeout": options.session_timeout,
    }
