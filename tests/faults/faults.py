"""The faults, what is expected of each, and one round of one: play it, heal, look at what was recorded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

from aioelect.testing.recorder import Interval, find_gaps, find_overlaps

from .stage import Cast, Contender, Stage, Stuck

AGAIN = 2.0
"""Beyond a session timeout, seconds within which somebody leads again, from when that became possible."""

CANCELLED = 1.0
"""Seconds within which a body ends when its process goes on after it was deposed, on a busy machine."""


@dataclass
class Scene:
    """One round: who leads, and from where."""

    stage: Stage
    cast: Cast
    leader: Contender
    seat: int
    """The index of the member that the leader is connected to."""
    token: int
    """That of its term."""
    random: random.Random
    began: float = field(default_factory=time.monotonic)

    @property
    def timeout(self) -> float:
        """The session timeout, in seconds."""
        return self.cast.session_timeout

    @property
    def others(self) -> list[Contender]:
        return [contender for contender in self.cast.contenders if contender is not self.leader]

    @property
    def next_in_line(self) -> Contender:
        return min(self.others, key=lambda contender: contender.token or 0)

    async def taken_over(self) -> None:
        """Another contender leads."""
        await self.stage.until(
            "a takeover",
            lambda: any(contender.since(self.began, "Leads") for contender in self.others),
            2 * self.timeout + 10,
        )

    async def stood_down(self) -> None:
        """The leader's body has ended."""
        await self.stage.until(
            "the leader stands down", lambda: self.leader.since(self.began, "Stops"), 2 * self.timeout + 10
        )

    async def renewed(self) -> None:
        """The leader has renewed its lease once more."""
        now = time.monotonic()
        await self.stage.until("a renewal", lambda: self.leader.since(now, "Renewed") or not self.leader.leads)

    async def lost(self) -> None:
        """The leader's body has ended, and another one leads."""
        await self.stood_down()
        await self.taken_over()

    def confine(self) -> None:
        """The leader can reach no other member than the one it sits on."""
        for index, proxy in enumerate(self.leader.proxies):
            if index != self.seat:
                proxy.cut()

    async def ride(self, seconds: float) -> None:
        """For so long nothing else happens, unless the leader loses."""
        try:
            async with asyncio.timeout(seconds):
                await self.stage.until("the end", lambda: not self.leader.leads)
        except TimeoutError:
            pass


Act = Callable[[Scene], Awaitable[float]]


@dataclass(frozen=True)
class Fault:
    """``act`` returns the time from which somebody can lead again."""

    act: Act
    keeps: bool
    """Whether the leader must ride it out; otherwise it certainly loses its term."""
    session_timeout: float
    on_follower: bool
    """Whether the leader is put on a ZooKeeper follower first."""

    @property
    def name(self) -> str:
        return self.act.__name__


FAULTS: dict[str, Fault] = {}


def fault(*, keeps: bool, session_timeout: float = 2.0, on_follower: bool = False) -> Callable[[Act], Act]:
    """Registers a fault under its function's name."""

    def register(act: Act) -> Act:
        found = Fault(act, keeps, session_timeout, on_follower)
        FAULTS[found.name] = found
        return act

    return register


# The leader's process


@fault(keeps=False)
async def leader_killed(scene: Scene) -> float:
    """kill -9."""
    await scene.leader.kill()
    await scene.taken_over()
    return scene.began


@fault(keeps=False)
async def leader_frozen(scene: Scene) -> float:
    """SIGSTOP until another leads, then SIGCONT."""
    scene.leader.freeze()
    await scene.taken_over()
    scene.leader.thaw()
    await scene.stood_down()
    return scene.began


@fault(keeps=True)
async def leader_frozen_shortly(scene: Scene) -> float:
    """SIGSTOP for less than a leader rides out, then SIGCONT."""
    scene.leader.freeze()
    await asyncio.sleep(scene.random.uniform(0.1, 0.45) * scene.timeout)
    scene.leader.thaw()
    await scene.renewed()
    return scene.began


