"""The records that aiozk's ``protocol`` lacks, and how replies are read.

``aiozk.protocol`` serializes requests and says of which fields replies consist; it agrees with kazoo's serializer. Replies are
read here: what comes from a server may be anything, and costs no more than the bytes that it sent.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from aiozk import exc, protocol
from aiozk.protocol.part import Part
from aiozk.protocol.primitives import Bool, Buffer, Int, Long, UString, Vector
from aiozk.protocol.request import Request
from aiozk.protocol.response import Response
from aiozk.protocol.transaction import MultiHeader

from aioelect.value import value

__all__ = [
    "AUTH_XID",
    "PING_XID",
    "WATCH_XID",
    "AuthRequest",
    "AuthenticationRequired",
    "ConnectReply",
    "CreateContainerRequest",
    "DeleteRequest",
    "GetEphemeralsRequest",
    "Malformed",
    "SaslRequest",
    "close_frame",
    "connect_frame",
    "deletion_event",
    "foreseen",
    "is_read",
    "is_refusal",
    "parse_connect_reply",
    "parse_reply",
    "response_error",
    "touches",
    "watches_asked",
]

AUTH_XID: int = protocol.AUTH_XID
PING_XID: int = protocol.PING_XID
WATCH_XID: int = protocol.WATCH_XID

_length = struct.Struct("!i")
_header = struct.Struct("!iqi")
_close = struct.Struct("!iii")
_event = struct.Struct("!iii")
_delete = struct.Struct("!iii")

HEADER = _header.size
"""Bytes of the header that every packet but the first begins with."""

_ZXID = slice(8, 16)
"""Where the zxid stands in a packet."""

SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.01, 2_000_000.0
"""Seconds of the session timeouts that are believed: a server grants two ticks at least, and nobody can ask for more."""

_CLOSE_OPCODE = -11


class Malformed(ValueError):
    """A server sent what ZooKeeper never sends."""


class DeleteRequest(protocol.DeleteRequest):  # type: ignore[misc]  # aiozk has no types
    """aiozk's, of any version, made and written in one go: the next leader waits for it."""

    version = -1

    def __init__(self, path: str) -> None:
        self.path = path

    def serialize(self, xid: int) -> bytes:
        path = self.path.encode()
        return b"".join((_delete.pack(xid, self.opcode, len(path)), path, _length.pack(self.version)))


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


class AuthRequest(protocol.AuthRequest):  # type: ignore[misc]  # aiozk has no types
    """aiozk's, but shows no password."""

    def __str__(self) -> str:
        return f"AuthRequest({self.scheme})"


class SaslRequest(Request):  # type: ignore[misc]  # aiozk has no types
    """A SASL token. (aiozk's can't be made.)"""

    opcode = 102
    parts = (("token", Buffer),)

    def __str__(self) -> str:
        return "SaslRequest"


class SaslResponse(Response):  # type: ignore[misc]  # aiozk has no types
    """The server's token, or None."""

    opcode = 102
    parts = (("token", Buffer),)


class AuthenticationRequired(exc.ResponseError):  # type: ignore[misc]  # aiozk has no types
    """SESSIONCLOSEDREQUIRESASLAUTH: a server wants credentials first, not only of SASL, and closes the connection."""

    error_code = -124


def is_refusal(error: Any) -> bool:
    """Whether an ``aiozk.exc.ResponseError`` is about the credentials of the connection."""
    return isinstance(error, (exc.AuthFailed, AuthenticationRequired))


def touches(request: Any) -> bool:
    """Whether a server notes that the session lives when it gets this: authentication does not count (``processPacket``)."""
    return not isinstance(request, (protocol.AuthRequest, SaslRequest))


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


def watches_asked(request: Any) -> int:
    """How many watches a request sets at the most."""
    if isinstance(request, protocol.SetWatchesRequest):
        return len(request.data_watches) + len(request.exist_watches) + len(request.child_watches)
    return int(bool(getattr(request, "watch", False)))


