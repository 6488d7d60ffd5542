"""Handover latency against the number of contenders."""

from __future__ import annotations

from benchmarks.players import Silent, pair_notes, settle
from benchmarks.report import Result
from benchmarks.setting import Setting
from benchmarks.stats import format_seconds, summarise
from benchmarks.wire import RawClient

METHOD = """The same handover, from the same instant to the same, in a queue of so many contenders. Behind the two that are
measured stand ephemeral sequential znodes of another session, with names that the library takes for contenders of its own
kind, as long as its own: each does with them what it does with its own, and none has to serve them. Median, and worst in
brackets."""


def run(setting: Setting) -> list[Result]:
    sizes = setting.some([2, 100], [2, 10, 100, 1_000, 10_000])
    samples: dict[str, dict[str, list[float]]] = {
        system.name: {str(size): [] for size in sizes} for system in setting.systems
    }
    with setting.pairs(setting.systems) as pairs:
        setting.interleave("Warming up", pairs, setting.some(2, 300), 0)
        for size in sizes:
            for _ in setting.track(f"Handover among {size} contenders", setting.some(5, 10 if size > 1_000 else 40)):
                setting.random.shuffle(pairs)
                for pair in pairs:
                    try:
                        with RawClient(setting.server.hosts) as crowd:
                            crowd.contend([f"{pair.election}/{pair.system.prefix()}" for _ in range(size - 2)])
                            settle()
                            taken = pair.hand_over()
                        pair.again()
                    except Silent as e:
                        pair.restart(str(e))
                    else:
                        samples[pair.system.name][str(size)].append(taken)
        notes = pair_notes(pairs)
    rows = []
    for system in setting.systems:
        found = [summarise(samples[system.name][str(size)]) for size in sizes]
        rows.append(
            [system.title, *(f"{format_seconds(each.median)} ({format_seconds(each.worst)})" for each in found)]
        )
    head = ["system", *(f"{size:,}" for size in sizes)]
    return [
        Result("queue_length", "Handover and the length of the queue", METHOD, head, rows, {"seconds": samples}, notes)
    ]
