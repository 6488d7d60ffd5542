"""The ``aioelect`` command itself: version, help, and what it says without its extra."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from aioelect.cli.text import describe

from .program import Program


async def test_version(program: Program) -> None:
    outcome = await program.run("--version")
    assert (outcome.status, outcome.out) == (0, f"aioelect {version('aioelect')}\n")


async def test_help_names_the_commands(program: Program) -> None:
    outcome = await program.run("--help")
    assert outcome.status == 0
    assert re.search(r"bench +Measure how fast leadership changes hands on your servers\.", outcome.out)
    assert re.search(r"demo +Watch leaders come and go\.", outcome.out)
    assert re.search(r"step-down +Ask the leader of ELECTION to step down\.", outcome.out)


async def test_help_of_the_demo_names_its_options(program: Program) -> None:
    outcome = await program.run("demo", "--help")
    assert outcome.status == 0
    for option in ("--hosts", "--zookeeper", "--contenders", "--rounds", "--session-timeout", "--json"):
        assert option in outcome.out


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import aioelect.cli; aioelect.cli.main()"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert outcome.stderr == (
        f"aioelect: the command line needs {missing}, which is not installed here. "
        "Install it with: pip install 'aioelect[cli]'\n"
    )


@pytest.mark.parametrize(
    ("position", "before"), [(0, "nobody is"), (1, "one is"), (2, "2 are"), (None, "two or more are")]
)
def test_how_many_are_before_a_contender_is_said_in_words(position: int | None, before: str) -> None:
    assert describe({"event": "Queued", "position": position}) == f"queues: {before} before it"
