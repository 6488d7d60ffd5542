"""A proxy that counts the frames that pass."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import astuple, dataclass, replace
from typing import Self, cast

from aioelect.testing.proxy import FrameSplitter

__all__ = ["Count", "Relay"]

QUIET = 0.2
"""Seconds without a frame after which nothing more is expected."""


@dataclass(frozen=True, slots=True)
class Count:
    """``requests`` and ``answers`` are frames: pings, and events of watches, count among them."""

    requests: int = 0
    answers: int = 0
    bytes: int = 0

    def __sub__(self, other: Count) -> Count:
        return Count(*(mine - yours for mine, yours in zip(astuple(self), astuple(other), strict=True)))


class Relay:
    """In front of one server, in a thread of its own. A context manager."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.count = Count()
        self.last_frame = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._sides: set[asyncio.Transport] = set()
        self._dialling: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        listening = self._loop.create_server(lambda: _Client(self), "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for side in list(self._sides):
            side.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def wait_quiet(self, at_least: int = 0, within: float = 60.0) -> None:
        """Returns when that many requests have passed, and then nothing for a while."""
        end = time.monotonic() + within
        while self.count.requests < at_least or time.monotonic() < self.last_frame + QUIET:
            if time.monotonic() > end:
                raise TimeoutError(f"the connection was not quiet within {within:g} s")
            time.sleep(0.01)

    def passed(self, up: bool, frames: int, size: int) -> None:
        self.last_frame = time.monotonic()
        self.count = replace(
            self.count,
            requests=self.count.requests + (frames if up else 0),
            answers=self.count.answers + (0 if up else frames),
            bytes=self.count.bytes + size,
        )

    def connected(self, client: _Client) -> None:
        task = self._loop.create_task(self._dial(client))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, client: _Client) -> None:
        await self._loop.create_connection(lambda: _Server(self, client), *self._target)


class _Side(asyncio.Protocol):
    def __init__(self, relay: Relay, up: bool) -> None:
        self._relay = relay
        self._up = up
        self._frames = FrameSplitter()
        self._early: list[bytes] = []
        self.other: _Side | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._relay._sides.add(self.transport)

    def data_received(self, data: bytes) -> None:
        self._relay.passed(self._up, len(self._frames.feed(data)), len(data))
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._relay._sides.discard(self.transport)
        if self.other is not None:
            self.other.transport.close()

    def join(self, other: _Side) -> None:
        self.other = other
        other.transport.writelines(self._early)


class _Client(_Side):
    def __init__(self, relay: Relay) -> None:
        super().__init__(relay, up=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.connected(self)


class _Server(_Side):
    def __init__(self, relay: Relay, client: _Client) -> None:
        super().__init__(relay, up=False)
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.join(self._client)
        self._client.join(self)
