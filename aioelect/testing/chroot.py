"""The path behind the servers in a hosts string, for those who are to leave servers as they were."""

from __future__ import annotations

import dataclasses

from aioelect.testing.cluster import Cluster
from aioelect.zookeeper.hosts import Hosts

__all__ = ["ChrootMissing", "check_chroot"]

SESSION_TIMEOUT = 2.0
"""Seconds, or what the servers grant: the session of the check holds nothing."""


class ChrootMissing(Exception):
    """The chroot of a hosts string is not there."""

    def __init__(self, hosts: str, chroot: str) -> None:
        super().__init__(hosts, chroot)
        self.hosts = hosts
        self.chroot = chroot

    def __str__(self) -> str:
        return f"{self.hosts}: {self.chroot} does not exist: create it first, or correct what stands behind the servers"


async def check_chroot(cluster: Cluster, *, timeout: float) -> None:
    """Raises ``ChrootMissing`` where ``cluster`` has a chroot that is not there; :func:`aioelect.connect` would make it for good.

    It connects without it, for which it has ``timeout`` seconds; errors as of :func:`aioelect.connect`.
    """
    hosts = Hosts.parse(cluster.hosts)
    if not hosts.chroot:
        return
    servers = dataclasses.replace(cluster, hosts=str(Hosts(hosts.servers)))
    async with servers.connect(session_timeout=SESSION_TIMEOUT, timeout=timeout) as client:
        if not await client.exists(hosts.chroot):
            raise ChrootMissing(cluster.hosts, hosts.chroot)
