"""What the guard takes along to its servers, and what it can't."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import aioelect
from aioelect.testing.embedded import EmbeddedServer
from tests.elections import soon
from tests.guard.guarded import gone, rss, settled_rss
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
            assert rss(guard) < 30
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


def test_a_context_of_ones_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the guard can't use an ssl\.SSLContext"):
        aioelect.connect("localhost", ssl=ssl.create_default_context(), guard=True)
    aioelect.connect("localhost", ssl=True, guard=True)


def test_sasl_is_refused() -> None:
    credentials = [aioelect.Digest("a", "b"), aioelect.SaslDigestMd5("c", "d")]
    with pytest.raises(ValueError, match="the guard can't use <SaslDigestMd5 of 'c'>"):
        aioelect.connect("localhost", auth=credentials, guard=True)
    aioelect.connect("localhost", auth=credentials)
