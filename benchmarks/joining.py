"""What joining a queue costs the network."""

from __future__ import annotations

import contextlib

from benchmarks.players import Player
from benchmarks.relay import Relay
from benchmarks.report import Result
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.stats import format_bytes
from benchmarks.wire import RawClient

METHOD = """Requests, and bytes in both directions, of one client from the call that contends until its connection has been
quiet for 0.2 s, through a proxy that counts frames. So many contenders of the same kind stand in the queue already, under
names as long as the library's own. The session is open before, for everybody; whoever looks for the folder first (kazoo and
Curator do), or begins to keep a lease, does so within what is counted."""


def run(setting: Setting) -> list[Result]:
    sizes = setting.some([100], [10, 1_000, 10_000])
    samples: dict[str, dict[str, dict[str, int]]] = {}
    systems = [system for system in setting.systems if system.name not in ("bare", "uvloop")]
    for number in setting.track("Cost of joining", len(sizes) * len(systems)):
        system, size = systems[number // len(sizes)], sizes[number % len(sizes)]
        election = setting.new_election()
        with RawClient(setting.server.hosts) as crowd, Relay(setting.server.hosts) as relay:
            crowd.contend([f"{election}/{system.prefix()}" for _ in range(size)])
            with contextlib.closing(Player(system, relay.hosts, election, SESSION_TIMEOUT)) as player:
                player.expect("ready")
                relay.wait_quiet()
                before = relay.count
                player.tell("join")
                relay.wait_quiet(at_least=before.requests + 2)
                cost = relay.count - before
                player.kill()
        samples.setdefault(system.name, {})[str(size)] = {"requests": cost.requests, "bytes": cost.bytes}
    rows = [
        [
            system.title,
            *(
                f"{found['requests']} requests, {format_bytes(found['bytes'])}"
                for found in samples[system.name].values()
            ),
        ]
        for system in systems
    ]
    return [Result("joining", "Cost of joining", METHOD, ["system", *(f"{size:,}" for size in sizes)], rows, samples)]
