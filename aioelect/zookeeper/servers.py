"""Which server to try next, for how long, and when to try again. What trying means is for others to say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiozk import exc

from aioelect.errors import AuthenticationFailed, ConnectionLoss, TlsError
from aioelect.ports import Address, World
from aioelect.zookeeper.hosts import Hosts, format_address
from aioelect.zookeeper.terms import Terms

__all__ = ["LONGEST_DELAY", "Servers"]

log = logging.getLogger("aioelect.session")

FIRST_BOUND = 0.4
"""Seconds that the first attempt at one server may take; doubled every round, up to a third of the session timeout."""

FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
"""Seconds of pause after the first fruitless round, doubled every round, and after the last."""

Attempt = Callable[[Address, str, float], Awaitable[None]]
"""Tries an address, with the host name that it was found by, each step within so many seconds.

Raises ``OSError`` (``TimeoutError``) or ``ZKError`` where it fails."""


class Servers:
    """The servers of one ensemble as one client knows them."""

    def __init__(self, hosts: Hosts, world: World, terms: Terms) -> None:
        self.hosts = hosts
        self.patience: float | None = None
        """Seconds for which a server may be silent while there is a lease to save; None while there is none."""
        self._world = world
        self._terms = terms
        self._connected_to: Address | None = None
        self._promising: tuple[Address, Address] | None = None
        """The server, and its address, that :meth:`seek` has found: to be tried first, once."""
        self._troubles: dict[Address, str] = {}
        self._failures: list[Exception] = []
        """Of this round, one for each address, or name without any."""

    @property
    def troubles(self) -> str:
        """Why each server could not be used, when it was last tried; empty when one has been found since."""
        return "; ".join(f"{format_address(server)}: {why}" for server, why in self._troubles.items())

    async def find(self, attempt: Attempt, in_vain: Callable[[float], None]) -> None:
        """Returns when an attempt has worked; tells ``in_vain`` the seconds until each next round.

        Raises ``AuthenticationFailed``, which no other server would mend; and, before there was any connection, ``TlsError`` when
        that is final with all servers. Later somebody may mend it, as by renewing a certificate.
        """
        fruitless = 0
        while not await self._round(attempt, self._bound(fruitless)):
            final = [failure for failure in self._failures if isinstance(failure, TlsError) and failure.final]
            if self._connected_to is None and len(final) == len(self._failures):
                raise final[0]
            fruitless += 1
            delay = self.delay(fruitless)
            in_vain(delay)
            await asyncio.sleep(delay)

    async def seek(self, attempt: Attempt, but: Address) -> None:
        """Returns when an attempt has worked at another address than ``but``, where we are connected; the next :meth:`find`
        begins there. Tries them all in each round, with pauses as in :meth:`find`, also before the first."""
        fruitless = 0
        while True:
            fruitless += 1
            await asyncio.sleep(self.delay(fruitless))
            for server in self._begin_round():
                address = await self._try(server, attempt, self._bound(fruitless), but=but)
                if address is not None:
                    self._promising = server, address
                    return

    def _bound(self, fruitless: int) -> float:
        """Seconds for one attempt: short at first, so that a dead server costs little, then long enough for a slow one."""
        return min(FIRST_BOUND * 2.0 ** min(fruitless, 16), max(FIRST_BOUND, self._terms.timeout / 3))

    def delay(self, failures: int) -> float:
        """Seconds until the next try, after so many in vain; with a lease to save, no large part of what it lasts."""
        longest = LONGEST_DELAY if self.patience is None else min(LONGEST_DELAY, self.patience / 4)
        return min(FIRST_DELAY * 2.0 ** min(failures - 1, 16), longest) * self._world.random.uniform(0.5, 1)

    async def _round(self, attempt: Attempt, bound: float) -> bool:
        """Tries every server once, in random order, the one that we just lost last; whether one took us."""
        (promising, first), self._promising = self._promising or (None, None), None
        servers = self._begin_round()
        servers.sort(key=lambda server: (server != promising, server == self._connected_to))
        for server in servers:
            if await self._try(server, attempt, bound, first=first) is not None:
                self._connected_to = server
                self._troubles.clear()
                return True
        return False

    def _begin_round(self) -> list[Address]:
        """The servers, in random order."""
        self._failures.clear()
        servers = list(self.hosts.servers)
        self._world.random.shuffle(servers)
        return servers

    async def _try(
        self,
        server: Address,
        attempt: Attempt,
        bound: float,
        *,
        first: Address | None = None,
        but: Address | None = None,
    ) -> Address | None:
        """Tries the addresses behind one host name, resolved afresh, ``first`` before the others and ``but`` never; gives the one
        where that has worked."""
        try:
            async with asyncio.timeout(bound):
                addresses = await self._world.resolve(*server)
        except OSError as e:
            self._trouble(server, f"can't resolve the name ({e!r})", e)
            return None
        if not addresses:
            self._trouble(server, "the name has no address", OSError())
        for address in sorted(addresses, key=lambda address: address != first):
            if address == but:
                continue
            try:
                await attempt(address, server[0], bound)
            except AuthenticationFailed:
                raise
            except ConnectionLoss as e:
                self._trouble(server, e.why, e)
            except TimeoutError as e:
                self._trouble(server, f"no answer within {bound:.2g} s", e)
            except (OSError, exc.ZKError) as e:
                self._trouble(server, e, e)
            else:
                return address
        return None

    def _trouble(self, server: Address, why: object, error: Exception) -> None:
        log.info("no connection to %s: %s", format_address(server), why)
        self._troubles[server] = str(why)
        self._failures.append(error)
