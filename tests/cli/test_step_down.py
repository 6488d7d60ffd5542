"""``aioelect step-down``: a planned change of leaders from a terminal."""

from __future__ import annotations

from pathlib import Path

import aioelect
from tests import elections
from tests.elections import Connect, contending

from .program import Program

admin, client, connect = elections.admin, elections.client, elections.connect
embedded, hosts, intercept = elections.embedded, elections.hosts, elections.intercept


async def test_the_next_in_line_leads(program: Program, connect: Connect, hosts: str, path: str) -> None:
    async with contending([await connect(), await connect()], path) as (first, second):
        await first.elected()
        outcome = await program.run("step-down", path, "--hosts", hosts)
        leader = await second.elected()
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out == f"c1 leads {path} with token {leader.token:#x}\n"


async def test_the_one_that_was_named_leads(program: Program, connect: Connect, hosts: str, path: str) -> None:
    async with contending([await connect() for _ in range(3)], path) as (first, _, third):
        await first.elected()
        outcome = await program.run("step-down", path, "--hosts", hosts, "--to", "c2")
        leader = await third.elected()
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out == f"c2 leads {path} with token {leader.token:#x}\n"


async def test_nobody_may_be_left(program: Program, connect: Connect, hosts: str, path: str) -> None:
    async with contending([await connect()], path) as (first,):
        await first.elected()
        outcome = await program.run("step-down", path, "--hosts", hosts)
        assert (outcome.status, outcome.out) == (0, f"nobody leads {path} now: nobody else contends\n")


async def test_what_can_not_be_is_said_in_one_line(
    program: Program, hosts: str, path: str, client: aioelect.Client
) -> None:
    outcome = await program.run("step-down", path, "--hosts", hosts)
    assert outcome.status == 1
    assert outcome.err.startswith(f"aioelect step-down: nobody contends for {path}")
    async with aioelect.leadership(client, path, identity="me\x1b[2J"):
        outcome = await program.run("step-down", path, "--hosts", hosts, "--to", "you")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "'you' does not contend" in outcome.err
    assert "\x1b" not in outcome.err


async def test_a_chroot_that_is_not_there_is_not_made(
    program: Program, hosts: str, path: str, client: aioelect.Client
) -> None:
    outcome = await program.run("step-down", "/election", "--hosts", f"{hosts}{path}")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"aioelect step-down: {hosts}{path}: {path} does not exist: create it first, or")
    assert outcome.err.count("\n") == 1
    assert not await client.exists(path)


async def test_a_chroot_that_is_there(program: Program, connect: Connect, hosts: str, path: str) -> None:
    async with contending([await connect(f"{hosts}{path}") for _ in range(2)], "/election") as (first, second):
        await first.elected()
        outcome = await program.run("step-down", "/election", "--hosts", f"{hosts}{path}")
        assert (outcome.status, outcome.err) == (0, "")
        await second.elected()


async def test_a_protected_election_needs_credentials(
    program: Program, connect: Connect, hosts: str, path: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret\n")
    app = await connect(auth=aioelect.Digest("app", "secret"), acl="creator")
    async with contending([app], path) as (first,):
        await first.elected()
        outcome = await program.run("step-down", path, "--hosts", hosts)
        assert outcome.status == 1
        assert "NoAuth: what is there is protected, give its credentials" in outcome.err
        password = ("--password-file", str(tmp_path / "password"))
        outcome = await program.run("step-down", path, "--hosts", hosts, "--user", "app", *password)
        assert (outcome.status, outcome.err) == (0, "")


async def test_bad_arguments(program: Program) -> None:
    election = ["/e", "--hosts", "h"]
    for arguments in (
        ["/e"],
        ["e", "--hosts", "h"],
        ["/e", "--hosts", ""],
        [*election, "--timeout", "0"],
        [*election, "--timeout", "nan"],
        [*election, "--timeout", "inf"],
        [*election, "--password-env", "PASSWORD"],
        [*election, "--user", "app", "--password-env", "NOT_THERE"],
        [*election, "--ca", "/ca.pem"],
        [*election, "--tls", "--ca", "/not/there.pem"],
    ):
        outcome = await program.run("step-down", *arguments)
        assert (outcome.status, "Error: " in outcome.err) == (2, True), outcome