@value
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
    reply, end = _read(protocol.ConnectResponse, payload, 0)
    timeout = reply.timeout / 1000
    if reply.session_id and not SHORTEST_TIMEOUT <= timeout <= LONGEST_TIMEOUT:
        raise Malformed(f"a session timeout of {timeout:g} s")
    return ConnectReply(
        session_id=reply.session_id,
        timeout=timeout,
        password=reply.password or b"",
        read_only=len(payload) > end and payload[end] != 0,
    )


def parse_header(payload: bytes) -> tuple[int, int, int]:
    """xid, zxid, error code."""
    xid, zxid, error = _header.unpack_from(payload)
    return xid, zxid, error


def parse_reply(request: Any, payload: bytes) -> Any:
    """The record behind the header of a successful reply to ``request``."""
    if isinstance(request, protocol.TransactionRequest):
        return _read_multi(request, payload)
    record, _ = _read(_response(request.opcode), payload, HEADER)
    return record


def parse_event(payload: bytes) -> Any:
    """The ``WatchEvent`` in a notification."""
    event, _ = _read(protocol.WatchEvent, payload, HEADER)
    return event


def foreseen(packet: bytes) -> bytes:
    """What can be known of a notification before it comes: all but the zxid, which servers since 3.9 tell."""
    return packet[: _ZXID.start] + packet[_ZXID.stop :]


def deletion_event(path: str) -> bytes:
    """The packet that tells of the deletion of ``path``."""
    raw = path.encode()
    kind, connected = protocol.WatchEvent.DELETED, 3
    return frame(_header.pack(WATCH_XID, -1, 0) + _event.pack(kind, connected, len(raw)) + raw)


def _response(opcode: int) -> Any:
    kind = protocol.response_xref.get(opcode)
    if kind is None:
        raise Malformed(f"a result of type {opcode}")
    return kind


