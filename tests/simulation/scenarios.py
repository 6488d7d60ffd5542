"""Storms that are written down, for what chance would seldom bring about: each takes a simulation from its start to calm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aioelect import events
from aioelect.testing import jute

from .chaos import Undo
from .contender import Process
from .ensemble import Leading
from .run import Setting, Simulation

__all__ = [
    "ASKED",
    "COLD",
    "DEPOSED",
    "DRAIN",
    "FAR",
    "PAIR",
    "RESUME",
    "STORMS",
    "TIMEOUT",
    "Storm",
    "asker_cut_off",
    "cold_and_far",
    "cold_when_elected",
    "cut_between_pings",
    "frozen_when_elected",
    "leader_change_after_a_resume",
    "resume_at_a_deposed_leader",
    "resume_while_expiring",
    "thaw_before_the_deadline",
]

Storm = Callable[[Simulation], None]

ASKED = Setting(session_timeout=2.0, tick=0.2, tick_time=0.2)
PAIR = Setting(session_timeout=4.0, tick=2.0, tick_time=2.0, drain_share=0.05)
TIMEOUT = Setting(session_timeout=4.0, tick=0.2, tick_time=0.2, generous=(1, 3.0))
RESUME = Setting(session_timeout=4.0, tick=2.0, tick_time=2.0)
DEPOSED = Setting(session_timeout=10.0, tick=2.0, tick_time=2.0)
COLD = Setting(session_timeout=4.0, tick=2.0, tick_time=2.0, drain_share=0.15)
FAR = Setting(session_timeout=2.0, tick=2.0, drain_share=0.05)
DRAIN = Setting(session_timeout=4.0, tick=0.2, tick_time=0.2, drain_share=0.15)


def cut_between_pings(simulation: Simulation) -> None:
    """The member that our leader sits on is cut off, with our leader, just before it would hand its touch table over."""
    tick = simulation.setting.tick
    for _ in range(
        60
    ):  # until the leader pings just before the end of a tick: then sessions expire soon after they may
        if 0.88 * tick / 2 < _zookeeper(simulation).pinged_at % (tick / 2) < 0.98 * tick / 2:
            break
        _zookeeper(simulation).member.look("so that the next leader pings at another time")
        simulation.until(lambda: simulation.ensemble.leading is not None)
    simulation.kernel.run(simulation.kernel.now + 3 * simulation.setting.granted)
    leader = _leader(simulation)
    zookeeper = _zookeeper(simulation).member
    if leader.member == zookeeper.name:
        apart = simulation.chaos.block(*simulation.chaos.between(leader.name, [zookeeper.name]))
        simulation.until(lambda: leader.member not in (None, zookeeper.name))
        apart()
        simulation.kernel.run(simulation.kernel.now + 3 * simulation.setting.granted)
        leader = _leader(simulation)
    member = next((each for each in simulation.ensemble.members if each.name == leader.member), zookeeper)
    simulation.until(lambda: 0.98 * tick < (simulation.kernel.now - _zookeeper(simulation).pinged_at) + tick / 2)
    simulation.until(lambda: _zookeeper(simulation).pinged_at % tick > tick / 2)
    simulation.until(lambda: simulation.kernel.now - _zookeeper(simulation).pinged_at > 0.95 * tick / 2)
    others = simulation.chaos.peers(member)
    ways = simulation.chaos.between(member.name, others) + simulation.chaos.between(leader.name, others)
    _for_a_while(simulation, simulation.chaos.block(*ways))


def leader_change_after_a_resume(simulation: Simulation) -> None:
    """A session is resumed at a member that grants more; then a new ZooKeeper leader restarts it with its first timeout."""
    leader = _leader(simulation)
    members = [member.name for member in simulation.ensemble.members]
    apart = simulation.chaos.block(*simulation.chaos.between(leader.name, [members[0], members[2]]))
    simulation.until(lambda: leader.member == members[1])
    simulation.kernel.run(simulation.kernel.now + simulation.setting.granted)
    apart()
    leader = _leader(simulation)
    alone = simulation.chaos.block(*simulation.chaos.between(leader.name, members))
    zookeeper = _zookeeper(simulation).member
    zookeeper.crash(silent=False)
    _for_a_while(simulation, alone)
    zookeeper.restart()


def resume_while_expiring(simulation: Simulation) -> None:
    """The sessions of our leader and of the next in line expire together, one after the other; in between, the second is
    resumed, learns of the first one's end, and is cut off."""
    simulation.ensemble.pace = simulation.setting.tick / 2
    zookeeper = _zookeeper(simulation)
    zookeeper.member.look("so that the next leader expires sessions slowly")
    simulation.until(lambda: simulation.ensemble.leading is not None)
    leader = _leader(simulation)
    simulation.kernel.run(simulation.kernel.now + 2 * simulation.setting.granted)
    names = sorted(_zookeeper(simulation).member.tree.node("/one").children, key=lambda name: name[-10:])
    owners = [_zookeeper(simulation).member.tree.node(f"/one/{name}").owner for name in names]
    second = next(each for each in simulation.processes if each.session_id == owners[1])
    members = [member.name for member in simulation.ensemble.members]
    first_cut = simulation.chaos.block(*simulation.chaos.between(leader.name, members))
    second_cut = simulation.chaos.block(*simulation.chaos.between(second.name, members))
    tracker = _zookeeper(simulation).tracker
    simulation.until(lambda: tracker.is_closing(owners[0]))
    second_cut()
    simulation.until(lambda: second.member is not None or tracker.is_closing(owners[1]))
    second_cut = simulation.chaos.block(*simulation.chaos.between(second.name, members))
    _for_a_while(simulation, second_cut)
    first_cut()


