"""A TCP proxy that harms connections on demand, and knows ZooKeeper's frames.

`FaultProxy` stands between a client and one server. Every fault is a synchronous call on the proxy, made
from the event loop it runs in, and takes effect at once for the connections that are open and for those to
come. Bytes that go from the client to the server travel "up", the others "down".

Unless it is `raw`, the proxy reads the frames that pass: it logs the requests, and it can lose one reply or
one request of a chosen opcode, which no fault of a mere byte pipe can aim at.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, cast

__all__ = ["CREATE_SESSION", "Direction", "Ending", "FaultProxy", "FrameSplitter", "Request"]

Direction = Literal["up", "down"]
"""Client to server, or server to client."""

Ending = Literal["fin", "rst", "half", "silence"]
"""What becomes of a connection whose frame was lost: closed, reset, closed after the first half of the frame,
or left open with nothing more delivered in the frame's direction."""

CREATE_SESSION: Final = -10
"""The opcode under which the connect request counts, which has none on the wire (ZooKeeper's `OpCode`)."""

_MAX_FRAME: Final = 64 * 2**20
_HELD_MAX: Final = 2**20
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Request(NamedTuple):
    """A request seen on its way up: CLOCK_MONOTONIC seconds, opcode, xid."""

    time: float
    opcode: int
    xid: int


class FrameSplitter:
    """Cuts a byte stream into ZooKeeper frames, each with its length of four bytes in front.

    A stream whose next length is impossible is no ZooKeeper session but, say, a four-letter word: from there
    on it is handed on as it comes.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self.framed = True

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that is not complete yet."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes; without framing, all there is in one piece."""
        self._rest += data
        frames: list[bytes] = []
        while self.framed and len(self._rest) >= 4:
            length = int.from_bytes(self._rest[:4], "big", signed=True)
            if not 0 <= length <= _MAX_FRAME:
                self.framed = False
            elif len(self._rest) < 4 + length:
                break
            else:
                frames.append(bytes(self._rest[: 4 + length]))
                del self._rest[: 4 + length]
        if not self.framed and self._rest:
            frames.append(bytes(self._rest))
            self._rest.clear()
        return frames


@dataclass(eq=False, slots=True)
class _Loss:
    """An order to lose frames of one opcode."""

    opcode: int
    direction: Direction
    then: Ending
    to_assign: int
    to_happen: int
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def carried_out(self) -> None:
        self.to_happen -= 1
        if self.to_happen == 0:
            self.happened.set()


@dataclass(eq=False, slots=True)
class _Exchange:
    """A request and, later, its reply."""

    opcode: int
    xid: int
    loss: _Loss | None = None


class _Conversation:
    """Pairs the replies of one connection with its requests.

    Xids repeat (every ping has -2), and auth packets may be answered out of turn: a reply belongs to the
    oldest unanswered request of its xid.
    """

    def __init__(self) -> None:
        self._connecting = True
        self._answered = False
        self._unanswered: deque[_Exchange] = deque()

    def read_request(self, frame: bytes) -> _Exchange | None:
        """What `frame` asks; None when it is too short to be a request."""
        if self._connecting:
            self._connecting = False
            return _Exchange(CREATE_SESSION, 0)
        if len(frame) < 12:
            return None
        xid, opcode = struct.unpack_from(">ii", frame, 4)
        return _Exchange(opcode, xid)

    def await_reply(self, exchange: _Exchange) -> None:
        self._unanswered.append(exchange)

    def read_reply(self, frame: bytes) -> _Exchange | None:
        """The exchange that `frame` answers; None for a watch event."""
        if not self._answered:
            self._answered = True
            xid = 0
        else:
            xid = int.from_bytes(frame[4:8], "big", signed=True)
        for exchange in self._unanswered:
            if exchange.xid == xid:
                self._unanswered.remove(exchange)
                return exchange
        return None


class _End(Enum):
    """How a stream ends; travels through the lanes behind the bytes."""

    EOF = "the sender has shut its side down"
    FIN = "close both sides"
    RST = "reset both sides"


@dataclass(slots=True)
class _Faults:
    """What the proxy does to one direction of all its connections."""

    frozen: bool = False
    dropping: bool = False
    delay: float = 0.0


