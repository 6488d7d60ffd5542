"""Which servers a command works on: a small one that it brings along, a real one that it starts, or the user's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from aioelect.cli.options import LONGEST, check_hosts
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.zookeeper import ZooKeeperNotFound, ZooKeeperServer, ZooKeeperStartFailed

__all__ = ["CAN_NOT_START", "Choice", "server"]

CAN_NOT_START = (ZooKeeperNotFound, ZooKeeperStartFailed)
"""What :meth:`Choice.serve` raises."""

F = TypeVar("F", bound=Callable[..., Any])


def server(command: F) -> F:
    """Adds ``--hosts`` and ``--zookeeper``; the command makes a :class:`Choice` of them."""
    real = "Start a real ZooKeeper (it needs Java) instead of the embedded server."
    yours = "Use these servers, such as zk1:2181,zk2:2181/app."
    command = click.option("--zookeeper", is_flag=True, help=real)(command)
    return click.option("--hosts", metavar="HOSTS", callback=check_hosts, help=yours)(command)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; neither means the embedded server. Raises ``click.UsageError`` where it was both."""

    hosts: str | None
    zookeeper: bool

    def __post_init__(self) -> None:
        if self.hosts is not None and self.zookeeper:
            raise click.UsageError("--hosts and --zookeeper exclude each other: which servers shall it be?")

    @property
    def name(self) -> str:
        """For programs."""
        return "hosts" if self.hosts else "zookeeper" if self.zookeeper else "embedded"

    def __str__(self) -> str:
        return {"hosts": "ZooKeeper", "zookeeper": "a real ZooKeeper", "embedded": "an embedded server"}[self.name]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Gives the hosts string of the server, or servers."""
        if self.hosts is not None:
            yield self.hosts
        elif self.zookeeper:
            async with ZooKeeperServer(max_session_timeout=LONGEST) as real:
                yield real.hosts
        else:
            async with EmbeddedServer(tick_time=0.1, max_session_timeout=LONGEST) as embedded:
                yield embedded.hosts
