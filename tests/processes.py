"""Finds processes by a mark in their environment, which those inherit that they start, guards included."""

from __future__ import annotations

from pathlib import Path

MARK = "AIOELECT_TEST_MARK"


def marked(mark: str) -> dict[int, str]:
    """The command lines of the running processes with this mark, by process id."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone, or a zombie
            continue
    return found
