"""What a client leaves to its guard: how to end the session when this process is dead, told anew at every connection."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aioelect.guard.parent import Guard, TlsFiles, Will
from aioelect.zookeeper import wire
from aioelect.zookeeper.security import Auth, Tls
from aioelect.zookeeper.security.digest import Digest
from aioelect.zookeeper.security.sasl import SaslDigestMd5
from aioelect.zookeeper.security.secret import without_newline
from aioelect.zookeeper.security.tls import FilePath
from aioelect.zookeeper.session import HOPELESS, Session

__all__ = ["Testator"]


class Testator:
    """Observes a session, and keeps its guard informed."""

    def __init__(self, session: Session, guard: Guard, auth: Sequence[Auth], tls: Tls | None) -> None:
        """Raises ``ValueError`` for what a helper process can't use."""
        self._session = session
        self._guard = guard
        self._auth = _check_auth(auth)
        self._tls = tls
        if tls is not None and tls.files is None:
            raise ValueError(
                "the guard can't use an ssl.SSLContext, which stays in this process: pass ssl=True, ssl_ca, ssl_cert, ssl_key"
            )
        session.observe(self)

    def _make_will(self) -> None:
        session, conn = self._session, self._session.conn
        if session.session_id is None or conn is None:
            return
        greeting = wire.connect_frame(
            last_zxid=0,  # a server that lags behind what we have seen will do
            timeout=session.requested_timeout,
            session_id=session.session_id,
            password=session.password,
            read_only=False,
        )
        digests = [each.request() for each in self._auth if isinstance(each, Digest)]
        credentials = [wire.frame(request.serialize(wire.AUTH_XID)) for request in digests]
        sasl = next((each.for_guard() for each in self._auth if isinstance(each, SaslDigestMd5)), None)
        nearest = (_encode(conn.host), conn.port, self._name(conn.name))
        others = [(_encode(host), port, self._name(host)) for host, port in session.hosts.servers]
        self._guard.bequeath(
            Will(
                greeting=greeting,
                sasl=sasl,
                farewell=b"".join([*credentials, wire.close_frame(1)]),
                servers=list(dict.fromkeys([nearest, *others])),
                patience=HOPELESS * session.timeout,
                tls=self._name_files(),
            )
        )

    def _name(self, host: str) -> bytes:
        """What stands in a server's certificate."""
        return _encode((self._tls and self._tls.server_hostname) or host.rstrip("."))

    def _name_files(self) -> TlsFiles | None:
        if self._tls is None or self._tls.files is None:
            return None
        files = self._tls.files
        password = files.key_password() if files.key_password is not None else None
        if password is not None:
            password = without_newline(password.encode() if isinstance(password, str) else password)
        return TlsFiles(_locate(files.ca), _locate(files.cert), _locate(files.key), password)

    # The session's observer

    def session_opened(self) -> None:
        self._make_will()

    def session_resumed(self) -> None:
        self._make_will()

    def session_suspended(self) -> None:
        pass

    def session_ended(self) -> None:
        pass

    def session_closed(self) -> None:
        pass


def _check_auth(auth: Sequence[Auth]) -> Sequence[Auth]:
    for each in auth:
        if not isinstance(each, Digest | SaslDigestMd5):
            raise ValueError(
                f"the guard can't use {each!r}: it knows Digest and SaslDigestMd5 alone. Leave it out, or guard="
            )
    return auth


def _encode(host: str) -> bytes:
    """As a host is called on the wire."""
    return host.encode("idna")


def _locate(path: FilePath | None) -> str | None:
    """The helper has another working directory."""
    return None if path is None else os.path.abspath(os.fspath(path))
