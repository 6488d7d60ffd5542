"""The recipes of docs/fencing.md: their code itself is run, with a leader that pauses while a newer one writes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import aioelect
from aioelect import Candidate, Leader
from aioelect.ports import World, boottime
from aioelect.testing.embedded import EmbeddedServer
from tests.elections import soon

CODE = "\n".join(
    re.findall(r"^```python\n(.*?)^```$", (Path(__file__).parent.parent / "docs/fencing.md").read_text(), re.S | re.M)
)
FENCE = " WHERE fence.token <= excluded.token"

Write = Callable[[Leader, int], Awaitable[None]]


class Clock:
    """A clock that can be stopped, as of a machine that is paused."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None

    def __call__(self) -> float:
        return boottime() if self.stopped_at is None else self.stopped_at


class Recipes:
    """The code of the page, and a database that it writes to."""

    def __init__(self, code: str, database: str) -> None:
        self.names: dict[str, Any] = {"__name__": "docs.fencing"}
        exec(compile(code, "docs/fencing.md", "exec"), self.names)
        self.database = database
        with self.open() as db:
            db.execute(self.names["FENCE"])
            db.execute("CREATE TABLE prices (item TEXT PRIMARY KEY, price INTEGER)")
        self.election: str = self.names["ELECTION"]

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.database, timeout=0)) as db:
            yield db

    def price(self) -> int:
        with self.open() as db:
            ((price,),) = db.execute("SELECT price FROM prices WHERE item = 'tea'")
            return int(price)

    def tokens(self) -> list[tuple[str, int]]:
        with self.open() as db:
            return db.execute("SELECT election, token FROM fence").fetchall()

    async def write_to_database(self, leader: Leader, price: int) -> None:
        with self.open() as db:
            self.names["set_price"](db, leader, "tea", price)

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """The HTTP service; its address."""
        service = self.names["service"](self.database)
        service.log_message = lambda *_: None
        with ThreadingHTTPServer(("127.0.0.1", 0), service) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


@contextlib.asynccontextmanager
async def deposition(election: str) -> AsyncIterator[tuple[Leader, Callable[[], Awaitable[Leader]]]]:
    """A leader, and what deposes it without its knowledge and gives the next one."""
    clock = Clock()
    async with (
        EmbeddedServer(tick_time=0.2) as server,
        aioelect.connect(server.hosts, session_timeout=30.0, world=World(clock=clock)) as paused,
        aioelect.connect(server.hosts, session_timeout=30.0) as client,
        Candidate(paused, election) as old,
        contextlib.AsyncExitStack() as stack,
    ):
        connection, session_id = paused.session.conn, paused.session.session_id
        assert connection is not None
        assert session_id is not None

        async def depose() -> Leader:
            clock.stopped_at = clock()
            connection.pause_reading()
            stack.callback(connection.resume_reading)
            server.expire(session_id)
            new = await stack.enter_async_context(Candidate(client, election))
            return await soon(new.wait_elected())

        yield await soon(old.wait_elected()), depose


async def check_that_the_deposed_one_is_refused(recipes: Recipes, write: Write) -> None:
    async with deposition(recipes.election) as (old, depose):
        await write(old, 1)
        await write(old, 2)
        new = await depose()
        await write(new, 3)
        old.check()  # no clock of its own tells
        with pytest.raises(aioelect.Deposed) as refused:
            await write(old, 4)
        assert refused.value.token == old.token < new.token
        assert recipes.price() == 3
        await write(new, 5)
        assert recipes.price() == 5
        assert recipes.tokens() == [(recipes.election, new.token)]


async def check_that_the_deposed_one_overwrites(recipes: Recipes, write: Write) -> None:
    async with deposition(recipes.election) as (old, depose):
        new = await depose()
        await write(new, 3)
        await write(old, 4)
        assert recipes.price() == 4


@pytest.fixture
def recipes(tmp_path: Path) -> Recipes:
    return Recipes(CODE, str(tmp_path / "prices.db"))


