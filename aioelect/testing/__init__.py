"""A testing kit for code that elects leaders.

- :class:`EmbeddedServer`, which speaks ZooKeeper's protocol within this process: for unit tests, without Java;
- :class:`ZooKeeperServer` and :class:`ZooKeeperEnsemble`, which run the real one on loopback;
- :class:`FaultProxy`, which breaks the network between;
- :class:`LeadershipRecorder`, which collects terms across processes and finds overlaps.

Nothing in ``aioelect`` outside this package and the command line imports it.
"""

from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.recorder import Interval, LeadershipRecorder
from aioelect.testing.zookeeper import (
    ServerTls,
    ZooKeeperEnsemble,
    ZooKeeperNotFound,
    ZooKeeperServer,
    ZooKeeperStartFailed,
)

__all__ = [
    "EmbeddedServer",
    "FaultProxy",
    "Interval",
    "LeadershipRecorder",
    "ServerTls",
    "ZooKeeperEnsemble",
    "ZooKeeperNotFound",
    "ZooKeeperServer",
    "ZooKeeperStartFailed",
]
