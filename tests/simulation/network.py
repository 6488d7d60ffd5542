"""An in-memory network between named parties, with faults.

A path is one direction between two parties. While it is blocked nothing is lost: TCP sends again, so everything arrives
together when the path is open again, unless the connection has ended by then. A dropped connection is one that a middlebox has
forgotten: whatever is sent on it is gone, and neither side is told.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from aioelect.ports import Address

from .loop import Kernel, ProcessLoop

__all__ = ["Connection", "Network", "Path", "Pipe"]


class Acceptor(Protocol):
    """The server's end of a connection."""

    def received(self, data: bytes) -> None:
        """Bytes came."""

    def closed(self) -> None:
        """The other side has closed it."""


class Listener(Protocol):
    """Whoever may be dialled."""

    name: str
    reachable: bool
    """False: the host is gone, nothing answers."""

    def accept(self, connection: Connection) -> Acceptor | None:
        """The server's end, or None when nobody listens."""


class Path:
    """One direction between two parties: ``delay`` in seconds, and who blocks it."""

    def __init__(self, kernel: Kernel, source: random.Random) -> None:
        self.delay = 0.0005
        self.jitter = 0.0005
        self._kernel = kernel
        self._random = source
        self._blocks = 0
        self.pipes: dict[Pipe, None] = {}

    @property
    def blocked(self) -> bool:
        return self._blocks > 0

    def block(self) -> None:
        self._blocks += 1

    def unblock(self) -> None:
        """Everything that was held arrives together."""
        self._blocks -= 1
        if not self._blocks:
            for pipe in list(self.pipes):
                self._kernel.call_later(self.transit() / 10, pipe.flush)

    def transit(self) -> float:
        """How long the next packet takes."""
        return self.delay + self._random.random() * self.jitter


class Pipe:
    """One direction of one connection: first in, first out."""

    def __init__(self, kernel: Kernel, path: Path) -> None:
        self._kernel = kernel
        self._path = path
        self._packets: deque[Callable[[], object]] = deque()
        self._due = 0
        self._last = 0.0
        self._open = True
        path.pipes[self] = None

    def send(self, packet: Callable[[], object]) -> None:
        """``packet`` is called when it arrives, if it ever does."""
        if self._open:
            self._packets.append(packet)
            self._last = max(self._last, self._kernel.now + self._path.transit())
            self._kernel.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        self._due += 1
        self.flush()

    def flush(self) -> None:
        while self._due and self._open and not self._path.blocked:
            self._due -= 1
            self._packets.popleft()()

    def close(self) -> None:
        """What is under way is lost."""
        self._open = False
        self._packets.clear()
        self._path.pipes.pop(self, None)


class Network:
    """The paths between all parties; dials for clients."""

    def __init__(self, kernel: Kernel, source: random.Random) -> None:
        self.kernel = kernel
        self.random = source
        self.listeners: dict[str, Listener] = {}
        self.connections: dict[Connection, None] = {}
        self._paths: dict[tuple[str, str], Path] = {}

    def path(self, source: str, target: str) -> Path:
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path(self.kernel, self.random)
        return path

    def pipe(self, source: str, target: str) -> Pipe:
        return Pipe(self.kernel, self.path(source, target))

    def both_open(self, one: str, other: str) -> bool:
        """Whether two parties can talk."""
        return not (self.path(one, other).blocked or self.path(other, one).blocked)

    async def dial(self, loop: ProcessLoop, protocol: asyncio.Protocol, address: Address) -> asyncio.Transport:
        """``World.dial`` of a process. Raises ``ConnectionRefusedError``."""
        connection = Connection(self, loop, self.listeners[address[0]], protocol)
        try:
            await connection.opened
        except BaseException:
            connection.close()
            raise
        connection.made = True
        protocol.connection_made(connection)
        return connection


class Connection(asyncio.Transport):
    """The client's end: its transport. The server's end speaks through ``tell`` and ``hang_up``."""

    def __init__(self, network: Network, loop: ProcessLoop, listener: Listener, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.client, self.server = loop.name, listener.name
        self.made = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self._network = network
        self._loop = loop
        self._listener = listener
        self._protocol = protocol
        self._acceptor: Acceptor | None = None
        self._up = network.pipe(loop.name, listener.name)
        self._down = network.pipe(listener.name, loop.name)
        self._closing = False
        self._hung_up = False
        self._incoming = bytearray()
        self._paused = False
        network.connections[self] = None
        self._up.send(self._knock)

    def _knock(self) -> None:
        if not self._listener.reachable:
            return
        self._acceptor = self._listener.accept(self)
        self._down.send(partial(self._loop.post, self._answered, self._acceptor is not None))

    def _answered(self, accepted: bool) -> None:
        if not self.opened.done():
            if accepted:
                self.opened.set_result(None)
            else:
                self.opened.set_exception(ConnectionRefusedError(f"nobody listens at {self.server}"))

    def drop(self) -> None:
        """A middlebox forgets the connection; nobody is told."""
        self._up.close()
        self._down.close()
        self._network.connections.pop(self, None)

    # The server's end.

    def tell(self, data: bytes) -> None:
        if not self._hung_up:
            self._down.send(partial(self._deliver, data))

    def hang_up(self) -> None:
        """The server closes it."""
        if not self._hung_up:
            self._hung_up = True
            self._down.send(partial(self._loop.post, self._ended))

    def _deliver(self, data: bytes) -> None:
        if not self._incoming:
            self._loop.post(self._read)
        self._incoming += data

    # The client's end.

    def _read(self) -> None:
        if self._incoming and not self._paused and not self._closing:
            data, self._incoming = bytes(self._incoming), bytearray()
            self._protocol.data_received(data)

    def _ended(self) -> None:
        if not self._closing:
            self._read()
        if not self._closing:
            self._protocol.eof_received()
            self.close()

    def write(self, data: Any) -> None:
        if not self._closing and self._acceptor is not None:
            self._up.send(partial(self._acceptor.received, bytes(data)))

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._up.send(self._leave)
        if self.made:
            self._loop.call_soon(self._protocol.connection_lost, None)

    def _leave(self) -> None:
        if self._acceptor is not None:
            self._acceptor.closed()
        self.drop()

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._read)
