"""What a queue costs in which nothing happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.players import Player
from benchmarks.relay import Count, Relay
from benchmarks.report import Result
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.stats import format_bytes
from benchmarks.systems import System

METHOD = f"""A leader, the next in line and one more, each a process with a session timeout of {SESSION_TIMEOUT:g} s.
All have their places; then, for the same half a minute for everybody, nothing happens: frames sent and bytes in both
directions, counted by a proxy, and CPU time of the process (all threads, from the kernel's scheduler; Linux only), scaled to
a minute. aioelect's leader and its next in line renew a lease, which proves leadership; the others only ping, which does not,
so that less traffic is less of a promise here."""

ROLES = ("leader", "next", "third")


def run(setting: Setting) -> list[Result]:
    systems = [system for system in setting.systems if system.name not in ("bare", "floor")]
    window = setting.some(1.0, 30.0)
    with contextlib.ExitStack() as stack:
        queues = [_start(setting, stack, system) for system in systems]
        for place in range(len(ROLES)):
            _join([queue[place] for queue in queues], leads=place == 0)
        time.sleep(1.0)  # what follows from joining is over
        before = [[(relay.count, _cpu(player.pid)) for player, relay in queue] for queue in queues]
        for _ in setting.track("Idle queues", 20):
            time.sleep(window / 20)
        after = [[(relay.count, _cpu(player.pid)) for player, relay in queue] for queue in queues]
    samples: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for system, begun, ended in zip(systems, before, after, strict=True):
        roles = samples[system.name] = {}
        for role, (count, cpu), (later, more_cpu) in zip(ROLES, begun, ended, strict=True):
            roles[role] = _per_minute(later - count, more_cpu - cpu, window)
        cells = [
            f"{r['frames']:.0f} frames, {format_bytes(r['bytes'])}, {r['cpu'] * 1000:.0f} ms" for r in roles.values()
        ]
        rows.append([system.title, *cells])
    return [Result("idle", "A queue in which nothing happens, for a minute", METHOD, ["system", *ROLES], rows, samples)]


def _start(setting: Setting, stack: contextlib.ExitStack, system: System) -> list[tuple[Player, Relay]]:
    election = setting.new_election()
    queue: list[tuple[Player, Relay]] = []
    for _ in ROLES:
        relay = stack.enter_context(Relay(setting.server.hosts))
        player = stack.enter_context(contextlib.closing(Player(system, relay.hosts, election, SESSION_TIMEOUT)))
        queue.append((player, relay))
    return queue


def _join(these: Sequence[tuple[Player, Relay]], leads: bool) -> None:
    """Lets one contender of each queue join, and returns when all have found their places."""
    for player, relay in these:
        player.expect("ready")
        relay.wait_quiet()
    before = [relay.count.requests for _, relay in these]
    for player, _ in these:
        player.tell("join")
    for (player, relay), requests in zip(these, before, strict=True):
        if leads:
            player.expect("leads")
        relay.wait_quiet(at_least=requests + 2)


def _per_minute(count: Count, cpu: float, window: float) -> dict[str, float]:
    scale = 60 / window
    return {"frames": count.requests * scale, "bytes": count.bytes * scale, "cpu": cpu * scale}


def _cpu(pid: int) -> float:
    """Seconds of CPU time of all threads that live."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has just ended
            total += int(thread.read_text(encoding="ascii").split()[0])
    return total / 1e9
