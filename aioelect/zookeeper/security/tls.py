"""TLS: what ``ssl=`` and its companions say, as a context that keeps up with its files; and what its failures mean."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from typing import NamedTuple

from aioelect.errors import TlsError
from aioelect.ports import Address
from aioelect.zookeeper.security.secret import without_newline

__all__ = ["FilePath", "KeyPassword", "Tls", "tls_error"]

log = logging.getLogger("aioelect.session")

FilePath = str | os.PathLike[str]
"""Of a PEM file."""

KeyPassword = Callable[[], str | bytes]
"""Gives the password of a private key; a newline at its end does not count."""


class Files(NamedTuple):
    """What a context is made of."""

    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    key_password: KeyPassword | None = None

    @property
    def given(self) -> dict[str, FilePath]:
        """By the names of the arguments of ``connect()``."""
        named = {"ssl_ca": self.ca, "ssl_cert": self.cert, "ssl_key": self.key}
        return {name: path for name, path in named.items() if path is not None}

    def check(self) -> None:
        """Raises ``ValueError`` and ``TypeError`` for what can't be meant."""
        if self.cert is None and (self.key is not None or self.key_password is not None):
            given = "ssl_key" if self.key is not None else "ssl_key_password"
            raise ValueError(f"{given} is for the client's certificate: pass ssl_cert, too")
        if self.key_password is not None and not callable(self.key_password):
            raise TypeError(
                f"ssl_key_password must be a function that gives the password, as in lambda: os.environ['KEY_PASSWORD'], "
                f"and not the {type(self.key_password).__name__} itself"
            )
        for name, path in self.given.items():
            try:
                with open(path, "rb"):
                    pass
            except OSError as e:
                raise ValueError(
                    f"can't read {name}={os.fspath(path)!r} ({e.strerror}): check the path and its mode"
                ) from e

    def load(self) -> ssl.SSLContext:
        """Raises ``ValueError`` that names the file, and what ``key_password`` raises."""
        self.check()
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as e:
            raise ValueError(
                f"no CA certificates in ssl_ca={os.fspath(self.ca or '')!r} ({e.reason}): give a PEM file"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            self._load_certificate(context, self.cert)
        return context

    def _load_certificate(self, context: ssl.SSLContext, cert: FilePath) -> None:
        cert, key = os.fspath(cert), os.fspath(self.key or cert)
        asked = False

        def password() -> bytes:
            nonlocal asked
            asked = True
            if self.key_password is None:  # OpenSSL would ask on the terminal, and block
                raise ValueError(f"the private key in {key!r} is encrypted: pass ssl_key_password")
            given = self.key_password()
            return without_newline(given.encode() if isinstance(given, str) else given)

        try:
            context.load_cert_chain(cert, key, password)
        except ssl.SSLError as e:
            if e.reason == "KEY_VALUES_MISMATCH":
                problem = f"the private key in {key!r} is not that of the certificate in {cert!r}: give its own"
            elif asked:
                problem = f"can't decrypt the private key in {key!r}: ssl_key_password is wrong"
            else:
                problem = (
                    f"no certificate in ssl_cert={cert!r}, or no private key in {key!r} ({e.reason}): give PEM files"
                )
            raise ValueError(problem) from None

    def state(self) -> tuple[object, ...]:
        """Changes when a file does."""
        return tuple(map(_stamp, self.given.values()))


def _stamp(path: FilePath) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class Tls:
    """How connections of a client are encrypted, and whom they trust."""

    def __init__(self, context: ssl.SSLContext | None, files: Files, server_hostname: str | None) -> None:
        """Raises as :meth:`Files.load`."""
        self.server_hostname = server_hostname
        """Whom the servers must prove to be, unless the host in the hosts string."""
        self.files = None if context is not None else files
        """What a context can be made of elsewhere; None where it is the user's own."""
        self._files = files
        self._state = files.state()
        self._context = context or files.load()

    @classmethod
    def parse(
        cls,
        given: ssl.SSLContext | bool | None,
        ca: FilePath | None,
        cert: FilePath | None,
        key: FilePath | None,
        key_password: KeyPassword | None,
        server_hostname: str | None,
    ) -> Tls | None:
        """What the arguments of ``connect()`` say. Raises ``ValueError`` and ``TypeError`` for what can't work."""
        files = Files(ca, cert, key, key_password)
        context = given if isinstance(given, ssl.SSLContext) else None
        if not (context or given is None or isinstance(given, bool)):
            raise TypeError(f"ssl must be True or an ssl.SSLContext, not {given!r}")
        named = [*files.given, *(["ssl_key_password"] if key_password is not None else [])]
        if named and context is not None:
            raise ValueError(
                f"{' and '.join(named)} can't go with a context of your own: load them into it, or pass ssl=True"
            )
        if context is not None and context.protocol is ssl.PROTOCOL_TLS_SERVER:
            raise ValueError("ssl is a context for servers: make one with ssl.create_default_context()")
        if not given:
            named += ["server_hostname"] if server_hostname is not None else []
            if named:
                raise ValueError(f"{' and '.join(named)} without TLS: pass ssl=True")
            return None
        tls = cls(context, files, server_hostname)
        if server_hostname is not None:
            try:
                tls.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=server_hostname)
            except ValueError as e:
                raise ValueError(f"server_hostname {server_hostname!r} is no name of a server: {e}") from None
        return tls

    @property
    def context(self) -> ssl.SSLContext:
        """Made afresh when a file has changed, so that a renewed certificate is used from the next connection on."""
        if (state := self._files.state()) != self._state:
            self._state = state
            try:
                self._context = self._files.load()
            except Exception as e:  # of the user's function, too; there will be another connection
                log.warning("the changed TLS files are not used, those read before are: %s", e)
        return self._context


_NAME_MISMATCHES = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""

_WRONG_TIMES = {9, 10}
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""

_OF_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
"""In the names of alerts; the last is what OpenSSL says to a client without one in TLS 1.2."""


def tls_error(error: OSError, address: Address) -> TlsError:
    """What a handshake that failed with ``error`` means, and what to do."""
    reason = str(getattr(error, "reason", None) or "")
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(*address, _mistrust(error), True)
    if "ALERT" in reason and any(word in reason for word in _OF_OUR_CERTIFICATE):
        why = "it refused our certificate, or the lack of one: pass ssl_cert and ssl_key, signed by a CA in its trust store"
        return TlsError(*address, f"{why} ({reason})", True)
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
        return TlsError(*address, f"it speaks no version of TLS that we do: enable TLS 1.2 there ({reason})", True)
    if reason and not isinstance(error, ssl.SSLEOFError):
        return TlsError(*address, f"the handshake failed ({reason}): check that this is a TLS port", False)
    return TlsError(
        *address,
        "it hung up in the handshake: it takes no TLS on this port (give its secureClientPort), or no client without ssl_cert",
        False,
    )


def _mistrust(error: ssl.SSLCertVerificationError) -> str:
    """Why we don't trust the server."""
    said = error.verify_message.rstrip(".")
    if error.verify_code in _NAME_MISMATCHES:
        return (
            f"its certificate is for another server: connect by a name that is in it, or pass server_hostname ({said})"
        )
    if error.verify_code in _WRONG_TIMES:
        return f"its certificate is out of date: renew it, or set the clock of this machine ({said})"
    return (
        f"its certificate is signed by no CA that we trust: pass ssl_ca, a file with the certificate of its CA ({said})"
    )
