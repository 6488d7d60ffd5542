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
round, so that all meet the same noise. Peers are used, and released, as their documentation shows: kazoo's
`Election.run(function)`, aiozk's `LeaderElection`, Curator's `LeaderLatch` with a listener and its `LeaderSelector`, and what
they list or read on the way is what they do there, too. The floor does the same exchange (delete, DELETED event) on
blocking sockets, with nothing around it."""

ENSEMBLE_METHOD = """The same, from the same instant to the same. The two clients are connected to the two followers of an
ensemble of three, each library's and the floor's alike, so that the deletion goes through the ZooKeeper leader and a quorum,
and the event comes from another member."""


def run(setting: Setting) -> list[Result]:
    results = [_measure(setting, "handover", "Graceful handover, one server", [])]
    if setting.ensemble is not None:
        followers = setting.ensemble.followers()
        title = "Graceful handover, across an ensemble of three"
        results.append(_measure(setting, "handover_ensemble", title, followers))
    return results


def _measure(setting: Setting, name: str, title: str, servers: Sequence[ZooKeeperServer]) -> Result:
    rounds = setting.some(20, 200 if servers else 500)
    with setting.pairs(setting.systems, servers) as pairs:
        samples = setting.interleave(title, pairs, rounds, warm_up=setting.some(3, 300))
        notes = pair_notes(pairs)
    method = ENSEMBLE_METHOD if servers else METHOD
    return Result(
        name, title, method, LATENCY_HEAD, list(latency_rows(samples, setting.systems)), {"seconds": samples}, notes
    )
