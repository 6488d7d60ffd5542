"""``aioelect bench``, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import aioelect
from aioelect.cli.bench import bench
from aioelect.testing import Cluster, EmbeddedServer
from aioelect.testing.zookeeper import ZooKeeperServer, free_ports
from tests import elections
from tests.elections import Connect
from tests.zookeeper import conftest as secured
from tests.zookeeper.certificates import Authority

from .program import Program
from .test_demo import until

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept
authority, strict_zookeeper = secured.authority, secured.strict_zookeeper

QUICK = ("--rounds", "3", "--kills", "2", "--session-timeout", "1")


async def left(cluster: Cluster) -> list[str]:
    async with cluster.connect() as client:
        return [name for name in await client.get_children("/") if "bench" in name]


async def run(program: Program, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """A run in which all goes well: what it has written for programs."""
    found = tmp_path / "found.json"
    outcome = await program.run("bench", "--json", str(found), *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    assert program.processes() == []
    said: dict[str, Any] = json.loads(found.read_text())
    found.unlink()
    assert list(program.temporary.iterdir()) == []
    return said


async def test_the_embedded_server_by_default(program: Program) -> None:
    outcome = await program.run("bench", *QUICK)
    assert (outcome.status, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    for said in (
        "Two contenders on an embedded server at 127.0.0.1:",
        "session timeout 1 s",
        "│ graceful handover │ 3 │",
        "│ kill -9, with a guard │ 2 │",
        "│ kill -9, without │ 1 │",
        "The server was the embedded one",
        "For your own servers: aioelect bench --hosts zk1:2181,zk2:2181",
    ):
        assert said in " ".join(outcome.out.split())
    assert program.processes() == []
    assert list(program.temporary.iterdir()) == []


async def test_samples_for_programs(program: Program, tmp_path: Path, hosts: str) -> None:
    said = await run(program, tmp_path, "--hosts", hosts, *QUICK)
    assert (said["complete"], said["server"], said["session_timeout"], said["notes"]) == (True, "hosts", 1.0, [])
    assert said["asked"]["rounds"] == 3
    counts = {name: len(samples) for name, samples in said["samples"].items()}
    assert counts == {"write": 12, "join": 1 + 5 + 1 + 1, "handover": 3, "kill_guard": 2, "kill": 1}
    for name, samples in said["samples"].items():
        assert said["summary"][name]["count"] == len(samples)
        assert 0 < said["summary"][name]["median"] <= said["summary"][name]["worst"] == max(samples)
    # Only the session timeout tells of a death for which there is no guard.
    assert max(said["samples"]["kill_guard"]) < said["samples"]["kill"][0]
    assert await left(Cluster(hosts)) == []


async def test_a_real_server_of_its_own(program: Program, tmp_path: Path) -> None:
    said = await run(program, tmp_path, "--zookeeper", *QUICK, "--kills-without-guard", "0", "--kills", "0")
    assert (said["server"], len(said["samples"]["handover"]), said["samples"]["kill"]) == ("zookeeper", 3, [])


async def test_protected_servers(program: Program, connect: Connect, hosts: str, tmp_path: Path, path: str) -> None:
    password = tmp_path / "password"
    password.write_text("5e(ret\n")
    app = await connect(auth=aioelect.Digest("app", "5e(ret"), acl="creator")
    await app.create(path)
    folder = ("--hosts", hosts, "--election-folder", f"{path}/bench")

    outcome = await program.run("bench", *folder, *QUICK)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == (
        "aioelect bench: NoAuth: what is there is protected, give its credentials (--user or --cert)\n"
    )
    credentials = ("--user", "app", "--password-file", str(password), "--acl", "creator")
    process = await program.start("bench", *folder, *QUICK, *credentials)
    async with asyncio.timeout(30):
        while len(await app.get_children(path)) == 0 or len(await app.get_children(f"{path}/bench")) < 2:
            await asyncio.sleep(0.01)
    assert [entry.id.scheme for entry in await app.get_acl(f"{path}/bench/election")] == ["digest"]
    assert len(program.processes()) >= 3
    assert not [command for command in program.processes() if "5e(ret" in command]
    outcome = await program.end(process)
    assert (outcome.status, outcome.err) == (0, "")
    assert "5e(ret" not in outcome.out
    assert await app.get_children(path) == []


async def test_tls_and_a_certificate(program: Program, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("client@localhost")
    identity = ("--tls", "--ca", str(authority.ca), "--cert", str(signed.cert), "--key", str(signed.key))
    async with EmbeddedServer(tick_time=0.2, ssl=authority.server_context(demands_certificate=True)) as server:
        folder = ("--hosts", server.hosts, "--election-folder", "/bench")
        outcome = await program.run("bench", *folder, *QUICK, *identity)
        assert (outcome.status, outcome.err) == (0, "")
        assert "│ kill -9, with a guard │ 2 │" in " ".join(outcome.out.split())
        assert "bench" not in server.tree.node("/").children
    assert program.processes() == []


async def test_sasl(
    program: Program, strict_zookeeper: ZooKeeperServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("puresasl")
    found = tmp_path / "found.json"
    monkeypatch.setenv("PASSWORD_OF_BOB", "builder's")
    identity = ("--user", "bob", "--sasl", "--password-env", "PASSWORD_OF_BOB", "--acl", "creator")
    arguments = ("--hosts", strict_zookeeper.hosts, "--json", str(found), *QUICK, *identity)
    outcome = await program.run("bench", *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    said = json.loads(found.read_text())
    assert (len(said["samples"]["handover"]), len(said["samples"]["kill"])) == (3, 1)
    assert said["samples"]["kill_guard"] or "a guard" in said["notes"][0]  # where it can't know such credentials
    assert "builder's" not in outcome.out + found.read_text()


async def test_the_time_limit(program: Program, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    limit = ("--time-limit", "2", "--json", str(found), "--session-timeout", "1")
    outcome = await program.run("bench", "--rounds", "100000", *limit)
    assert (outcome.status, outcome.err) == (1, "")
    assert "Note: the time limit of 2 s was over before all was measured" in outcome.out
    said = json.loads(found.read_text())
    assert (said["complete"], len(said["notes"])) == (False, 1)
    assert len(said["samples"]["handover"]) > 0
    assert program.processes() == []


async def test_a_time_limit_within_which_nothing_was_measured_is_told(program: Program) -> None:
    outcome = await program.run("bench", "--time-limit", "0.001")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "aioelect bench: the time limit of 0.001 s was over before all was measured\n"


async def test_a_session_timeout_that_the_server_does_not_grant_is_told(program: Program, tmp_path: Path) -> None:
    async with EmbeddedServer(tick_time=0.1, max_session_timeout=1) as server:
        arguments = ("--hosts", server.hosts, "--rounds", "1", "--kills", "0", "--session-timeout", "7")
        outcome = await program.run("bench", *arguments)
    assert outcome.status == 0
    assert "session timeout 1 s (7 s were asked for)" in " ".join(outcome.out.split())


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (signal.SIGINT, ["--rounds", "100000"]),
        (signal.SIGTERM, ["--rounds", "1", "--kills", "10000"]),
        (signal.SIGINT, ["--rounds", "1", "--kills", "0", "--session-timeout", "60"]),
    ],
    ids=["handovers", "kills", "a death that nobody knows of"],
)
async def test_a_signal_leaves_nothing(
    number: signal.Signals, arguments: list[str], program: Program, embedded: EmbeddedServer
) -> None:
    process = await program.start("bench", "--hosts", embedded.hosts, *arguments)
    await until(lambda: any(name.startswith("aioelect-bench") for name in embedded.tree.node("/").children))
    await until(lambda: len(embedded.sessions) >= 3)
    process.send_signal(number)
    outcome = await program.end(process)
    assert outcome.status == 128 + number
    said = f"aioelect bench: {number.name}, all contenders have left, and nothing is left on the servers\n"
    assert outcome.err.endswith(said)
    assert program.processes() == []
    assert await left(Cluster(embedded.hosts)) == []


async def test_contenders_do_not_outlive_a_killed_bench(program: Program, embedded: EmbeddedServer) -> None:
    process = await program.start("bench", "--hosts", embedded.hosts, "--rounds", "100000")
    await until(lambda: len(program.processes()) >= 1 + 2)
    await until(lambda: len(embedded.sessions) >= 3)
    process.kill()
    await program.end(process)
    await until(lambda: not program.processes())


async def test_a_chroot_that_is_not_there_is_not_made(program: Program, hosts: str, path: str) -> None:
    outcome = await program.run("bench", "--hosts", f"{hosts}{path}/deep", *QUICK)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(
        f"aioelect bench: {hosts}{path}/deep: {path}/deep does not exist: create it first, or"
    )
    async with aioelect.connect(hosts) as client:
        assert not await client.exists(path)


async def test_servers_out_of_reach(program: Program) -> None:
    hosts = f"127.0.0.1:{free_ports(1)[0]}"
    impatient = "from aioelect.cli import bench; bench.CONNECT_TIMEOUT = 0.2"
    outcome = await program.run("bench", "--hosts", hosts, after=impatient)
    assert (outcome.status, outcome.out) == (1, "")
    assert f"no ZooKeeper session from {hosts} within 0.2 s" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "0 is not in the range"),
        (["--rounds", "many"], "'many' is not a valid integer"),
        (["--kills", "-1"], "-1 is not in the range"),
        (["--kills-without-guard", "99999"], "99999 is not in the range"),
        (["--session-timeout", "0.1"], "0.1 is not in the range 0.5<=x<=60"),
        (["--time-limit", "0"], "0.0 is not in the range 0<x<=86400"),
        (["--time-limit", "nan"], "'nan' is no number of seconds"),
        (["--time-limit", "inf"], "inf is not in the range 0<x<=86400"),
        (["--hosts", "zk1:port"], "'port' in 'zk1:port'"),
        (["--hosts", "zk1", "--zookeeper"], "--hosts and --zookeeper exclude each other"),
        (["--election-folder", "bench"], "'bench'"),
        (["--election-folder", "/"], "folder must not be '/'"),
        (["--json", "/not/there/found.json"], "'/not/there' is no folder that we may write to"),
        (["--acl", "mine"], "'mine'"),
        (["--acl", "creator"], "credentials"),
        (["--tls"], "an embedded server speaks no TLS: name yours with --hosts"),
        (["--hosts", "zk1", "--tls", "--ca", "/not/there.pem"], "/not/there.pem"),
        (["--user", "app", "--password-env", "NOT_THERE"], "NOT_THERE"),
        (["--password-env", "NOT_THERE"], "give user as well"),
    ],
)
def test_bad_argument_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
