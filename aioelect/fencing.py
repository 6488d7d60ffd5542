"""Writes that only a leader can make: ``leader.transaction()``.

A deposed leader may not know it yet, after a pause that no clock saw; its writes must be refused by the server. A check of
its own znode is not enough: after an administrator has wiped the folder, ``n_0000000000`` may be somebody else's, and the
check passes. So a sibling folder, ``<election>-fence``, holds exactly one child, named by the token of the current writer
(``none`` to begin with). A leader's first transaction puts its own name there, in place of a lower one; every transaction
begins with checks of the own znode and of the own name. Tokens are zxids: they never repeat, and outlive the election folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aioelect.errors import ConnectionLoss, Deposed, Executed, OutcomeUnknown, SessionExpired, TransactionRefused
from aioelect.naming import check_path
from aioelect.zookeeper.access import Access
from aioelect.zookeeper.client import Client, check_data
from aioelect.zookeeper.folder import Folder, Listing
from aioelect.zookeeper.multi import Check, Create, Delete, Done, Operation, Refused, Set, commit

__all__ = ["Fence", "Transaction"]

NOBODY = "none"


class Fence:
    """The fence of one term: bound to one znode, one token and one session, and never moved to another."""

    def __init__(
        self, client: Client, election: str, own_path: str, token: int, session_id: int, access: Access
    ) -> None:
        self.election = election
        self.token = token
        self._client = client
        self._session_id = session_id
        self._path = f"{election}-fence"
        self._access = access
        self._folder = Folder(client, self._path)
        self._own_name = f"{token:016x}"
        self._own_znode = Check(own_path)
        self._guards = (self._own_znode, Check(self._folder.display(self._own_name)))
        self._claimed = False

    async def commit(self, operations: Sequence[Operation]) -> tuple[Done, ...]:
        """Does all of ``operations``, or none; errors as :meth:`aioelect.Leader.transaction`.

        Also raises, as ``aiozk.exc``, what ZooKeeper has against the fence itself, such as an ACL that lets nobody make it, and
        what it has against any request, such as THROTTLEDOP: neither says that somebody else leads.
        """
        if not self._claimed:
            await self._claim()
        try:
            outcome = await self._send((*self._guards, *operations))
        except ConnectionLoss as e:
            if e.executed is Executed.UNKNOWN:
                raise OutcomeUnknown(self.election, self.token) from e
            raise
        if not isinstance(outcome, Refused):
            return outcome[len(self._guards) :]
        index = outcome.index - len(self._guards)
        if index >= 0:
            raise TransactionRefused(index, operations[index].path, outcome.error) from outcome.error
        if outcome.is_missing:
            raise Deposed(self.election, self.token) from outcome.error
        raise outcome.error

    async def _claim(self) -> None:
        """Puts our name up, or finds that we did: a claim whose answer was lost is looked at again.

        So is one that somebody else has forestalled. What else ZooKeeper has against it is raised (``aiozk.exc``), and so is a
        refusal of the same claim a second time.
        """
        refused: tuple[Listing | None, Exception] | None = None
        while not self._claimed:
            try:
                await self._access.check(self._folder.location, session_id=self._session_id)
                listing = await self._folder.list(self._session_id)
            except SessionExpired as e:
                raise Deposed(self.election, self.token) from e
            names = listing.names if listing is not None else ()
            if self._own_name in names:
                self._claimed = True
            elif any(name > self._own_name for name in names if name != NOBODY):
                raise Deposed(self.election, self.token)
            elif refused is not None and refused[0] == listing:  # not because somebody else was faster
                raise self._impossible(refused[1])
            else:
                try:
                    outcome = await self._send((self._own_znode, *self._change_of_writer(listing)))
                except ConnectionLoss:
                    continue
                if isinstance(outcome, Refused):
                    if outcome.index == 0 and outcome.is_missing:
                        raise Deposed(self.election, self.token) from outcome.error
                    if not outcome.is_outdated:
                        raise self._impossible(outcome.error)
                    refused = (listing, outcome.error)

    def _change_of_writer(self, listing: Listing | None) -> tuple[Operation, ...]:
        if listing is not None and listing.names:
            deleted = (Delete(self._folder.display(name)) for name in listing.names)
            return *deleted, self._make(self._guards[1].path)
        nobody = self._make(self._folder.display(NOBODY))
        return (self._make(self._path), nobody) if listing is None else (nobody,)

    def _impossible(self, error: Exception) -> Exception:
        """What is against the claim; it does not say by itself where."""
        error.add_note(f"no transaction is possible: {self._path} can't be made or changed")
        return error

    def _make(self, path: str) -> Create:
        return Create(path, acl=self._access.acl)

    async def _send(self, operations: Sequence[Operation]) -> tuple[Done, ...] | Refused:
        try:
            return await commit(self._client, operations, self._session_id)
        except SessionExpired as e:
            raise Deposed(self.election, self.token) from e


class Transaction:
    """Collects operations, and does all or none of them when its block ends without an error.

    ``results``, after the block: what each operation has done, in order, with stats.
    """

    def __init__(self, commit: Callable[[Sequence[Operation]], Awaitable[tuple[Done, ...]]]) -> None:
        self.results: tuple[Done, ...] = ()
        self._commit = commit
        self._operations: list[Operation] = []

    def check(self, path: str, version: int = -1) -> None:
        """Refuses the whole unless ``path`` exists, in this version (-1: any)."""
        self._operations.append(Check(check_path(path), version))

    def create(
        self,
        path: str,
        data: bytes | str | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        acl: Sequence[Any] | None = None,
    ) -> None:
        """Makes a znode; its result has the path that a sequential one got."""
        self._operations.append(Create(check_path(path), check_data(data), ephemeral, sequential, acl))

    def set(self, path: str, data: bytes | str | None, version: int = -1) -> None:
        """Writes a znode that has this version (-1: any); its result has the stat."""
        self._operations.append(Set(check_path(path), check_data(data), version))

    def delete(self, path: str, version: int = -1) -> None:
        """Deletes a znode that has this version (-1: any)."""
        self._operations.append(Delete(check_path(path), version))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.results = await self._commit(self._operations)
