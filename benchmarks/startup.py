"""How long it takes to begin: imports, and from the start of a process to leading."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from benchmarks.players import ROOT, Player, Silent
from benchmarks.report import LATENCY_HEAD, Result, latency_rows
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.stats import format_seconds, summarise
from benchmarks.systems import environment

IMPORT_METHOD = """A new interpreter imports asyncio, anyio and aiozk, and then the library; seconds that the second
import takes, byte code being cached. kazoo's is given for comparison: it is not built on these three, so for it they
are no part of the price."""
START_METHOD = """Seconds from before the system call that starts a process to its first line as the leader of an
election that nobody else contends for: interpreter or virtual machine, imports, connection, session, election."""

_IMPORT = "import time; import {before}; began = time.perf_counter(); import {what}; print(time.perf_counter() - began)"
_IMPORTS = {
    "asyncio, anyio, aiozk": ("sys", "asyncio, anyio, aiozk"),
    "aioelect, after these": ("asyncio, anyio, aiozk", "aioelect"),
    "kazoo.client, alone": ("sys", "kazoo.client"),
}


def run(setting: Setting) -> list[Result]:
    return [_imports(setting), _starts(setting)]


def _imports(setting: Setting) -> Result:
    wanted = {
        title: code
        for title, code in _IMPORTS.items()
        if "kazoo" not in title or any(s.name == "kazoo" for s in setting.systems)
    }
    samples: dict[str, list[float]] = {title: [] for title in wanted}
    for number in setting.track("Imports", setting.some(3, 31)):
        for title, (before, what) in wanted.items():
            code = _IMPORT.format(before=before, what=what)
            command = [sys.executable, "-c", code]
            run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment())
            if number > 0:  # the first one compiles
                samples[title].append(float(run.stdout))
    rows = []
    for title, times in samples.items():
        found = summarise(times)
        rows.append([title, str(found.count), *map(format_seconds, (found.median, found.p99, found.worst))])
    return Result("imports", "Imports", IMPORT_METHOD, ["import", *LATENCY_HEAD[1:5]], rows, {"seconds": samples})


def _starts(setting: Setting) -> Result:
    samples: dict[str, list[float]] = {system.name: [] for system in setting.systems}
    notes: list[str] = []
    rounds = 1 + setting.some(1, 15)  # the first one compiles, and reads from the disk
    for number in setting.track("From process start to leading", rounds * len(setting.systems)):
        system = setting.systems[number % len(setting.systems)]
        election = setting.new_election()
        with contextlib.closing(Player(system, setting.server.hosts, election, SESSION_TIMEOUT)) as player:
            player.tell("join")
            try:
                taken = player.expect("leads") - player.started
                if number >= len(setting.systems):
                    samples[system.name].append(taken)
            except Silent as e:
                notes.append(str(e))
            player.kill()
    rows = list(latency_rows(samples, setting.systems))
    return Result(
        "startup", "From process start to leading", START_METHOD, LATENCY_HEAD, rows, {"seconds": samples}, notes
    )