@pytest.fixture
def unfenced(tmp_path: Path) -> Recipes:
    """The same code, whose statement does not compare."""
    assert CODE.count(FENCE) == 1
    return Recipes(CODE.replace(FENCE, ""), str(tmp_path / "unfenced.db"))


async def test_database_refuses_a_deposed_leader(recipes: Recipes) -> None:
    await check_that_the_deposed_one_is_refused(recipes, recipes.write_to_database)


async def test_database_without_the_fence_takes_what_a_deposed_leader_writes(unfenced: Recipes) -> None:
    await check_that_the_deposed_one_overwrites(unfenced, unfenced.write_to_database)


async def test_service_refuses_a_deposed_leader(recipes: Recipes) -> None:
    with recipes.serve() as address:

        async def put(leader: Leader, price: int) -> None:
            await asyncio.to_thread(recipes.names["put_price"], address, leader, "tea", price)

        await check_that_the_deposed_one_is_refused(recipes, put)


async def test_service_without_the_fence_takes_what_a_deposed_leader_writes(unfenced: Recipes) -> None:
    with unfenced.serve() as address:

        async def put(leader: Leader, price: int) -> None:
            await asyncio.to_thread(unfenced.names["put_price"], address, leader, "tea", price)

        await check_that_the_deposed_one_overwrites(unfenced, put)


@pytest.mark.parametrize("token", [None, "", "-1", "x", str(2**63)])
def test_service_refuses_who_has_no_token(recipes: Recipes, token: str | None) -> None:
    headers = {} if token is None else {"Fencing-Token": token}
    http_client = recipes.names["http"].client
    with recipes.serve() as address, contextlib.closing(http_client.HTTPConnection(address, timeout=5)) as connection:
        connection.request("PUT", "/tea", "1", headers)
        assert connection.getresponse().status == 428
    assert recipes.tokens() == []


def test_error_in_the_block_leaves_neither_the_write_nor_the_token(recipes: Recipes) -> None:
    with recipes.open() as db:
        with pytest.raises(ZeroDivisionError), recipes.names["fenced"](db, "/e", 7):
            db.execute("INSERT INTO prices VALUES ('tea', 1)")
            raise ZeroDivisionError
        assert not db.in_transaction
        assert db.execute("SELECT count(*) FROM prices").fetchone() == (0,)
    assert recipes.tokens() == []


def test_check_and_write_can_not_be_parted(recipes: Recipes) -> None:
    """A newer leader waits for the transaction of an older one that has passed the fence."""
    fenced = recipes.names["fenced"]
    with recipes.open() as db, recipes.open() as newer:
        with fenced(db, "/e", 7):
            with pytest.raises(sqlite3.OperationalError, match="locked"), fenced(newer, "/e", 8):
                pytest.fail("both are inside")
            db.execute("INSERT INTO prices VALUES ('tea', 1)")
        with fenced(newer, "/e", 8):
            assert newer.execute("SELECT price FROM prices").fetchall() == [(1,)]
        with pytest.raises(aioelect.Deposed), fenced(db, "/e", 7):
            pytest.fail("it has been deposed")


def test_empty_block_raises_the_token_and_elections_are_apart(recipes: Recipes) -> None:
    fenced = recipes.names["fenced"]
    with recipes.open() as db:
        with fenced(db, "/e", 2**63 - 1):
            pass
        with fenced(db, "/other", 1):
            pass
        with pytest.raises(aioelect.Deposed), fenced(db, "/e", 2**63 - 2):
            pytest.fail("it is lower")
    assert recipes.tokens() == [("/e", 2**63 - 1), ("/other", 1)]


async def test_token_grows_when_the_election_folder_is_made_again() -> None:
    async with EmbeddedServer(tick_time=0.2) as server, aioelect.connect(server.hosts) as client:
        async with aioelect.leadership(client, "/e") as first:
            pass
        await client.deleteall("/e")
        async with aioelect.leadership(client, "/e") as second:
            assert second.path == first.path
            assert second.token > first.token
