"""SASL, as ZooKeeper's servers with a JAAS configuration ask for it (``ZooKeeperServer.processSasl``)."""

from __future__ import annotations

import os
from typing import Any

from aiozk import exc

from aioelect.errors import AuthenticationFailed
from aioelect.guard.parent import Sasl
from aioelect.zookeeper import wire
from aioelect.zookeeper.security.auth import Ask, Auth
from aioelect.zookeeper.security.secret import Secret

__all__ = ["SaslDigestMd5", "check_challenge", "exchange"]


async def exchange(ask: Ask, token: bytes, auth: Auth, server: str) -> bytes | None:
    """The server's answer to a token of ours. Raises ``AuthenticationFailed`` where it refuses ``auth``."""
    try:
        reply = await ask(wire.SaslRequest(token=token))
    except exc.ResponseError as e:
        if not wire.is_refusal(e):
            raise
        raise AuthenticationFailed(
            f"{server} refused {auth!r}: check that the credentials are right, and that the login module in the Server section "
            "of its JAAS configuration is of the same kind and knows them"
        ) from None
    answer: bytes | None = reply.record.token
    return answer


def check_challenge(challenge: bytes | None, auth: Auth, server: str) -> bytes:
    """The first answer: a server without SASL takes any token, and gives none (``ZooKeeperServer.processSasl``)."""
    if not challenge:
        raise AuthenticationFailed(
            f"{server} has no SASL, and would take {auth!r} for nobody: give it a JAAS configuration with a Server section and "
            "authProvider.sasl, or don't use SASL"
        )
    return challenge


class SaslDigestMd5(Auth):
    """SASL by DIGEST-MD5: ``SaslDigestMd5(user, password)``. The password never travels, and the server proves to know it, too.

    ``password_file``, ``password_env``  as for :class:`aioelect.Digest`.
    ``service``, ``server``              what the server takes itself for; those of ZooKeeper's ``DigestLoginModule`` by default.

    Raises ``ModuleNotFoundError`` without the package pure-sasl (``pip install 'aioelect[sasl]'``), and ``ValueError`` for a user
    that is not plain ASCII, and unless exactly one password is given and can be read.
    """

    __slots__ = ("_names", "_secret")

    is_sasl = True

    def __init__(
        self,
        user: str,
        password: str | None = None,
        *,
        password_file: str | os.PathLike[str] | None = None,
        password_env: str | None = None,
        service: str = "zookeeper",
        server: str = "zk-sasl-md5",
    ) -> None:
        _mechanism()
        for name, value in (("user", user), ("service", service), ("server", server)):
            if not (value and value.isascii() and value.isprintable()):
                raise ValueError(f"{name} must be printable ASCII text, not {value!r}")
        super().__init__(user)
        self._secret = Secret(password, password_file, password_env)
        self._names = (server, service)

    def for_guard(self) -> Sasl:
        """What a helper process needs to say it. Raises ``OSError`` where the password can't be read now."""
        return Sasl(self.user.encode(), _as_rfc_2831(self._secret.read()), "{1}/{0}".format(*self._names).encode())

    async def authenticate(self, ask: Ask, server: str, host: str) -> None:
        """Challenge and response, and the server's own proof. Raises ``AuthenticationFailed``."""
        client = _mechanism()(
            *self._names, "DIGEST-MD5", username=self.user, password=_as_rfc_2831(self._secret.read()), qops=[b"auth"]
        )
        try:
            challenge = check_challenge(await exchange(ask, b"", self, server), self, server)
            proof = await exchange(ask, self._process(client, challenge, server), self, server)
            if proof:
                self._process(client, proof, server)
            if not client.complete:
                raise AuthenticationFailed(
                    f"{server} did not prove that it knows the password of {self.user!r}: it let the password pass unchecked "
                    "(zookeeper.allowSaslFailedClients), or is not the server that it claims to be"
                )
        finally:
            client.dispose()

    def _process(self, client: Any, challenge: bytes, server: str) -> Any:
        try:
            return client.process(challenge)
        except Exception as e:  # it is the server's text, and pure-sasl trusts in its form
            raise AuthenticationFailed(
                f"{server} gave a SASL answer that makes no sense, or does not know the password of {self.user!r} "
                f"({type(e).__name__}): check service and server, and who answers there"
            ) from None


def _mechanism() -> Any:
    try:
        from puresasl.client import SASLClient
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(
            "SASL needs the package pure-sasl: pip install 'aioelect[sasl]'", name=e.name
        ) from None
    return SASLClient


def _as_rfc_2831(password: bytes) -> bytes:
    """The bytes that are hashed: ISO 8859-1 where that can write it, as Java has it, too."""
    try:
        return password.decode().encode("latin-1")
    except UnicodeError:
        return password
