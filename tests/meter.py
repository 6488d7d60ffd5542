"""A relay in front of one server that weighs the frames that pass. It needs no socket: it works on virtual time as well."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple, Self, cast

from aioelect.testing.proxy import CREATE_SESSION, FrameSplitter

__all__ = ["EVENT", "KEEPING", "Frame", "Meter"]

EVENT, PING, MULTI, CLOSE = 0, 11, 14, -11
"""Opcodes; nothing on the wire has that of a watch event."""

KEEPING = frozenset({CREATE_SESSION, PING, MULTI, CLOSE})
"""What keeps sessions and leases, at times of its own."""


class Frame(NamedTuple):
    """A request, its answer, or an event; ``size`` in bytes, with the length in front."""

    opcode: int
    up: bool
    size: int


class Meter:
    """An async context manager; ``frames``: all that passed, oldest first, on whatever connection."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.frames: list[Frame] = []
        self.sides: set[asyncio.Transport] = set()
        self.dialling: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0)
        await self._server.start_serving()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self.dialling:
            await asyncio.wait(self.dialling)
        for side in list(self.sides):
            side.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn

    @property
    def hosts(self) -> str:
        """Where its clients connect."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def work(self) -> list[Frame]:
        """What passed, but for what keeps sessions and leases."""
        return [frame for frame in self.frames if frame.opcode not in KEEPING]


class _Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.other: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.greeted = False
        self.frames = FrameSplitter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.meter.sides.add(self.transport)

    def data_received(self, data: bytes) -> None:
        for frame in self.frames.feed(data):
            opcode = self.read(*struct.unpack_from(">ii", frame, 4)) if self.greeted else CREATE_SESSION
            self.meter.frames.append(Frame(opcode, isinstance(self, _Client), len(frame)))
            self.greeted = True
        if self.other is None:
            self.early.append(data)
        else:
            self.other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.meter.sides.discard(self.transport)
        if self.other is not None:
            self.other.close()

    def read(self, xid: int, opcode: int) -> int:
        """The opcode of a frame that begins like this."""
        raise NotImplementedError


class _Client(_Side):
    """The side of the client."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self.asked: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        dialling = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(lambda: _Server(self), *self.meter.target)
        )
        self.meter.dialling.add(dialling)
        dialling.add_done_callback(self.meter.dialling.discard)

    def read(self, xid: int, opcode: int) -> int:
        self.asked[xid] = opcode
        return opcode


class _Server(_Side):
    """The side of the server."""

    def __init__(self, client: _Client) -> None:
        super().__init__(client.meter)
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other, self.client.other = self.client.transport, self.transport
        self.transport.write(b"".join(self.client.early))

    def read(self, xid: int, opcode: int) -> int:
        return EVENT if xid == -1 else self.client.asked[xid]
