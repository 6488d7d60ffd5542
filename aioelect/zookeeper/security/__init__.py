"""Who we are, and whom we talk to: credentials, and TLS."""

from aioelect.zookeeper.security.auth import Auth
from aioelect.zookeeper.security.digest import Digest
from aioelect.zookeeper.security.gss import Gssapi
from aioelect.zookeeper.security.sasl import SaslDigestMd5
from aioelect.zookeeper.security.tls import Tls

__all__ = ["Auth", "Digest", "Gssapi", "SaslDigestMd5", "Tls"]
