"""A certificate authority of the test's own, and what it signs, as PEM files."""

from __future__ import annotations

import datetime
import itertools
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization as pem

from aioelect.testing.zookeeper import ServerTls

__all__ = ["Authority", "Signed"]

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, and writes all of it to ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def sign(self, name: str = "127.0.0.1", *, expired: bool = False, password: bytes | None = None) -> Signed:
        """A certificate for a server's name or address, or a client's e-mail address; ``password`` encrypts its key."""
        until = datetime.datetime.now(datetime.UTC) + (-DAY if expired else DAY)
        made = self._ca.issue_cert(name, not_before=until - 2 * DAY, not_after=until)
        number = next(self._numbers)
        signed = Signed(self._folder / f"cert-{number}.pem", self._folder / f"key-{number}.pem")
        signed.cert.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        key = pem.load_pem_private_key(made.private_key_pem.bytes(), None)
        secrecy = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
        signed.key.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, secrecy))
        return signed

    def server_context(self, signed: Signed | None = None, *, demands_certificate: bool = False) -> ssl.SSLContext:
        """For a server in this process."""
        signed = signed or self.sign()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.load_cert_chain(signed.cert, signed.key)
        if demands_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def server_tls(self, *, demands_certificate: bool = True) -> ServerTls:
        """For a real server."""
        signed = self.sign()
        store = self._folder / f"store-{next(self._numbers)}.pem"
        store.write_bytes(signed.key.read_bytes() + signed.cert.read_bytes())
        return ServerTls(store, self.ca, demands_certificate)
