"""How long it takes from the death of a leader to the first line of its successor: ``python -m tests.guard.measure``.

With a guard and without one, on one server and on an ensemble of three, with TLS and with credentials that the servers demand.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import aioelect
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.guard.guarded import Guarded, guarded, rss, successor
from tests.zookeeper.certificates import Authority

USER = ("guarded", "secret")
JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required user_guarded="secret";
};
"""
DEMANDING = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl,digest"}


class Way(NamedTuple):
    """How clients talk to the servers."""

    encrypted: bool = False
    auth: type[aioelect.Digest | aioelect.SaslDigestMd5] | None = None

    def __str__(self) -> str:
        said = ["TLS" if self.encrypted else "", self.auth.__name__ if self.auth else ""]
        return " and ".join(filter(None, said)) or "plain"


WAYS = (
    Way(),
    Way(encrypted=True),
    Way(auth=aioelect.Digest),
    Way(auth=aioelect.SaslDigestMd5),
    Way(encrypted=True, auth=aioelect.SaslDigestMd5),
)
WARM_UP = 5
"""Kills that don't count: a new server compiles its code as it goes, most of all that of TLS."""

numbers = itertools.count()

SERVERS = ("standalone", "ensemble")
TIMEOUTS = (10, 60)


class Scene:
    """Servers, and how to connect to them in this process and in a guarded one."""

    def __init__(self, servers: str, way: Way, folder: Path) -> None:
        authority = Authority(folder)
        signed = authority.sign("guarded@localhost")
        make: Any = ZooKeeperEnsemble if servers == "ensemble" else ZooKeeperServer
        self._way = way
        self._files = (authority.ca, signed.cert, signed.key)
        self.servers: ZooKeeperServer | ZooKeeperEnsemble = make(
            tick_time=2.0,
            max_session_timeout=60,
            tls=authority.server_tls() if way.encrypted else None,
            jaas=JAAS if way.auth else None,
            config=DEMANDING if way.auth else None,
        )

    @property
    def hosts(self) -> str:
        members = self.servers.members if isinstance(self.servers, ZooKeeperEnsemble) else [self.servers]
        return ",".join(member.secure_hosts if self._way.encrypted else member.hosts for member in members)

    def connect(self, session_timeout: float) -> AbstractAsyncContextManager[aioelect.Client]:
        auth = self._way.auth(*USER) if self._way.auth else ()
        tls: dict[str, Any] = {}
        if self._way.encrypted:
            tls = {"ssl": True, **dict(zip(("ssl_ca", "ssl_cert", "ssl_key"), self._files, strict=True))}
        return aioelect.connect(self.hosts, session_timeout=session_timeout, auth=auth, **tls)

    @property
    def options(self) -> list[str]:
        """Of ``tests.guard.program``."""
        auth = ["--auth", self._way.auth.__name__, "--user", *USER] if self._way.auth else []
        return [*auth, *(["--tls", *map(str, self._files)] if self._way.encrypted else [])]


async def kill(program: Guarded) -> float:
    return program.kill()


async def block(program: Guarded) -> float:
    """Its event loop, until the strict guard kills it."""
    program.order("block")
    await program.process.wait()
    return time.monotonic()


class End(NamedTuple):
    """How a leader ends."""

    guard: str
    die: Callable[[Guarded], Awaitable[float]]
    """Returns when it is dead, and says since when."""


ENDS = {
    "kill -9": End("yes", kill),
    "kill -9, strict": End("strict", kill),
    "blocked, strict": End("strict", block),
    "kill -9, no guard": End("no", kill),
}


class Taken(NamedTuple):
    """What was measured, in seconds and megabytes."""

    over: list[float]
    """From each death to the first line of the successor."""

    to_die: list[float]
    size: float
    """The largest guard's RSS."""


async def take_over(scene: Scene, session_timeout: float, end: str, times: int) -> Taken:
    guard, die = ENDS[end]
    taken = Taken([], [], 0.0)
    async with scene.connect(session_timeout) as client:
        for _ in range(times):
            election = f"/measure-{next(numbers)}"
            async with guarded(scene.hosts, election, session_timeout, guard, *scene.options) as program:
                if pid := await program.leads():
                    taken = taken._replace(size=max(taken.size, rss(pid)))
                async with successor(client, election) as next_one:
                    began = time.monotonic()
                    died = await die(program)
                    taken.to_die.append(died - began)
                    taken.over.append(await next_one.led(3 * session_timeout) - died)
    return taken


async def measure(servers: str, way: Way, timeouts: list[int], end: str, times: int) -> None:
    """Prints rows of a table in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(servers, way, Path(folder))
        async with scene.servers:
            await take_over(scene, timeouts[0], "kill -9", WARM_UP)
            for session_timeout in timeouts:
                taken = await take_over(scene, session_timeout, end, times)
                took = [1000 * seconds for seconds in taken.over]
                facts = [servers, way, f"{session_timeout} s", end, times]
                facts += [f"{statistics.median(took):.0f} ms", f"{max(took):.0f} ms", f"{taken.size:.1f} MB"]
                facts += [f"{max(taken.to_die):.1f} s"]
                print(f"| {' | '.join(map(str, facts))} |", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--end", choices=ENDS, default="kill -9")
    parser.add_argument("--servers", choices=SERVERS, action="append")
    parser.add_argument("--way", choices=list(map(str, WAYS)), action="append")
    parser.add_argument("--timeout", type=int, action="append", help="session timeout in seconds, not more than 60")
    options = parser.parse_args()
    print("| servers | clients | T | end | times | median | worst | guard's RSS | dead after, at the latest |")
    print(f"|{'---|' * 9}", flush=True)
    for servers in options.servers or SERVERS:
        for way in WAYS:
            if not options.way or str(way) in options.way:
                await measure(servers, way, options.timeout or list(TIMEOUTS), options.end, options.times)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
