"""Options that several commands share."""

from __future__ import annotations

import click

from aioelect.naming import check_path
from aioelect.zookeeper.hosts import Hosts

__all__ = ["check_election", "check_hosts"]


def check_hosts(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """For ``callback``: refuses what is no hosts string."""
    if value is not None:
        try:
            Hosts.parse(value)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
    return value


def check_election(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """For ``callback``: refuses what is no path of an election."""
    try:
        return check_path(value, "election path")
    except ValueError as e:
        raise click.BadParameter(str(e)) from None
