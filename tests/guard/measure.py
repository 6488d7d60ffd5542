"""How long it takes from the death of a leader to the first line of its successor: ``python -m tests.guard.measure``.

With a guard and without one, on one server and on an ensemble of three.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys

import aioelect
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.guard.guarded import guarded, rss, successor


async def take_over(hosts: str, session_timeout: float, guard: str, kills: int) -> list[float]:
    """Seconds for each kill."""
    took: list[float] = []
    sizes: list[float] = []
    async with aioelect.connect(hosts, session_timeout=session_timeout) as client:
        for number in range(kills):
            election = f"/measure-{guard}-{session_timeout:g}-{number}"
            async with guarded(hosts, election, session_timeout, guard) as program:
                if pid := await program.leads():
                    sizes.append(rss(pid))
                async with successor(client, election) as next_one:
                    at = program.kill()
                    took.append(await next_one.led(3 * session_timeout) - at)
    if sizes:
        print(f"{'':42} guard's RSS {max(sizes):.1f} MB")
    return took


async def measure(hosts: str, name: str, session_timeout: float, kills: int, without: int) -> None:
    for guard, count in (("yes", kills), ("strict", kills // 5), ("no", without)):
        if count:
            took = [1000 * seconds for seconds in await take_over(hosts, session_timeout, guard, count)]
            print(
                f"{name:10} T = {session_timeout:2g} s, guard: {guard:6} {count:3} kills: "
                f"median {statistics.median(took):8.1f} ms, worst {max(took):8.1f} ms",
                flush=True,
            )


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--without", type=int, default=5, help="kills without a guard, at 10 s")
    parser.add_argument("--only", choices=["standalone", "ensemble"])
    options = parser.parse_args()
    if options.only != "ensemble":
        async with ZooKeeperServer(tick_time=2.0, max_session_timeout=60) as server:
            await measure(server.hosts, "standalone", 10, options.kills, options.without)
            await measure(server.hosts, "standalone", 60, options.kills, 0)
    if options.only != "standalone":
        async with ZooKeeperEnsemble(tick_time=2.0, max_session_timeout=60) as ensemble:
            await measure(ensemble.hosts, "ensemble", 10, options.kills, options.without)
            await measure(ensemble.hosts, "ensemble", 60, options.kills, 0)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
