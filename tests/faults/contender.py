"""One contender as a process of its own: ``python -m tests.faults.contender``.

It leads whenever it is elected, and leaves at the end of stdin; a number of seconds in stdin lets it resume its session with that
timeout. What happens to it goes to stdout, a JSON object a line:
aioelect's events; ``Leads`` and ``Stops``, the first and the last step of a body; ``Woke``, when a thread beside the event
loop finds that the process stood still, with what ``check()`` says then; ``Failed`` with an error that ended it all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aioelect
from aioelect.events import Event
from aioelect.lease import Lease
from aioelect.testing.recorder import LeadershipRecorder

FAREWELL = 5
"""Seconds that leaving may take, before the kernel ends the process."""

OVERSLEPT = 0.5
"""A thread that wakes so many seconds late was stopped with its process."""


def tell(name: str, **facts: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more: stdin says so too
        os.write(1, json.dumps({"event": name, "at": time.monotonic(), **facts}).encode() + b"\n")


def tell_event(event: Event) -> None:
    tell(type(event).__name__, **dataclasses.asdict(event))


@contextlib.contextmanager
def lookout(leader: aioelect.Leader) -> Iterator[None]:
    """Asks ``check()`` from a thread whenever the process has stood still."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            asleep = time.monotonic()
            over.wait(0.01)
            if time.monotonic() > asleep + OVERSLEPT:
                try:
                    leader.check()
                    tell("Woke", token=leader.token, proven=True)
                except aioelect.LeadershipLost:
                    tell("Woke", token=leader.token, proven=False)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Credulous(Lease):
    """A mutant that believes for a session timeout too long, and that the referee has to catch."""

    @property
    def deadline(self) -> float:
        return super().deadline + self.session_timeout


async def contend(options: argparse.Namespace, clients: list[aioelect.Client]) -> None:
    recorder = LeadershipRecorder(options.recorder)

    async def lead(leader: aioelect.Leader) -> None:
        tell("Leads", token=leader.token)
        try:
            with lookout(leader):
                async with recorder.leading(leader, every=0.005):
                    await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(0.01)  # clean-up that awaits
            finally:
                tell("Stops", token=leader.token)

    async with aioelect.connect(
        options.hosts, session_timeout=options.session_timeout, timeout=30, on_event=tell_event
    ) as client:
        if options.credulous:
            client.session.lease.__class__ = Credulous
        clients.append(client)
        await aioelect.campaign(client, options.election, lead, identity=options.identity, on_event=tell_event)


async def run(options: argparse.Namespace) -> None:
    clients: list[aioelect.Client] = []
    contending = asyncio.ensure_future(contend(options, clients))
    loop = asyncio.get_running_loop()

    def obey() -> None:
        if order := os.read(0, 100):
            session = clients[0].session
            session.requested_timeout = float(order)
            session.drop("to resume with another timeout", silent=True)
        else:
            loop.remove_reader(0)
            signal.alarm(FAREWELL)
            contending.cancel()

    loop.add_reader(0, obey)
    with contextlib.suppress(asyncio.CancelledError):
        await contending


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--election", required=True)
    parser.add_argument("--identity", required=True)
    parser.add_argument("--session-timeout", type=float, required=True)
    parser.add_argument("--recorder", type=Path, required=True)
    parser.add_argument("--credulous", action="store_true")
    try:
        asyncio.run(run(parser.parse_args()))
    except Exception as e:
        tell("Failed", error=f"{type(e).__name__}: {e}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
