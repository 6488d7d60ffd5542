"""A guarded process: ``python -m tests.guard.program HOSTS ELECTION SESSION_TIMEOUT GUARD``, GUARD being no, yes or strict.

It says on stdout what happens to it, a JSON object a line, and does what stdin says, a word a line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time

import aioelect
from aioelect import events
from aioelect.guard.parent import Guard, Guarding

CREDENTIALS = {"Digest": aioelect.Digest, "SaslDigestMd5": aioelect.SaslDigestMd5}


def tell(name: str, **facts: object) -> None:
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"event": name, "at": time.monotonic(), **facts}).encode() + b"\n")


def obey(word: str, client: aioelect.Client) -> None:
    """Does to its process what may happen to one."""
    if word == "block":  # the event loop
        tell("Blocks")
        time.sleep(1000)
    elif word == "fork":  # a child that holds all descriptors, and lives on
        if os.fork() == 0:
            tell("Forked", pid=os.getpid())
            signal.pause()
    elif word == "leave":  # the classic daemon's first half: the original process ends
        if os.fork() == 0:
            tell("Forked", pid=os.getpid())
            signal.pause()
        os._exit(0)
    elif word == "close":  # all descriptors, as a daemon does, and the body runs on
        os.closerange(3, 100)
        tell("Closed")
        time.sleep(1000)
    elif word == "exec":
        os.execv(
            sys.executable,
            [sys.executable, "-c", 'print(\'{"event": "Another"}\', flush=True); import time; time.sleep(1000)'],
        )
    elif word == "drop":
        client.session.drop("by order")
    elif word == "double":  # a second guard of the same session
        assert client.guard is not None
        assert client.guard._will is not None
        other = Guard(True)
        other.start()
        other.bequeath(client.guard._will)
        asyncio.get_running_loop().call_later(0.1, lambda: tell("Doubled", guard=other.pid))
    elif word == "tell":
        tell("State", guard=client.guard and client.guard.pid)


async def run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    guards: dict[str, Guarding] = {"no": False, "yes": True, "strict": "strict"}
    guard = guards[options.guard]
    tell("Starts", pid=os.getpid())
    async with aioelect.connect(
        options.hosts,
        session_timeout=options.session_timeout,
        guard=guard,
        auth=CREDENTIALS[options.auth](*options.user) if options.auth else (),
        ssl=options.tls is not None,
        **dict(zip(("ssl_ca", "ssl_cert", "ssl_key"), options.tls or (), strict=False)),
        on_event=lambda event: tell(type(event).__name__),
    ) as client:
        if options.twice:
            other = await aioelect.connect(options.hosts, session_timeout=options.session_timeout, guard=guard)
            await other.create(f"{options.election}-twice", ephemeral=True)
            tell("Twice")

        def listen() -> None:
            for word in os.read(0, 100).decode().split() or ["resign"]:
                if word == "resign":
                    loop.remove_reader(0)
                    leading.cancel()
                else:
                    obey(word, client)

        def queued(event: events.Event) -> None:
            if not isinstance(event, events.Renewed):
                tell(type(event).__name__)

        async def lead(leader: aioelect.Leader) -> None:
            session, pid = client.session, client.guard and client.guard.pid
            tell("Leads", guard=pid, session=session.session_id, password=session.password.hex())
            try:
                await asyncio.Event().wait()
            finally:
                tell("Stops")
                while options.stubborn:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.Event().wait()

        loop.add_reader(0, listen)
        leading = asyncio.ensure_future(aioelect.campaign(client, options.election, lead, on_event=queued))
        with contextlib.suppress(asyncio.CancelledError):
            await leading


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts")
    parser.add_argument("election")
    parser.add_argument("session_timeout", type=float)
    parser.add_argument("guard", choices=["no", "yes", "strict"])
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--thread", action="store_true")
    parser.add_argument("--auth", choices=CREDENTIALS)
    parser.add_argument("--user", nargs=2, default=("guarded", "secret"), help="name and password")
    parser.add_argument("--tls", nargs=3, help="PEM files: CA, certificate, key")
    parser.add_argument("--stubborn", action="store_true", help="a body that refuses to be cancelled")
    parser.add_argument("--twice", action="store_true", help="a second client of the same process")
    options = parser.parse_args()

    def work() -> None:
        if options.uvloop:
            import uvloop

            uvloop.run(run(options))
        else:
            asyncio.run(run(options))

    if options.thread:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()


if __name__ == "__main__":
    main()