_Reader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""Takes a packet, and where in it a value begins; gives the value, and where that ends."""

_Filler: TypeAlias = Callable[[dict[str, Any], bytes, int], int]
"""Puts fields of a record into a dictionary, from a packet and where in it they begin; gives where they end."""

_NUMBERS = (Bool, Int, Long)


def _read(kind: Any, payload: bytes, at: int) -> tuple[Any, int]:
    """A record or a field of one, as aiozk describes it, and where it ends.

    Raises ``Malformed``, whatever the parsers of single fields raise.
    """
    try:
        return _reader(kind)(payload, at)
    except Malformed:
        raise
    except Exception as e:  # struct's, the codec's, and those of record types that others have made
        raise Malformed(f"{kind.__name__} can't be read ({type(e).__name__}: {e})") from e


@functools.cache
def _reader(kind: Any) -> _Reader:
    """What reads such a value."""
    if issubclass(kind, Part):
        return _record_reader(kind)
    if issubclass(kind, Buffer):
        return _read_bytes
    if issubclass(kind, UString):
        return _read_text
    if hasattr(kind, "item_class"):
        return functools.partial(_read_vector, kind.item_class)
    reader: _Reader = kind.parse
    return reader


def _record_reader(kind: Any) -> _Reader:
    """What reads a record: numbers that stand side by side in one go, as all eleven of a stat do."""
    fillers: list[_Filler] = []
    for are_numbers, parts in itertools.groupby(kind.parts, lambda part: part[1] in _NUMBERS):
        if are_numbers:
            fillers.append(_fill_numbers(dict(parts)))
        else:
            fillers += [_fill_one(name, _reader(field)) for name, field in parts]

    def read(payload: bytes, at: int) -> tuple[Any, int]:
        values: dict[str, Any] = {}
        for fill in fillers:
            at = fill(values, payload, at)
        return make(values), at

    def make(values: dict[str, Any]) -> Any:
        if kind.__init__ is not Part.__init__:
            return kind(**values)
        record = kind.__new__(kind)
        record.__dict__ = values
        return record

    return read


def _fill_numbers(fields: dict[str, Any]) -> _Filler:
    numbers = struct.Struct("!" + "".join(field.fmt for field in fields.values()))

    def fill(values: dict[str, Any], payload: bytes, at: int) -> int:
        values.update(zip(fields, numbers.unpack_from(payload, at), strict=True))
        return at + numbers.size

    return fill


def _fill_one(name: str, reader: _Reader) -> _Filler:
    def fill(values: dict[str, Any], payload: bytes, at: int) -> int:
        values[name], at = reader(payload, at)
        return at

    return fill


def _read_bytes(payload: bytes, at: int) -> tuple[bytes | None, int]:
    (size,) = _length.unpack_from(payload, at)
    at += _length.size
    if size == -1:
        return None, at
    if not 0 <= size <= len(payload) - at:
        raise Malformed(f"a field of {size} bytes where {len(payload) - at} are left")
    return payload[at : at + size], at + size


def _read_text(payload: bytes, at: int) -> tuple[str, int]:
    """ZooKeeper has null for bytes, and nowhere in a reply for text."""
    raw, at = _read_bytes(payload, at)
    if raw is None:
        raise Malformed("null where there must be text")
    return raw.decode(), at


def _read_vector(kind: Any, payload: bytes, at: int) -> tuple[list[Any], int]:
    """Every item takes the four bytes of a number at least, so that a false count costs nothing."""
    (count,) = _length.unpack_from(payload, at)
    at += _length.size
    if not -1 <= count <= (len(payload) - at) // _length.size:
        raise Malformed(f"a list of {count} where {len(payload) - at} bytes are left")
    if issubclass(kind, UString):
        return _read_names(count, payload, at)
    items, read = [], _reader(kind)
    for _ in range(count):
        item, at = read(payload, at)
        items.append(item)
    return items, at


def _read_names(count: int, payload: bytes, at: int) -> tuple[list[str], int]:
    """As :func:`_read_text` for each, in a fifth of the time: there may be 100,000 children, and nothing else runs meanwhile."""
    names = []
    for _ in range(count):
        (size,) = _length.unpack_from(payload, at)
        at += 4
        end = at + size
        if size <= 0 or end > len(payload):
            raise Malformed(f"a name of {size} bytes where {len(payload) - at} are left")
        names.append(payload[at:end].decode())
        at = end
    return names, at


_ERROR = -1
_CREATES = (protocol.CreateRequest.opcode, protocol.Create2Request.opcode, CreateContainerRequest.opcode)


def _read_multi(request: Any, payload: bytes) -> Any:
    """One result for each operation. (aiozk believes any number and any type of them, and prints the errors it does not know.)"""
    response, at = protocol.TransactionResponse(), HEADER
    for asked in request.requests:
        kind, done, at = _read_multi_header(payload, at)
        if done:
            raise Malformed(f"{len(response.responses)} results of {len(request.requests)} operations")
        if kind == _ERROR:
            code, at = _read(Int, payload, at)
            result: Any = response_error(code)
        elif kind == asked.opcode or (kind in _CREATES and asked.opcode in _CREATES):
            result, at = _read(_response(kind), payload, at)
        else:
            raise Malformed(f"a result of type {kind} for an operation of type {asked.opcode}")
        response.responses.append(result)
    if not _read_multi_header(payload, at)[1]:
        raise Malformed(f"more results than the {len(request.requests)} operations have")
    return response


def _read_multi_header(payload: bytes, at: int) -> tuple[int, bool, int]:
    """Type, whether it is the last header, and where it ends."""
    header, at = _read(MultiHeader, payload, at)
    return header.type, header.done, at


def response_error(code: int) -> Exception:
    """aiozk's exception for an error code. (aiozk prints codes it does not know.)"""
    known = exc.response_error_xref.get(code)
    if known is not None:
        error: Exception = known()
        return error
    unknown: Exception = exc.UnknownError.__new__(exc.UnknownError)
    unknown.error_code = code  # type: ignore[attr-defined]
    return unknown
