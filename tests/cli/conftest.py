from __future__ import annotations

from pathlib import Path

import pytest

from .program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The ``aioelect`` command."""
    return Program(tmp_path)
