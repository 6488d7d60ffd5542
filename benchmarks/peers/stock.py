"""aiozk's own client and ``LeaderElection``: volunteer, wait for leadership, resign; a new recipe for each turn, since one that
has led before does not wait again."""

from __future__ import annotations

import asyncio

import aiozk

from benchmarks.peers.player import Options, now, parse_options, tell
from benchmarks.peers.tasks import play


async def run(options: Options) -> None:
    client = aiozk.ZKClient(options.hosts, session_timeout=options.session_timeout)
    await client.start()

    async def turn(leave: asyncio.Event) -> None:
        election = client.recipes.LeaderElection(options.election)
        await election.volunteer()
        await election.wait_for_leadership()
        tell("leads", now())
        await leave.wait()
        begun = now()
        await election.resign()
        tell("left", begun)

    await play(turn)
    await client.close()


if __name__ == "__main__":
    asyncio.run(run(parse_options()))
