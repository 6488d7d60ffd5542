"""What all players have in common: a process that contends when it is told to.

It is given ``--hosts``, ``--election`` and ``--session-timeout``, reads ``join`` and ``leave`` from stdin, one a line, and ends
itself at the end of stdin. It says ``ready`` when it has a session, ``leads T`` when its own code runs as leader, and ``left T``
when its release has been carried out: T is when it was *called*. Times are seconds on CLOCK_MONOTONIC, which processes share.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

__all__ = ["Commands", "Options", "now", "parse_options", "tell"]

now = time.monotonic


@dataclass(frozen=True, slots=True)
class Options:
    hosts: str
    election: str
    session_timeout: float
    variant: str


def parse_options() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--election", required=True)
    parser.add_argument("--session-timeout", type=float, required=True)
    parser.add_argument("--variant", default="")
    return Options(**vars(parser.parse_args()))


def tell(word: str, at: float | str = "") -> None:
    os.write(1, f"{word} {at}\n".encode())


class Commands:
    """Reads stdin as it comes."""

    def __init__(self) -> None:
        self._buffer = b""

    def read(self) -> list[str] | None:
        """The next complete lines, waiting for some bytes; None at the end."""
        data = os.read(0, 4096)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode() for line in lines]
