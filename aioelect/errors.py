"""What goes wrong, as types.

::

    AioelectError
    ├── LeadershipLost            leadership ended while the body ran (.reason, .token, .election)
    ├── ElectionTimeout           not elected within `timeout`               (a TimeoutError)
    ├── Deposed                   a write was refused, because leadership has passed on (.token, .election)
    ├── TransactionRefused        ... because of a condition of your own     (.index, .path, .error)
    ├── OutcomeUnknown            the answer to a transaction was lost       (.token, .election)
    ├── NoLeader                  nobody leads who could be asked to step down
    ├── NotContending             who should lead next is not in the queue   (.identity, .contenders)
    ├── SwitchoverTimeout         the leader did not step down in time       (a TimeoutError)
    ├── UnexpectedAcl             a folder that others may write to          (.path, .expected, .found)
    ├── ForeignContender          a sibling znode of another election recipe (.name)
    ├── SequenceExhausted         the folder's counter is about to wrap      (.name)
    ├── SessionExpired            ZooKeeper ended the session                (an aiozk.exc.SessionLost)
    ├── ConnectionLoss            the connection broke  (.executed)          (an aiozk.exc.ConnectError)
    │   ├── ConnectTimeout        no first session within `timeout`          (a TimeoutError)
    │   ├── ServerSilent          a server that was given up                 (an aiozk.exc.TimeoutError)
    │   └── TlsError              no encrypted connection with a server we trust (.final)
    ├── ClientClosed              the client was closed, or never started    (an aiozk.exc.InvalidClientState)
    └── AuthenticationFailed      a server refused our credentials, or wants some (an aiozk.exc.ZKError)

Bad arguments raise ``ValueError`` or ``TypeError`` at the call. What ZooKeeper answers to a request (NoNode, NodeExists,
BadVersion, ...) stays what it is in aiozk: ``aiozk.exc``. This module and ``aioelect.zookeeper`` are the only ones that know
aiozk; it is known here so that ``except aiozk.exc.ConnectError`` around inherited calls goes on working.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from aiozk import exc

if TYPE_CHECKING:
    from aioelect.model import LossReason

__all__ = [
    "AioelectError",
    "AuthenticationFailed",
    "ClientClosed",
    "ConnectTimeout",
    "ConnectionLoss",
    "Deposed",
    "ElectionTimeout",
    "Executed",
    "ForeignContender",
    "LeadershipLost",
    "NoLeader",
    "NotContending",
    "OutcomeUnknown",
    "SequenceExhausted",
    "ServerSilent",
    "SessionExpired",
    "SwitchoverTimeout",
    "TlsError",
    "TransactionRefused",
    "UnexpectedAcl",
    "ZooKeeperError",
]

ZooKeeperError: type[Exception] = exc.ZKError
"""The root of aiozk's errors: of what ZooKeeper answers to a request, and of those of ours that aiozk has a name for."""


def _quoted(text: str) -> str:
    """What others wrote, as a message can hold it: escaped, and no longer than a line."""
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."


class AioelectError(Exception):
    """The root of every error that aioelect raises by itself."""


class LeadershipLost(AioelectError):
    """Leadership ended while the body of ``leadership()`` was running.

    ``reason`` says why, ``token`` is the fencing token of the lost term, ``election`` the election path.
    """

    def __init__(self, reason: LossReason, token: int, election: str) -> None:
        super().__init__(reason, token, election)
        self.reason = reason
        self.token = token
        self.election = election

    def __str__(self) -> str:
        return f"leadership of {self.election} (token {self.token:#x}) was lost: {self.reason.describe()}"


class ElectionTimeout(AioelectError, TimeoutError):
    """This contender was not elected within ``timeout`` seconds. It left no znode behind.

    ``position``: how many were before it; None where that is not known: two or more, or it had no place in the queue yet.
    """

    def __init__(self, election: str, timeout: float, position: int | None) -> None:
        super().__init__()  # an OSError takes its arguments for errno, text and file name
        self.args = (election, timeout, position)
        self.election = election
        self.timeout = timeout
        self.position = position

    def __str__(self) -> str:
        if self.position is None:
            place = "two or more were before it, or it had no place in the queue yet"
        else:
            place = f"{self.position} were before it"
        return f"not elected to {self.election} within {self.timeout:g} s: {place}"


class Deposed(AioelectError):
    """The server refused a leader's transaction, because that leader leads no longer. Nothing was written."""

    def __init__(self, election: str, token: int) -> None:
        super().__init__(election, token)
        self.election = election
        self.token = token

    def __str__(self) -> str:
        return f"nothing was written: leadership of {self.election} (token {self.token:#x}) has passed on"


class TransactionRefused(AioelectError):
    """The server refused a leader's transaction, because of one of its own operations. Nothing was written."""

    def __init__(self, index: int, path: str, error: Exception) -> None:
        super().__init__(index, path, error)
        self.index = index
        self.path = path
        self.error = error

    def __str__(self) -> str:
        return f"nothing was written: operation {self.index} of the transaction, on {self.path}, was refused ({self.error!r})"


class OutcomeUnknown(AioelectError):
    """The answer to a leader's transaction was lost. All of it was done, or nothing: only a look can tell."""

    def __init__(self, election: str, token: int) -> None:
        super().__init__(election, token)
        self.election = election
        self.token = token

    def __str__(self) -> str:
        return (
            f"the answer to a transaction of the leader of {self.election} (token {self.token:#x}) was lost: it was done or "
            "it was not. Look at what it would have written before you repeat it"
        )


class NoLeader(AioelectError):
    """Nobody leads, so nobody could be asked to step down."""

    def __init__(self, election: str) -> None:
        super().__init__(election)
        self.election = election

    def __str__(self) -> str:
        return f"nobody contends for {self.election}, so there is no leader to ask: check the path, and that contenders run"


