"""``python -m aioelect.cli``: the same as the ``aioelect`` command."""

from aioelect.cli import main

main()
