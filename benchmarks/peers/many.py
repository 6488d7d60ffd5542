"""Many elections in one process on one client, all won by it: ``--variant`` is the library, ``--election`` the folder of folders.

The number of elections is read from stdin; before them, one is won and left. It says ``took T``, when all are won, and
``memory B``, bytes for each election.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.player import Options, now, parse_options, tell


class Meter:
    """The time from here to :meth:`stop`, and the memory that was resident then and is now."""

    def __init__(self) -> None:
        gc.collect()
        self._resident = _resident()
        self._began = now()

    def stop(self, count: int) -> None:
        tell("took", now() - self._began)
        gc.collect()
        tell("memory", (_resident() - self._resident) / count)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def raw(options: Options, first: str, elections: Sequence[str]) -> None:
    from benchmarks.wire import RawClient

    with RawClient(options.hosts, options.session_timeout) as client:
        client.contend([f"{first}/n_"])
        meter = Meter()
        client.contend([f"{election}/n_" for election in elections])
        meter.stop(len(elections))


async def ours(options: Options, first: str, elections: Sequence[str]) -> None:
    import aioelect

    async with aioelect.connect(options.hosts, session_timeout=options.session_timeout) as client:
        async with aioelect.leadership(client, first):
            pass
        meter = Meter()
        candidates = await asyncio.gather(*(aioelect.Candidate.enter(client, election) for election in elections))
        await asyncio.gather(*(candidate.wait_elected() for candidate in candidates))
        meter.stop(len(elections))


async def stock(options: Options, first: str, elections: Sequence[str]) -> None:
    import aiozk

    client = aiozk.ZKClient(options.hosts, session_timeout=options.session_timeout)
    await client.start()
    recipe = client.recipes.LeaderElection(first)
    await recipe.volunteer()
    await recipe.wait_for_leadership()
    await recipe.resign()
    meter = Meter()
    recipes = [client.recipes.LeaderElection(election) for election in elections]
    await asyncio.gather(*(recipe.volunteer() for recipe in recipes))
    await asyncio.gather(*(recipe.wait_for_leadership() for recipe in recipes))
    meter.stop(len(elections))
    await client.close()


def threads(options: Options, first: str, elections: Sequence[str]) -> None:
    from kazoo.client import KazooClient

    client = KazooClient(hosts=options.hosts, timeout=options.session_timeout)
    client.start()
    client.Election(first).run(lambda: None)
    meter = Meter()
    led, leave = threading.Semaphore(0), threading.Event()

    def lead() -> None:
        led.release()
        leave.wait()

    running = [threading.Thread(target=client.Election(election).run, args=(lead,)) for election in elections]
    for thread in running:
        thread.start()
    for _ in running:
        led.acquire()
    meter.stop(len(elections))
    leave.set()
    for thread in running:
        thread.join()
    client.stop()


def main() -> None:
    options = parse_options()
    first = f"{options.election}/first"
    elections = [f"{options.election}/{number}" for number in range(int(input()))]
    match options.variant:
        case "aioelect":
            asyncio.run(ours(options, first, elections))
        case "aiozk":
            asyncio.run(stock(options, first, elections))
        case "kazoo":
            threads(options, first, elections)
        case _:
            raw(options, first, elections)


if __name__ == "__main__":
    main()
