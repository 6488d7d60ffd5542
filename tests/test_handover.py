"""``handover_delay``: a new leader waits after a predecessor that did not end by itself, and only then."""

import asyncio
import json
from typing import Any

import pytest
from aiozk import exc

import aioelect
from aioelect import LossReason, events, handover
from aioelect.testing import jute
from aioelect.testing.embedded import EmbeddedServer
from aioelect.zookeeper import multi
from tests import elections, refusals
from tests.elections import MULTI, Connect, Contending, Intercept, Tape, expire, queue, soon

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept
deny, refuse = refusals.deny, refusals.refuse

DELAY = 0.3


async def note(admin: aioelect.Client, path: str) -> dict[str, Any]:
    """What the last leader has left."""
    found: dict[str, Any] = json.loads(await admin.get_data(f"{path}-term") or b"")
    return found


async def term(client: aioelect.Client, path: str, **options: Any) -> Tape:
    """One term that begins and ends at once."""
    tape = Tape()
    async with aioelect.leadership(client, path, handover_delay=DELAY, on_event=tape, **options):
        pass
    return tape


async def test_nobody_waits_where_nobody_has_led(client: aioelect.Client, path: str) -> None:
    assert (await term(client, path)).of(events.HandoverDelayed) == []


async def test_nobody_waits_after_a_clean_end(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    tapes = [await term(client, path), await term(admin, path), await term(client, path)]
    assert [tape.of(events.HandoverDelayed) for tape in tapes] == [[], [], []]
    assert (await note(admin, path))["ended"] is True


async def test_a_term_is_noted_before_its_body_starts(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    async with aioelect.leadership(client, path, handover_delay=DELAY) as leader:
        assert await note(admin, path) == {"v": 1, "token": leader.token, "ended": False}


async def test_after_an_expired_session_the_next_leader_waits(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    first = Contending(client, path, "first", handover_delay=DELAY)
    await first.elected()
    second = Contending(await connect(), path, "second", handover_delay=DELAY)
    await second.queued(position=1)
    await expire(client)
    assert await first.lost() is LossReason.SESSION_EXPIRED
    leader = await second.elected()
    waited = await second.tape.wait(events.HandoverDelayed)
    assert (waited.token, waited.delay) == (leader.token, DELAY)
    assert leader.since - waited.at >= DELAY
    assert second.tape.names.index("HandoverDelayed") < second.tape.names.index("Elected")
    await second.leave()
    assert (await note(admin, path)) == {"v": 1, "token": leader.token, "ended": True}


async def test_after_an_administrator_has_deleted_the_znode_the_next_leader_waits(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    first = Contending(client, path, "first", handover_delay=DELAY)
    leader = await first.elected()
    await admin.delete(leader.path, force=True)
    assert await first.lost() is LossReason.NODE_DELETED
    tape = await term(await connect(), path)
    assert len(tape.of(events.HandoverDelayed)) == 1


async def test_who_dies_while_it_waits_leaves_the_wait_to_the_next(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    first = Contending(client, path, "first", handover_delay=DELAY)
    await first.elected()
    second = Contending(await connect(), path, "second", handover_delay=60.0)
    await second.queued(position=1)
    await expire(client)
    assert await first.lost() is LossReason.SESSION_EXPIRED
    await second.tape.wait(events.HandoverDelayed)
    second.task.cancel()
    await asyncio.wait([second.task])
    assert await queue(admin, path) == []
    assert len((await term(await connect(), path)).of(events.HandoverDelayed)) == 1


async def test_who_leaves_before_the_answer_to_its_note_has_come_leaves_no_wait_to_the_next(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no body that might go on."""
    written = asyncio.Event()

    async def commit(*args: Any) -> Any:
        outcome = await multi.commit(*args)
        if not written.is_set():
            written.set()
            await asyncio.Event().wait()
        return outcome

    monkeypatch.setattr(handover, "commit", commit)
    first = Contending(client, path, "first", handover_delay=DELAY)
    await soon(written.wait())
    await first.leave()
    assert (await note(admin, path))["ended"] is True
    assert not (await term(await connect(), path)).of(events.HandoverDelayed)


async def test_the_wait_counts_as_time_to_be_elected(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    first = Contending(client, path, "first", handover_delay=DELAY)
    await first.elected()
    await expire(client)
    assert await first.lost() is LossReason.SESSION_EXPIRED
    with pytest.raises(aioelect.ElectionTimeout):
        async with aioelect.leadership(await connect(), path, handover_delay=60.0, timeout=0.5):
            pytest.fail("it should have waited")
    assert await queue(admin, path) == []


async def test_asked_to_step_down_while_it_waits_it_queues_again(
    client: aioelect.Client, connect: Connect, admin: aioelect.Client, path: str
) -> None:
    first = Contending(client, path, "first", handover_delay=DELAY)
    await first.elected()
    second = Contending(await connect(), path, "second", handover_delay=60.0)
    await second.queued(position=1)
    third = Contending(await connect(), path, "third", handover_delay=DELAY)
    await third.queued()
    await expire(client)
    assert await first.lost() is LossReason.SESSION_EXPIRED
    await second.tape.wait(events.HandoverDelayed)
    new = await soon(aioelect.step_down(admin, path))
    assert new is not None
    assert new.identity == "third"
    await third.elected()
    assert len(third.tape.of(events.HandoverDelayed)) == 1
    await third.leave()
    second.task.cancel()
    await asyncio.wait([second.task])


@pytest.mark.parametrize("loss", ["lose_reply", "lose_request"])
async def test_a_note_whose_answer_is_lost_is_looked_for(
    connect: Connect, intercept: Intercept, admin: aioelect.Client, path: str, loss: str
) -> None:
    proxy = await intercept()
    happened: list[asyncio.Event] = []

    def lose_the_note(event: events.Event) -> None:
        if isinstance(event, events.HandoverDelayed):  # the note is the next that is written
            happened.append(getattr(proxy, loss)(MULTI))

    await admin.create(f"{path}-term", b"")
    options = {"renew_every": 0.5, "tick_time": 0.2}
    client = await connect(proxy.hosts, session_timeout=4.0, **options)
    leading = aioelect.leadership(client, path, handover_delay=0.01, on_event=lose_the_note)
    async with leading as leader:
        await soon(happened[0].wait())
        assert await note(admin, path) == {"v": 1, "token": leader.token, "ended": False}
    assert await note(admin, path) == {"v": 1, "token": leader.token, "ended": True}


async def test_credentials_refused_when_the_body_has_ended_do_not_come_out_of_its_block(
    embedded: EmbeddedServer, deny: refusals.Deny, path: str
) -> None:
    tape = Tape()
    async with aioelect.connect(embedded.hosts, session_timeout=2.0, auth=aioelect.Digest("u", "p")) as client:
        async with aioelect.leadership(client, path, handover_delay=DELAY, on_event=tape):
            deny()
            client.session.drop("by the test")
        assert len(tape.of(events.Released)) == 1
        assert isinstance(client.session.failure, aioelect.AuthenticationFailed)


async def test_a_note_that_is_refused_for_a_moment_is_no_reason_to_stand_and_wait(
    embedded: EmbeddedServer, refuse: refusals.Refuse, path: str
) -> None:
    """Before, it was taken for a refusal because the own znode was gone, and nobody led."""
    async with aioelect.connect(embedded.hosts, session_timeout=4.0, renew_every=0.5, tick_time=0.2) as client:

        def refuse_the_note(event: events.Event) -> None:
            if isinstance(event, events.HandoverDelayed):  # the note is the next that is written
                refuse(jute.Multi, refusals.THROTTLED)

        await client.create(f"{path}-term", b"")
        with pytest.raises(exc.ResponseError) as error:
            async with aioelect.leadership(
                client, path, handover_delay=0.01, on_event=refuse_the_note, timeout=elections.PATIENCE
            ):
                pytest.fail("the note was refused")
        assert error.value.error_code == refusals.THROTTLED
        assert await queue(client, path) == []


async def test_garbage_in_the_note_is_an_unclean_end(
    client: aioelect.Client, admin: aioelect.Client, path: str
) -> None:
    await admin.create(f"{path}-term", b"\xff{")
    assert len((await term(client, path)).of(events.HandoverDelayed)) == 1
    assert (await note(admin, path))["ended"] is True


async def test_an_election_below_a_folder_and_in_a_chroot(hosts: str, admin: aioelect.Client, path: str) -> None:
    async with aioelect.connect(f"{hosts}{path}", session_timeout=2.0) as client:
        await term(client, "/a/b")
        assert (await note(admin, f"{path}/a/b"))["ended"] is True


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
async def test_what_is_no_delay_is_refused(client: aioelect.Client, delay: float) -> None:
    with pytest.raises(ValueError, match="handover_delay must be"):
        aioelect.leadership(client, "/election", handover_delay=delay)


async def test_without_a_delay_nothing_is_noted(client: aioelect.Client, admin: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(client, path):
        assert not await admin.exists(f"{path}-term")
