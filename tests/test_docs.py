"""The numbers in the documentation are those of the code, and its code is run."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from aioelect import Timing
from tests import elections

embedded, hosts = elections.embedded, elections.hosts

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
    pages = {page.name for page in DOCS.glob("*.md") if "```python" in page.read_text()}
    assert pages == {"fencing.md", "measuring.md"}  # the first by test_fencing_recipes


async def test_the_measuring_script_measures(hosts: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "measuring.md").read_text(), re.DOTALL)
    password = tmp_path / "password"
    password.write_text("secret")
    for written, meant in (
        ("127.0.0.1:2181", hosts),
        ("/run/secrets/zookeeper", str(password)),
        ("range(100)", "range(5)"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, meant)
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", code, stdout=PIPE, stderr=PIPE)
    out, errors = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0, errors.decode()
    time = r"median \d+\.\d ms, worst \d+\.\d ms of"
    assert re.fullmatch(f"write: {time} 20\nhandover: {time} 5\nkill -9: {time} 5\n", out.decode()), out


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (DOCS / link).exists(), link


def test_anchors_of_the_page_on_fencing_are_there() -> None:
    text = (DOCS / "fencing.md").read_text()
    headings = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
