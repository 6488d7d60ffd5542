"""How long it takes from the death of a leader to the first line of its successor: ``python -m tests.guard.measure``.

With a guard and without one, on one server and on an ensemble of three, with TLS and with credentials that the servers demand.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import aioelect
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.guard.guarded import guarded, rss, successor
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


class Taken(NamedTuple):
    """What was measured."""

    seconds: list[float]
    size: float
    """The largest guard's RSS in megabytes."""


async def take_over(scene: Scene, session_timeout: float, guard: str, kills: int) -> Taken:
    seconds: list[float] = []
    sizes = [0.0]
    async with scene.connect(session_timeout) as client:
        for number in range(kills):
            election = f"/measure-{guard}-{session_timeout:g}-{kills}-{number}"
            async with guarded(scene.hosts, election, session_timeout, guard, *scene.options) as program:
                if pid := await program.leads():
                    sizes.append(rss(pid))
                async with successor(client, election) as next_one:
                    at = program.kill()
                    seconds.append(await next_one.led(3 * session_timeout) - at)
    return Taken(seconds, max(sizes))


async def measure(servers: str, way: Way, timeouts: list[int], guards: dict[str, int]) -> None:
    """Prints rows of a table in Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(servers, way, Path(folder))
        async with scene.servers:
            await take_over(scene, timeouts[0], "yes", WARM_UP)
            for session_timeout in timeouts:
                for guard, kills in guards.items():
                    if kills:
                        taken = await take_over(scene, session_timeout, guard, kills)
                        took = [1000 * seconds for seconds in taken.seconds]
                        print(
                            f"| {servers} | {way} | {session_timeout} s | {guard} | {kills} | {statistics.median(took):.0f} ms "
                            f"| {max(took):.0f} ms | {taken.size:.1f} MB |",
                            flush=True,
                        )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50, help="with a guard")
    parser.add_argument("--strict", type=int, default=0, help="kills with a strict guard")
    parser.add_argument("--without", type=int, default=0, help="kills without a guard")
    parser.add_argument("--servers", choices=SERVERS, action="append")
    parser.add_argument("--way", choices=list(map(str, WAYS)), action="append")
    parser.add_argument("--timeout", type=int, action="append", help="session timeout in seconds, not more than 60")
    options = parser.parse_args()
    guards = {"yes": options.kills, "strict": options.strict, "no": options.without}
    print(
        "| servers | clients | T | guard | kills | median | worst | guard's RSS |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for servers in options.servers or SERVERS:
        for way in WAYS:
            if not options.way or str(way) in options.way:
                await measure(servers, way, options.timeout or list(TIMEOUTS), guards)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
