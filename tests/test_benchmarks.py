"""The benchmarks' quick mode runs: nobody's time is judged, but the scripts are kept alive. What is published is of one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from aioelect.testing.zookeeper import find_zookeeper

pytest.importorskip("rich")

from benchmarks import __main__ as main
from benchmarks import publish
from benchmarks.report import Result, load, save
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.systems import SYSTEMS, System, available
from benchmarks.verdict import count_ahead, measures, peers_ahead

ROOT = Path(__file__).parent.parent

RESULTS = {
    "handover",
    "handover_ensemble",
    "queue_length",
    "outages",
    "guard",
    "imports",
    "startup",
    "joining",
    "takeover",
    "idle",
    "many",
}

NAMES = {system.title: system.name for system in SYSTEMS}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything, with all systems that are installed here."""
    find_zookeeper()
    pytest.importorskip("matplotlib")
    out = tmp_path_factory.mktemp("benchmarks")
    run = bench("--quick", "--out", str(out))
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    found["files"] = {path.name for path in out.iterdir()}
    return found


def members() -> dict[str, set[str]]:
    """Who takes part in what, of those that are installed here."""
    everybody = {system.name for system in available()[0]}
    alike = everybody - {system.name for system in SYSTEMS if system.is_for_kills}
    libraries = everybody - {system.name for system in SYSTEMS if system.is_raw}
    return {
        "handover": alike,
        "handover_ensemble": alike,
        "queue_length": alike,
        "outages": libraries - {"uvloop"},
        "startup": alike,
        "joining": alike - {"bare", "uvloop"},
        "takeover": libraries & alike - {"uvloop"},
        "idle": libraries & alike,
        "many": everybody & {"floor", "aioelect", "aiozk", "kazoo"},
    }


@pytest.mark.timeout(300)
def test_a_quick_run_has_everything(quick: dict[str, Any]) -> None:
    results = {result["name"]: result for result in quick["results"]}
    assert set(results) == RESULTS
    for name, result in results.items():
        assert all(len(row) == len(result["head"]) for row in result["rows"]), name
        assert len(result["method"]) > 100, name
        assert not [note for note in result["notes"] if note.startswith("aioelect")], name
    assert quick["files"] >= {"overview.png", *(f"{name}.png" for name in RESULTS - PLAIN)}


PLAIN = {"imports", "joining", "takeover", "idle", "many"}
"""Those without a picture."""


@pytest.mark.timeout(300)
def test_a_quick_run_has_everybody(quick: dict[str, Any]) -> None:
    rows = {result["name"]: {row[0] for row in result["rows"]} for result in quick["results"]}
    expected = members()
    assert {"floor", "bare", "aioelect", "aiozk"} <= expected["handover"]
    assert {name: {NAMES[title] for title in rows[name]} for name in expected} == expected


@pytest.mark.timeout(300)
def test_a_quick_run_measures(quick: dict[str, Any]) -> None:
    results = {result["name"]: result["samples"] for result in quick["results"]}
    handovers = results["handover"]["seconds"]
    assert len(handovers["aioelect"]) == len(handovers["floor"]) == 20
    assert all(0 < seconds < 20 for times in handovers.values() for seconds in times)
    assert all(set(sizes) == {"2", "100"} for sizes in results["queue_length"]["seconds"].values())
    outages = results["outages"]["seconds"]
    assert set(outages["aioelect"]) == {"leaves", "killed", "frozen", "cut", "quorum"}
    assert all(len(times) == 1 for times in outages["aioelect"].values())
    # Only a guard knows of a death before the session is over.
    assert set(outages["guard"]) == {"killed"}
    assert outages["guard"]["killed"][0] < outages["aioelect"]["killed"][0]
    guards = results["guard"]["seconds"]
    assert set(guards) == {"one server", "three servers"}
    for found in guards.values():
        *guarded, (unguarded,) = found.values()
        assert [len(times) for times in guarded] == [1, 1]
        assert max(time for times in guarded for time in times) < unguarded
        assert {f"guard, T = {SESSION_TIMEOUT:g} s", "guard, T = 60 s"} < set(found)


