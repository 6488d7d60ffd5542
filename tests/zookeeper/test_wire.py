"""The records that aiozk lacks, byte by byte, and how replies are read."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiozk import exc, protocol

from aioelect.zookeeper import wire


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("!i", len(encoded)) + encoded


# Connecting and closing


@pytest.mark.parametrize("read_only", [True, False])
def test_the_connect_frame(read_only: bool) -> None:
    frame = wire.connect_frame(
        last_zxid=0x1_0000_0002, timeout=2.5, session_id=-3, password=bytes(range(16)), read_only=read_only
    )
    body = struct.pack("!iqiqi", 0, 0x1_0000_0002, 2500, -3, 16) + bytes(range(16)) + bytes([read_only])
    assert frame == struct.pack("!i", len(body)) + body


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.001, 1), (0.2899, 290), (10.0, 10_000)])
def test_timeouts_go_out_in_whole_milliseconds(seconds: float, milliseconds: int) -> None:
    frame = wire.connect_frame(last_zxid=0, timeout=seconds, session_id=0, password=bytes(16), read_only=False)
    assert struct.unpack_from("!i", frame, 4 + 4 + 8) == (milliseconds,)


def test_the_close_frame() -> None:
    assert wire.close_frame(7) == struct.pack("!iii", 8, 7, -11)


@pytest.mark.parametrize(("trailer", "read_only"), [(b"\x01", True), (b"\x00", False), (b"", False)])
def test_the_connect_reply(trailer: bytes, read_only: bool) -> None:
    payload = struct.pack("!iiqi", 0, 4500, 0x1234, 16) + bytes(range(16)) + trailer
    assert wire.parse_connect_reply(payload) == wire.ConnectReply(0x1234, 4.5, bytes(range(16)), read_only)


def test_the_connect_reply_of_an_ended_session() -> None:
    payload = struct.pack("!iiqi", 0, 0, 0, 16) + bytes(16) + b"\x00"
    assert wire.parse_connect_reply(payload) == wire.ConnectReply(0, 0.0, bytes(16), False)


def test_a_connect_reply_without_a_password() -> None:
    assert wire.parse_connect_reply(struct.pack("!iiqi", 0, 0, 0, -1)).password == b""


# Requests and replies


def test_the_get_ephemerals_request() -> None:
    assert wire.GetEphemeralsRequest(path="/é").serialize(5) == struct.pack("!ii", 5, 103) + text("/é")


@pytest.mark.parametrize("paths", [[], ["/a"], ["/a/n_0000000001", "/é"]])
def test_the_get_ephemerals_reply(paths: list[str]) -> None:
    payload = struct.pack("!iqii", 5, 77, 0, len(paths)) + b"".join(map(text, paths))
    assert wire.parse_header(payload) == (5, 77, 0)
    assert wire.parse_reply(wire.GetEphemeralsRequest(path="/"), payload).ephemerals == paths


def test_negative_headers() -> None:
    assert wire.parse_header(struct.pack("!iqi", -1, -1, -101)) == (wire.WATCH_XID, -1, -101)


def test_an_event() -> None:
    payload = struct.pack("!iqiii", -1, -1, 0, 2, 3) + text("/é")
    event = wire.parse_event(payload)
    assert (event.type, event.state, event.path) == (protocol.WatchEvent.DELETED, 3, "/é")


@pytest.mark.parametrize(
    "request_", [wire.GetEphemeralsRequest(path="/"), protocol.ExistsRequest(path="/", watch=False)]
)
def test_a_reply_that_ends_too_soon_is_an_error(request_: Any) -> None:
    with pytest.raises(wire.Malformed):
        wire.parse_reply(request_, struct.pack("!iqi", 5, 77, 0) + b"\x00\x00")


def test_the_xids_of_packets_that_are_no_requests() -> None:
    assert (wire.WATCH_XID, wire.PING_XID, wire.AUTH_XID) == (-1, -2, -4)


# Reads and writes


@pytest.mark.parametrize(
    "request_",
    [
        protocol.ExistsRequest(path="/a", watch=True),
        protocol.GetDataRequest(path="/a", watch=True),
        protocol.GetChildrenRequest(path="/a", watch=False),
        protocol.GetChildren2Request(path="/a", watch=False),
        protocol.GetACLRequest(path="/a"),
        protocol.SyncRequest(path="/a"),
        protocol.SetWatchesRequest(relative_zxid=0, data_watches=[], exist_watches=[], child_watches=[]),
        protocol.PingRequest(),
        wire.GetEphemeralsRequest(path="/a"),
    ],
    ids=lambda request_: type(request_).__name__,
)
def test_reads(request_: Any) -> None:
    assert wire.is_read(request_)


@pytest.mark.parametrize(
    "request_",
    [
        protocol.CreateRequest(path="/a"),
        protocol.Create2Request(path="/a"),
        protocol.DeleteRequest(path="/a", version=-1),
        protocol.SetDataRequest(path="/a", data=b"", version=-1),
        protocol.SetACLRequest(path="/a", acl=[], version=-1),
        protocol.TransactionRequest(),
        protocol.CloseRequest(),
        object(),
    ],
    ids=lambda request_: type(request_).__name__,
)
def test_writes(request_: Any) -> None:
    assert not wire.is_read(request_)


# Errors


@pytest.mark.parametrize("kind", [exc.NoNode, exc.NodeExists, exc.BadVersion, exc.SessionExpired, exc.NoAuth])
def test_known_errors(kind: type[exc.ResponseError]) -> None:
    error = wire.response_error(kind.error_code)
    assert type(error) is kind


def test_an_unknown_error_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    error = wire.response_error(-12345)
    assert isinstance(error, exc.UnknownError)
    assert str(error) == "Unknown error code: -12345"
    assert error.error_code == -12345
    assert capsys.readouterr() == ("", "")