class NotContending(AioelectError):
    """The contender that should lead next is not in the queue. ``contenders`` are the identities of those who are, in order."""

    def __init__(self, election: str, identity: str, contenders: tuple[str, ...]) -> None:
        super().__init__(election, identity, contenders)
        self.election = election
        self.identity = identity
        self.contenders = contenders

    def __str__(self) -> str:
        listed = ", ".join(map(_quoted, self.contenders[:20])) or "nobody"
        return f"{_quoted(self.identity)} does not contend for {self.election}. Choose one of those who do: {listed}"


class SwitchoverTimeout(AioelectError, TimeoutError):
    """The leader was asked to step down, and did not, within ``timeout`` seconds. The request was taken back."""

    def __init__(self, election: str, timeout: float, leader: str | None) -> None:
        super().__init__()  # an OSError takes its arguments for errno, text and file name
        self.args = (election, timeout, leader)
        self.election = election
        self.timeout = timeout
        self.leader = leader

    def __str__(self) -> str:
        if self.leader is None:
            return f"who leads {self.election} could not be read within {self.timeout:g} s: check that servers can be reached"
        return (
            f"{_quoted(self.leader)} did not hand over {self.election} within {self.timeout:g} s. Its body may be slow to end, "
            "or it is cut off from the servers, or a contender of another library, which can't be asked: then stop its process"
        )


class UnexpectedAcl(AioelectError):
    """A folder of the election has another ACL than the znodes that were to be protected in it."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path} has the ACL [{self.found}], and not [{self.expected}] as asked for by acl=: what is in it is not "
            "protected as you want it. Set that ACL on it, or delete it if nobody uses it, or ask for the ACL that it has"
        )


class ForeignContender(AioelectError):
    """The election folder holds a znode of a recipe that does not see ours, so that both could lead at once."""

    def __init__(self, election: str, name: str) -> None:
        super().__init__(election, name)
        self.election = election
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.election} holds {_quoted(self.name)}, which is no name of this election: whoever made it may lead beside us. "
            "Give each recipe a folder of its own, or delete that znode if it is a leftover"
        )


class SequenceExhausted(AioelectError):
    """ZooKeeper's counter of the election folder is near its wrap at 2**31, after which names sort wrongly."""

    def __init__(self, election: str, name: str) -> None:
        super().__init__(election, name)
        self.election = election
        self.name = name

    def __str__(self) -> str:
        return (
            f"the sequence counter of {self.election} is used up (it gave {_quoted(self.name)}). To start over, stop all "
            f"contenders, delete {self.election} and start them again: a new folder counts from 0"
        )


class SessionExpired(AioelectError, exc.SessionLost):  # type: ignore[misc]  # aiozk has no types
    """The session that this request belonged to has ended; its ephemeral znodes are gone or going."""

    def __init__(self, session_id: int) -> None:
        super().__init__(session_id)
        self.session_id = session_id

    def __str__(self) -> str:
        return f"ZooKeeper session {self.session_id:#x} has ended; what belonged to it must be made again on a new one"


class Executed(enum.StrEnum):
    """Whether a failed request can have taken effect on the server."""

    NO = "no"
    UNKNOWN = "unknown"


class ConnectionLoss(AioelectError, exc.ConnectError):  # type: ignore[misc]  # aiozk has no types
    """The connection broke, or could not be had, before an answer came.

    ``executed`` is ``Executed.NO`` when the request certainly took no effect (it may be sent again), and ``Executed.UNKNOWN``
    when only a look at the server can tell. aioelect repeats reads by itself and never repeats writes.
    """

    def __init__(self, host: str, port: int, why: str, executed: Executed = Executed.NO) -> None:
        super().__init__(host, port)
        self.why = why
        self.executed = executed

    def __str__(self) -> str:
        where = f" to {self.host}:{self.port}" if self.host else ""
        fate = {
            Executed.NO: "the request was not executed",
            Executed.UNKNOWN: "whether the request was executed is unknown: look before sending it again",
        }[self.executed]
        return f"connection{where} lost ({self.why}); {fate}"


class ServerSilent(ConnectionLoss, exc.TimeoutError):  # type: ignore[misc]  # aiozk has no types
    """The server did not answer for too long, so the connection was given up."""


class TlsError(ConnectionLoss):
    """The TLS handshake with a server failed: one side did not trust the other, or does not speak TLS on that port.

    ``final`` says that asking again gives the same answer until a certificate, or an argument of this client, is changed.
    """

    def __init__(self, host: str, port: int, why: str, final: bool) -> None:
        super().__init__(host, port, why)
        self.args = (host, port, why, final)
        self.final = final

    def __str__(self) -> str:
        return f"no TLS connection to {self.host}:{self.port}: {self.why}"


class ConnectTimeout(ConnectionLoss, TimeoutError):
    """No server gave a first session within ``timeout`` seconds."""

    def __init__(self, hosts: str, timeout: float, why: str) -> None:
        super().__init__("", 0, why)
        self.args = (hosts, timeout, why)
        self.hosts = hosts
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"no ZooKeeper session from {self.hosts} within {self.timeout:g} s ({self.why}). "
            "Check the hosts string, that the servers run and have a quorum, or give a longer timeout"
        )


class ClientClosed(AioelectError, exc.InvalidClientState):  # type: ignore[misc]  # aiozk has no types
    """The client was closed, or has not been started."""


class AuthenticationFailed(AioelectError, exc.ZKError):  # type: ignore[misc]  # aiozk has no types
    """A server refused our credentials, or wants some that it was not given. No session is used without them."""
