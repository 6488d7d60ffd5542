"""Leader election for asyncio on Apache ZooKeeper.

::

    async with aioelect.leadership("zk1:2181,zk2:2181", "/election") as leader:
        ...  # runs only while this process leads, and is cancelled when it does not
"""

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
from aioelect.observer import Standings, get_standing, observe
from aioelect.switchover import hand_over, step_down
from aioelect.zookeeper.client import Client, connect
from aioelect.zookeeper.security import Digest, Gssapi, SaslDigestMd5

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
