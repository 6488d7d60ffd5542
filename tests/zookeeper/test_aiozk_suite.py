"""aiozk's own test suite, which its package ships, passes with our client in place of its."""

from __future__ import annotations

import os
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


@pytest.mark.timeout(240)
def test_aiozks_own_suite_passes(plain_zookeeper: ZooKeeperServer, tmp_path: Path) -> None:
    here = Path(__file__).parent
    tests = Path(aiozk.__file__).parent / "test"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "aiozk_plugin",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
    ]
    # Outside of any project: neither our configuration nor our fixtures are for these tests.
    suite = subprocess.run(
        [*command, "-o", "addopts=", f"--rootdir={tmp_path}", "-c", os.devnull, str(tests)],
        cwd=tmp_path,
        env={
            **os.environ,
            "ZK_HOST": "127.0.0.1",
            "ZK_PORT": str(plain_zookeeper.port),
            "PYTHONPATH": os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=220,
        check=False,
    )
    last = suite.stdout.strip().splitlines()[-1]
    assert suite.returncode == 0, suite.stdout[-5000:]
    assert last.startswith("85 passed in "), suite.stdout[-5000:]
