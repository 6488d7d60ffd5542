"""The numbers in the documentation are those of the code, and its code is run."""

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


def test_all_code_of_the_documentation_is_run() -> None:
    assert [page.name for page in DOCS.glob("*.md") if "```python" in page.read_text()] == [
        "fencing.md"
    ]  # test_fencing_recipes


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (DOCS / link).exists(), link


def test_anchors_of_the_page_on_fencing_are_there() -> None:
    text = (DOCS / "fencing.md").read_text()
    headings = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
