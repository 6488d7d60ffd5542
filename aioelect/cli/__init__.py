"""The ``aioelect`` command. It needs the extra ``cli``; each command is a module of its own, joined in :mod:`aioelect.cli.app`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the console script; exits with 2 where click or rich is missing."""
    try:
        from aioelect.cli.app import app
    except ModuleNotFoundError as e:
        if e.name is None or e.name.partition(".")[0] not in ("click", "rich"):
            raise
        sys.exit(_exit_without(e.name))
    app()


def _exit_without(module: str) -> int:
    print(
        f"aioelect: the command line needs {module}, which is not installed here. Install it with: pip install 'aioelect[cli]'",
        file=sys.stderr,
    )
    return 2
