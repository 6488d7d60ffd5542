"""The scene that a ping-counting client gets wrong: a follower cut off from its quorum goes on answering pings."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

import aioelect
from aioelect import events
from aioelect.testing.zookeeper import ZooKeeperEnsemble

T = 2.0


@dataclass
class Term:
    """When a body ran, on the machine's monotonic clock, and when it could last prove that it led."""

    started: float = 0.0
    last_proven: float = 0.0
    ended: float = 0.0
    error: BaseException | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


async def lead(client: aioelect.Client, term: Term, release: asyncio.Event | None = None) -> None:
    try:
        async with aioelect.leadership(client, "/cut-off") as leader:
            term.started = time.monotonic()
            term.began.set()
            try:
                while release is None or not release.is_set():
                    now = time.monotonic()
                    if leader.is_leader:
                        term.last_proven = now
                    await asyncio.sleep(0.005)
            finally:
                await asyncio.sleep(0.02)  # clean-up that awaits
                term.ended = time.monotonic()
    except aioelect.LeadershipLost as e:
        term.error = e
    finally:
        term.over.set()


@pytest.mark.timeout(90)
async def test_leader_on_a_member_cut_off_from_its_quorum_ends_before_the_next_begins() -> None:
    with ZooKeeperEnsemble(sync_limit=25) as ensemble:  # the follower goes on for 5 s after the cut
        cut, other = ensemble.followers()
        seen: list[events.Event] = []
        async with (
            aioelect.connect(ensemble.members[cut].hosts, session_timeout=T, on_event=seen.append) as ours,
            aioelect.connect(ensemble.members[other].hosts, session_timeout=T) as theirs,
            asyncio.TaskGroup() as group,
        ):
            first, second, release = Term(), Term(), asyncio.Event()
            group.create_task(lead(ours, first))
            await first.began.wait()
            group.create_task(lead(theirs, second, release))
            while len((await aioelect.get_standing(theirs, "/cut-off")).contenders) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(3 * ours.session.timing.renew_every)  # a warm lease, far from its first touch

            cut_at = time.monotonic()
            ensemble.cut(cut)
            await asyncio.wait_for(second.began.wait(), 20)
            release.set()
            await second.over.wait()
            await first.over.wait()
            ensemble.heal(cut)

        assert isinstance(first.error, aioelect.LeadershipLost)
        assert first.error.reason is aioelect.LossReason.DEADLINE_PASSED
        assert cut_at < first.last_proven < first.ended < second.started
        assert second.error is None
        assert second.started - cut_at < 2 * T + 2
