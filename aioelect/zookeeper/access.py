"""Who may do what with an election's znodes: the ACL that they are made with, and whether what is there already is as safe.

ZooKeeper asks the folder's ACL for leave to make and to delete children, and a znode's own for leave to read it. So an ACL that
protects the contenders' znodes protects nothing while the folder, made by somebody else, lets anybody in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from aiozk import ACL, exc, protocol

from aioelect.errors import UnexpectedAcl
from aioelect.zookeeper.session import Session

__all__ = ["OPEN", "Access", "Acl", "make_acl"]

Acl: TypeAlias = Literal["open", "creator", "creator+read"] | Sequence[Any]
"""What ``acl=`` takes. ``"open"``: anybody may do anything; ``"creator"``: only who has the contender's credentials;
``"creator+read"``: others may read; or a list of ``aiozk.ACL``."""

_CREATOR = protocol.AUTHED_UNRESTRICTED
OPEN = [protocol.UNRESTRICTED_ACCESS]
_NAMED = {"open": OPEN, "creator": [_CREATOR], "creator+read": [_CREATOR, protocol.WORLD_READABLE]}

_NEEDED = {
    "READ": (ACL.READ_PERM, "a lease is renewed by a check of the own znode, and contenders watch each other's"),
    "CREATE": (ACL.CREATE_PERM, "contenders make znodes in the election folder"),
    "DELETE": (ACL.DELETE_PERM, "contenders delete their znodes from the election folder"),
}


def make_acl(acl: Acl, *, authenticated: bool) -> list[Any]:
    """The list of ``aiozk.ACL`` that ``acl`` stands for.

    Raises ``TypeError`` or ``ValueError`` for what is none, what grants too little to anybody for an election to work, and what
    stands for the authenticated identity where there is no authentication.
    """
    if isinstance(acl, str):
        if acl not in _NAMED:
            raise ValueError(f"acl must be 'open', 'creator', 'creator+read' or a list of aiozk.ACL, not {acl!r}")
        entries = list(_NAMED[acl])
    else:
        entries = list(acl)
        for entry in entries:
            if not isinstance(entry, ACL):
                raise TypeError(
                    f"acl must be 'open', 'creator', 'creator+read' or a list of aiozk.ACL; it holds {entry!r}"
                )
    granted = 0
    for entry in entries:
        granted |= entry.perms
    for name, (permission, why) in _NEEDED.items():
        if not granted & permission:
            raise ValueError(f"acl grants {name} to nobody, but {why}: add it for the contenders' identity")
    if not authenticated and any(entry.id.scheme == "auth" for entry in entries):
        raise ValueError(
            "acl stands for the identity that a client has authenticated, and this one has none: "
            "give connect() credentials by auth="
        )
    return entries


Entries: TypeAlias = frozenset[tuple[str, str, int]]


class Access:
    """The ACL of one election's znodes, with which they are made and with which folders are compared."""

    __slots__ = ("_expected", "_session", "acl")

    def __init__(self, session: Session, acl: list[Any]) -> None:
        self.acl = acl
        self._session = session
        self._expected: Entries | None = None

    @property
    def is_open(self) -> bool:
        """Whether anybody may do anything, so that there is nothing to compare."""
        return self.acl == OPEN

    async def learn(self, path: str, session_id: int) -> None:
        """Remembers what the server made of the ACL for a znode of ours (``path`` as the server knows it)."""
        if not self.is_open:
            self._expected = await self._read(path, session_id)

    async def check(self, path: str, session_id: int | None = None) -> None:
        """Raises ``UnexpectedAcl`` where ``path`` (as the server knows it) exists with another ACL than our own znode."""
        if self._expected is None:
            return
        try:
            found = await self._read(path, session_id)
        except exc.NoNode:
            return
        except exc.NoAuth:
            found = frozenset()
        if found != self._expected:
            raise UnexpectedAcl(path, _show(self._expected), _show(found))

    async def _read(self, path: str, session_id: int | None) -> Entries:
        reply = await self._session.ask(protocol.GetACLRequest(path=path), session_id=session_id)
        return frozenset((entry.id.scheme, entry.id.id, entry.perms) for entry in reply.record.acl)


def _show(entries: Entries) -> str:
    """For people. Identities are cut: a digest's is a hash of its password."""
    letters = zip(
        "rwcda", (ACL.READ_PERM, ACL.WRITE_PERM, ACL.CREATE_PERM, ACL.DELETE_PERM, ACL.ADMIN_PERM), strict=True
    )
    order = list(letters)
    return (
        ", ".join(
            f"{scheme}:{identity.partition(':')[0]!r}:{''.join(letter for letter, permission in order if perms & permission)}"
            for scheme, identity, perms in sorted(entries)
        )
        or "nothing that we may read"
    )
