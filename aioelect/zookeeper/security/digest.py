"""ZooKeeper's ``digest`` scheme (``DigestAuthenticationProvider``)."""

from __future__ import annotations

import os
from typing import Any

from aiozk import exc

from aioelect.errors import AuthenticationFailed
from aioelect.zookeeper import wire
from aioelect.zookeeper.security.auth import Ask, Auth
from aioelect.zookeeper.security.secret import Secret

__all__ = ["Digest"]


class Digest(Auth):
    """ZooKeeper's ``digest`` scheme: ``Digest(user, password)``, or where the password stands, to be read for each connection.

    ``password_file``  a file; a newline at its end does not count.
    ``password_env``   the name of an environment variable.

    A server takes any user with any password: they matter where a znode's ACL asks for them, so that a wrong password shows as
    ``aiozk.exc.NoAuth`` there and not when connecting. The password travels in plain text: use TLS, or a network you trust.

    Raises ``ValueError`` for a user with ":", and unless exactly one password is given and can be read.
    """

    __slots__ = ("_secret",)

    def __init__(
        self,
        user: str,
        password: str | None = None,
        *,
        password_file: str | os.PathLike[str] | None = None,
        password_env: str | None = None,
    ) -> None:
        if not user or ":" in user:
            raise ValueError(f"a digest user must not be empty or hold ':', not {user!r}")
        super().__init__(user)
        self._secret = Secret(password, password_file, password_env)

    def request(self) -> Any:
        """The packet that says it."""
        return wire.AuthRequest(type=0, scheme="digest", auth=b"%s:%s" % (self.user.encode(), self._secret.read()))

    async def authenticate(self, ask: Ask, server: str, host: str) -> None:
        """One packet, to which a server says yes. Raises ``AuthenticationFailed`` where it does not know the scheme."""
        try:
            await ask(self.request())
        except exc.AuthFailed:
            raise AuthenticationFailed(
                f"{server} refused the digest credentials of {self.user!r}: check that its digest scheme is enabled"
            ) from None
