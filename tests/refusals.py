"""Answers that a server gives when something is wrong with it, and not with the request; the embedded one does on demand."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, cast

import pytest

from aioelect.testing import embedded, jute
from aioelect.testing.datatree import Refused

__all__ = ["NOT_READ_ONLY", "SESSION_EXPIRED", "THROTTLED", "Deny", "Refuse", "deny", "read_only", "refuse"]


class Code(IntEnum):
    """Of ``KeeperException.Code``."""

    SESSION_EXPIRED = -112
    NOT_READ_ONLY = -119
    THROTTLED = -127


SESSION_EXPIRED, NOT_READ_ONLY, THROTTLED = (cast(Any, code) for code in Code)

Refuse = Callable[..., list[Any]]
"""``refuse(kind, code, count=1)``: the next ``count`` requests of that kind (``jute.Multi``, or several kinds in a tuple) are
refused, in the header of the answer. Gives the list of those that were."""


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """For tests on the embedded server."""
    orders: list[tuple[Any, Any, int, list[Any]]] = []
    perform = embedded._Connection._perform

    def refuse(kind: Any, code: Any, count: int = 1) -> list[Any]:
        refused: list[Any] = []
        orders.append((kind, code, count, refused))
        return refused

    def perform_or_refuse(self: Any, session: Any, request: jute.Request) -> bytes:
        for kind, code, count, refused in orders:
            if isinstance(request, kind) and len(refused) < count:
                refused.append(request)
                raise Refused(code, "")
        return perform(self, session, request)

    monkeypatch.setattr(embedded._Connection, "_perform", perform_or_refuse)
    return refuse


Deny = Callable[[], None]
"""From this call on, credentials are refused."""


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """For tests on the embedded server."""

    def refuse(connection: Any, xid: int, request: jute.Auth) -> None:
        connection._transport.write(jute.reply(xid, 0, jute.Code.AUTH_FAILED))
        connection.close()

    return lambda: monkeypatch.setattr(embedded._Connection, "_authenticate", refuse)


WRITES = (jute.Create, jute.Delete, jute.SetData, jute.SetACL, jute.Multi, jute.Sync)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The hosts of embedded servers that are read-only, as one without a quorum may be: to be filled and emptied by the test.

    They refuse writes at once, and say what they are to new connections, which have to allow it.
    """
    hosts = set[str]()
    connection = embedded._Connection
    connect, perform, reply = connection._connect, connection._perform, jute.connect_reply

    def answer(self: Any, request: jute.ConnectRequest) -> None:
        if self._server.hosts not in hosts:
            connect(self, request)
        elif request.read_only:
            with monkeypatch.context() as patch:
                patch.setattr(
                    jute, "connect_reply", lambda timeout, id, password, _: reply(timeout, id, password, True)
                )
                connect(self, request)
        else:
            self.close()

    def refuse_writes(self: Any, session: Any, request: jute.Request) -> bytes:
        if self._server.hosts in hosts and isinstance(request, WRITES):
            raise Refused(NOT_READ_ONLY, "")
        return perform(self, session, request)

    monkeypatch.setattr(connection, "_connect", answer)
    monkeypatch.setattr(connection, "_perform", refuse_writes)
    return hosts
