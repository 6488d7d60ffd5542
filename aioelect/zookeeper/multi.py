"""ZooKeeper's multi with everything that it answers: results in order, with stats, and which operation was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiozk import exc, protocol

from aioelect.errors import SessionExpired
from aioelect.value import value
from aioelect.zookeeper.client import Client, Stat

__all__ = ["Check", "Create", "Delete", "Done", "Operation", "Refused", "Set", "commit"]

_OF_OPERATIONS = (
    exc.BadArguments,
    exc.BadVersion,
    exc.EphemeralOnLocalSession,
    exc.InvalidACL,
    exc.NoAuth,
    exc.NoChildrenForEphemerals,
    exc.NoNode,
    exc.NodeExists,
    exc.NotEmpty,
)
"""What is said of an operation, wherever it stands in the answer; others in a header are about the server or the session."""


@value
class Check:
    """Goes on only if the znode exists, in this version (-1: any)."""

    path: str
    version: int = -1


@value
class Create:
    """Makes a znode."""

    path: str
    data: bytes | None = None
    ephemeral: bool = False
    sequential: bool = False
    acl: Sequence[Any] | None = None


@value
class Set:
    """Writes a znode that has this version (-1: any)."""

    path: str
    data: bytes | None
    version: int = -1


@value
class Delete:
    """Deletes a znode that has this version (-1: any)."""

    path: str
    version: int = -1


Operation = Check | Create | Set | Delete


@value
class Done:
    """What one operation has done: the path (of a sequential znode, the one that it got), and after a set the stat.

    Within a multi, ZooKeeper gives no stat for a create (``MultiResponse``).
    """

    path: str
    stat: Stat | None = None


@value
class Refused:
    """Nothing was done, because the operation at ``index`` was refused with ``error`` (``aiozk.exc``)."""

    index: int
    error: Exception

    @property
    def is_missing(self) -> bool:
        """Whether the znode of the operation (of a create: the folder) does not exist."""
        return isinstance(self.error, exc.NoNode)

    @property
    def is_outdated(self) -> bool:
        """Whether the znode has come or gone since whoever sent the operation last looked, as far as the error tells."""
        return isinstance(self.error, (exc.NoNode, exc.NodeExists))


async def commit(client: Client, operations: Sequence[Operation], session_id: int) -> tuple[Done, ...] | Refused:
    """All or nothing, never sent twice. Paths as the client's user knows them.

    Raises ``ConnectionLoss`` (with ``executed`` unknown where the answer was lost), ``SessionExpired``, ``ClientClosed``, and
    what a server has against any request (``aiozk.exc``), such as THROTTLEDOP, which aiozk has no name for.
    """
    request = protocol.TransactionRequest()
    for operation in operations:
        request.add(_request(client, operation))
    try:
        reply = await client.session.ask(request, session_id=session_id)
    except _OF_OPERATIONS as e:  # some servers put the first refusal into the header, which does not say whose it is
        return Refused(0, e)
    answers = reply.record.responses
    for index, answer in enumerate(answers):
        if isinstance(answer, exc.SessionExpired):  # a leader checks the session with each operation
            raise SessionExpired(session_id)
        if isinstance(answer, Exception) and not isinstance(answer, (exc.RolledBack, exc.RuntimeInconsistency)):
            return Refused(index, answer)
    return tuple(
        Done(client.denormalize_path(getattr(answer, "path", None) or sent.path), getattr(answer, "stat", None))
        for sent, answer in zip(request.requests, answers, strict=True)
    )


def _request(client: Client, operation: Operation) -> Any:
    path = client.normalize_path(operation.path)
    match operation:
        case Check(_, version):
            return protocol.CheckVersionRequest(path=path, version=version)
        case Create(_, data, ephemeral, sequential, acl):
            create = protocol.Create2Request(path=path, data=data, acl=list(acl or client.default_acl))
            create.set_flags(ephemeral, sequential)
            return create
        case Set(_, data, version):
            return protocol.SetDataRequest(path=path, data=data, version=version)
        case Delete(_, version):
            return protocol.DeleteRequest(path=path, version=version)
