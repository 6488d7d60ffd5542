"""``aioelect step-down``: a planned change of leaders, without anybody's znode being deleted by hand."""

from __future__ import annotations

import sys
from typing import Any

import click

import aioelect
from aioelect.cli import signals
from aioelect.cli.options import TIME_LIMIT, check_path_option, identity, make_cluster, required_hosts, tell_error
from aioelect.cli.text import clean
from aioelect.errors import ZooKeeperError
from aioelect.testing.chroot import ChrootMissing, check_chroot
from aioelect.testing.cluster import Cluster

__all__ = ["step_down"]

SESSION_TIMEOUT = 2.0
"""Seconds, or what the servers grant: the request goes so long after this command, should it die."""


@click.command()
@click.argument("election", callback=check_path_option("election path"))
@click.option("--to", metavar="IDENTITY", help="Who shall lead next; by default, whoever is next in line.")
@click.option(
    "--timeout",
    type=TIME_LIMIT,
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="When to give up, and take the request back.",
)
@required_hosts
@identity
def step_down(election: str, hosts: str, to: str | None, timeout: float, **identity: Any) -> None:
    """Ask the leader of ELECTION to step down.

    Its body is cancelled and ends first, then the next one leads. With --to, contenders in between give way.

    The exit status is 0 if that has happened, 1 if not, 2 for bad arguments.
    """
    cluster = make_cluster(hosts, **identity)
    try:
        new = signals.run(_switch(cluster, election, to, timeout))
    except signals.Signalled as e:
        click.echo(f"aioelect step-down: {e.name}, the request was taken back", err=True)
        sys.exit(e.status)
    except (aioelect.AioelectError, ZooKeeperError, ChrootMissing) as e:
        tell_error("step-down", e)
        sys.exit(1)
    if new is None:
        click.echo(f"nobody leads {clean(election)} now: nobody else contends")
    else:
        click.echo(f"{clean(new.identity)} leads {clean(election)} with token {new.token:#x}")


async def _switch(cluster: Cluster, election: str, to: str | None, timeout: float) -> aioelect.Contender | None:
    await check_chroot(cluster, timeout=timeout)
    async with cluster.connect(session_timeout=SESSION_TIMEOUT, timeout=timeout) as client:
        if to is None:
            return await aioelect.step_down(client, election, timeout=timeout)
        return await aioelect.hand_over(client, election, to, timeout=timeout)
