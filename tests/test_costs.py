"""What an election costs the network, against the length of the queue: to join it, to take over, to stand in it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from types import FrameType

import pytest

import aioelect
from aioelect import Candidate, events
from aioelect.testing import EmbeddedServer
from aioelect.zookeeper import wire
from aioelect.zookeeper.connection import Connection
from tests import elections, virtual
from tests.elections import (
    CREATE,
    CREATE_CONTAINER,
    DELETE,
    EXISTS,
    GET_DATA,
    LIST,
    PING,
    WATCH_OWN,
    T,
    Tape,
    contending,
    eventually,
    is_settled,
    soon,
)
from tests.meter import EVENT, Frame, Meter
from tests.zookeeper.test_virtual import client as virtual_client
from tests.zookeeper.test_virtual import server as virtual_server

embedded, hosts = elections.embedded, elections.hosts


@pytest.fixture
async def client() -> AsyncIterator[aioelect.Client]:
    async with EmbeddedServer() as server, aioelect.connect(server.hosts, session_timeout=T) as client:
        yield client


SIZES = (10, 1_000)
"""How many stand in the queue already."""

OTHER = f"candidate-{32 * '0'}-"
"""What the name of a contender of another library begins with."""


async def fill(client: aioelect.Client, election: str, size: int, prefix: str = "n_") -> None:
    """Contenders that do nothing, each with the same data."""
    await client.ensure_path(election)
    await asyncio.gather(
        *(client.create(f"{election}/{prefix}", b"planted", ephemeral=True, sequential=True) for _ in range(size))
    )


async def join(hosts: str, election: str) -> tuple[list[Frame], int | None]:
    """What joining costs, and the position."""
    async with Meter(hosts) as meter, aioelect.connect(meter.hosts, session_timeout=T) as client:
        meter.frames.clear()
        async with Candidate(client, election, identity="newcomer") as candidate:
            position = await soon(candidate.wait_placed())
            await eventually(lambda: is_settled(client))
            return meter.work(), position


async def test_joining_costs_the_same_requests_and_bytes_among_10_and_among_1000(hosts: str, path: str) -> None:
    costs = []
    async with aioelect.connect(hosts, session_timeout=T) as crowd:
        for size in SIZES:
            election = f"{path}/{size:05d}"
            await fill(crowd, election, size)
            cost, position = await join(hosts, election)
            assert position is None
            costs.append(cost)
    assert costs[0] == costs[1]
    assert [frame.opcode for frame in costs[0] if frame.up] == [CREATE, WATCH_OWN, GET_DATA, EXISTS]


@pytest.mark.parametrize(("prefixes", "asked"), [(("n_", OTHER), 2), ((OTHER, "n_"), 1)])
async def test_behind_a_contender_that_cannot_be_guessed_a_list_tells(
    hosts: str, path: str, prefixes: tuple[str, ...], asked: int
) -> None:
    async with aioelect.connect(hosts, session_timeout=T) as crowd:
        for prefix in prefixes:
            await fill(crowd, path, 1, prefix)
        cost, position = await join(hosts, path)
    assert position == 2
    wanted = [CREATE, WATCH_OWN, GET_DATA, EXISTS, LIST, *[GET_DATA] * (asked - 1)]
    assert [frame.opcode for frame in cost if frame.up] == wanted


async def test_what_it_costs_to_lead_where_nobody_else_contends(hosts: str, path: str) -> None:
    """The last two: whether a foreigner stands behind it, and whether anything is asked of the leader."""
    async with Meter(hosts) as meter, aioelect.connect(meter.hosts, session_timeout=T) as client:
        await client.ensure_path(path)
        meter.frames.clear()
        async with aioelect.leadership(client, path):
            await eventually(lambda: is_settled(client))
            asked = [frame.opcode for frame in meter.work() if frame.up]
    assert asked == [CREATE, WATCH_OWN, LIST, EXISTS]


async def test_a_folder_that_is_missing_costs_two_requests_more(hosts: str, path: str) -> None:
    async with Meter(hosts) as meter, aioelect.connect(meter.hosts, session_timeout=T) as client:
        await client.ensure_path(path)
        meter.frames.clear()
        async with aioelect.leadership(client, f"{path}/election"):
            await eventually(lambda: is_settled(client))
            asked = [frame.opcode for frame in meter.work() if frame.up]
    assert asked == [CREATE, CREATE_CONTAINER, CREATE, WATCH_OWN, LIST, EXISTS]


async def take_over(hosts: str, election: str, behind: int) -> list[Frame]:
    """What it costs the next in line, with so many behind it."""
    async with contextlib.AsyncExitStack() as stack:
        first, crowd = [await stack.enter_async_context(aioelect.connect(hosts, session_timeout=T)) for _ in range(2)]
        meter = await stack.enter_async_context(Meter(hosts))
        client = await stack.enter_async_context(aioelect.connect(meter.hosts, session_timeout=T))
        leader, heir = await stack.enter_async_context(contending([first, client], election))
        await heir.tape.wait(events.NextInLine)
        await fill(crowd, election, behind)
        await eventually(lambda: is_settled(client))
        meter.frames.clear()
        await leader.leave()
        await heir.elected()
        await eventually(lambda: is_settled(client))
        return meter.work()


async def test_taking_over_costs_the_same_messages_among_10_and_among_1000(hosts: str, path: str) -> None:
    """Of these, one answer grows with the queue: that to the winner's look for foreigners, when it leads already."""
    small, large = [await take_over(hosts, f"{path}/{size:05d}", size - 2) for size in SIZES]
    assert [(frame.opcode, frame.up) for frame in small] == [
        (EVENT, False),
        (LIST, True),
        (LIST, False),
    ]
    assert small[:2] == large[:2]
    assert [(frame.opcode, frame.up) for frame in large] == [(frame.opcode, frame.up) for frame in small]