def test_a_benchmark_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: Iterator[list[Result] | Exception] = iter(
        [RuntimeError("a hiccup"), [result("idle", {})], RuntimeError("a"), RuntimeError("b")]
    )

    def run(setting: Setting) -> list[Result]:
        outcome = next(attempts)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setitem(main.BENCHMARKS, "idle", run)
    name, (found,), why, _ = main._run_one("idle", cast("Setting", None))
    assert (name, why) == ("idle", "")
    assert found.notes == ["measured at the second attempt, after RuntimeError: a hiccup"]
    _, none, why, _ = main._run_one("idle", cast("Setting", None))
    assert none == []
    assert why.endswith("RuntimeError: b")
    assert "RuntimeError: a\n" in why


@pytest.mark.parametrize("option", ["--quick", "--only=idle", "--system=aioelect"])
def test_less_than_all_is_not_published(option: str) -> None:
    run = bench("--publish", option)
    assert run.returncode == 2
    assert "leave --quick, --only and --system out" in run.stderr


def test_published_pages_are_those_of_the_published_samples() -> None:
    for page, text in publish.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page} is stale: python -m benchmarks --publish"


def test_everything_is_published() -> None:
    results, machine = load(publish.SAMPLES)
    assert {result.name for result in results} == RESULTS
    assert {"cpu", "python", "aioelect"} <= set(machine)
    pictures = {path.stem for path in publish.PLOTS.iterdir()}
    assert pictures == {"overview", *RESULTS - PLAIN}


def test_every_library_that_is_compared_has_been_published() -> None:
    (handover,) = [result for result in load(publish.SAMPLES)[0] if result.name == "handover"]
    assert {row[0] for row in handover.rows} == {system.title for system in SYSTEMS if not system.is_for_kills}


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lost its marks"):
        publish._insert("# A page", ["text"])


def result(name: str, samples: dict[str, Any]) -> Result:
    return Result(name, f"The {name}", "", [], [], samples)


def test_peers_that_are_ahead_are_listed() -> None:
    handover = result(
        "handover", {"seconds": {"aioelect": [0.001, 0.002], "kazoo": [0.002, 0.0015], "floor": [0.0001]}}
    )
    assert [measure.title for measure in measures(handover)] == ["The handover, median", "The handover, p99"]
    assert peers_ahead([handover]) == []
    assert count_ahead([handover]) == "nothing"
    handover.samples["seconds"]["aiozk"] = [0.0005, 0.003]
    assert peers_ahead([handover]) == ["- The handover, median: aiozk LeaderElection 500 µs; aioelect 1 ms"]
    assert count_ahead([handover]) == "*The handover* (1 of 2 measures)"


def test_more_may_be_better_and_never_is_worst() -> None:
    runs = {"seconds": [2.0], "memory": [10.0]}
    many = result("many", {"aioelect": {"10": runs}, "aiozk": {"10": {"seconds": [1.0], "memory": [20.0]}}})
    assert peers_ahead([many]) == ["- The many: 10, elections a second: aiozk LeaderElection 10; aioelect 5"]
    outages = result(
        "outages", {"seconds": {"aioelect": {"cut": [1.0]}, "kazoo": {"cut": []}}, "faults": {"cut": "Cut"}}
    )
    assert peers_ahead([outages]) == []
    outages.samples["seconds"] = {"aioelect": {"cut": []}, "kazoo": {"cut": [1.0]}}
    assert peers_ahead([outages]) == ["- The outages: Cut, median: kazoo Election 1 s; aioelect never"]


def test_what_nobody_else_has_is_not_compared() -> None:
    alone = result("handover", {"seconds": {"aioelect": [1.0], "floor": [0.5], "uvloop": [0.1]}})
    assert list(measures(alone)) == []
    assert list(measures(result("guard", {"seconds": {}}))) == []


def test_samples_are_kept(tmp_path: Path) -> None:
    kept = result("handover", {"seconds": {"aioelect": [0.00123456789, 1.0]}})
    save(tmp_path / "results.json", [kept], {"cpu": "a"})
    (found,), machine = load(tmp_path / "results.json")
    assert machine == {"cpu": "a"}
    assert found.samples == {"seconds": {"aioelect": [0.00123457, 1.0]}}
    assert found.title == kept.title


def test_a_system_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, why = available(["aioelect", "kazoo"])
    assert [system.name for system in found] == ["aioelect"]
    assert why == ["kazoo Election: kazoo is not installed (pip install --group bench)"]
    assert isinstance(found[0], System)