@fault(keeps=False)
async def leader_killed_next_frozen(scene: Scene) -> float:
    """kill -9 of the leader, SIGSTOP of the next in line; SIGCONT when the third leads."""
    following = scene.next_in_line
    following.freeze()
    await scene.leader.kill()
    await scene.taken_over()
    following.thaw()
    return scene.began


# The leader's network


@fault(keeps=False)
async def network_black_hole(scene: Scene) -> float:
    """Everything is swallowed, both ways."""
    for proxy in scene.leader.proxies:
        proxy.blackhole()
    await scene.lost()
    return scene.began


@fault(keeps=False)
async def network_closed(scene: Scene) -> float:
    """Connections are closed (FIN), new ones too."""
    for proxy in scene.leader.proxies:
        proxy.cut()
    await scene.lost()
    return scene.began


@fault(keeps=False)
async def cut_towards_servers(scene: Scene) -> float:
    """What the leader sends is swallowed; what the servers send arrives."""
    for proxy in scene.leader.proxies:
        proxy.drop("up")
    await scene.lost()
    return scene.began


@fault(keeps=False)
async def cut_towards_leader(scene: Scene) -> float:
    """What the servers send is swallowed; what the leader sends arrives: its attempts to connect keep its session alive."""
    for proxy in scene.leader.proxies:
        proxy.drop("down")
    await scene.stood_down()
    return time.monotonic()


@fault(keeps=True)
async def delayed_100_ms(scene: Scene) -> float:
    """100 ms each way, for two session timeouts."""
    for proxy in scene.leader.proxies:
        proxy.delay(0.1)
    await scene.ride(2 * scene.timeout)
    return scene.began


@fault(keeps=True)
async def flapping(scene: Scene) -> float:
    """Connections are reset (RST) again and again, for two session timeouts."""
    while time.monotonic() < scene.began + 2 * scene.timeout and scene.leader.leads:
        for proxy in scene.leader.proxies:
            proxy.reset()
        await scene.ride(scene.random.uniform(0.02, 0.2) * scene.timeout)
    await scene.renewed()
    return scene.began


@fault(keeps=True)
async def stalled_shortly(scene: Scene) -> float:
    """Everything is held back for less than a leader rides out, and released at once."""
    for proxy in scene.leader.proxies:
        proxy.freeze()
    await asyncio.sleep(scene.random.uniform(0.1, 0.45) * scene.timeout)
    for proxy in scene.leader.proxies:
        proxy.thaw()
    await scene.renewed()
    return scene.began


@fault(keeps=False)
async def stalled_for_long(scene: Scene) -> float:
    """Everything is held back until another leads, and released at once."""
    for proxy in scene.leader.proxies:
        proxy.freeze()
    await scene.lost()
    return scene.began


# The member that the leader sits on


@fault(keeps=True, on_follower=True)
async def follower_killed(scene: Scene) -> float:
    """kill -9 of the follower that the leader sits on."""
    await asyncio.to_thread(scene.stage.ensemble.members[scene.seat].kill)
    await scene.renewed()
    return scene.began


@fault(keeps=True, on_follower=True)
async def follower_frozen(scene: Scene) -> float:
    """SIGSTOP of the follower that the leader sits on, for a session timeout."""
    scene.stage.ensemble.members[scene.seat].freeze()
    await scene.ride(scene.timeout)
    await scene.renewed()
    return scene.began


@fault(keeps=True, on_follower=True)
async def follower_restarted(scene: Scene) -> float:
    """Restart of the follower that the leader sits on."""
    await scene.stage.ensemble.members[scene.seat].arestart()
    await scene.renewed()
    return scene.began


@fault(keeps=True, on_follower=True)
async def seat_cut_off(scene: Scene) -> float:
    """The member that the leader sits on loses its quorum and goes on answering pings; the other members can be reached."""
    scene.stage.ensemble.cut(scene.seat)
    await scene.ride(1.5 * scene.timeout)
    await scene.renewed()
    return scene.began