def resume_at_a_deposed_leader(simulation: Simulation) -> None:
    """A ZooKeeper leader that is cut off goes on resuming sessions, while another one, elected by members that were restarted,
    expires them."""
    leader = _leader(simulation)
    deposed = _zookeeper(simulation).member
    others = simulation.chaos.peers(deposed)
    undo = simulation.chaos.block(*simulation.chaos.between(leader.name, others))
    simulation.until(lambda: leader.member == deposed.name)
    simulation.kernel.run(simulation.kernel.now + simulation.setting.granted)
    cut = simulation.chaos.block(*simulation.chaos.between(deposed.name, others))
    for member in simulation.ensemble.members:
        if member is not deposed:
            member.crash(silent=False)
            member.restart()
    simulation.until(lambda: _zookeeper(simulation).member is not deposed)
    simulation.kernel.run(simulation.kernel.now + 0.4 * simulation.setting.granted)
    for connection in list(deposed.connections):
        connection.close()
    _for_a_while(simulation, cut)
    undo()


def thaw_before_the_deadline(simulation: Simulation) -> None:
    """Our leader is cut off and frozen; it goes on when there is less time left than its body was promised to unwind."""
    leader = _leader(simulation)
    simulation.kernel.run(simulation.kernel.now + simulation.setting.granted)
    members = [member.name for member in simulation.ensemble.members]
    alone = simulation.chaos.block(*simulation.chaos.between(leader.name, members))
    term = simulation.referee.leading("/one")[0]
    drain = simulation.setting.session_timeout * (simulation.setting.drain_share or 0.1)
    until = term.session.lease.deadline - drain * simulation.random.uniform(0.1, 0.5)
    simulation.kernel.freeze(leader.loop, until - simulation.kernel.now)
    _for_a_while(simulation, alone)


def frozen_when_elected(simulation: Simulation) -> None:
    """Whoever is elected next is frozen before its body starts, and goes on when its lease has run out."""
    leader = _leader(simulation)
    simulation.kernel.run(simulation.kernel.now + 2 * simulation.setting.granted)
    seconds = simulation.setting.granted * simulation.random.uniform(1.0, 2.0)

    def heard(process: Process, event: events.Event) -> None:
        if isinstance(event, events.Elected):
            for each in simulation.processes:
                each.heard = lambda event: None
            simulation.kernel.freeze(process.loop, seconds)

    for process in simulation.processes:
        process.heard = partial(heard, process)
    leader.resign()
    simulation.kernel.run(simulation.kernel.now + 4 * simulation.setting.granted)


def cold_when_elected(simulation: Simulation) -> None:
    """Both contenders before the third go at once; it has only pinged so far, and its first proof is an old one."""
    simulation.kernel.run(simulation.kernel.now + simulation.setting.granted * simulation.random.uniform(2.0, 3.0))
    names = sorted(_zookeeper(simulation).member.tree.node("/one").children, key=lambda name: name[-10:])
    for name in reversed(names[:2]):
        simulation.ensemble.write(jute.Delete(f"/one/{name}", -1))
    simulation.referee.well_since = simulation.kernel.now
    simulation.kernel.run(simulation.kernel.now + 4 * simulation.setting.granted)


def cold_and_far(simulation: Simulation) -> None:
    """The same where answers take long."""
    members = [member.name for member in simulation.ensemble.members]
    for one in (*members, *(process.name for process in simulation.processes)):
        for way in simulation.chaos.between(one, members):
            simulation.network.path(*way).delay = 0.015
    cold_when_elected(simulation)


def asker_cut_off(simulation: Simulation) -> None:
    """Somebody asks for another leader, and is cut off at once, for longer than a request may take and its session lives."""
    _leader(simulation)
    asker = simulation.ask("/one", False, 60.0)
    simulation.until(lambda: any(each.client == asker.name and each.made for each in simulation.network.connections))
    simulation.kernel.run(simulation.kernel.now + simulation.random.uniform(0.0, 0.03))
    members = [member.name for member in simulation.ensemble.members]
    cut = simulation.chaos.block(*simulation.chaos.between(asker.name, members))
    _for_a_while(simulation, cut)
    simulation.until(asker.main.done)


def _leader(simulation: Simulation) -> Process:
    """The process whose body runs, when there is one."""
    simulation.until(lambda: simulation.referee.leading("/one"))
    name = simulation.referee.leading("/one")[0].process
    return next(process for process in simulation.processes if process.name == name)


def _zookeeper(simulation: Simulation) -> Leading:
    leading = simulation.ensemble.leading
    assert leading is not None
    return leading


def _for_a_while(simulation: Simulation, undo: Undo) -> None:
    simulation.kernel.run(simulation.kernel.now + 4 * simulation.setting.granted)
    undo()


STORMS: tuple[tuple[Storm, Setting], ...] = (
    (cut_between_pings, PAIR),
    (leader_change_after_a_resume, TIMEOUT),
    (resume_while_expiring, RESUME),
    (resume_at_a_deposed_leader, DEPOSED),
    (thaw_before_the_deadline, DRAIN),
    (frozen_when_elected, DRAIN),
    (cold_when_elected, COLD),
    (cold_and_far, FAR),
    (asker_cut_off, ASKED),
)
"""All of them, each with the setting that it is made for."""
