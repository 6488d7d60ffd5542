"""What is large but legal is read: the bounds are for what ZooKeeper never sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aiozk import protocol

from aioelect import Client
from aioelect.naming import MAX_ENCODED, NATIVE, ZnodeData
from aioelect.testing.datatree import OPEN_ACL, Caller
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.jute import Create, Opcode
from aioelect.testing.zookeeper import ZooKeeperServer

from .conftest import Open

CHILDREN = 100_000
RAISED = 4 * 1024 * 1024
"""``jute.maxbuffer`` of a server whose users want it so."""


@pytest.fixture(scope="module")
def roomy() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer(properties={"jute.maxbuffer": str(RAISED)}) as server:
        yield server


@pytest.fixture(params=["embedded", "zookeeper"])
async def client(request: pytest.FixtureRequest, open_client: Open) -> AsyncIterator[Client]:
    if request.param == "zookeeper":
        yield await open_client(request.getfixturevalue("zookeeper").hosts)
    else:
        async with EmbeddedServer() as server:
            client = await open_client(server.hosts)
            yield client
            await client.close()


@pytest.mark.parametrize("name", ["n_{:010d}", "candidate-0123456789abcdef0123456789abcdef-{:010d}"])
async def test_a_hundred_thousand_children(open_client: Open, name: str) -> None:
    async with EmbeddedServer(min_session_timeout=20.0, max_session_timeout=20.0) as server:
        client = await open_client(server.hosts)
        await client.ensure_path("/many")
        nobody = Caller(0, ())
        for number in range(CHILDREN):
            server.tree.write(Create(Opcode.CREATE, f"/many/{name.format(number)}", b"", OPEN_ACL, 0), nobody, 0)
        assert await client.exists("/many", watch=True)
        queue = NATIVE.queue(await client.get_children("/many"))
        assert len(queue.contenders) == CHILDREN
        assert queue.contenders[-1] == name.format(CHILDREN - 1)
        assert await client.exists("/many")
        await client.close()


async def test_nearly_a_megabyte(client: Client, path: str) -> None:
    data = bytes(range(256)) * (MAX_ENCODED // 256)
    await client.create(path, data, ephemeral=True)
    assert await client.get_data(path) == data


async def test_the_largest_contender_is_read_whole(client: Client, path: str) -> None:
    said = ZnodeData("a", bytes(740_000), "host", 7)
    await client.create(path, said.encode(), ephemeral=True)
    assert ZnodeData.decode(await client.get_data(path)) == said


async def test_more_than_a_megabyte_from_a_server_that_allows_it(roomy: ZooKeeperServer, open_client: Open) -> None:
    client = await open_client(roomy.hosts)
    data = b"\x1b" * 1_600_000
    request = protocol.Create2Request(path="/large", data=data, acl=[protocol.UNRESTRICTED_ACCESS], flags=1)
    await client.send(request)
    assert await client.get_data("/large") == data
    assert ZnodeData.decode(data) == ZnodeData("\x1b" * 1024)


async def test_many_children_of_a_server_that_allows_it(roomy: ZooKeeperServer, open_client: Open) -> None:
    """Above ZooKeeper's usual megabyte."""
    client = await open_client(roomy.hosts)
    await client.create("/many")
    names = [f"{number:04d}-{'x' * 1000}" for number in range(2_000)]
    for start in range(0, len(names), 500):
        request = protocol.TransactionRequest()
        for name in names[start : start + 500]:
            request.add(
                protocol.Create2Request(path=f"/many/{name}", data=b"", acl=[protocol.UNRESTRICTED_ACCESS], flags=0)
            )
        await client.send(request)
    assert sorted(await client.get_children("/many")) == names
