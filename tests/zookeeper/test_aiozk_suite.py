"""aiozk's own test suite, which its package ships, passes with our client in place of its."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiozk
import pytest

from aioelect.testing.zookeeper import ZooKeeperServer


@pytest.fixture
def plain_zookeeper() -> Iterator[ZooKeeperServer]:
    """These tests make containers and expect to find them again a second later, which other tests of ours do not."""
    with ZooKeeperServer(max_session_timeout=20, properties={"znode.container.checkIntervalMs": "3600000"}) as server:
        yield server


COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "aiozk_plugin", "-o", "asyncio_mode=auto", "-o", "addopts="]
"""Of a run outside of any project: neither our configuration nor our fixtures are for these tests."""


@pytest.mark.timeout(240)
def test_aiozks_own_suite_passes(plain_zookeeper: ZooKeeperServer, tmp_path: Path) -> None:
    """Some of it sleeps and hopes that others are done by then, so what fails is tried once more."""
    here = Path(__file__).parent
    tests = Path(aiozk.__file__).parent / "test"
    env = {
        **os.environ,
        "ZK_HOST": "127.0.0.1",
        "ZK_PORT": str(plain_zookeeper.port),
        "PYTHONPATH": os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*options: str) -> tuple[int, str, str]:
        """Its status, its last line, and the end of what it printed."""
        suite = subprocess.run(
            [*COMMAND, f"--rootdir={tmp_path}", "-c", os.devnull, *options, str(tests)],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=220,
            check=False,
        )
        return suite.returncode, suite.stdout.strip().splitlines()[-1], suite.stdout[-5000:]

    status, last, said = run()
    passed = re.search(r"\b(\d+) passed", last)
    failed = re.search(r"\b(\d+) failed", last)
    assert sum(int(found[1]) for found in (passed, failed) if found) == 85, said
    if status != 0:
        status, last, said = run("--last-failed", "--last-failed-no-failures", "none")
    assert status == 0, said
