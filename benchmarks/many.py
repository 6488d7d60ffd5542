"""Many elections on one client."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from benchmarks.players import Player, Silent
from benchmarks.report import Result
from benchmarks.setting import Setting
from benchmarks.stats import format_bytes, percentile
from benchmarks.wire import RawClient

METHOD = """One process wins so many elections on one client: elections a second, from the first call until the last
one is won, all begun at once (kazoo: a thread for each, as its Election needs), median of the runs; and resident
memory for each. The floor creates as many ephemeral sequential znodes, pipelined, which is the least that an election
costs. Folders exist before, and one election was won and left before, so that what is loaded for the first is not counted."""


def run(setting: Setting) -> list[Result]:
    counts, rounds = setting.some([200], [1_000, 10_000]), setting.some(1, 3)
    systems = [system for system in setting.systems if system.name in ("floor", "aioelect", "aiozk", "kazoo")]
    samples: dict[str, dict[str, dict[str, list[float]]]] = {
        system.name: {str(count): {"seconds": [], "memory": []} for count in counts} for system in systems
    }
    notes: list[str] = []
    for number in setting.track("Many elections", rounds * len(counts) * len(systems)):
        system = replace(
            systems[number % len(systems)], module="benchmarks.peers.many", variant=systems[number % len(systems)].name
        )
        count = counts[number // len(systems) % len(counts)]
        if system.name == "kazoo" and count > 1_000:
            continue
        folder = setting.new_election()
        with RawClient(setting.server.hosts) as client:
            client.make(f"{folder}/first", *(f"{folder}/{each}" for each in range(count)))
        with contextlib.closing(Player(system, setting.server.hosts, folder, 30.0)) as player:
            player.tell(str(count))
            try:
                found = samples[system.name][str(count)]
                found["seconds"].append(player.expect("took", 120))
                found["memory"].append(player.expect("memory", 120))
            except Silent as e:
                notes.append(str(e))
            player.kill()
    rows = []
    for system in systems:
        row = [system.title]
        for count in counts:
            found = samples[system.name][str(count)]
            if not found["memory"]:
                row += ["-", "-"]
                continue
            row += [f"{count / percentile(found['seconds'], 0.5):,.0f}", format_bytes(percentile(found["memory"], 0.5))]
        rows.append(row)
    head = ["system", *(column for count in counts for column in (f"{count:,}: elections/s", "memory each"))]
    return [Result("many", "Many elections on one client", METHOD, head, rows, samples, notes)]
