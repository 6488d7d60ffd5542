"""What is asked of a leader: to step down, or to hand over to another contender.

A request is an ephemeral znode in the sibling folder ``<election>-control``. It goes when whoever asked has seen it done, gives
up, or dies: so requests expire, and no clocks have to agree about when. All that it says stands in its name: the token of the
leader that it is for, so that it can't hit the next one by mistake, and the znode of the successor, if one was chosen.

The leader watches that folder, and so does the next in line: elected while a hand-over to somebody else is pending, it has to
give way before its body starts, and knows so without a round trip. ZooKeeper tells of changes in the order in which they
happened: whoever sees a leader go has seen the request before.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

from aioelect.errands import Errands
from aioelect.errors import AioelectError, ClientClosed, SessionExpired, ZooKeeperError
from aioelect.value import value
from aioelect.zookeeper.access import Access
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder

__all__ = ["Control", "Request", "control_folder"]

log = logging.getLogger("aioelect.election")

_NAME = re.compile(r"(?:step-down|hand-over)-([0-9a-f]{16})-(?:([^/]+)-)?\d{10}", re.ASCII)


@value
class Request:
    """The leader with this token shall step down, in favour of the contender with the znode ``successor`` if one is named."""

    token: int
    successor: str | None = None

    @property
    def prefix(self) -> str:
        """The name of its znode, up to the sequence number."""
        if self.successor is None:
            return f"step-down-{self.token:016x}-"
        return f"hand-over-{self.token:016x}-{self.successor}-"

    @classmethod
    def parse(cls, name: str) -> Request | None:
        """Reads the name of a znode; None where it is no request."""
        found = _NAME.fullmatch(name)
        return found and cls(int(found[1], 16), found[2])


def control_folder(client: Client, election: str, acl: Sequence[Any] | None = None) -> Folder:
    """Where requests to the leader of ``election`` stand; ``acl``: of what is made there."""
    return Folder(client, f"{election}-control", acl)


class Control:
    """The requests of one election, for as long as :meth:`watch` is on. ``changed`` is called when they are known, and anew."""

    __slots__ = (
        "_access",
        "_changed",
        "_control",
        "_errands",
        "_folder",
        "_is_on",
        "_reading",
        "_unlisten",
        "requests",
    )

    def __init__(
        self,
        client: Client,
        folder: Folder,
        errands: Errands,
        changed: Callable[[], None],
        access: Access,
    ) -> None:
        self._access = access
        self._control = control_folder(client, folder.path)
        self._folder = folder
        self._errands = errands
        self._changed = changed
        self.requests: tuple[Request, ...] | None = None
        """What is asked for, as far as it is known; None while it is not."""
        self._is_on = False
        self._unlisten: Callable[[], None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begins; does nothing where it is on already."""
        if not self._is_on:
            self._is_on = True
            self._read_anew(is_rare=True)

    def unwatch(self) -> None:
        """Ends it; does nothing where it is not on."""
        self._is_on = False
        self._forget()

    def look_again(self) -> None:
        """Whether those who were chosen still stand in the queue is what no watch tells."""
        self._read_anew()

    def deposes(self, token: int) -> bool:
        """Whether the leader with this token was asked to step down."""
        return any(request.token == token for request in self.requests or ())

    def prefers_another(self, name: str) -> bool:
        """Whether other contenders were chosen to lead, and not the one with this znode."""
        chosen = {request.successor for request in self.requests or ()} - {None}
        return bool(chosen) and name not in chosen

    def _read_anew(self, *, is_rare: bool = False) -> None:
        """``is_rare``: the folder may well be missing, as long as nobody has asked for anything."""
        self._forget()
        self._reading = self._errands.start(self._read, is_rare)

    def _forget(self) -> None:
        """What was read is out of date, or not needed any more; the same goes for what is being read, and for news."""
        self.requests = None
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, is_rare: bool) -> None:
        """Listens from here on, before it asks, until there is news: only its own list sets the watch again."""
        self._unlisten = self._control.on_changed(lambda _: self._read_anew())
        requests = []
        try:
            listing = await self._control.list_and_watch(is_rare=is_rare)
            if listing is not None:
                await self._access.check(self._control.location)
            for name in listing.names if listing else ():
                request = Request.parse(name)
                if request and (request.successor is None or await self._folder.holds(request.successor)):
                    requests.append(request)  # a successor that has left the queue is no reason to step down
        except (ClientClosed, SessionExpired):
            return  # the candidacy has ended with it
        except (AioelectError, ZooKeeperError) as e:
            log.warning("requests to the leader of %s can't be read, and are not followed: %s", self._folder.path, e)
        self._reading, self.requests = None, tuple(requests)
        self._changed()
