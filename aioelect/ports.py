"""What the shells need from the outside world, and no more: the clock, names, sockets and chance, as arguments.

A test, or a simulation, passes its own; :class:`World` holds the real ones.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import random
import socket
import ssl as tls
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Protocol

from aioelect.value import value
from aioelect.watchdog import WATCHDOG, Guardian, boottime

__all__ = ["Address", "Clock", "Dial", "Resolve", "World", "boottime"]

Address = tuple[str, int]
"""An IP address, or a host name before it is resolved, and a port."""

Clock = Callable[[], float]
"""Seconds on a clock that never goes back and never stands still."""


class Dial(Protocol):
    """Connects ``protocol`` to ``address`` and returns when the transport is ready. Raises ``OSError``.

    Where ``ssl`` is given, that is after the TLS handshake, in which the server has proven to be ``server_hostname``.
    """

    async def __call__(
        self,
        protocol: asyncio.Protocol,
        address: Address,
        *,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> asyncio.Transport: ...


class Resolve(Protocol):
    """The addresses behind a host name, afresh. Raises ``OSError``."""

    async def __call__(self, host: str, port: int) -> Sequence[Address]: ...


async def dial_tcp(
    protocol: asyncio.Protocol,
    address: Address,
    *,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
) -> asyncio.Transport:
    """A TCP connection, with TLS where ``ssl`` is given; asyncio switches Nagle's algorithm off."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: protocol, *address, ssl=ssl, server_hostname=server_hostname
    )
    return transport


async def resolve_name(host: str, port: int) -> Sequence[Address]:
    """``getaddrinfo``, unless ``host`` is an IP address; in threads of its own, since the event loop's may all be busy."""
    if _is_ip_address(host):
        return [(host, port)]
    lookup = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_resolvers(), lookup)
    return list(dict.fromkeys((str(info[4][0]), int(info[4][1])) for info in found))


def _is_ip_address(host: str) -> bool:
    """As ``ipaddress`` has it, which takes a millisecond to import."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


@functools.cache
def _resolvers() -> concurrent.futures.Executor:
    return concurrent.futures.ThreadPoolExecutor(4, "aioelect resolver")


@value
class World:
    """Everything that is not computed."""

    clock: Clock = boottime
    monotonic: Clock = time.monotonic
    dial: Dial = dial_tcp
    resolve: Resolve = resolve_name
    random: random.Random = field(default_factory=random.Random)
    watchdog: Guardian = WATCHDOG
