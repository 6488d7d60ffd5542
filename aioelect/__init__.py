"""Leader election for asyncio on Apache ZooKeeper.

::

    async with aioelect.leadership("zk1:2181,zk2:2181", "/election") as leader:
        ...  # runs only while this process leads, and is cancelled when it does not
"""

from typing import TYPE_CHECKING

from aioelect import errors, events
from aioelect.candidate import Candidate
from aioelect.errors import (
    AioelectError,
    AuthenticationFailed,
    ClientClosed,
    ConnectionLoss,
    ConnectTimeout,
    Deposed,
    ElectionTimeout,
    Executed,
    ForeignContender,
    LeadershipLost,
    NoLeader,
    NotContending,
    OutcomeUnknown,
    SequenceExhausted,
    ServerSilent,
    SessionExpired,
    SwitchoverTimeout,
    TlsError,
    TransactionRefused,
    UnexpectedAcl,
)
from aioelect.fencing import Transaction
from aioelect.leader import Leader
from aioelect.leadership import campaign, leadership
from aioelect.model import Contender, LossReason, Standing, Timing
from aioelect.zookeeper.client import Client, connect

if TYPE_CHECKING:
    from aioelect.observer import Standings, get_standing, observe
    from aioelect.switchover import hand_over, step_down
    from aioelect.zookeeper.security.digest import Digest
    from aioelect.zookeeper.security.gss import Gssapi
    from aioelect.zookeeper.security.sasl import SaslDigestMd5
else:
    _LATER = {
        "Digest": "aioelect.zookeeper.security.digest",
        "Gssapi": "aioelect.zookeeper.security.gss",
        "SaslDigestMd5": "aioelect.zookeeper.security.sasl",
        "Standings": "aioelect.observer",
        "get_standing": "aioelect.observer",
        "hand_over": "aioelect.switchover",
        "observe": "aioelect.observer",
        "step_down": "aioelect.switchover",
    }

    def __getattr__(name):
        """Imports what contenders do without when it is first asked for. (A type checker that saw this would allow any name.)"""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
        return found

    def __dir__():
        return __all__


__all__ = [
    "AioelectError",
    "AuthenticationFailed",
    "Candidate",
    "Client",
    "ClientClosed",
    "ConnectTimeout",
    "ConnectionLoss",
    "Contender",
    "Deposed",
    "Digest",
    "ElectionTimeout",
    "Executed",
    "ForeignContender",
    "Gssapi",
    "Leader",
    "LeadershipLost",
    "LossReason",
    "NoLeader",
    "NotContending",
    "OutcomeUnknown",
    "SaslDigestMd5",
    "SequenceExhausted",
    "ServerSilent",
    "SessionExpired",
    "Standing",
    "Standings",
    "SwitchoverTimeout",
    "Timing",
    "TlsError",
    "Transaction",
    "TransactionRefused",
    "UnexpectedAcl",
    "campaign",
    "connect",
    "errors",
    "events",
    "get_standing",
    "hand_over",
    "leadership",
    "observe",
    "step_down",
]
