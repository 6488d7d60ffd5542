"""Credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiozk import protocol

__all__ = ["Auth", "Digest"]


@dataclass(frozen=True, slots=True)
class Digest:
    """ZooKeeper's ``digest`` scheme. The password travels in plain text: use it over TLS or on a trusted network."""

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.user or ":" in self.user:
            raise ValueError(f"a digest user must not be empty or hold ':', not {self.user!r}")

    def request(self) -> Any:
        """The packet, which goes out on every connection before anything else."""
        return protocol.AuthRequest(type=0, scheme="digest", auth=f"{self.user}:{self.password}".encode())


Auth = Digest
"""What ``auth=`` takes."""
