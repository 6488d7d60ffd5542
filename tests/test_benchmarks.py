"""The benchmarks' quick mode runs: nobody's time is judged, but the scripts are kept alive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aioelect.testing.zookeeper import find_zookeeper

ROOT = Path(__file__).parent.parent

RESULTS = {
    "handover",
    "handover_ensemble",
    "queue_length",
    "outages",
    "imports",
    "startup",
    "joining",
    "takeover",
    "idle",
    "many",
}


@pytest.mark.timeout(240)
def test_quick_run_of_aioelect_and_the_floor(tmp_path: Path) -> None:
    """Peers need more than the tests do, and have their places in the tables alone."""
    pytest.importorskip("rich")
    find_zookeeper()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)),
            *(
                "--system",
                "floor",
                "--system",
                "bare",
                "--system",
                "aioelect",
                "--system",
                "aiozk",
                "--system",
                "kazoo",
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )
    assert run.returncode == 0, run.stderr
    results = {result["name"]: result for result in json.loads((tmp_path / "results.json").read_text())["results"]}
    assert set(results) == RESULTS
    for name, result in results.items():
        assert all(len(row) == len(result["head"]) for row in result["rows"]), name
        assert any(row[0].startswith("aioelect") for row in result["rows"]), name
        assert not [note for note in result["notes"] if note.startswith("aioelect:")], name
    samples = results["handover"]["samples"]["seconds"]
    assert len(samples["aioelect"]) == len(samples["floor"]) == 20
    assert all(0 < seconds < 20 for times in samples.values() for seconds in times)
