"""What the guard takes along to its servers, and what it can't."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import aioelect
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.zookeeper import ZooKeeperServer
from aioelect.zookeeper.security.auth import Ask, Auth
from tests.elections import soon
from tests.guard.guarded import T, check_takes_over, gone, guarded, rss, settled_rss, shown_of
from tests.zookeeper.certificates import Authority

PROGRAM = """
import asyncio, os, sys, aioelect
async def main(hosts, path, ca, cert, key):
    client = await aioelect.connect(
        hosts, session_timeout=10, guard=True, auth=aioelect.Digest("guarded", "secret"),
        ssl=True, ssl_ca=ca, ssl_cert=cert, ssl_key=key, ssl_key_password=lambda: b"key password\\n",
    )
    await client.create(path, ephemeral=True)
    print(client.guard.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


def relative(*files: Path) -> list[str]:
    """The helper works in another directory."""
    return [os.path.relpath(file) for file in files]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    pytest.importorskip("trustme")
    return Authority(tmp_path)


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[EmbeddedServer]:
    """Takes TLS alone, from those who show a certificate."""
    context = authority.server_context(demands_certificate=True)
    async with EmbeddedServer(tick_time=0.5, ssl=context) as server:
        yield server


async def test_it_shows_the_clients_certificate(server: EmbeddedServer, authority: Authority, path: str) -> None:
    signed = authority.sign("client@localhost", password=b"key password")
    files = relative(authority.ca, signed.cert, signed.key)
    plain = authority.sign("other@localhost")
    async with aioelect.connect(
        server.hosts, session_timeout=10, ssl=True, ssl_ca=authority.ca, ssl_cert=plain.cert, ssl_key=plain.key
    ) as client:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, server.hosts, path, *files), stdout=PIPE
        )
        try:
            assert program.stdout is not None
            guard = int(await soon(program.stdout.readline()))
            print(f"RSS {await settled_rss(guard):.1f} MB")
            assert rss(guard) <= 20
            assert await client.exists(path)
            program.send_signal(signal.SIGKILL)
            async with asyncio.timeout(5):
                while await client.exists(path):
                    await asyncio.sleep(0.01)
            await gone(guard)
        finally:
            if program.returncode is None:
                program.kill()
            await program.wait()


# On ZooKeeper

JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required user_guarded="secret word";
};
"""


@pytest.fixture(scope="module")
def demanding_zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ZooKeeperServer, tuple[Path, ...]]]:
    """A real server that lets nobody without credentials so much as close a session; and PEM files for its TLS port."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    signed = authority.sign("guarded@localhost")
    with ZooKeeperServer(
        max_session_timeout=20,
        tls=authority.server_tls(),
        jaas=JAAS,
        config={"enforce.auth.enabled": "true", "enforce.auth.schemes": "sasl,digest"},
    ) as server:
        yield server, (authority.ca, signed.cert, signed.key)


@pytest.mark.parametrize("kind", [aioelect.Digest, aioelect.SaslDigestMd5])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_the_next_one_leads_at_once_where_zookeeper_demands_credentials(
    demanding_zookeeper: tuple[ZooKeeperServer, tuple[Path, ...]],
    path: str,
    kind: type[aioelect.Digest | aioelect.SaslDigestMd5],
    encrypted: bool,
) -> None:
    server, files = demanding_zookeeper
    hosts = server.secure_hosts if encrypted else server.hosts
    options = ["--auth", kind.__name__, "--user", "guarded", "secret word"]
    options += ["--tls", *map(str, files)] if encrypted else []
    tls: dict[str, Any] = dict(zip(("ssl_ca", "ssl_cert", "ssl_key"), files, strict=True)) if encrypted else {}
    connecting = aioelect.connect(hosts, session_timeout=T, auth=kind("guarded", "secret word"), ssl=encrypted, **tls)
    async with connecting as client, guarded(hosts, path, T, "yes", *options) as program:
        guard = await program.leads()
        assert b"secret word" not in shown_of(guard)
        await check_takes_over(client, path, program.kill)
        await gone(guard)


# What it can't take along


def test_a_context_of_ones_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the guard can't use an ssl\.SSLContext"):
        aioelect.connect("localhost", ssl=ssl.create_default_context(), guard=True)
    aioelect.connect("localhost", ssl=True, guard=True)


class Ticket(Auth):
    """As Kerberos has it."""

    is_sasl = True

    async def authenticate(self, ask: Ask, server: str, host: str) -> None:
        pass


def test_other_credentials_are_refused() -> None:
    credentials = [aioelect.Digest("a", "b"), Ticket("c")]
    with pytest.raises(
        ValueError, match="the guard can't use <Ticket of 'c'>: it knows Digest and SaslDigestMd5 alone"
    ):
        aioelect.connect("localhost", auth=credentials, guard=True)
    aioelect.connect("localhost", auth=credentials)