@fault(keeps=False, on_follower=True)
async def only_seat_cut_off(scene: Scene) -> float:
    """The member that the leader sits on loses its quorum and goes on answering pings; no other can be reached."""
    scene.confine()
    scene.stage.ensemble.cut(scene.seat)
    await scene.lost()
    return scene.began


@fault(keeps=False, on_follower=True)
async def stalled_then_seat_cut_off(scene: Scene) -> float:
    """Packets that were held back arrive together; with their acknowledgement the member is cut off from its quorum."""
    scene.confine()
    path = scene.leader.proxies[scene.seat]
    path.freeze("up")
    await asyncio.sleep(scene.random.uniform(0.2, 0.3) * scene.timeout)
    path.thaw("up")
    await scene.renewed()
    cut = time.monotonic()
    scene.stage.ensemble.cut(scene.seat)
    await scene.lost()
    return cut


# ZooKeeper's own leader


@fault(keeps=False)
async def zookeeper_leader_frozen(scene: Scene) -> float:
    """SIGSTOP of ZooKeeper's leader for one and a half session timeouts: too short for the others to elect a new one."""
    member = scene.stage.ensemble.members[await scene.stage.zookeeper_leader()]
    member.freeze()
    await asyncio.sleep(1.5 * scene.timeout)
    await scene.stood_down()
    member.resume()
    return time.monotonic()


@fault(keeps=False)
async def zookeeper_leader_cut_off(scene: Scene) -> float:
    """Our leader sits on ZooKeeper's, which loses its quorum; the others elect a new one when their patience ends, after 5 s."""
    old = await scene.stage.zookeeper_leader()
    await scene.stage.put_on(scene.cast, scene.leader, old)
    scene.stage.ensemble.cut(old)
    await scene.stood_down()
    return await scene.stage.new_zookeeper_leader()


@fault(keeps=True, session_timeout=8.0)
async def zookeeper_leader_killed(scene: Scene) -> float:
    """kill -9 of ZooKeeper's leader: every client is thrown out until a new one is elected."""
    await asyncio.to_thread(scene.stage.ensemble.members[await scene.stage.zookeeper_leader()].kill)
    await scene.renewed()
    return scene.began


@fault(keeps=False, session_timeout=6.0)
async def resumed_with_another_timeout(scene: Scene) -> float:
    """The session is resumed with twice its timeout and then cut off; a new ZooKeeper leader counts by the first one again."""
    leader, stage = scene.leader, scene.stage
    leader.resume_with(2 * scene.timeout)
    await stage.until("the session is resumed", lambda: leader.since(scene.began, "Reconnected"))
    await stage.warm(scene.cast, leader)
    member = stage.ensemble.members[await stage.zookeeper_leader()]
    for proxy in leader.proxies:
        proxy.blackhole()
    await asyncio.to_thread(member.kill)
    counts_from = await stage.new_zookeeper_leader()
    await scene.lost()
    await leader.kill()  # the next one asks for what it should
    return counts_from


@fault(keeps=True, session_timeout=8.0)
async def rolling_restart(scene: Scene) -> float:
    """All members are restarted, one after the other, each when the one before serves again."""
    for member in scene.stage.ensemble.members:
        await member.arestart()
        await scene.stage.warm(scene.cast, scene.leader)
    return time.monotonic()


# A round


@dataclass(frozen=True)
class Round:
    """What came of a fault. Times in seconds."""

    fault: Fault
    overlaps: int
    disorders: int
    losses: int
    """Terms that ended."""
    gap: float
    """Time without a leader: nobody was proven to lead."""
    unproven: float
    """The longest time between two renewals of the first leader."""
    is_safe: bool
    """Whether what went wrong, if anything, is a matter of time alone: nobody led beside another, or on after it was over."""
    problems: list[str]
    story: str


