"""The numbers in the documentation are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aioelect import Timing

DOCS = Path(__file__).parent.parent / "docs"

ROWS = re.findall(
    r"^\| (\S+) \| (\S+?)(?: \(.*?\))? \| (\S+) \| (\S+) \| (\S+) \| \*\*(\S+)\*\* \|$",
    (DOCS / "timing.md").read_text(),
    re.MULTILINE,
)


def test_the_timing_table_is_found() -> None:
    assert len(ROWS) == 6


@pytest.mark.parametrize("row", ROWS)
def test_timing_table(row: tuple[str, ...]) -> None:
    session_timeout, tick_time, renew_every, margin, drain, ride_out = map(float, row)
    timing = Timing(session_timeout, tick_time, renew_every, margin, drain)
    assert timing.ride_out == pytest.approx(ride_out)
