"""``handover_delay``: what can't be fenced is left alone for a while after a leader that did not end by itself.

A znode that is gone tells nobody why. So a leader that heeds such a delay writes its token into ``<election>-term`` before its
body starts, and deletes its znode in one transaction with the remark that its body has ended. Whoever leads next and finds no
such remark waits first, from its own election on: nobody can tell how long ago the other one went.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable

from aioelect.errors import AioelectError, ConnectionLoss, ZooKeeperError
from aioelect.zookeeper.access import Access
from aioelect.zookeeper.client import Client
from aioelect.zookeeper.folder import Folder, Place
from aioelect.zookeeper.multi import Check, Create, Delete, Refused, Set, commit

__all__ = ["Handover", "check_handover_delay"]


def check_handover_delay(delay: float) -> float:
    """Raises ``TypeError`` or ``ValueError`` for what is no number of seconds."""
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"handover_delay must be a number of seconds, not {delay!r}")
    if not (math.isfinite(delay) and delay >= 0):
        raise ValueError(f"handover_delay must be 0 (none) or a positive number of seconds, not {delay!r}")
    return delay


class Handover:
    """How one term begins and ends, where ``delay`` seconds have to pass after an unclean end of the one before."""

    def __init__(self, client: Client, election: str, place: Place, delay: float, access: Access) -> None:
        self.place = place
        self.is_noted = False
        self._client = client
        self._delay = delay
        self._access = access
        self._folder = Folder(client, election)
        self._own_path = self._folder.display(place.name)
        self._path = f"{election}-term"
        parent, _, self._name = self._path.rpartition("/")
        self._parent = Folder(client, parent or "/")
        self._version = -1
        self._is_asked = False
        """Whether the note may have been written."""

    async def begin(self, waiting: Callable[[], None]) -> bool:
        """Returns when the term may begin, which is noted; calls ``waiting`` before it waits. False: the own znode is gone.

        Raises ``SessionExpired``, ``ClientClosed``, and what ZooKeeper has against the note (``aiozk.exc``).
        """
        waited = False
        refused: tuple[int | None, Exception] | None = None
        while True:
            await self._access.check(self._parent.locate(self._name), session_id=self.place.session_id)
            last = await self._parent.read(self._name, self.place.session_id)
            if last is not None and last.data == self._note(ended=False):  # ours: the answer to it was lost
                return self._noted(last.version)
            version = None if last is None else last.version
            if refused is not None and refused[0] == version:  # not because somebody else was faster
                raise refused[1]
            if last is not None and not _has_ended(last.data) and not waited:
                waited = True
                waiting()
                await asyncio.sleep(self._delay)
            note = self._note(ended=False)
            create = Create(self._path, note, acl=self._access.acl)
            write = create if version is None else Set(self._path, note, version)
            self._is_asked = True
            try:
                outcome = await commit(self._client, (Check(self._own_path), write), self.place.session_id)
            except ConnectionLoss:
                continue
            if not isinstance(outcome, Refused):
                stat = outcome[1].stat
                return self._noted(0 if stat is None else stat.version)
            if outcome.index == 0 and outcome.is_missing:
                return False
            refused = (version, outcome.error)

    def _noted(self, version: int) -> bool:
        self._version = version
        self.is_noted = True
        return True

    async def end(self) -> None:
        """Deletes the own znode, with the remark that the body has ended; returns when it is certainly gone."""
        try:
            if self._is_asked and (self.is_noted or await self._find_note()):
                remark = Set(self._path, self._note(ended=True), self._version)
                outcome = await commit(self._client, (Delete(self._own_path), remark), self.place.session_id)
                if not isinstance(outcome, Refused):
                    return
        except (AioelectError, ZooKeeperError):
            pass  # without the remark, then
        await self._folder.leave(self.place)

    async def _find_note(self) -> bool:
        """Whether it was written, though no answer said so yet: left without the remark it would make the next leader wait for a
        body that never began."""
        last = await self._parent.read(self._name, self.place.session_id)
        return last is not None and last.data == self._note(ended=False) and self._noted(last.version)

    def _note(self, *, ended: bool) -> bytes:
        return json.dumps({"v": 1, "token": self.place.token, "ended": ended}).encode()


def _has_ended(note: bytes | None) -> bool:
    try:
        fields = json.loads(note or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("ended") is True
