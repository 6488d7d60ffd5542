"""The same as the floor, in an ``asyncio.Protocol``: what an event loop costs."""

from __future__ import annotations

import asyncio
from typing import cast

from benchmarks.peers.player import Commands, Options, now, parse_options, tell
from benchmarks.wire import Contest, connect_frame, ping_frame


class Player(asyncio.Protocol):
    def __init__(self, options: Options) -> None:
        self._options = options
        self._begun = 0.0
        self.opened = asyncio.Event()
        self.contest = Contest(options.election, self._opened, lambda: tell("leads", now()), self._left)

    def _opened(self) -> None:
        tell("ready")
        self.opened.set()

    def _left(self) -> None:
        tell("left", self._begun)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(connect_frame(self._options.session_timeout))

    def data_received(self, data: bytes) -> None:
        if answer := self.contest.receive(data):
            self._transport.write(answer)

    def join(self) -> None:
        self._transport.write(self.contest.join())

    def leave(self) -> None:
        frame = self.contest.leave()
        self._begun = now()
        self._transport.write(frame)

    def ping(self) -> None:
        self._transport.write(ping_frame())


async def run(options: Options) -> None:
    loop = asyncio.get_running_loop()
    host, _, port = options.hosts.partition(",")[0].rpartition(":")
    _, player = await loop.create_connection(lambda: Player(options), host, int(port))
    commands, over = Commands(), asyncio.Event()

    def obey() -> None:
        words = commands.read()
        if words is None:
            loop.remove_reader(0)
            over.set()
        for word in words or ():
            player.join() if word == "join" else player.leave()

    await player.opened.wait()
    loop.add_reader(0, obey)
    while not over.is_set():
        try:
            await asyncio.wait_for(over.wait(), options.session_timeout / 3)
        except TimeoutError:
            player.ping()


if __name__ == "__main__":
    asyncio.run(run(parse_options()))
