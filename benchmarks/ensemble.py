"""Three members that are linked directly: the testing kit's ensemble has proxies between its members, which cost time."""

from __future__ import annotations

import contextlib
import time
from typing import Self

from aioelect.testing.zookeeper import ZooKeeperServer, free_ports

__all__ = ["MAX_SESSION_TIMEOUT", "Ensemble"]

MAX_SESSION_TIMEOUT = 60.0
"""Seconds, the longest that servers grant here."""

_PROPERTIES = {"zookeeper.fastleader.maxNotificationInterval": "500"}


class Ensemble:
    """A context manager. ``tick_time`` in seconds; sessions of 2 ticks to the longest."""

    def __init__(self, tick_time: float = 0.4) -> None:
        ports = free_ports(6)
        addresses = {f"server.{i + 1}": f"127.0.0.1:{ports[2 * i]}:{ports[2 * i + 1]}" for i in range(3)}
        self.members = [
            ZooKeeperServer(
                tick_time=tick_time,
                max_session_timeout=MAX_SESSION_TIMEOUT,
                config={"initLimit": 10, "syncLimit": 10, **addresses},
                properties=_PROPERTIES,
                member_id=number + 1,
            )
            for number in range(3)
        ]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for member in self.members:
                stack.callback(member.close)
                member.launch()
            self.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def hosts(self) -> str:
        """All members."""
        return ",".join(member.hosts for member in self.members)

    def wait_ready(self) -> None:
        """Returns when all members serve."""
        for member in self.members:
            member.wait_ready()

    def leader(self, within: float = 20.0) -> ZooKeeperServer:
        """The ZooKeeper leader."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            for member in self.members:
                if "Mode: leader" in member.ask("srvr"):
                    return member
            time.sleep(0.05)
        raise TimeoutError(f"the ensemble has had no leader for {within:g} s")

    def followers(self) -> list[ZooKeeperServer]:
        leader = self.leader()
        return [member for member in self.members if member is not leader]
