"""What a client leaves to its guard: how to end the session when this process is dead, told anew at every connection."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aioelect.guard.parent import Guard, TlsFiles, Will
from aioelect.zookeeper import wire
from aioelect.zookeeper.security import Auth, Digest, Tls
from aioelect.zookeeper.session import HOPELESS, Session

__all__ = ["Testator", "check_bequeathable"]


def check_bequeathable(auth: Sequence[Auth], tls: Tls | None) -> None:
    """Raises ``ValueError`` for credentials that a helper process can't use."""
    if tls is not None and tls.files is None:
        raise ValueError(
            "the guard can't use an ssl.SSLContext of another process: pass ssl=True with ssl_ca, ssl_cert and ssl_key instead, "
            "or leave the guard out"
        )
    for each in auth:
        if not isinstance(each, Digest):
            raise ValueError(
                f"the guard can't use {each!r}: it knows Digest alone. Leave the guard, or these credentials, out"
            )


def _describe(tls: Tls) -> TlsFiles:
    files = tls.files
    assert files is not None  # noqa: S101  # checked when the guard was asked for
    ca, cert, key = (None if path is None else os.path.abspath(path) for path in (files.ca, files.cert, files.key))
    password = files.key_password() if files.key_password is not None else None
    text = password.decode() if isinstance(password, bytes) else password
    return TlsFiles(ca, cert, key, text and text.rstrip("\r\n"))


class Testator:
    """Observes a session, and keeps its guard informed."""

    def __init__(self, session: Session, guard: Guard, auth: Sequence[Auth], tls: Tls | None) -> None:
        """Raises as :func:`check_bequeathable`."""
        check_bequeathable(auth, tls)
        self._session = session
        self._guard = guard
        self._digests = [each for each in auth if isinstance(each, Digest)]
        self._tls = tls
        session.observe(self)

    def _make_will(self) -> None:
        session, conn = self._session, self._session.conn
        if session.session_id is None or conn is None:
            return
        resume = wire.connect_frame(
            last_zxid=0,  # a server that lags behind what we have seen will do
            timeout=session.requested_timeout,
            session_id=session.session_id,
            password=session.password,
            read_only=False,
        )
        credentials = [wire.frame(digest.request().serialize(wire.AUTH_XID)) for digest in self._digests]
        name = None if self._tls is None else self._tls.server_hostname
        nearest = (conn.host, conn.port, name or conn.name)
        others = [(host, port, name or host) for host, port in session.hosts.servers]
        self._guard.bequeath(
            Will(
                greeting=b"".join([resume, *credentials, wire.close_frame(1)]),
                servers=list(dict.fromkeys([nearest, *others])),
                patience=HOPELESS * session.timeout,
                tls=None if self._tls is None else _describe(self._tls),
            )
        )

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
