"""Servers, and who we are to them, as a value that another process can be given."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal

import aioelect
from aioelect.events import OnEvent

__all__ = ["Cluster"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What of :func:`aioelect.connect`'s arguments is plain text, so that it can be handed on to other processes.

    ``hosts``            ``"zk1:2181,zk2:2181/chroot"``.
    ``tls``              speak TLS; ``ca``, ``cert``, ``key`` are PEM files, ``server_hostname`` whom certificates must be for.
    ``user``             authenticate by ZooKeeper's digest scheme, or with ``sasl`` by SASL DIGEST-MD5, with one of
                         ``password``, ``password_file`` and ``password_env``.
    ``acl``              of the znodes that are made.

    Raises ``ValueError`` for what can't work, and ``ModuleNotFoundError`` where a package for ``sasl`` is missing. Its ``repr``
    does not show the password.
    """

    hosts: str
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_hostname: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    password_env: str | None = None
    sasl: bool = False
    acl: Literal["open", "creator", "creator+read"] = "open"

    def __post_init__(self) -> None:
        secrets = (self.password, self.password_file, self.password_env)
        if self.user is None and (self.sasl or any(secret is not None for secret in secrets)):
            raise ValueError("a password is of no use without a name: give user as well")
        self.connect()

    def connect(
        self,
        *,
        session_timeout: float = 10.0,
        timeout: float | None = 30.0,
        guard: bool = False,
        on_event: OnEvent | None = None,
    ) -> AbstractAsyncContextManager[aioelect.Client]:
        """A client, as of :func:`aioelect.connect`. Raises ``ValueError`` at the call for what can't work."""
        kind = aioelect.SaslDigestMd5 if self.sasl else aioelect.Digest
        passwords = {name: getattr(self, name) for name in ("password", "password_file", "password_env")}
        return aioelect.connect(
            self.hosts,
            session_timeout=session_timeout,
            timeout=timeout,
            ssl=True if self.tls else None,
            ssl_ca=self.ca,
            ssl_cert=self.cert,
            ssl_key=self.key,
            server_hostname=self.server_hostname,
            auth=() if self.user is None else kind(self.user, **passwords),
            acl=self.acl,
            guard=guard,
            on_event=on_event,
        )
