"""What the simulation found and no other test would show."""

from __future__ import annotations

from typing import Any

import pytest

import aioelect
from aioelect.errors import ConnectionLoss, Executed
from tests import elections
from tests.elections import Connect, contending, soon

client, connect = elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


@pytest.fixture
def faltering(client: aioelect.Client, monkeypatch: pytest.MonkeyPatch) -> aioelect.Client:
    """Its servers are lost, for as long as a request may take, when it makes its first folder."""
    honest = client.ensure_container
    losses = [ConnectionLoss("", 0, "no answer in time", Executed.NO)]

    async def ensure_container(*args: Any) -> None:
        if losses:
            raise losses.pop()
        await honest(*args)

    monkeypatch.setattr(client, "ensure_container", ensure_container)
    return client


async def test_servers_lost_while_the_folder_is_made_are_waited_for(faltering: aioelect.Client, path: str) -> None:
    async with aioelect.leadership(faltering, path) as leader:
        assert leader.is_leader


async def test_servers_lost_while_a_request_is_made_are_waited_for(
    faltering: aioelect.Client, connect: Connect, path: str
) -> None:
    async with contending([await connect()], path) as (first,):
        await first.elected()
        assert await soon(aioelect.step_down(faltering, path)) is None
        assert await first.lost() is aioelect.LossReason.STEP_DOWN_REQUESTED
