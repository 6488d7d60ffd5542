"""An election folder, as the election sees it: enter, list, watch, read. No decisions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiozk import exc, protocol

from aioelect.cleanup import finish
from aioelect.errors import AioelectError, ClientClosed, ConnectionLoss, Executed, SessionExpired
from aioelect.naming import ZnodeData
from aioelect.value import value
from aioelect.zookeeper import wire
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.janitor import FIRST_PAUSE, LONGEST_PAUSE
from aioelect.zookeeper.session import Session

__all__ = ["Folder", "Listing", "Place", "Znode"]

log = logging.getLogger("aioelect.session")


@value
class Place:
    """A contender's znode: its name in the folder, its czxid, and the session that owns it."""

    name: str
    token: int
    session_id: int


@value
class Znode:
    """What was found under a name; ``created`` in seconds since the epoch."""

    data: bytes | None
    token: int
    owner: int
    created: float
    version: int


@value
class Listing:
    """The children of a znode, and its czxid: in another folder at the same path, names mean other znodes."""

    names: tuple[str, ...]
    token: int


class Folder:
    """``path`` as the client's user knows it; names are those of children. ``acl``: of what is made; the client's by default."""

    __slots__ = ("_client", "_root", "acl", "path")

    def __init__(self, client: Client, path: str, acl: Sequence[Any] | None = None) -> None:
        self.path = path
        self.acl = acl
        self._client = client
        self._root = client.normalize_path(path)

    @property
    def _session(self) -> Session:
        return self._client.session

    @property
    def location(self) -> str:
        """The path of the folder as the server knows it."""
        return self._root

    def locate(self, name: str) -> str:
        """The path of ``name`` as the server knows it."""
        return f"{self._root.rstrip('/')}/{name}"

    def display(self, name: str) -> str:
        """The path of ``name`` as the client's user knows it."""
        return f"{self.path.rstrip('/')}/{name}"

    # The own znode

    async def enter(self, prefix: str, payload: bytes, nonce: str) -> Place:
        """Makes an ephemeral sequential znode, on whatever session lives, waiting for servers as long as it takes.

        Exactly one: when the reply was lost, the znode is found again by its nonce. When this is cancelled, none is left.
        """
        request = protocol.Create2Request(
            path=self.locate(prefix), data=payload, acl=list(self.acl or self._client.default_acl)
        )
        request.set_flags(ephemeral=True, sequential=True)
        while True:
            await self._session.ensure_safe_state(writing=True)
            session_id = self._session.session_id or 0
            try:
                reply = await self._session.ask(request, session_id=session_id)
                stat = reply.record.stat
                return Place(_name_of(reply.record.path), stat.created_zxid, session_id)
            except exc.NoNode:
                # Where that fails, for want of servers or of a parent, the next round tries again.
                with contextlib.suppress(ConnectionLoss, exc.NoNode):
                    await self._client.ensure_container(self.path, self.acl)
            except SessionExpired:
                continue
            except ConnectionLoss as e:
                place = await self._find_again(prefix, nonce, session_id) if e.executed is Executed.UNKNOWN else None
                if place is not None:
                    return place
            except asyncio.CancelledError:
                await finish(self._hunt(prefix, nonce, session_id))
                raise

    async def _find_again(self, prefix: str, nonce: str, session_id: int) -> Place | None:
        try:
            return await self._find(prefix, nonce, session_id)
        except SessionExpired:
            return None
        except asyncio.CancelledError:
            await finish(self._hunt(prefix, nonce, session_id))
            raise

    async def _hunt(self, prefix: str, nonce: str, session_id: int) -> None:
        """Finds and deletes the znode of a create that nobody waits for any more, as long as its session lives."""

        async def hunt() -> None:
            try:
                place = await self._find(prefix, nonce, session_id)
            except (AioelectError, exc.ZKError) as e:
                if not isinstance(e, (SessionExpired, ClientClosed)):
                    log.warning("can't look for what was made in %r (%r): it goes with the session", self._root, e)
                return
            if place is not None:
                await self._client.janitor.delete(self.locate(place.name), session_id)

        await asyncio.shield(self._client.janitor.spawn(hunt()))

    async def _find(self, prefix: str, nonce: str, session_id: int) -> Place | None:
        """Our session's znode with this nonce. Asks until there is an answer: while nobody knows of the znode, it stays in
        everybody's way.

        Raises what has ended the session or the client, and ``NoAuth``, where asking again does not help.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._look_for(prefix, nonce, session_id)
            except (AioelectError, exc.NoAuth):
                raise
            except exc.ZKError as e:
                log.warning(
                    "the search for what was made in %r was refused (%s): tried again in %g s", self._root, e, pause
                )
            await self._client.janitor.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _look_for(self, prefix: str, nonce: str, session_id: int) -> Place | None:
        """By sync and getEphemerals in one go: without the sync, a follower may lag. A read-only server can't do it."""
        while True:
            await self._session.ensure_safe_state(writing=True)
            answers = await asyncio.gather(
                self._session.submit(protocol.SyncRequest(path=self._root), session_id),
                self._session.submit(wire.GetEphemeralsRequest(path=self.locate(prefix)), session_id),
                return_exceptions=True,
            )
            failure = next((answer for answer in answers if isinstance(answer, BaseException)), None)
            if isinstance(failure, exc.Unimplemented):
                names: Sequence[str] = await self.names(session_id)
            elif isinstance(failure, exc.SessionExpired):
                raise SessionExpired(session_id)
            elif isinstance(failure, (ConnectionLoss, exc.SessionMoved)):
                continue
            elif failure is not None:
                raise failure
            else:
                found = answers[1]
                assert not isinstance(found, BaseException)  # noqa: S101  # ruled out above
                names = [_name_of(path) for path in found.record.ephemerals if path == self.locate(_name_of(path))]
            for name in names:
                znode = await self.read(name, session_id)
                if znode is not None and znode.owner == session_id and ZnodeData.decode(znode.data).nonce == nonce:
                    return Place(name, znode.token, session_id)
            return None

    def leave(self, place: Place) -> asyncio.Future[None]:
        """Asks at once for the deletion of the own znode; done when it is certainly gone, however long that takes."""
        return asyncio.shield(self._client.janitor.begin(self.locate(place.name), place.session_id))

    # Everybody's

    async def names(self, session_id: int | None = None) -> tuple[str, ...]:
        """The children; none where there is no folder."""
        listing = await self.list(session_id)
        return listing.names if listing else ()

    async def list(self, session_id: int | None = None, *, watch: bool = False) -> Listing | None:
        """The children, with a watch on the list if asked for; None where there is no folder."""
        return await self._list(self._root, session_id, watch=watch)

    async def _list(self, path: str, session_id: int | None, *, watch: bool) -> Listing | None:
        request = protocol.GetChildren2Request(path=path, watch=watch)
        try:
            reply = await self._session.ask(request, session_id=session_id)
        except exc.NoNode:
            return None
        return Listing(tuple(reply.record.children), reply.record.stat.created_zxid)

    async def list_and_watch(self, *, is_rare: bool = False) -> Listing | None:
        """The children, with a watch on the list; None where there is no folder, with a watch on its creation.

        ``is_rare``: asks first whether it is there, which is one request less where it is not, and one more where it is.
        """
        if is_rare and await self._is_missing():
            return None
        while (listing := await self.list(watch=True)) is None:
            if await self._is_missing():
                return None
        return listing

    async def _is_missing(self) -> bool:
        """Whether there is no folder; then its creation is watched."""
        try:
            await self._session.ask(protocol.ExistsRequest(path=self._root, watch=True))
        except exc.NoNode:
            return True
        return False

    async def read_acl(self) -> Sequence[Any] | None:
        """The folder's ACL; None where there is no folder."""
        try:
            reply = await self._session.ask(protocol.GetACLRequest(path=self._root))
        except exc.NoNode:
            return None
        acl: Sequence[Any] = reply.record.acl
        return acl

    async def holds(self, name: str, session_id: int | None = None) -> bool:
        """Whether the folder has such a child."""
        try:
            await self._session.ask(protocol.ExistsRequest(path=self.locate(name), watch=False), session_id=session_id)
        except exc.NoNode:
            return False
        return True

    async def watch(self, name: str, session_id: int) -> Znode | None:
        """As :meth:`read`, and sets a watch on the znode where it exists."""
        return await self._read(name, session_id, watch=True)

    async def watch_own(self, place: Place) -> bool:
        """Whether the own znode is there, with a watch for :meth:`on_lost` if it is.

        The watch is one on its children, which an ephemeral znode can't have: so a change of its data does not use it up.
        """
        found = await self._list(self.locate(place.name), place.session_id, watch=True)
        return found is not None and found.token == place.token

    async def read(self, name: str, session_id: int | None = None) -> Znode | None:
        """What is in a znode; None where it does not exist."""
        return await self._read(name, session_id, watch=False)

    async def _read(self, name: str, session_id: int | None, *, watch: bool) -> Znode | None:
        request = protocol.GetDataRequest(path=self.locate(name), watch=watch)
        try:
            reply = await self._session.ask(request, session_id=session_id)
        except exc.NoNode:
            return None
        stat = reply.record.stat
        return Znode(reply.record.data, stat.created_zxid, stat.ephemeral_owner, stat.created / 1000, stat.version)

    def on_deleted(self, name: str, callback: Callable[[str], object]) -> Callable[[], None]:
        """Calls ``callback`` with the path when the znode is deleted; gives what ends that."""
        return self._listen(self.locate(name), (protocol.WatchEvent.DELETED,), callback)

    def on_lost(self, place: Place, callback: Callable[[str], object]) -> Callable[[], None]:
        """Calls ``callback`` with the path when the own znode is deleted, or, at the end of a disconnection, was deleted and
        another one made under its name (it has other children, the server says then); gives what ends that."""
        kinds = (protocol.WatchEvent.DELETED, protocol.WatchEvent.CHILDREN_CHANGED)
        return self._listen(self.locate(place.name), kinds, callback)

    def on_deleted_alone(self, name: str, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls ``callback`` when the znode is deleted, before all else, if that is all that has arrived; gives what ends it."""
        return self._session.foretell_deletion(self.locate(name), callback)

    def on_changed(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Calls ``callback`` when children come or go, or the folder does; gives what ends that."""
        watch_event = protocol.WatchEvent
        kinds = (watch_event.CREATED, watch_event.CHILDREN_CHANGED, watch_event.DELETED)
        return self._listen(self._root, kinds, callback)

    def _listen(self, path: str, kinds: Sequence[int], callback: Callable[[str], object]) -> Callable[[], None]:
        for kind in kinds:
            self._session.add_watch_callback(kind, path, callback)
        return partial(_unlisten, self._session, path, kinds, callback)


def _unlisten(session: Session, path: str, kinds: Sequence[int], callback: Callable[[str], object]) -> None:
    for kind in kinds:
        session.remove_watch_callback(kind, path, callback)


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]
