"""``import aioelect`` stays cheap, and what was saved there is not paid where every moment counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import aioelect

FOUNDATION = "asyncio, anyio, aiozk"

CHEAP = {"_json", "aioelect", "dataclasses", "json"}
"""All that aioelect needs beside them, by its first name: what makes and reads znode data, and value types."""

LATER = {
    "aioelect.cli": "the command line",
    "aioelect.guard": "guard=",
    "aioelect.observer": "get_standing, observe",
    "aioelect.switchover": "step_down, hand_over",
    "aioelect.testing": "the testing kit",
    "aioelect.zookeeper.security.digest": "Digest",
    "aioelect.zookeeper.security.gss": "Gssapi",
    "aioelect.zookeeper.security.sasl": "SaslDigestMd5",
    "aioelect.zookeeper.will": "guard=",
    "aiozk.recipes.election": "client.recipes",
    "concurrent.futures.thread": "host names, which are looked up in threads",
    "ctypes": "the watchdog's timer before Python 3.13",
}
"""What only some need, or all but not yet, and why."""


def run(code: str) -> Any:
    """What a fresh interpreter prints, as JSON."""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=os.getcwd())
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_an_import_loads_little_beside_the_foundation() -> None:
    new = run(
        f"import sys, {FOUNDATION}; known = {{*sys.modules}}; import aioelect; new = {{*sys.modules}} - known; "
        "import json; print(json.dumps([*new]))"
    )
    assert {name.partition(".")[0] for name in new} <= CHEAP
    assert [name for name in new if name.startswith(tuple(LATER))] == []


def test_what_is_imported_later_is_there_when_it_is_asked_for() -> None:
    code = (
        "import sys, json, aioelect; from aioelect import *; "
        "print(json.dumps([[name for name in aioelect.__all__ if name not in globals()], dir(aioelect)]))"
    )
    assert run(code) == [[], aioelect.__all__]


@pytest.mark.parametrize("name", ["Digest", "Gssapi", "SaslDigestMd5", "Standings", "hand_over", "observe"])
def test_one_that_is_imported_later_is_the_one_of_its_module(name: str) -> None:
    code = (
        f"import sys, json, aioelect; listed = {name!r} in dir(aioelect); thing = aioelect.{name}; "
        "print(json.dumps([listed, thing is getattr(sys.modules[thing.__module__], thing.__name__)]))"
    )
    assert run(code) == [True, True]


def test_a_name_that_is_none_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'aioelect' has no attribute 'leadershp'"):
        _ = aioelect.leadershp  # type: ignore[attr-defined]


LIFE = """
import asyncio, contextlib, json, signal, sys
import aioelect
from aioelect.testing import EmbeddedServer

async def main() -> None:
    async with EmbeddedServer() as server, aioelect.connect(server.hosts) as admin, aioelect.connect(server.hosts) as client:
        await admin.ensure_path("/e")
        leads_now = await admin.create("/e/n_", ephemeral=True, sequential=True)
        is_next = asyncio.Event()

        def on_event(event: aioelect.events.Event) -> None:
            if isinstance(event, aioelect.events.NextInLine):
                is_next.set()

        async def lead_and_resign() -> None:
            async with aioelect.leadership(client, "/e", on_event=on_event) as leader:
                signal.signal(signal.SIGUSR1, lambda *_: leader.resign())
                async with leader.transaction() as txn:
                    txn.create("/written")
                signal.raise_signal(signal.SIGUSR1)
                await asyncio.Event().wait()

        resigning = asyncio.create_task(lead_and_resign())
        await is_next.wait()
        known = {*sys.modules}
        await admin.delete(leads_now, force=True)
        await resigning
        with contextlib.suppress(aioelect.LeadershipLost):
            async with aioelect.leadership(client, "/e"):
                server.expire(client.session.session_id)
                await asyncio.Event().wait()
            raise AssertionError("leadership was not lost")
    print(json.dumps(sorted({*sys.modules} - known)))

asyncio.run(asyncio.wait_for(main(), 20))
"""


def test_nothing_is_imported_from_the_queue_to_the_end() -> None:
    """A handover, a transaction, a loss, clean-up and a signal handler's resign() find everything in its place."""
    assert run(LIFE) == []
