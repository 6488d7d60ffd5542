"""The records that aiozk's ``protocol`` lacks, and how replies are read.

``aiozk.protocol`` serializes requests and parses replies; it agrees with kazoo's serializer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from aiozk import exc, protocol
from aiozk.protocol.primitives import UString, Vector
from aiozk.protocol.request import Request
from aiozk.protocol.response import Response

__all__ = [
    "AUTH_XID",
    "PING_XID",
    "WATCH_XID",
    "ConnectReply",
    "CreateContainerRequest",
    "GetEphemeralsRequest",
    "close_frame",
    "connect_frame",
    "is_read",
    "parse_connect_reply",
    "parse_reply",
    "response_error",
]

AUTH_XID: int = protocol.AUTH_XID
PING_XID: int = protocol.PING_XID
WATCH_XID: int = protocol.WATCH_XID

_length = struct.Struct("!i")
_header = struct.Struct("!iqi")
_close = struct.Struct("!iii")

_CLOSE_OPCODE = -11


class CreateContainerRequest(protocol.Create2Request):  # type: ignore[misc]  # aiozk has no types
    """A container: ZooKeeper removes it some time after its last child has gone.

    Outside a transaction the opcode makes it one, not the flag: aiozk's request makes a plain znode (``PrepRequestProcessor``).
    """

    opcode = 19


class CreateContainerResponse(protocol.Create2Response):  # type: ignore[misc]  # aiozk has no types
    """As that of create2."""

    opcode = 19


class GetEphemeralsRequest(Request):  # type: ignore[misc]  # aiozk has no types
    """The ephemeral znodes of this session below ``prefix`` (opcode 103, ZooKeeper 3.6)."""

    opcode = 103
    parts = (("path", UString),)


class GetEphemeralsResponse(Response):  # type: ignore[misc]  # aiozk has no types
    """Full paths, in no order."""

    opcode = 103
    parts = (("ephemerals", Vector.of(UString)),)


_READS = (
    protocol.ExistsRequest,
    protocol.GetDataRequest,
    protocol.GetChildrenRequest,
    protocol.GetChildren2Request,
    protocol.GetACLRequest,
    protocol.SyncRequest,
    protocol.SetWatchesRequest,
    protocol.CheckWatchesRequest,
    protocol.PingRequest,
    GetEphemeralsRequest,
)


def is_read(request: Any) -> bool:
    """Whether sending the request twice changes nothing. (aiozk marks only creates and sets as writes.)"""
    return isinstance(request, _READS)


@dataclass(frozen=True, slots=True)
class ConnectReply:
    """The answer to a connect request; ``session_id`` 0 says that the session has ended. ``timeout`` in seconds."""

    session_id: int
    timeout: float
    password: bytes
    read_only: bool


def frame(payload: bytes) -> bytes:
    """A packet as it stands on the wire."""
    return _length.pack(len(payload)) + payload


def connect_frame(*, last_zxid: int, timeout: float, session_id: int, password: bytes, read_only: bool) -> bytes:
    """The first packet of a connection. ``timeout`` in seconds."""
    request = protocol.ConnectRequest(
        protocol_version=0,
        last_seen_zxid=last_zxid,
        timeout=round(timeout * 1000),
        session_id=session_id,
        password=password,
        read_only=read_only,
    )
    return frame(request.serialize())


def close_frame(xid: int) -> bytes:
    """Ends the session. (aiozk sends it without an xid, which the server can't read.)"""
    return _close.pack(8, xid, _CLOSE_OPCODE)


def parse_connect_reply(payload: bytes) -> ConnectReply:
    """Servers since 3.4 append whether they are read-only."""
    reply, end = protocol.ConnectResponse.parse(payload, 0)
    return ConnectReply(
        session_id=reply.session_id,
        timeout=reply.timeout / 1000,
        password=reply.password or b"",
        read_only=len(payload) > end and payload[end] != 0,
    )


def parse_header(payload: bytes) -> tuple[int, int, int]:
    """xid, zxid, error code."""
    xid, zxid, error = _header.unpack_from(payload)
    return xid, zxid, error


def parse_reply(opcode: int, payload: bytes) -> Any:
    """The record behind the header of a successful reply."""
    return protocol.response_xref[opcode].deserialize(payload[_header.size :])


def parse_event(payload: bytes) -> Any:
    """The ``WatchEvent`` in a notification."""
    return protocol.WatchEvent.deserialize(payload[_header.size :])


def response_error(code: int) -> Exception:
    """aiozk's exception for an error code. (aiozk prints codes it does not know.)"""
    known = exc.response_error_xref.get(code)
    if known is not None:
        error: Exception = known()
        return error
    unknown: Exception = exc.UnknownError.__new__(exc.UnknownError)
    unknown.error_code = code  # type: ignore[attr-defined]
    return unknown
