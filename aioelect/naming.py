"""Names and data of contenders' znodes. PURE.

Every contender under one parent takes its number from the same counter, so their order is common; only the names differ. A
name is matched exactly: a known prefix and ten digits. A sibling that ends in a number but has no name of our dialect belongs
to a recipe that may not see us, and then two leaders would be possible.

ZooKeeper formats the counter with ``%010d`` (``PrepRequestProcessor``) and lets it wrap at 2**31: a negative number has a minus
sign, followed by nine digits or ten, and would sort first.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from aioelect.value import value

__all__ = ["LAST_SEQUENCE", "NATIVE", "Dialect", "Queue", "ZnodeData", "check_identity", "check_path"]

LAST_SEQUENCE = 2**31 - 1 - 1_000_000
"""Nobody joins with a higher number: a million short of the wrap, so that all who see it can still stop in good order."""

MAX_ENCODED = 1_000_000
"""Bytes a znode may hold: ZooKeeper's jute.maxbuffer is 1 MiB for the whole request, path and ACL included."""

MAX_IDENTITY = 1_024
"""Characters of an identity."""

MAX_PID = 2**32 - 1
"""The largest process id that any system has."""

_NUMBERED = re.compile(r"(?:\d{10,}|-\d{9,})\Z", re.ASCII)


@value
class Dialect:
    """The names that we create and the names that we recognise as contenders."""

    name: str
    prefix: str
    pattern: re.Pattern[str]

    def sequence(self, name: str) -> int | None:
        """The sequence number in ``name``, or None where it is no contender of this dialect."""
        if self.pattern.fullmatch(name) is None:
            return None
        return int(name[-10:])

    def numbered(self, sequence: int) -> str:
        """The name that we would give to the contender with that number: others may have given it another."""
        return f"{self.prefix}{sequence:010d}"

    def queue(self, names: Iterable[str]) -> Queue:
        """Sorts the children of an election folder into contenders, in order, and foreigners."""
        numbered: list[tuple[int, str]] = []
        foreign: list[str] = []
        for name in names:
            sequence = self.sequence(name)
            if sequence is not None:
                numbered.append((sequence, name))
            elif _NUMBERED.search(name):
                foreign.append(name)
        numbered.sort()
        return Queue(tuple(name for _, name in numbered), tuple(sorted(foreign)))


@value
class Queue:
    """The contenders of a folder in the order of their sequence numbers, and the numbered names that are none."""

    contenders: tuple[str, ...]
    foreign: tuple[str, ...] = ()


NATIVE = Dialect(
    name="native",
    prefix="n_",
    pattern=re.compile(r"(?:n_|candidate-[0-9a-f]{32}-)\d{10}", re.ASCII),
)
"""Our own names, those of ZooKeeper's LeaderElectionSupport, and those of aiozk's LeaderElection."""


def check_path(path: str, what: str = "path") -> str:
    """Returns ``path`` if ZooKeeper takes it (``PathUtils.validatePath``) and raises ``ValueError`` if not."""
    if not isinstance(path, str):
        raise TypeError(f"{what} must be a str, not {path!r}")
    problem = None
    if not path.startswith("/"):
        problem = "must start with '/'"
    elif path != "/" and path.endswith("/"):
        problem = "must not end with '/'"
    elif "//" in path:
        problem = "must not have an empty part"
    elif any(part in (".", "..") for part in path.split("/")):
        problem = "must not have '.' or '..' as a part"
    elif any(c <= "\x1f" or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\uf8ff" or c >= "\ufff0" for c in path):
        problem = "must not have control or private-use characters, surrogates, or any beyond U+FFEF such as emoji"
    if problem:
        raise ValueError(f"{what} {problem}: {path!r}")
    return path


def check_identity(identity: str) -> str:
    """Returns ``identity`` if it can be written into a znode, and raises ``ValueError`` or ``TypeError`` if not."""
    if not isinstance(identity, str):
        raise TypeError(f"identity must be a str, not {identity!r}")
    if not identity or len(identity) > MAX_IDENTITY:
        raise ValueError(f"identity must have 1 to {MAX_IDENTITY} characters, not {len(identity)}: {identity[:80]!r}")
    try:
        identity.encode()
    except UnicodeEncodeError as e:
        raise ValueError(f"identity can't be encoded as UTF-8: {identity!r}") from e
    return identity


@value
class ZnodeData:
    """What a contender writes into its znode, once, when it is made.

    ``nonce`` tells apart the znodes that several contenders of one session make, when the reply to a create was lost.
    Unknown keys of newer versions are kept in ``extra``.
    """

    identity: str
    data: bytes = b""
    host: str | None = None
    pid: int | None = None
    nonce: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """UTF-8 JSON. Raises ``ValueError`` where it is more than ZooKeeper takes."""
        encoded = json.dumps(
            {
                **self.extra,
                "v": 1,
                "identity": self.identity,
                "data": base64.b64encode(self.data).decode(),
                "host": self.host,
                "pid": self.pid,
                "nonce": self.nonce,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        if len(encoded) > MAX_ENCODED:
            raise ValueError(
                f"data of {len(self.data)} bytes is too large: it takes {len(encoded)} bytes in the znode, and ZooKeeper's limit "
                f"leaves {MAX_ENCODED}. Store it elsewhere and give its address"
            )
        return encoded

    @classmethod
    def decode(cls, raw: bytes | None) -> ZnodeData:
        """Reads what any contender wrote; of a foreign one, the text is the identity. Never raises."""
        raw = raw or b""
        try:
            if len(raw) > MAX_ENCODED:
                raise ValueError("longer than our dialect ever is")
            fields = json.loads(raw, parse_constant=_refuse)
            if not isinstance(fields, dict):
                raise ValueError("not our dialect")
            known = {key: fields.pop(key, None) for key in ("v", "identity", "data", "host", "pid", "nonce")}
            host, pid = known["host"], known["pid"]
            return cls(
                identity=check_identity(known["identity"]),
                data=base64.b64decode(known["data"] or "", validate=True),
                host=check_identity(host) if isinstance(host, str) else None,
                pid=pid if isinstance(pid, int) and not isinstance(pid, bool) and 0 <= pid <= MAX_PID else None,
                nonce=known["nonce"] if isinstance(known["nonce"], str) else "",
                extra=fields,
            )
        except (ValueError, TypeError, RecursionError, binascii.Error):
            return cls(identity=raw[: 4 * MAX_IDENTITY].decode("utf-8", "replace")[:MAX_IDENTITY], data=b"")


def _refuse(constant: str) -> Any:
    """Python's parser takes NaN and the infinities for JSON."""
    raise ValueError(f"{constant} is no JSON")
