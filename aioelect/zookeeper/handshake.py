"""The first stages of a connection: TCP, TLS, the connect request and its answer, authentication."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from aiozk import exc, protocol

from aioelect.errors import AuthenticationFailed, ConnectionLoss
from aioelect.ports import Address, World
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Answer, Connection, Owner, Reply
from aioelect.zookeeper.security import Auth, Tls
from aioelect.zookeeper.security.tls import tls_error

__all__ = ["Greeted", "Handshake"]

log = logging.getLogger("aioelect.session")


class Greeted(NamedTuple):
    """A connection whose connect request, ``sent`` then (by the world's clock), was answered."""

    connection: Connection
    sent: float
    reply: wire.ConnectReply


class Handshake:
    """Makes connections and says who we are."""

    def __init__(self, world: World, auth: tuple[Auth, ...], tls: Tls | None) -> None:
        self.connection: Connection | None = None
        """The one in :meth:`greeted`."""
        self._world = world
        self._auth = auth
        self._tls = tls

    @contextlib.asynccontextmanager
    async def greeted(
        self, address: Address, name: str, bound: float, request: bytes, owner: Owner
    ) -> AsyncIterator[Greeted]:
        """A connection on which a connect request was answered within ``bound`` seconds. An error in the block aborts it.

        ``name`` is the host as the user wrote it, before it was resolved to ``address``. Raises ``OSError`` (``TimeoutError``) or
        ``ConnectionLoss`` (``TlsError``) where there is no answer.
        """
        self.connection = connection = Connection(address, self._world.clock, owner, name)
        try:
            yield await self._greet(connection, bound, request)
        except BaseException:
            connection.abort("the handshake was given up")
            raise
        finally:
            self.connection = None

    async def inquire(self, address: Address, name: str, bound: float, timeout: float) -> wire.ConnectReply:
        """Asks a server for a session of its own, with ``timeout`` in seconds, and ends that again. Raises as above."""
        connection = Connection(address, self._world.clock, _Inquirer(), name)
        request = wire.connect_frame(last_zxid=0, timeout=timeout, session_id=0, password=bytes(16), read_only=False)
        try:
            _, _, reply = await self._greet(connection, bound, request)
            if reply.session_id != 0:
                await self.dismiss(connection, bound)
            return reply
        finally:
            connection.abort("it was a question only")

    async def dismiss(self, connection: Connection, bound: float) -> None:
        """Ends, within ``bound`` seconds, a session that was granted on ``connection`` and is not wanted.

        A server that demands authentication demands it for this, too; without it the session expires by itself.
        """
        try:
            async with asyncio.timeout(bound):
                await self.authenticate(connection)
                await connection.finish(1)
        except (AuthenticationFailed, ConnectionLoss, OSError) as e:
            log.info("a session that is not wanted is left to expire: %r", e)

    async def _greet(self, connection: Connection, bound: float, request: bytes) -> Greeted:
        async with asyncio.timeout(bound):
            await self._dial(connection)
            sent = self._world.clock()
            try:
                return Greeted(connection, sent, await connection.greet(request))
            except ConnectionLoss as e:
                raise self._unanswered(connection, e) from e

    async def _dial(self, connection: Connection) -> None:
        address, tls = (connection.host, connection.port), self._tls
        if tls is None:
            await self._world.dial(connection, address)
            return
        try:
            server_hostname = tls.server_hostname or connection.name.rstrip(".")
            await self._world.dial(connection, address, ssl=tls.context, server_hostname=server_hostname)
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as e:
            raise tls_error(e, address) from e

    def _unanswered(self, connection: Connection, loss: ConnectionLoss) -> ConnectionLoss:
        """Why a connect request got no answer. With TLS 1.3, a server refuses our certificate only after the handshake."""
        address = connection.host, connection.port
        if isinstance(connection.error, ssl.SSLError):
            return tls_error(connection.error, address)
        guess = (
            "takes only TLS on this port: then pass ssl" if self._tls is None else "wants another certificate from us"
        )
        return ConnectionLoss(*address, f"{loss.why} without an answer: it has no quorum, or {guess}")

    async def authenticate(self, connection: Connection) -> None:
        """Goes before any request. Raises ``AuthenticationFailed``; ``OSError`` where a password can't be read."""

        def ask(request: Any) -> asyncio.Future[Reply]:
            return connection.request(request, 0)

        for auth in self._auth:
            await auth.authenticate(ask, connection.server, connection.name)

    async def ask_first(self, connection: Connection, requests: Sequence[Any], next_xid: Callable[[], int]) -> None:
        """Sends the first requests, at least one: only to a request does a server say that it wants other credentials
        (``AuthenticationHelper.enforceAuthentication``). Raises ``AuthenticationFailed`` then.
        """
        try:
            await asyncio.gather(
                *(connection.request(request, next_xid()) for request in requests or [_nothing_to_watch()])
            )
        except exc.ResponseError as e:
            if not wire.is_refusal(e):
                raise
            given = "".join(f", and not {auth!r}" for auth in self._auth)
            raise AuthenticationFailed(
                f"{connection.server} demands credentials{given}: pass auth with such as its sessionRequireClientSASLAuth or "
                "enforce.auth.schemes asks for, like aioelect.SaslDigestMd5(user, password)"
            ) from None


def _nothing_to_watch() -> Any:
    return protocol.SetWatchesRequest(relative_zxid=0, data_watches=[], exist_watches=[], child_watches=[])


class _Inquirer:
    """Owns a connection that asks one question."""

    def replied(self, connection: Connection, answer: Answer) -> None:
        pass

    def notified(self, connection: Connection, event: Any) -> None:
        pass

    def ended(self, connection: Connection, why: str) -> None:
        pass