async def test_a_request_to_step_down_costs_the_leader_one_list_and_the_deletion_of_its_znode(
    hosts: str, path: str
) -> None:
    """And one list when the folder of requests is made. What else the leader asked is answered before ``exists``."""
    async with (
        Meter(hosts) as meter,
        aioelect.connect(hosts, session_timeout=T) as asker,
        aioelect.connect(meter.hosts, session_timeout=T) as client,
        contending([client], path) as [leader],
    ):

        async def spent() -> list[int]:
            await client.exists(path)
            await eventually(lambda: is_settled(client))
            return sorted(frame.opcode for frame in meter.work() if frame.up)

        await leader.elected()
        await eventually(lambda: is_settled(client))
        meter.frames.clear()
        await asker.create(f"{path}-control")
        assert await spent() == [EXISTS, LIST]
        meter.frames.clear()
        await soon(aioelect.step_down(asker, path))
        assert await leader.lost() is aioelect.LossReason.STEP_DOWN_REQUESTED
        assert await spent() == [DELETE, EXISTS, LIST]


@pytest.mark.parametrize("alone", [True, False])
async def test_between_the_predecessors_deletion_and_the_body_nothing_is_asked(
    hosts: str, path: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the news is all that has arrived, and taken first of all, or not."""
    told: list[str] = []
    async with (
        aioelect.connect(hosts, session_timeout=T) as first,
        aioelect.connect(hosts, session_timeout=T) as client,
        contending([first], path) as [leader],
    ):
        tape, led = Tape(), asyncio.Event()

        async def follow() -> None:
            async with aioelect.leadership(client, path, on_event=tape):
                told.append("body")
                led.set()
                await asyncio.Event().wait()

        following = asyncio.create_task(follow())
        await tape.wait(events.NextInLine)
        await eventually(lambda: is_settled(client))
        conn = client.session.conn
        receive, write = Connection.data_received, Connection._write

        def note_read(self: Connection, data: bytes) -> None:
            if self is conn:
                told.append("news" if wire.deletion_event(f"{path}/n_0000000000")[16:] in data else "answer")
            receive(self, data)

        def note_written(self: Connection, data: bytes, now: float) -> None:
            if self is conn:
                told.append("request")
            write(self, data, now)

        monkeypatch.setattr(Connection, "data_received", note_read)
        monkeypatch.setattr(Connection, "_write", note_written)
        if not alone:
            monkeypatch.setattr(wire, "foreseen", lambda packet: b"")
        await leader.leave()
        await soon(led.wait())
        await eventually(lambda: is_settled(client))
        following.cancel()
        await asyncio.wait([following])
    assert told[told.index("news") :][:3] == ["news", "body", "request"]


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_leaving_costs_one_request_as_the_leader_as_the_next_and_as_any_other(
    hosts: str, path: str, before: int
) -> None:
    """That no watch is set again on the own name, which never comes back, spares the successor a rival for the CPU, too."""
    async with Meter(hosts) as meter, aioelect.connect(hosts, session_timeout=T) as crowd:
        await fill(crowd, path, before)
        async with aioelect.connect(meter.hosts, session_timeout=T) as client:
            candidate = await Candidate.enter(client, path)
            await soon(candidate.wait_placed())
            await eventually(lambda: is_settled(client))
            meter.frames.clear()
            await candidate.withdraw()
            await client.exists(path)
            spent = sorted(frame.opcode for frame in meter.work() if frame.up)
    assert spent == [DELETE, EXISTS]


class Calls:
    """Counts the calls of the library's own functions while it is on."""

    def __init__(self) -> None:
        self.count = 0

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and PACKAGE in frame.f_code.co_filename and TESTING not in frame.f_code.co_filename:
            self.count += 1

    def start(self) -> None:
        self.count = 0
        sys.setprofile(self._called)

    def stop(self) -> int:
        sys.setprofile(None)
        return self.count


PACKAGE, TESTING = "/aioelect/", "/aioelect/testing/"


async def test_few_calls_lie_between_the_end_of_a_body_and_the_request_that_its_successor_waits_for(
    client: aioelect.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a microsecond or two in code that has not run for a while. Before that was looked at there were 93."""
    calls, counts = Calls(), list[int]()
    write = Connection._write

    def note(self: Connection, data: bytes, now: float) -> None:
        counts.append(calls.stop())
        write(self, data, now)

    async with aioelect.leadership(client, path):
        await eventually(lambda: is_settled(client))
        monkeypatch.setattr(Connection, "_write", note)
        calls.start()
    assert counts[0] <= 18


async def test_few_calls_lie_between_the_news_and_the_body(client: aioelect.Client, path: str) -> None:
    """Before that was looked at there were 128."""
    calls, tape, counts = Calls(), Tape(), list[int]()

    async def follow() -> None:
        async with aioelect.leadership(client, path, on_event=tape):
            counts.append(calls.stop())

    async with aioelect.connect(str(client.session.hosts), session_timeout=T) as other:
        await fill(other, path, 1)
        following = asyncio.create_task(follow())
        await tape.wait(events.NextInLine)
        await eventually(lambda: is_settled(client))
        assert client.session.conn is not None
        calls.start()
        client.session.conn.data_received(wire.deletion_event(f"{path}/n_0000000000"))
        await soon(following)
    assert counts[0] <= 34


def test_standing_in_a_queue_costs_one_look_in_place_of_each_ping() -> None:
    """For all but the leader and the next in line, who renew their leases. In an hour of virtual time."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(virtual_server())
            meters = [await stack.enter_async_context(Meter(server.hosts)) for _ in range(6)]
            clients = [await stack.enter_async_context(virtual_client(meter.hosts)) for meter in meters]
            for client in clients[:-1]:
                await stack.enter_async_context(Candidate(client, "/election"))
            await eventually(lambda: all(map(is_settled, clients)))
            for meter in meters:
                meter.frames.clear()
            await asyncio.sleep(3600)
            *_, third, fourth, fifth, idle = [[frame.opcode for frame in meter.frames if frame.up] for meter in meters]
            assert set(idle) == {PING}
            for waiter in (third, fourth, fifth):
                assert set(waiter) == {EXISTS}
                assert len(waiter) <= 1.05 * len(idle)

    virtual.run(main())
