"""aioelect: ``async with aioelect.leadership(...)``. Variants: ``uvloop`` and ``guard``."""

from __future__ import annotations

import asyncio

import aioelect
from benchmarks.peers.player import Options, now, parse_options, tell
from benchmarks.peers.tasks import play


async def run(options: Options) -> None:
    guard = options.variant == "guard"
    async with aioelect.connect(options.hosts, session_timeout=options.session_timeout, guard=guard) as client:

        async def turn(leave: asyncio.Event) -> None:
            async with aioelect.leadership(client, options.election):
                tell("leads", now())
                await leave.wait()
                begun = now()
            tell("left", begun)

        await play(turn)


def main() -> None:
    options = parse_options()
    if options.variant == "uvloop":
        import uvloop

        uvloop.run(run(options))
    else:
        asyncio.run(run(options))


if __name__ == "__main__":
    main()
