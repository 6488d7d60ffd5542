"""SASL by GSSAPI, which is Kerberos (RFC 4752), as ZooKeeper's servers with a ``Krb5LoginModule`` ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aioelect.errors import AuthenticationFailed
from aioelect.zookeeper.security.auth import Ask, Auth
from aioelect.zookeeper.security.sasl import check_challenge, exchange

__all__ = ["Gssapi"]

P = ParamSpec("P")
T = TypeVar("T")

NO_LAYER = b"\1\0\0\0"
"""We want no security layer, and to be who our ticket says."""


class Gssapi(Auth):
    """Kerberos: ``Gssapi()`` uses the tickets of this process (``kinit``), or gets some by its keytab (``KRB5_CLIENT_KTNAME``).

    ``principal``  whose tickets, where there are several.
    ``service``    the first part of the servers' principal.
    ``host``       its second part; by default each server's host as it stands in the hosts string.

    Raises ``ModuleNotFoundError`` without the package gssapi (``pip install 'aioelect[gssapi]'``), and ``ValueError`` where there
    is neither a ticket nor a keytab. A ticket that can't be had later is waited for.
    """

    __slots__ = ("_host", "_principal", "_service")

    is_sasl = True

    def __init__(self, principal: str | None = None, *, service: str = "zookeeper", host: str | None = None) -> None:
        super().__init__(principal or "the default principal")
        self._principal = principal
        self._service = service
        self._host = host
        try:
            self._credentials()
        except _gssapi().exceptions.GSSError as e:
            raise ValueError(
                f"no Kerberos credentials of {self.user}: run kinit, or set KRB5_CLIENT_KTNAME ({e})"
            ) from e

    def _credentials(self) -> Any:
        """Read afresh each time, since tickets are renewed."""
        gssapi = _gssapi()
        name = self._principal and gssapi.Name(self._principal, gssapi.NameType.kerberos_principal)
        return gssapi.Credentials(name=name, usage="initiate")

    async def authenticate(self, ask: Ask, server: str, host: str) -> None:
        """Proves the ticket, and lets the server prove that it is whom the ticket is for.

        Raises ``AuthenticationFailed``, and ``OSError`` where there is no ticket for that server.
        """
        gssapi, target = _gssapi(), f"{self._service}@{self._host or host}"
        try:
            context, token = await _in_thread(self._begin, target)
        except gssapi.exceptions.GSSError as e:
            raise OSError(f"Kerberos has no ticket of {self.user} for {target}: {e}") from e
        answer = check_challenge(await exchange(ask, token, self, server), self, server)
        try:
            while not context.complete:
                token = await _in_thread(context.step, answer) or b""
                answer = await exchange(ask, token, self, server) or b""
            token = await _in_thread(self._refuse_layers, context, answer)
        except (gssapi.exceptions.GSSError, ValueError) as e:
            raise AuthenticationFailed(
                f"{server} did not prove that it is {target}, or has another login module than Krb5LoginModule in the Server "
                f"section of its JAAS configuration: {e}"
            ) from e
        await exchange(ask, token, self, server)

    def _begin(self, target: str) -> tuple[Any, bytes]:
        gssapi = _gssapi()
        name = gssapi.Name(target, gssapi.NameType.hostbased_service)
        flags = [gssapi.RequirementFlag.mutual_authentication, gssapi.RequirementFlag.integrity]
        context = gssapi.SecurityContext(name=name, creds=self._credentials(), usage="initiate", flags=flags)
        return context, context.step()

    def _refuse_layers(self, context: Any, offer: bytes) -> bytes:
        offered: bytes = context.unwrap(offer).message
        if len(offered) != 4 or not offered[0] & NO_LAYER[0]:
            raise ValueError("it insists on a security layer, for which ZooKeeper's protocol has no place")
        answer: bytes = context.wrap(NO_LAYER, False).message
        return answer


_threads = ThreadPoolExecutor(4, "aioelect Kerberos")


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """For what may ask the KDC; in threads of its own, since the event loop's may all be busy."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(work, *args, **kwargs))


def _gssapi() -> Any:
    try:
        import gssapi
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(
            "Kerberos needs the package gssapi: pip install 'aioelect[gssapi]'", name=e.name
        ) from None
    return gssapi
