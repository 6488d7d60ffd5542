"""Whom a takeover concerns: messages of all clients together, when a leader leaves a long queue."""

from __future__ import annotations

import contextlib

from benchmarks.players import Lookout, Player
from benchmarks.relay import Relay
from benchmarks.report import Result
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.stats import format_bytes
from benchmarks.wire import RawClient

METHOD = """A leader and the next in line are processes; behind them stands a crowd, each watching the one before it,
on one more connection, which is how all these libraries have it. The leader leaves. Frames and bytes on all three
connections, in both directions, from the word to leave until all three have been quiet for 0.2 s: how many a takeover
disturbs. The crowd's part would be a thousand events where every contender watched the leader or the folder. Renewals and
pings that fall into that time count."""


def run(setting: Setting) -> list[Result]:
    sizes = setting.some([100], [10, 1_000, 10_000])
    systems = [system for system in setting.systems if system.name not in ("bare", "floor", "uvloop")]
    samples: dict[str, dict[str, dict[str, int]]] = {}
    for number in setting.track("Messages of a takeover", len(sizes) * len(systems)):
        system, size = systems[number // len(sizes)], sizes[number % len(sizes)]
        election = setting.new_election()
        with contextlib.ExitStack() as stack:
            relays = [stack.enter_context(Relay(setting.server.hosts)) for _ in range(3)]
            lookout = stack.enter_context(contextlib.closing(Lookout([setting.server])))
            starting = [Player(system, relay.hosts, election, SESSION_TIMEOUT) for relay in relays[:2]]
            leader, heir = (stack.enter_context(contextlib.closing(player)) for player in starting)
            for player in (leader, heir):
                player.expect("ready")
            leader.tell("join")
            leader.expect("leads")
            heir.tell("join")
            lookout.wait_watched(election)
            crowd = stack.enter_context(RawClient(relays[2].hosts))
            own = crowd.contend([f"{election}/{system.prefix()}" for _ in range(size - 2)])
            waiter = sorted(crowd.children(election), key=lambda name: name[-10:])[1]
            crowd.watch([f"{election}/{waiter}", *own[:-1]])
            for relay in relays:
                relay.wait_quiet()
            before = [relay.count for relay in relays]
            leader.tell("leave")
            heir.expect("leads")
            leader.expect("left")
            for relay in relays:
                relay.wait_quiet()
            counts = [relay.count - earlier for relay, earlier in zip(relays, before, strict=True)]
            for player in (leader, heir):
                player.kill()
        samples.setdefault(system.name, {})[str(size)] = {
            "left": counts[0].requests + counts[0].answers,
            "next": counts[1].requests + counts[1].answers,
            "crowd": counts[2].requests + counts[2].answers,
            "bytes": sum(count.bytes for count in counts),
        }
    rows = [
        [
            system.title,
            *(
                f"{found['left']} + {found['next']} + {found['crowd']} frames, {format_bytes(found['bytes'])}"
                for found in samples[system.name].values()
            ),
        ]
        for system in systems
    ]
    title = "Messages of a takeover: of who leaves + of the next + of all others"
    return [Result("takeover", title, METHOD, ["system", *(f"{size:,}" for size in sizes)], rows, samples)]