class _Lane:
    """One direction of a connection: bytes and endings, in order, on their way to the sink."""

    def __init__(self, link: "_Link", faults: _Faults, source: "_Side", sink: "_Side") -> None:
        self._link = link
        self._faults = faults
        self._source = source
        self._sink = sink
        self._queue: deque[tuple[float, bytes | _End]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sink_is_full = False
        self.ended = False

    def put(self, item: bytes | _End) -> None:
        if isinstance(item, bytes):
            self._held += len(item)
        self._queue.append((self._link.loop.time() + self._faults.delay, item))
        self.flush()

    def flush(self) -> None:
        """Deliver what may be delivered now."""
        while self._queue and not self._faults.frozen and self._sink.transport is not None:
            due, item = self._queue[0]
            if due > self._link.loop.time():
                self._wake_at(due)
                break
            if self._faults.dropping and isinstance(item, _End):
                break
            self._queue.popleft()
            if isinstance(item, _End):
                self._end(item)
            else:
                self._held -= len(item)
                if not self._faults.dropping and not self._sink.transport.is_closing():
                    self._sink.transport.write(item)
        self._regulate()

    def _wake_at(self, due: float) -> None:
        if self._timer is None:
            self._timer = self._link.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()

    def _end(self, end: _End) -> None:
        self.ended = True
        if end is _End.EOF:
            self._link.pass_eof(self._sink)
        else:
            self._link.close(reset=end is _End.RST)

    def sink_is_full(self, full: bool) -> None:
        self._sink_is_full = full
        self._regulate()

    def _regulate(self) -> None:
        transport = self._source.transport
        if transport is None or transport.is_closing():
            return
        if self._sink_is_full or self._held > _HELD_MAX:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def discard(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()


class _Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, link: "_Link", inbound: Direction) -> None:
        self._link = link
        self._inbound: Direction = inbound
        self.transport: asyncio.Transport | None = None

    @property
    def _inlet(self) -> _Lane:
        return self._link.lanes[self._inbound]

    @property
    def _outlet(self) -> _Lane:
        return self._link.lanes["down" if self._inbound == "up" else "up"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._link.side_is_up(self)

    def data_received(self, data: bytes) -> None:
        self._link.receive(self._inbound, data)

    def eof_received(self) -> bool:
        self._link.receive_end(self._inbound, _End.EOF)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.receive_end(self._inbound, _End.RST)

    def pause_writing(self) -> None:
        self._outlet.sink_is_full(True)

    def resume_writing(self) -> None:
        self._outlet.sink_is_full(False)


class _Link:
    """One connection through the proxy: two sockets, and a lane in each direction."""

    def __init__(self, proxy: "FaultProxy") -> None:
        self.loop = asyncio.get_running_loop()
        self.client = _Side(self, "up")
        self._server = _Side(self, "down")
        self.lanes: dict[Direction, _Lane] = {
            "up": _Lane(self, proxy._faults["up"], self.client, self._server),
            "down": _Lane(self, proxy._faults["down"], self._server, self.client),
        }
        self._proxy = proxy
        self._rewrite_first = proxy._rewrite_first
        self._frames: dict[Direction, FrameSplitter] = {"up": FrameSplitter(), "down": FrameSplitter()}
        self._conversation = _Conversation()
        self._silent: set[Direction] = set()
        self._source_ended: set[Direction] = set()
        self._dialing: asyncio.Task[None] | None = None
        self._closed = False

    def side_is_up(self, side: _Side) -> None:
        if self._closed:
            self._close(side, reset=True)
        elif side is self.client:
            self._proxy._admit(self)
        else:
            self.lanes["up"].flush()

    def dial(self) -> None:
        """Connect to the server, unless that is done or under way."""
        if self._dialing is None:
            self._dialing = self.loop.create_task(self._dial())

    async def _dial(self) -> None:
        host, port = self._proxy._target
        try:
            await self.loop.create_connection(lambda: self._server, host, port)
        except OSError:
            self.close(reset=True)

    def reset_unless_dialed(self) -> None:
        if self._dialing is None:
            self.close(reset=True)

    def thaw(self) -> None:
        """Deliver what was held, if the faults allow it now."""
        if self._dialing is None and self._proxy._passes_connects:
            if self._source_ended:  # the client gave up before its first packet got through
                self.close(reset=True)
                return
            self.dial()
        for lane in self.lanes.values():
            lane.flush()

    def receive(self, direction: Direction, data: bytes) -> None:
        if self._rewrite_first is not None and direction == "up":
            data, self._rewrite_first = self._rewrite_first(data), None
        if self._proxy._raw:
            self.lanes[direction].put(data)
            return
        passed = bytearray()
        end: _End | None = None
        for frame in self._frames[direction].feed(data):
            if direction in self._silent:
                break
            loss = self._loss_of(direction, frame)
            if loss is None:
                passed += frame
            else:
                self._silent.add(direction)
                if loss.then == "half":
                    passed += frame[: len(frame) // 2]
                end = {"fin": _End.FIN, "half": _End.FIN, "rst": _End.RST, "silence": None}[loss.then]
                loss.carried_out()
        if passed:
            self.lanes[direction].put(bytes(passed))
        if end is not None:
            self.lanes[direction].put(end)

    def _loss_of(self, direction: Direction, frame: bytes) -> _Loss | None:
        """The order under which `frame` is to be lost; takes note of it otherwise."""
        if not self._frames[direction].framed:
            return None
        if direction == "down":
            answered = self._conversation.read_reply(frame)
            return None if answered is None else answered.loss
        exchange = self._conversation.read_request(frame)
        if exchange is None:
            return None
        loss = self._proxy._observe(exchange)
        if loss is not None and loss.direction == "up":
            return loss
        exchange.loss = loss
        self._conversation.await_reply(exchange)
        return None

    def receive_end(self, direction: Direction, end: _End) -> None:
        if self._closed:
            return
        self._source_ended.add(direction)
        rest = self._frames[direction].rest
        if rest and direction not in self._silent:
            self.lanes[direction].put(rest)
        self.lanes[direction].put(end)

    def pass_eof(self, sink: _Side) -> None:
        """Shut `sink` down for writing; close the link when that was the second half."""
        if all(lane.ended for lane in self.lanes.values()):
            self.close()
        elif sink.transport is not None and not sink.transport.is_closing():
            with contextlib.suppress(OSError):  # it was reset meanwhile, and will say so
                sink.transport.write_eof()

    def close(self, *, reset: bool = False) -> None:
        """End both sockets, with FIN or with RST; what is still held is discarded. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._proxy._links.discard(self)
        for lane in self.lanes.values():
            lane.discard()
        self._close(self.client, reset)
        if self._server.transport is not None:
            self._close(self._server, reset)
        elif self._dialing is not None and self._dialing is not asyncio.current_task(self.loop):
            self._dialing.cancel()

    def _close(self, side: _Side, reset: bool) -> None:
        transport = side.transport
        if transport is None:
            return
        if reset:
            # Closing with no time to linger makes the kernel send RST (socket(7), SO_LINGER).
            if not transport.is_closing():
                sock: socket.socket = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()


class FaultProxy:
    """A proxy on a free loopback port in front of the one server `target`, "host:port".

    An async context manager; bound to the event loop it was entered in. All faults last until `heal`, except
    for the one-off `sever` and `reset`.

    Args:
        target: the server.
        raw: relay bytes without reading frames: for links that carry no ZooKeeper session, or TLS.
        on_frame: called with each `Request`, before it is passed on.
        rewrite_first: replaces the first bytes that a client sends on a connection.
    """

    def __init__(
        self,
        target: str,
        *,
        raw: bool = False,
        on_frame: Callable[[Request], object] | None = None,
        rewrite_first: Callable[[bytes], bytes] | None = None,
    ) -> None:
        host, _, port = target.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"target {target!r} is not one server; give it as 'host:port'")
        self._target = (host, int(port))
        self._raw = raw
        self._on_frame = on_frame
        self._rewrite_first = rewrite_first
        self._faults: dict[Direction, _Faults] = {"up": _Faults(), "down": _Faults()}
        self._refusing = False
        self._swallowing_connects = False
        self._losses: list[_Loss] = []
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self.connections = 0
        """Connections accepted so far, refused ones included."""
        self.requests: list[Request] = []
        """The requests seen so far, oldest first; a connect request has opcode `CREATE_SESSION`, xid 0."""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Link(self).client, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            self.reset()
            await self._listener.wait_closed()
            await asyncio.sleep(0)  # lets the aborted transports close their sockets

    @property
    def port(self) -> int:
        """The port that clients connect to.

        Raises:
            RuntimeError: the proxy does not listen.
        """
        if self._listener is None or not self._listener.sockets:
            raise RuntimeError("the proxy does not listen; enter it with 'async with' first")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def hosts(self) -> str:
        """The hosts string that leads clients through the proxy."""
        return f"127.0.0.1:{self.port}"

    # Faults of whole connections.

    def sever(self) -> None:
        """Close the open connections with FIN; new ones are served."""
        for link in tuple(self._links):
            link.close()

    def reset(self) -> None:
        """Reset (RST) the open connections; new ones are served."""
        for link in tuple(self._links):
            link.close(reset=True)

    def refuse(self) -> None:
        """Close new connections (FIN) as soon as they are accepted; open ones go on."""
        self._refusing = True

    def cut(self) -> None:
        """`sever`, and `refuse` new ones."""
        self.refuse()
        self.sever()

    def blackhole(self) -> None:
        """Swallow everything, in both directions; accept new connections and never answer them."""
        self._swallowing_connects = True
        self.drop()

    # Faults of a direction; None means both.

    def freeze(self, direction: Direction | None = None) -> None:
        """Hold all bytes and endings back, and (upwards) new connections, until `thaw`."""
        for faults in self._directions(direction):
            faults.frozen = True

    def thaw(self, direction: Direction | None = None) -> None:
        """Release all at once what `freeze` held back."""
        for faults in self._directions(direction):
            faults.frozen = False
        for link in tuple(self._links):
            link.thaw()

    def drop(self, direction: Direction | None = None) -> None:
        """Swallow bytes; endings are held back until `heal`."""
        for faults in self._directions(direction):
            faults.dropping = True

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Deliver everything that comes from now on `seconds` later, in order."""
        for faults in self._directions(direction):
            faults.delay = seconds

    # Faults of a frame.

    def lose_reply(self, opcode: int, *, then: Ending = "fin", count: int = 1) -> asyncio.Event:
        """Let the next `count` requests with `opcode` be carried out, but lose their replies.

        Returns:
            An event, set when the last of these replies has been withheld.
        """
        return self._lose(opcode, "down", then, count)

    def lose_request(self, opcode: int, *, then: Ending = "fin", count: int = 1) -> asyncio.Event:
        """Lose the next `count` requests with `opcode` before they reach the server.

        Returns:
            An event, set when the last of these requests has been withheld.
        """
        return self._lose(opcode, "up", then, count)

    def heal(self) -> None:
        """Be transparent again: end all faults, forget losses that have not happened.

        Connections that a `blackhole` accepted are reset, since no server knows of them.
        """
        self._refusing = False
        self._losses.clear()
        if self._swallowing_connects:
            self._swallowing_connects = False
            for link in tuple(self._links):
                link.reset_unless_dialed()
        for faults in self._faults.values():
            faults.frozen = faults.dropping = False
            faults.delay = 0.0
        self.thaw()

    def _directions(self, direction: Direction | None) -> Iterable[_Faults]:
        return self._faults.values() if direction is None else (self._faults[direction],)

    def _lose(self, opcode: int, direction: Direction, then: Ending, count: int) -> asyncio.Event:
        if self._raw:
            raise ValueError("a raw proxy reads no frames and can't lose one; make it without raw=True")
        if count < 1:
            raise ValueError(f"count is {count}; at least one frame must be lost")
        loss = _Loss(opcode, direction, then, to_assign=count, to_happen=count)
        self._losses.append(loss)
        return loss.happened

    @property
    def _passes_connects(self) -> bool:
        return not (self._faults["up"].frozen or self._swallowing_connects)

    def _admit(self, link: _Link) -> None:
        """Decide what becomes of a connection just accepted."""
        self.connections += 1
        if self._refusing:
            link.close()
            return
        self._links.add(link)
        if self._passes_connects:
            link.dial()

    def _observe(self, exchange: _Exchange) -> _Loss | None:
        """Log a request; the order under which it or its reply is to be lost, if there is one."""
        request = Request(time.monotonic(), exchange.opcode, exchange.xid)
        self.requests.append(request)
        if self._on_frame is not None:
            self._on_frame(request)
        for loss in self._losses:
            if loss.opcode == exchange.opcode:
                loss.to_assign -= 1
                if loss.to_assign == 0:
                    self._losses.remove(loss)
                return loss
        return None