async def play(stage: Stage, fault: Fault, chance: random.Random, *, credulous: bool = False) -> Round:
    """One round, after which all is well again. Contenders that did wrong are not asked again."""
    cast = await stage.cast(fault.session_timeout, credulous=credulous)
    await stage.heal(cast)
    try:
        leader = await stage.settle(cast)
        if fault.on_follower:
            await stage.put_on(cast, leader, await stage.follower())
    except Stuck as e:
        await stage.dismiss()
        raise Stuck(f"{e}\n{cast.story()}") from None
    assert leader.seat is not None
    assert leader.token is not None
    await asyncio.sleep(chance.uniform(0, cast.session_timeout / 10))  # anywhere between two renewals
    scene = Scene(stage, cast, leader, leader.seat, leader.token, chance)
    problems: list[str] = []
    again_by: float | None = None
    try:
        again_by = await fault.act(scene) + cast.session_timeout + AGAIN
        await stage.heal(cast)
        await stage.settle(cast)
    except Stuck as e:
        problems.append(str(e))
        await stage.heal(cast)
    result = await asyncio.to_thread(_judge, scene, fault, again_by, problems)
    if result.problems:
        await stage.dismiss()
    return result


def _judge(scene: Scene, fault: Fault, again_by: float | None, problems: list[str]) -> Round:
    cast, began = scene.cast, scene.began
    terms = cast.recorder.intervals()
    bodies = [body for contender in cast.contenders for body in contender.bodies()]
    overlaps = [*cast.recorder.overlaps(), *find_overlaps(bodies)]
    disorders = cast.recorder.disorder()
    problems += [f"two led at once: {_show(pair, began)}" for pair in overlaps]
    problems += [f"tokens out of order: {_show(pair, began)}" for pair in disorders]

    starts = sorted(said["at"] for contender in cast.contenders for said in contender.since(began, "Leads"))
    if fault.keeps and starts:
        problems.append("the leader lost what it should have ridden out")
    elif not fault.keeps and len(starts) != 1:
        problems.append(f"one takeover was due, {len(starts)} came")
    elif not fault.keeps and again_by is not None and starts[0] > again_by:
        problems.append(f"the next one led {starts[0] - again_by:.3f} s too late")
    awakening: list[str] = []
    if not fault.keeps and any(thawed > began for _, thawed in scene.leader.halts):
        awakening = _look_at_awakening(scene.leader, terms, scene.token)
        problems += awakening
    renewals = [said["at"] for said in scene.leader.since(began - 1, "Renewed") if said["token"] == scene.token]
    gaps = find_gaps([term for term in terms if term.token >= scene.token])
    return Round(
        fault,
        overlaps=len(overlaps),
        disorders=len(disorders),
        losses=len(starts),
        gap=sum(end - start for start, end in gaps),
        unproven=max((later - earlier for earlier, later in pairwise(renewals)), default=0.0),
        is_safe=not (overlaps or disorders or awakening),
        problems=problems,
        story=cast.story(began),
    )


def _look_at_awakening(leader: Contender, terms: tuple[Interval, ...], token: int) -> list[str]:
    """What a leader did after it woke up that was frozen and deposed meanwhile."""
    _, thawed = leader.halts[-1]
    problems = [
        f"{leader.identity} acted {term.end - thawed:.4f} s after it woke up"
        for term in terms
        if term.token == token and term.end >= thawed
    ]
    woke, stops = leader.since(thawed, "Woke"), leader.since(thawed, "Stops")
    if not woke or woke[0]["proven"]:
        problems.append(f"check() passed or was not asked when {leader.identity} woke up: {woke}")
    if not stops or stops[0]["at"] > thawed + CANCELLED:
        problems.append(f"the body of {leader.identity} went on {CANCELLED:g} s after it woke up: {stops}")
    return problems


def _show(pair: tuple[Interval, Interval], began: float) -> str:
    return " and ".join(f"{each.contender} {each.start - began:.4f} to {each.end - began:.4f}" for each in pair)
