"""A testing kit for code that elects leaders.

- :class:`EmbeddedServer`, which speaks ZooKeeper's protocol within this process: for unit tests, without Java;
- :class:`ZooKeeperServer` and :class:`ZooKeeperEnsemble`, which run the real one on loopback;
- :class:`FaultProxy`, which breaks the network between;
- :class:`LeadershipRecorder`, which collects terms across processes and finds overlaps;
- :class:`FailoverMeter`, which tells how fast leadership changes hands on your servers.

Nothing in ``aioelect`` outside this package and the command line imports it.
"""

from aioelect.testing.cluster import Cluster
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.failover import FailoverMeter, MeasurementFailed
from aioelect.testing.latency import Latency, percentile, summarise
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
    "Cluster",
    "EmbeddedServer",
    "FailoverMeter",
    "FaultProxy",
    "Interval",
    "Latency",
    "LeadershipRecorder",
    "MeasurementFailed",
    "ServerTls",
    "ZooKeeperEnsemble",
    "ZooKeeperNotFound",
    "ZooKeeperServer",
    "ZooKeeperStartFailed",
    "percentile",
    "summarise",
]
