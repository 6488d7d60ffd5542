"""``aioelect demo``, as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

import aioelect
from aioelect.cli.demo import demo
from aioelect.cli.screen import Silence
from aioelect.cli.show import Show
from aioelect.cli.text import clean
from aioelect.cli.worker import Setting, Worker
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.zookeeper import free_ports
from aioelect.zookeeper.hosts import Hosts

from .program import Program

QUICK = ("--rounds", "1", "--contenders", "2", "--session-timeout", "1")


async def test_plain_lines(program: Program) -> None:
    outcome = await program.run("demo", *QUICK)
    assert (outcome.status, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    for said in (
        "LEADS with token 0x",
        "is next in line",
        "resigns. It deletes its znode",
        "until its session times out: 1 s.",
        "after the kill -9",
        "network is cut (packets vanish)",
        "stands down: the servers could not confirm it before its deadline",
        "overlapped: 0.",
    ):
        assert said in outcome.out
    assert outcome.out.count("│   1 of 1 │") == 3
    assert program.processes() == []
    assert list(program.temporary.iterdir()) == []


async def test_json_and_nothing_else(program: Program) -> None:
    outcome = await program.run("demo", "--json", "--rounds", "2", "--contenders", "3", "--session-timeout", "1")
    assert (outcome.status, outcome.err) == (0, "")
    said = json.loads(outcome.out)
    assert (said["ok"], said["problems"], said["overlaps"]) == (True, [], 0)
    assert (said["server"], said["contenders"], said["rounds"], said["session_timeout"]) == ("embedded", 3, 2, 1.0)
    assert said["intervals"] >= 1 + 6
    assert {kind: (each["expected"], each["count"]) for kind, each in said["takeovers"].items()} == {
        "resign": (2, 2),
        "kill": (2, 2),
        "cut": (2, 2),
    }
    for each in said["takeovers"].values():
        assert 0 < each["latency_median"] <= each["latency_worst"]
        assert 0 < each["gap_shortest"] <= each["latency_worst"]
    # Only the session timeout tells that a killed leader is dead; one that resigns says so.
    assert said["takeovers"]["resign"]["latency_median"] < 0.5 < said["takeovers"]["kill"]["latency_median"]
    log = said["log"]
    assert [each["kind"] for each in log] == ["resign", "kill", "cut"] * 2
    assert all(each["before"] != each["after"] and each["token_before"] < each["token_after"] for each in log)


async def test_real_zookeeper(program: Program) -> None:
    outcome = await program.run("demo", "--zookeeper", "--json", *QUICK)
    assert (outcome.status, outcome.err) == (0, "")
    said = json.loads(outcome.out)
    assert (said["ok"], said["server"]) == (True, "zookeeper")
    assert program.processes() == []


async def test_given_servers_are_left_as_they_were(program: Program) -> None:
    async with EmbeddedServer(tick_time=0.1) as server:
        hosts = f"127.0.0.1:{server.port},localhost:{server.port}/app"
        outcome = await program.run("demo", "--hosts", hosts, "--json", *QUICK)
        assert (outcome.status, outcome.out) == (1, "")
        assert outcome.err.startswith(f"aioelect demo: {hosts}: /app does not exist: create it first, or")
        async with aioelect.connect(server.hosts) as client:
            assert await client.get_children("/") == ["zookeeper"]
            await client.create("/app")
        outcome = await program.run("demo", "--hosts", hosts, "--json", *QUICK)
        assert (outcome.status, outcome.err) == (0, "")
        assert json.loads(outcome.out)["server"] == "hosts"
        async with aioelect.connect(server.hosts) as client:
            assert await client.get_children("/app") == []
            await until(lambda: len(server.sessions) == 1)  # a probe of the server's tick may have to expire


async def test_session_timeout_that_the_server_does_not_grant(program: Program) -> None:
    async with EmbeddedServer(min_session_timeout=4) as server:
        outcome = await program.run("demo", "--hosts", server.hosts, "--session-timeout", "3")
    assert (outcome.status, outcome.out) == (2, "")
    assert "3 is out of the server's range, it grants 4 instead; give --session-timeout 4" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--contenders", "1"], "1 can't take over from each other"),
        (["--contenders", "9999"], "9999 would be 9999 processes"),
        (["--contenders", "many"], "'many' is not a valid integer"),
        (["--rounds", "0"], "0 is not in the range x>=1"),
        (["--session-timeout", "0.1"], "0.1 is not in the range 0.5<=x<=60"),
        (["--session-timeout", "nan"], "'nan' is no number of seconds"),
        (["--hosts", "zk1:port"], "'port' in 'zk1:port'"),
        (["--hosts", "zk1", "--zookeeper"], "--hosts and --zookeeper exclude each other"),
    ],
)
def test_bad_argument_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(demo, arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


async def test_servers_out_of_reach(program: Program) -> None:
    hosts = f"127.0.0.1:{free_ports(1)[0]}"
    impatient = "from aioelect.cli import demo; demo.CONNECT_TIMEOUT = 0.2"
    outcome = await program.run("demo", "--hosts", hosts, after=impatient)
    assert (outcome.status, outcome.out) == (1, "")
    assert f"no ZooKeeper session from {hosts} within 0.2 s" in outcome.err


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # processes and servers tell of nothing
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "options", "word"),
    [
        (signal.SIGINT, [], b"LEADS"),
        (signal.SIGTERM, [], b"network is cut"),
        (signal.SIGINT, ["--zookeeper"], b"LEADS"),
    ],
)
async def test_signal_leaves_nothing_running(
    number: signal.Signals, options: list[str], word: bytes, program: Program
) -> None:
    process = await program.start("demo", *options, "--rounds", "99", "--session-timeout", "1")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while word not in await process.stdout.readline():
            pass
    assert len(program.processes()) >= 1 + 5
    process.send_signal(number)
    outcome = await program.end(process)
    assert outcome.status == 128 + number
    assert outcome.err == f"aioelect demo: {number.name}, all contenders have left\n"
    assert program.processes() == []
    assert list(program.temporary.iterdir()) == []


async def test_a_signal_leaves_nothing_of_a_killed_contender(program: Program) -> None:
    async with EmbeddedServer(tick_time=0.1, max_session_timeout=60) as server:
        process = await program.start("demo", "--hosts", server.hosts, "--session-timeout", "30")
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while b"until its session times out" not in await process.stdout.readline():
                pass
        process.send_signal(signal.SIGINT)
        outcome = await program.end(process)
        assert (outcome.status, outcome.err) == (130, "aioelect demo: SIGINT, all contenders have left\n")
        assert list(server.tree.node("/").children) == ["zookeeper"]


async def test_contenders_do_not_outlive_a_killed_demo(program: Program) -> None:
    process = await program.start("demo", "--rounds", "99")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b"LEADS" not in await process.stdout.readline():
            pass
    assert len(program.processes()) == 1 + 5
    process.kill()
    await program.end(process)
    await until(lambda: not program.processes())


async def test_table_on_a_terminal(program: Program) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aioelect.cli", "demo", *QUICK),
        stdin=DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**program.environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = await asyncio.to_thread(_read_all, ours)
    assert await process.wait() == 0
    for said in ("contender", "worker-1", "LEADS, proven for", "CUT OFF", "killed", "from -> to", "Summary"):
        assert said in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def _read_all(terminal: int) -> str:
    read = bytearray()
    with contextlib.suppress(OSError):  # Linux: EIO when the other side is closed
        while chunk := os.read(terminal, 65536):
            read += chunk
    os.close(terminal)
    return read.decode()


async def test_contender_that_dies_by_itself_ends_the_demo(tmp_path: Path) -> None:
    class Murderer(Silence):
        def meet(self, workers: Sequence[Worker]) -> None:
            self.victim = workers[-1]

        def begin_round(self, number: int, rounds: int) -> None:
            assert self.victim.pid is not None
            os.kill(self.victim.pid, signal.SIGKILL)

    async with EmbeddedServer(tick_time=0.1) as server:
        setting = Setting(Hosts.parse(server.hosts), "/election", 1.0, tmp_path)
        show = Show(setting, Murderer(), contenders=3, rounds=1)
        await show.perform()
    assert show.mishap == "worker-3 ended by itself: exit status -9"


async def test_nobody_can_lead_beside_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioelect.cli.show.PATIENCE", 0.0)
    async with (
        EmbeddedServer(tick_time=0.1) as server,
        aioelect.leadership(server.hosts, "/election"),
    ):
        setting = Setting(Hosts.parse(server.hosts), "/election", 1.0, tmp_path)
        show = Show(setting, Silence(), contenders=2, rounds=1)
        await show.perform()
    assert show.takeovers == []
    assert show.mishap == "one leader, and all others in the queue behind it, did not come about within 3 s"


@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_missing_takeover_is_a_failure(options: list[str], program: Program) -> None:
    no_scene = "import asyncio; from aioelect.cli.show import Show; Show._scene = lambda *_, **__: asyncio.sleep(0)"
    outcome = await program.run("demo", "--rounds", "3", *options, after=no_scene)
    assert outcome.status == 1
    assert "3 of 3 takeovers after a kill -9 did not happen" in outcome.out
    assert "Every takeover happened" not in outcome.out


def test_what_strangers_wrote_is_escaped() -> None:
    assert clean("wörker\x1b[2J\n\u202e[red]") == "wörker\\x1b[2J\\n\\u202e[red]"
