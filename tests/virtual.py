"""Virtual time: an event loop whose clock jumps to the next timer when nothing is ready, and a network in memory.

``run(main())`` runs code that knows nothing of this: ``create_connection`` and ``create_server`` of the loop lead to each other.
A connection delivers in order after ``LATENCY`` seconds, as long as the loop's ``Network`` lets it.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

__all__ = ["Network", "VirtualLoop", "network", "run"]

T = TypeVar("T")

LATENCY = 0.001


class Network:
    """What happens to connections: a port may be dark (nothing gets through, nobody is told) or closed (refuses at once)."""

    def __init__(self) -> None:
        self.dark: set[int] = set()
        self.dials: list[tuple[float, int]] = []
        """When which port was dialled."""


class _Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: VirtualLoop, protocol: asyncio.Protocol, port: int) -> None:
        super().__init__()
        self.peer: _Transport
        self._loop = loop
        self._protocol = protocol
        self._port = port
        self._closing = False
        self._paused: list[Callable[[], None]] | None = None
        self._is_cut = False
        self._under_way: deque[Callable[[], None]] = deque()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._send(self.peer._receive, bytes(data))

    def _send(self, what: Callable[..., None], *args: Any) -> None:
        self._is_cut = self._is_cut or self._port in self._loop.network.dark
        if not self._is_cut:  # a stream with a hole ends there
            self._under_way.append(partial(what, *args))
            self._loop.call_later(LATENCY, self._arrive)

    def _arrive(self) -> None:
        """What was sent first: timers of one instant come in any order."""
        self._under_way.popleft()()

    def _receive(self, data: bytes) -> None:
        if self._paused is not None:
            self._paused.append(lambda: self._receive(data))
        elif not self._closing:
            self._protocol.data_received(data)

    def _receive_end(self) -> None:
        if self._paused is not None:
            self._paused.append(self._receive_end)
        elif not self._closing:
            self._protocol.eof_received()
            self.close()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(self.peer._receive_end)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        if self._paused is None:
            self._paused = []

    def resume_reading(self) -> None:
        held, self._paused = self._paused or [], None
        for arrival in held:
            arrival()


class _Socket:
    def __init__(self, port: int) -> None:
        self._port = port

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port


class _Server:
    """Listens on a port while it serves."""

    def __init__(self, loop: VirtualLoop, factory: Callable[[], asyncio.Protocol], port: int) -> None:
        self.sockets = [_Socket(port)]
        self._loop, self._factory, self._port = loop, factory, port

    async def start_serving(self) -> None:
        self._loop.listening[self._port] = self._factory

    def close(self) -> None:
        self._loop.listening.pop(self._port, None)

    async def wait_closed(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """Never waits: where it would, time goes on at once."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()
        self._selector = self  # asked by BaseEventLoop._run_once how long it may wait
        self.network = Network()
        self.listening: dict[int, Callable[[], asyncio.Protocol]] = {}

    def time(self) -> float:
        return self._now

    def block(self, seconds: float) -> None:
        """As code that does not await for so long."""
        self._now += seconds

    def select(self, timeout: float | None) -> list[object]:
        """Waits for input, of which there is none: all arrivals are timers."""
        if timeout is None:
            raise RuntimeError("everything waits for something that will never happen")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[object]) -> None:
        pass

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return _Server(self, protocol_factory, port or 20_000 + len(self.listening))

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        self.network.dials.append((self._now, port))
        await asyncio.sleep(2 * LATENCY)
        if port in self.network.dark:
            await asyncio.Event().wait()
        if port not in self.listening:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on port {port}")
        protocol = protocol_factory()
        ours = _Transport(self, protocol, port)
        theirs = _Transport(self, self.listening[port](), port)
        ours.peer, theirs.peer = theirs, ours
        theirs._protocol.connection_made(theirs)
        protocol.connection_made(ours)
        return ours, protocol


def network() -> Network:
    """Of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.network


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run``, on virtual time that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
