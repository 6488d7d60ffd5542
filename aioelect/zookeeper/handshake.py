"""The first stages of a connection: TCP, (TLS,) the connect request and its answer, authentication."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiozk import exc

from aioelect.errors import AuthenticationFailed
from aioelect.ports import Address, World
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Answer, Connection, Owner
from aioelect.zookeeper.security import Auth

__all__ = ["Greeted", "Handshake"]


class Greeted(NamedTuple):
    """A connection whose connect request, ``sent`` then (by the world's clock), was answered."""

    connection: Connection
    sent: float
    reply: wire.ConnectReply


class Handshake:
    """Makes connections and says who we are."""

    def __init__(self, world: World, auth: tuple[Auth, ...]) -> None:
        self.connection: Connection | None = None
        """The one in :meth:`greeted`."""
        self._world = world
        self._auth = auth

    @contextlib.asynccontextmanager
    async def greeted(self, address: Address, bound: float, request: bytes, owner: Owner) -> AsyncIterator[Greeted]:
        """A connection on which a connect request was answered within ``bound`` seconds. An error in the block aborts it.

        Raises ``OSError`` (``TimeoutError``) or ``ConnectionLoss`` where there is no answer.
        """
        self.connection = connection = Connection(address, self._world.clock, owner)
        try:
            yield await self._greet(connection, address, bound, request)
        except BaseException:
            connection.abort("the handshake was given up")
            raise
        finally:
            self.connection = None

    async def inquire(self, address: Address, bound: float, timeout: float) -> wire.ConnectReply:
        """Asks a server for a session of its own, with ``timeout`` in seconds, and ends that again. Raises as above."""
        connection = Connection(address, self._world.clock, _Inquirer())
        request = wire.connect_frame(last_zxid=0, timeout=timeout, session_id=0, password=bytes(16), read_only=False)
        try:
            _, _, reply = await self._greet(connection, address, bound, request)
            if reply.session_id != 0:
                async with asyncio.timeout(bound):
                    await connection.finish(1)
            return reply
        finally:
            connection.abort("it was a question only")

    async def _greet(self, connection: Connection, address: Address, bound: float, request: bytes) -> Greeted:
        async with asyncio.timeout(bound):
            await self._world.dial(connection, address)
            sent = self._world.clock()
            return Greeted(connection, sent, await connection.greet(request))

    async def authenticate(self, connection: Connection) -> None:
        """Goes before any request. Raises ``AuthenticationFailed``."""
        try:
            await asyncio.gather(*(connection.request(auth.request(), wire.AUTH_XID) for auth in self._auth))
        except exc.AuthFailed as e:
            raise AuthenticationFailed(
                f"{connection.server} refused the credentials of {self._auth[0].user!r}: check user and password"
            ) from e


class _Inquirer:
    """Owns a connection that asks one question."""

    def replied(self, connection: Connection, answer: Answer) -> None:
        pass

    def notified(self, connection: Connection, event: Any) -> None:
        pass

    def ended(self, connection: Connection, why: str) -> None:
        pass
