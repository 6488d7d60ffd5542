"""Other people's clients and recipes, as they are."""

from __future__ import annotations

import asyncio
import time

import aiozk
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from .wire import PATIENCE


async def test_aiozk(hosts: str, root: str) -> None:
    client = aiozk.ZKClient(hosts, session_timeout=4)
    await client.start()
    try:
        assert client.session.conn.version_info == (3, 8, 0)
        await client.create(f"{root}/a", b"x", ephemeral=True)
        assert await client.get_data(f"{root}/a") == b"x"
        assert await client.get_children(root) == ["a"]
        transaction = client.begin_transaction()
        transaction.check_version(f"{root}/a", 0)
        transaction.set_data(f"{root}/a", b"y")
        assert await transaction.commit()
        assert await client.get_data(f"{root}/a") == b"y"
        await client.delete(f"{root}/a")
        assert not await client.exists(f"{root}/a")
    finally:
        await client.close()


async def test_aiozk_leader_election(hosts: str, root: str) -> None:
    clients = [aiozk.ZKClient(hosts, session_timeout=4) for _ in range(2)]
    for client in clients:
        await client.start()
    try:
        first, second = [client.recipes.LeaderElection(f"{root}/election") for client in clients]
        await first.volunteer()
        await first.wait_for_leadership(timeout=PATIENCE)
        await second.volunteer()
        assert (first.has_leadership, second.has_leadership) == (True, False)
        await first.resign()
        await second.wait_for_leadership(timeout=PATIENCE)
        assert second.has_leadership
        await second.resign()
    finally:
        for client in clients:
            await client.close()


async def test_kazoo_lock(hosts: str, root: str) -> None:
    def use() -> list[str]:
        client = KazooClient(hosts, timeout=4)
        client.start(PATIENCE)
        try:
            with client.Lock(f"{root}/lock", "me"):
                contenders = client.Lock(f"{root}/lock").contenders()
            assert client.get_children(f"{root}/lock") == []
            return list(contenders)
        finally:
            client.stop()
            client.close()

    assert await asyncio.to_thread(use) == ["me"]


async def test_kazoo_election(hosts: str, root: str) -> None:
    """The second leads when the session of the first ends."""

    def elect() -> list[str]:
        led: list[str] = []
        first, second = (KazooClient(hosts, timeout=4) for _ in range(2))
        for client in (first, second):
            client.start(PATIENCE)
        try:
            holder = first.Lock(f"{root}/election", "first")
            holder.acquire()
            election = second.Election(f"{root}/election", "second")
            waiter = second.handler.spawn(election.run, lambda: led.append("second"))
            deadline = time.monotonic() + PATIENCE
            while election.contenders() != ["first", "second"]:
                assert time.monotonic() < deadline, "the second does not queue"
            first.stop()
            waiter.join(PATIENCE)
            return led
        finally:
            for client in (first, second):
                client.stop()
                client.close()

    assert await asyncio.to_thread(elect) == ["second"]


async def test_kazoo_calls(hosts: str, root: str) -> None:
    def call() -> None:
        client = KazooClient(hosts, timeout=4, auth_data=[("digest", "alice:secret")])
        client.start(PATIENCE)
        try:
            path, stat = client.create(f"{root}/a/b", b"x", makepath=True, sequence=True, include_data=True)
            assert (path, stat.version, stat.numChildren) == (f"{root}/a/b0000000000", 0, 0)
            client.set(path, b"y", version=0)
            transaction = client.transaction()
            transaction.check(path, 0)
            transaction.delete(f"{root}/none")
            assert [type(result).__name__ for result in transaction.commit()] == [
                "BadVersionError",
                "RuntimeInconsistency",
            ]
            client.delete(f"{root}/a", recursive=True)
            try:
                client.get(f"{root}/a")
            except NoNodeError:
                return
            raise AssertionError("deleted, and still there")
        finally:
            client.stop()
            client.close()

    await asyncio.to_thread(call)
