"""The ``aioelect`` command, of the extra ``cli``. Each command is a module of its own; :mod:`aioelect.cli.app` joins them."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the console script; exits with 2 where click or rich is missing."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules were being imported: later on, commands see to it
        sys.exit(130)


def _run() -> None:
    try:
        from aioelect.cli.app import app
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        print(
            f"aioelect: the command line needs {missing}, which is not installed here. "
            "Install it with: pip install 'aioelect[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app()
