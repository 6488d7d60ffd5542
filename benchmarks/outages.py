"""How long nobody leads, by kind of fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio import to_thread

from aioelect.testing.proxy import FaultProxy
from benchmarks.ensemble import Ensemble
from benchmarks.players import Lookout, Player, Silent
from benchmarks.report import Result
from benchmarks.setting import Setting
from benchmarks.stats import format_seconds, percentile
from benchmarks.systems import System

FAULTS = {
    "leaves": "leaves",
    "killed": "kill -9",
    "frozen": "freeze",
    "cut": "network cut",
    "quorum": "ZooKeeper leader dies",
}

TITLES = {
    "leaves": "The leader leaves",
    "killed": "The leader's process is killed (kill -9)",
    "frozen": "The leader's process is frozen (SIGSTOP)",
    "cut": "The leader's network is cut",
    "quorum": "The ZooKeeper leader is killed, and the leader leaves",
}

METHOD = """Seconds from the fault (the system call that makes it, or the call that releases leadership) to the first
line of the next leader, in another process: the leader leaves; its process is killed; its process is stopped
(SIGSTOP); its network swallows everything; the leader leaves in the moment in which the ZooKeeper leader was killed.
Three ZooKeeper members, a session timeout of {timeout:g} s for all; every player reaches every member through a proxy
of its own, which cuts the network. All systems face each fault at the same moment, so what takes milliseconds takes
more of them here, for everybody alike. Median, and worst in brackets. A shorter time after a death, a freeze or a cut is
no merit by itself: until the session timeout is over nobody may lead who wants to be the only one, and it counts from the
last packet that the session was touched with. aioelect's leaders renew ten times in a session timeout, the others ping
three times: they are on average a little closer to their end when they die. A guard is about dead processes and nothing
else, so it is measured there alone; no peer has the like."""

PATIENCE = 30.0
"""Seconds that preparing may take."""


def run(setting: Setting) -> list[Result]:
    if setting.ensemble is None:
        return []
    timeout, rounds, patience = setting.some((1.2, 1, 4.0), (4.0, 5, 15.0))
    systems = [system for system in setting.all_systems if not system.is_raw and system.name != "uvloop"]
    casts = asyncio.run(_play(setting, setting.ensemble, systems, timeout, rounds, patience))
    samples = {cast.system.name: cast.samples for cast in casts}
    rows = [
        [cast.system.title, *(_describe(cast.samples[fault], rounds) if cast.faces(fault) else "" for fault in FAULTS)]
        for cast in casts
    ]
    notes = [
        f"{cast.system.title}, {FAULTS[fault]}: {why}" for cast in casts for fault, why in sorted(cast.failures.items())
    ]
    return [
        Result(
            "outages",
            "Time without a leader",
            METHOD.format(timeout=timeout),
            ["system", *FAULTS.values()],
            rows,
            {"seconds": samples, "faults": TITLES, "session_timeout": timeout, "rounds": rounds},
            notes,
        )
    ]


def _describe(times: list[float], rounds: int) -> str:
    if not times:
        return "never"
    text = f"{format_seconds(percentile(times, 0.5))} ({format_seconds(max(times))})"
    return text if len(times) == rounds else f"{text}, never in {rounds - len(times)} of {rounds}"


async def _play(
    setting: Setting, ensemble: Ensemble, systems: list[System], timeout: float, rounds: int, patience: float
) -> list[_Cast]:
    elections = await to_thread(setting.new_elections, len(systems), ensemble.members[0].hosts)
    async with contextlib.AsyncExitStack() as stack:
        casts = [
            await stack.enter_async_context(_Cast(system, ensemble, election, timeout, patience))
            for system, election in zip(systems, elections, strict=True)
        ]
        for number in setting.track("Outages", rounds * len(FAULTS)):
            fault = list(FAULTS)[number // rounds]
            facing = [cast for cast in casts if cast.faces(fault)]
            await asyncio.gather(*(cast.prepare() for cast in facing))
            leader = await to_thread(ensemble.leader)
            began = time.monotonic()
            if fault == "quorum":
                await to_thread(leader.kill)
            await asyncio.gather(*(cast.suffer(fault, began) for cast in facing))
            if fault == "quorum":
                await to_thread(leader.launch)
                await to_thread(ensemble.wait_ready)
    return casts


def _last_words(victim: Player) -> str:
    try:
        victim.expect("left", 0)
    except Silent as e:
        return str(e)
    return "has left"


class _Cast:
    """One system: a leader and the one who waits, each behind proxies of its own."""

    def __init__(self, system: System, ensemble: Ensemble, election: str, timeout: float, patience: float) -> None:
        self.system = system
        self.samples: dict[str, list[float]] = {
            fault: [] for fault in FAULTS if fault == "killed" or not system.is_for_kills
        }
        self.failures: dict[str, str] = {}
        self._ensemble = ensemble
        self._election = election
        self._timeout = timeout
        self._patience = patience
        self._proxies: list[list[FaultProxy]] = []
        self._players: dict[int, Player] = {}
        self._leader = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> _Cast:
        for _ in range(2):
            proxies = [FaultProxy(member.hosts, raw=True) for member in self._ensemble.members]
            self._proxies.append([await self._stack.enter_async_context(proxy) for proxy in proxies])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._remove(0, 1)
        await self._stack.aclose()

    async def _remove(self, *seats: int) -> None:
        for seat in seats:
            if (player := self._players.pop(seat, None)) is not None:
                await to_thread(player.kill)
                await to_thread(player.close)
            for proxy in self._proxies[seat]:
                proxy.heal()

    def faces(self, fault: str) -> bool:
        """Whether it is to be measured in that."""
        return fault in self.samples

    async def prepare(self) -> None:
        """Returns when one leads and the other watches it; whoever is missing is started, both if it does not work."""
        try:
            await self._prepare()
        except Silent:
            await self._remove(0, 1)
            await self._prepare()

    async def _prepare(self) -> None:
        seats = (self._leader, 1 - self._leader)
        missing = [seat for seat in seats if seat not in self._players]
        for seat in missing:
            hosts = ",".join(proxy.hosts for proxy in self._proxies[seat])
            self._players[seat] = Player(self.system, hosts, self._election, self._timeout)
        for seat in missing:
            player = self._players[seat]
            await to_thread(player.expect, "ready", PATIENCE)
            player.tell("join")
            if seat == self._leader:
                await to_thread(player.expect, "leads", PATIENCE)
        await to_thread(self._look)

    def _look(self) -> None:
        with contextlib.closing(Lookout(self._ensemble.members)) as lookout:
            lookout.wait_watched(self._election, PATIENCE)

    async def suffer(self, fault: str, began: float) -> None:
        """The fault, and the end of it: who suffered queues up again, or is replaced by the next :meth:`prepare`."""
        victim, heir = self._players[self._leader], self._players[1 - self._leader]
        if fault in ("leaves", "quorum"):
            victim.tell("leave")
        else:
            began = time.monotonic()
        if fault == "killed":
            victim.kill()
        elif fault == "frozen":
            victim.freeze()
        elif fault == "cut":
            for proxy in self._proxies[self._leader]:
                proxy.blackhole()
        try:
            led = await to_thread(heir.expect, "leads", self._patience)
            if fault == "leaves":
                began = await to_thread(victim.expect, "left", self._patience)
        except Silent as e:
            self.failures[fault] = f"{e}; the old leader: {await to_thread(_last_words, victim)}"
            await self._remove(0, 1)
        else:
            self.samples[fault].append(led - began)
            if fault == "leaves":
                victim.tell("join")
            else:
                await self._remove(self._leader)
            self._leader = 1 - self._leader
