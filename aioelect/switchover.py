"""A planned change of leaders, asked for from outside: ``step_down()`` and ``hand_over()``.

Nobody needs to delete a leader's znode by hand: its body would run on beside the next one's until the news has arrived. A leader
that is asked ends its body first. See ``aioelect.control`` for how it is asked.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from aioelect.cleanup import finish
from aioelect.control import Request, control_folder
from aioelect.errors import NoLeader, NotContending, SwitchoverTimeout
from aioelect.model import Contender, Standing
from aioelect.naming import ZnodeData, check_identity, check_path
from aioelect.observer import Standings, get_standing, observe, open_client
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder

__all__ = ["hand_over", "step_down"]


def step_down(
    client: Client | str, election: str, *, timeout: float | None = 30.0
) -> Coroutine[Any, Any, Contender | None]:
    """Asks whoever leads now to step down; gives the next leader, or None where nobody else contends.

    The leader's body is cancelled and may drain; its block ends with ``LeadershipLost`` (``STEP_DOWN_REQUESTED``), and a
    ``campaign()`` contends again, at the end of the queue. ``client`` may be a hosts string. After ``timeout`` seconds (None:
    never) the request is taken back. Raises ``NoLeader``, ``SwitchoverTimeout``, and ``ValueError`` or ``TypeError`` at the call.
    """
    check_path(election, "election path")
    return _switch(*open_client(client), election, None, timeout)


def hand_over(
    client: Client | str, election: str, to: str | Contender, *, timeout: float | None = 30.0
) -> Coroutine[Any, Any, Contender | None]:
    """Asks whoever leads now to step down in favour of another contender; returns that one when it leads.

    ``to`` is a :class:`Contender`, or an identity (of several with the same one, the first in the queue). Contenders before it
    in the queue give way and queue again. Nothing happens where it leads already. Raises ``NotContending`` where it is not
    in the queue, or leaves it meanwhile; otherwise as :func:`step_down`.
    """
    check_path(election, "election path")
    if not isinstance(to, Contender):
        check_identity(to)
    return _switch(*open_client(client), election, to, timeout)


async def _switch(
    client: Client,
    owned: AbstractAsyncContextManager[object],
    election: str,
    to: str | Contender | None,
    timeout: float | None,
) -> Contender | None:
    async with owned:
        leader: Contender | None = None
        try:
            async with asyncio.timeout(timeout):
                standing = await get_standing(client, election)
                leader = standing.leader
                if leader is None:
                    raise NoLeader(election)
                successor = None if to is None else _find(standing, election, to)
                if successor == leader:
                    return leader
                async with observe(client, election) as standings:
                    return await _ask(client, election, standings, leader, successor)
        except TimeoutError:
            raise SwitchoverTimeout(election, timeout or 0, leader.identity if leader else None) from None


async def _ask(
    client: Client, election: str, standings: Standings, leader: Contender, successor: Contender | None
) -> Contender | None:
    """Lets the request stand until it is fulfilled, or can't be any more."""
    acl = await Folder(client, election).read_acl()  # a request is as well protected as what it is about
    request = Request(leader.token, None if successor is None else successor.path.rpartition("/")[2])
    control = control_folder(client, election, acl)
    host, pid, random = socket.gethostname(), os.getpid(), client.session.world.random
    nonce = f"{random.getrandbits(128):032x}"
    asker = ZnodeData(f"{host}:{pid}", b"", host, pid, nonce)
    place = await control.enter(request.prefix, asker.encode(), nonce)
    try:
        async for standing in standings:
            if successor is not None:
                if standing.leader == successor:
                    return successor
                _find(standing, election, successor)
            elif leader not in standing.contenders:
                return standing.leader
        raise AssertionError("standings never end")
    finally:
        await finish(control.leave(place))


def _find(standing: Standing, election: str, wanted: str | Contender) -> Contender:
    for contender in standing.contenders:
        if wanted in (contender, contender.identity):
            return contender
    identity = wanted if isinstance(wanted, str) else wanted.identity
    raise NotContending(election, identity, tuple(contender.identity for contender in standing.contenders))
