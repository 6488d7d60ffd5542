"""Answers that a server gives when something is wrong with it, and not with the request; the embedded one does on demand."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, cast

import pytest

from aioelect.testing import embedded, jute
from aioelect.testing.datatree import Refused

__all__ = ["NOT_READ_ONLY", "SESSION_EXPIRED", "THROTTLED", "Deny", "ReadOnly", "Refuse", "deny", "read_only", "refuse"]


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


ReadOnly = Callable[[bool], None]
"""Whether servers are cut off from the others, from this call on: to new connections they say so, and they refuse writes."""

WRITES = (jute.Create, jute.Delete, jute.SetData, jute.SetACL, jute.Multi, jute.Sync)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> ReadOnly:
    """For tests on the embedded server. Clients have to allow it, and to be dropped."""
    is_so = False
    perform, reply = embedded._Connection._perform, jute.connect_reply

    def refuse_writes(self: Any, session: Any, request: jute.Request) -> bytes:
        if is_so and isinstance(request, WRITES):
            raise Refused(NOT_READ_ONLY, "")
        return perform(self, session, request)

    def reply_so(timeout: int, session_id: int, password: bytes, _: bool | None) -> bytes:
        return reply(timeout, session_id, password, is_so)

    def switch(to: bool) -> None:
        nonlocal is_so
        is_so = to

    monkeypatch.setattr(embedded._Connection, "_perform", refuse_writes)
    monkeypatch.setattr(jute, "connect_reply", reply_so)
    return switch
