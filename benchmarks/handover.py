"""Graceful handover: from the end of one leader to the first line of the next."""

from __future__ import annotations

from collections.abc import Sequence

from aioelect.testing.zookeeper import ZooKeeperServer
from benchmarks.players import pair_notes
from benchmarks.report import LATENCY_HEAD, Result, latency_rows
from benchmarks.setting import Setting

METHOD = """Seconds from the instant before leadership is released (the body returns, `resign()`, `close()` is called)
in one process, to the first line of the next leader's own code in another. Both stamp CLOCK_MONOTONIC, which
processes share. Each player is a process with one session, so that no library suffers from another thread's GIL; the
next leader's watch is in place before (the server is asked), and nothing else moves meanwhile: not even the one who
measures, who reads what the old leader says only when the new one has spoken. Systems take turns, in a new order each
round. Peers are used as their documentation shows: kazoo `Election.run(function)`, aiozk `LeaderElection`, Curator
`LeaderLatch` with a listener and `LeaderSelector`. The floor does the same exchange (delete, DELETED event) on
blocking sockets, with nothing around it."""


def run(setting: Setting) -> list[Result]:
    results = [_measure(setting, "handover", "Graceful handover, one server", [])]
    if setting.ensemble is not None:
        followers = setting.ensemble.followers()
        title = "Graceful handover, across an ensemble of three"
        results.append(_measure(setting, "handover_ensemble", title, followers))
    return results


def _measure(setting: Setting, name: str, title: str, servers: Sequence[ZooKeeperServer]) -> Result:
    rounds = setting.some(20, 200 if servers else 600)
    with setting.pairs(setting.systems, servers) as pairs:
        samples = setting.interleave(title, pairs, rounds, warm_up=setting.some(3, 150))
        notes = pair_notes(pairs)
    method = METHOD if not servers else "As above; the two clients are connected to the two followers."
    return Result(
        name, title, method, LATENCY_HEAD, list(latency_rows(samples, setting.systems)), {"seconds": samples}, notes
    )
