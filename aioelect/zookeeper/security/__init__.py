"""Who we are, and whom we talk to: credentials, each kind in a module that only who has such needs, and TLS."""

from aioelect.zookeeper.security.auth import Auth
from aioelect.zookeeper.security.tls import Tls

__all__ = ["Auth", "Tls"]
