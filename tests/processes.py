"""What /proc tells of processes: those with a mark in their environment, which is inherited, guards included; their state."""

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


def state(stat: Path) -> str:
    """The letter in the ``stat`` file of a process or thread (proc(5)): "T" is stopped, "Z" a zombie."""
    return stat.read_text().rpartition(")")[2].split()[0]
