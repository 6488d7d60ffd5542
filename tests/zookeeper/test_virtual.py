"""The real session, against the embedded server, on virtual time: hours pass in milliseconds, and every time is exact."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from aiozk import protocol

from aioelect import Client, ConnectTimeout, ServerSilent, connect
from aioelect import events as ev
from aioelect.ports import Address, World
from aioelect.testing.embedded import EmbeddedServer
from aioelect.watchdog import UNWATCHED
from aioelect.zookeeper.servers import LONGEST_DELAY
from tests import virtual

from .conftest import Record

T = 9.0
EXACTLY = 1e-6 + 2 * virtual.LATENCY


def world(seed: int = 0) -> World:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [(host, port)]

    now = asyncio.get_running_loop().time
    return World(clock=now, monotonic=now, resolve=resolve, random=random.Random(seed), watchdog=UNWATCHED)


def server(port: int = 0) -> EmbeddedServer:
    now = asyncio.get_running_loop().time
    return EmbeddedServer(port, tick_time=1.0, clock=now, wall_clock=now)


def client(hosts: str, seed: int = 0, **options: Any) -> Any:
    return connect(hosts, world=world(seed), **{"session_timeout": T, **options})


def virtually(main: Coroutine[Any, Any, None]) -> None:
    """Runs it, and checks that it took next to no real time."""
    began = time.monotonic()
    virtual.run(main)
    assert time.monotonic() - began < 20


EXISTS = protocol.ExistsRequest(path="/", watch=False)


def test_an_idle_session_is_kept_alive_for_an_hour() -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, on_event=record):
            await asyncio.sleep(3600)
            assert [type(event) for event in record] == [ev.Connected]
            assert len(virtual.network().dials) == 1

    virtually(main())


@pytest.mark.parametrize("phase", [0.0, 0.1, 1.0, 2.9, 3.0, 3.1, 5.0])
def test_a_silent_server_is_given_up_after_two_thirds_of_the_timeout_at_the_latest(phase: float) -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, on_event=record):
            await asyncio.sleep(phase)
            silent_since = asyncio.get_running_loop().time()
            virtual.network().dark.add(zookeeper.port)
            given_up = await record.wait(ev.Disconnected, timeout=T)
            assert T / 3 <= given_up.at - silent_since <= T * 2 / 3 + EXACTLY

    virtually(main())


@pytest.mark.parametrize("phase", [0.0, 0.7, 2.9])
@pytest.mark.parametrize("cancel", [False, True])
def test_an_unanswered_request_gives_the_server_up_after_a_third(phase: float, cancel: bool) -> None:
    async def main() -> None:
        async with server() as zookeeper, client(zookeeper.hosts) as one:
            await asyncio.sleep(phase)
            asked = asyncio.get_running_loop().time()
            virtual.network().dark.add(zookeeper.port)
            conn = one.session.conn
            answer = one.session.submit(EXISTS)
            if cancel:  # the server owes an answer all the same
                answer.cancel()
            await conn.wait_closed()
            assert asyncio.get_running_loop().time() - asked == pytest.approx(T / 3, abs=0.001)
            if not cancel:
                with pytest.raises(ServerSilent):
                    await answer

    virtually(main())


def test_a_patience_of_its_own_gives_up_sooner_and_never_later() -> None:
    async def main() -> None:
        async with server() as zookeeper, client(zookeeper.hosts) as one:
            for patience, bound in ((1.0, 1.0), (100.0, T / 3), (None, T / 3)):
                one.session.be_patient(patience)
                virtual.network().dark.add(zookeeper.port)
                asked = asyncio.get_running_loop().time()
                with pytest.raises(ServerSilent):
                    await one.session.submit(EXISTS)
                assert asyncio.get_running_loop().time() - asked == pytest.approx(bound, abs=0.001)
                virtual.network().dark.clear()
                await one.session.ensure_safe_state()

    virtually(main())


def test_a_loop_that_always_lags_gives_a_silent_server_up_all_the_same() -> None:
    async def main() -> None:
        async with server() as zookeeper, client(zookeeper.hosts) as one:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, virtual.VirtualLoop)
            virtual.network().dark.add(zookeeper.port)
            conn = one.session.conn
            answer = one.session.submit(EXISTS)
            asked = loop.time()
            while not conn.closing and loop.time() < 3 * T:
                loop.block(T / 3)
                await asyncio.sleep(0)
            assert loop.time() - asked <= T * 4 / 3 + EXACTLY
            with pytest.raises(ServerSilent):
                await answer

    virtually(main())


def test_a_request_that_a_blocked_loop_has_left_unread_does_not_give_the_server_up() -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, on_event=record) as one:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, virtual.VirtualLoop)
            for phase in (0.1, 0.5, 1.0, 2.0, 2.9):
                await asyncio.sleep(phase)
                answer = one.session.submit(EXISTS)
                loop.block(T / 2)
                await answer
            assert not record.of(ev.Disconnected)

    virtually(main())


async def dials_of_an_outage(seed: int, seconds: float) -> list[float]:
    """When three closed ports were dialled, counted from the end of the connection."""
    record = Record()
    async with server(21_001) as zookeeper:
        hosts = f"{zookeeper.hosts},127.0.0.1:21002,127.0.0.1:21003"
        async with client(hosts, seed, on_event=record):
            began = asyncio.get_running_loop().time()
            virtual.network().dials.clear()
            await zookeeper.stop()
            await asyncio.sleep(seconds)
            return [at - began for at, _ in virtual.network().dials]


@pytest.mark.parametrize("seed", range(10))
def test_the_server_that_was_just_lost_is_tried_last(seed: int) -> None:
    async def main() -> None:
        async with server(21_001) as zookeeper:
            virtual.network().dark |= {21_002, 21_003}
            async with client(f"{zookeeper.hosts},127.0.0.1:21002,127.0.0.1:21003", seed):
                virtual.network().dials.clear()
                await zookeeper.stop()
                await asyncio.sleep(1)
                assert [port for _, port in virtual.network().dials].index(21_001) == 2

    virtually(main())


def rounds(dials: list[float]) -> list[float]:
    """The pauses between rounds of three attempts."""
    return [later - earlier for earlier, later in zip(dials[2::3], dials[3::3], strict=False)]


def test_backoff_starts_at_once_grows_and_can_be_replayed_from_its_seed() -> None:
    first = virtual.run(dials_of_an_outage(1, 600))
    assert first == virtual.run(dials_of_an_outage(1, 600))
    assert first != virtual.run(dials_of_an_outage(2, 600))
    assert first[0] < EXACTLY
    pauses = rounds(first)
    for number, pause in enumerate(pauses):
        bound = min(0.05 * 2**number, LONGEST_DELAY)
        assert bound / 2 <= pause - 2 * virtual.LATENCY <= bound + EXACTLY
    assert len({round(pause, 6) for pause in pauses}) > len(pauses) / 2  # jitter
    assert 600 <= len(pauses) < 1300  # ten minutes at half a second to a second each


def test_an_outage_of_ten_minutes_is_over_within_a_second_of_its_end() -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, on_event=record) as one:
            session_id = one.session.session_id
            await zookeeper.stop()
            await asyncio.sleep(600)
            await zookeeper.start()  # as after a restart: sessions live on
            up = asyncio.get_running_loop().time()
            assert (await record.wait(ev.Reconnected)).at - up <= LONGEST_DELAY + EXACTLY * 4
            assert one.session.session_id == session_id

    virtually(main())


def test_a_partition_of_ten_minutes_ends_the_session_once() -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, on_event=record):
            virtual.network().dark.add(zookeeper.port)
            await asyncio.sleep(600)
            assert not record.of(ev.Expired)  # nobody has said so
            virtual.network().dark.clear()
            up = asyncio.get_running_loop().time()
            opened = await record.wait(ev.Connected, 2)
            assert opened.at - up <= LONGEST_DELAY + T / 3
            assert len(record.of(ev.Expired)) == 1

    virtually(main())


@pytest.mark.parametrize("seed", range(20))
def test_two_dark_members_of_three_cost_less_than_a_second(seed: int) -> None:
    async def main() -> None:
        async with server(21_001) as zookeeper:
            virtual.network().dark |= {21_002, 21_003}
            async with client(f"127.0.0.1:21002,127.0.0.1:21003,{zookeeper.hosts}", seed):
                assert asyncio.get_running_loop().time() < 1

    virtually(main())


def test_attempts_at_a_dark_server_are_bounded() -> None:
    async def main() -> None:
        virtual.network().dark.add(21_001)
        with pytest.raises(ConnectTimeout):
            await client("127.0.0.1:21001", timeout=60)
        assert asyncio.get_running_loop().time() == pytest.approx(60, abs=0.01)
        times = [at for at, _ in virtual.network().dials]
        lengths = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(lengths) <= T / 3 + LONGEST_DELAY + EXACTLY
        assert 0.4 <= lengths[0] <= 0.5

    virtually(main())


@pytest.mark.parametrize("seed", range(10))
def test_a_rolling_restart_loses_no_session(seed: int) -> None:
    async def main() -> None:
        record = Record()
        async with server() as zookeeper, client(zookeeper.hosts, seed, on_event=record) as one:
            await one.create("/own", ephemeral=True)
            for _ in range(20):
                await zookeeper.stop()
                await asyncio.sleep(one.session.world.random.uniform(0.01, 5))
                await zookeeper.start()
                await one.exists("/own")
                await asyncio.sleep(one.session.world.random.uniform(0, 5))
            assert await one.exists("/own")
            assert not record.of(ev.Expired)

    virtually(main())


def test_close_gives_a_dark_server_one_second() -> None:
    async def main() -> None:
        async with server() as zookeeper:
            one: Client = await client(zookeeper.hosts)
            virtual.network().dark.add(zookeeper.port)
            began = asyncio.get_running_loop().time()
            await one.close()
            assert asyncio.get_running_loop().time() - began == pytest.approx(1, abs=0.01)

    virtually(main())
