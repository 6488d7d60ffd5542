"""The parent's side: what is refused, and helpers that don't do what they should."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aioelect
from aioelect.guard import parent
from aioelect.guard.parent import Guard, Will, check_guarding
from aioelect.testing.embedded import EmbeddedServer
from tests.elections import eventually
from tests.guard.guarded import is_there, status

WILL = Will(b"greeting", None, b"farewell", [(b"127.0.0.1", 1, b"localhost")], 1.0, None)

Pretend = Callable[[str], None]


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Runs a shell script in place of the interpreter."""

    def pretend(script: str) -> None:
        helper = tmp_path / "python"
        helper.write_text(f"#!/bin/sh\n{script}\n")
        helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(helper))

    return pretend


class Forgetful(set[Any]):
    """As where a child is forked without Python's knowledge."""

    def update(self, *others: Any) -> None:
        pass


# Refusals


@pytest.mark.parametrize("guard", ["yes", 2, None, "STRICT"])
def test_what_is_no_guard_is_refused(guard: Any) -> None:
    with pytest.raises(ValueError, match="guard must be True, False or 'strict', not "):
        aioelect.connect("localhost", guard=guard)


@pytest.mark.parametrize("executable", [None, ""])
def test_without_an_interpreter_there_is_no_guard(monkeypatch: pytest.MonkeyPatch, executable: str | None) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ValueError, match=r"needs a Python interpreter \(sys.executable is "):
        aioelect.connect("localhost", guard=True)
    aioelect.connect("localhost")


def test_a_frozen_program_has_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ValueError, match="needs a Python interpreter"):
        aioelect.connect("localhost", guard=True)


def test_a_package_in_an_archive_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "CHILD", "/app.pyz/aioelect/guard/child.py")
    with pytest.raises(ValueError, match="aioelect as files"):
        aioelect.connect("localhost", guard=True)


def test_where_nobody_can_prove_a_death_there_is_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent.os, "name", "nt")  # type: ignore[attr-defined]
    try:
        with pytest.raises(ValueError, match="nobody can prove that a process is dead"):
            check_guarding(True)
    finally:
        monkeypatch.undo()


def test_a_strict_guard_needs_a_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def pidfd_open(pid: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with pytest.raises(ValueError, match="needs pidfds"):
        aioelect.connect("localhost", guard="strict")
    aioelect.connect("localhost", guard=True)


def test_process_one_can_not_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(ValueError, match="process 1 of its container"):
        aioelect.connect("localhost", guard="strict")
    aioelect.connect("localhost", guard=True)


# Helpers


async def test_nobody_waits_for_the_helper(path: str, pretend: Pretend) -> None:
    pretend("exec sleep 1000")
    async with (
        EmbeddedServer(tick_time=0.2) as server,
        aioelect.connect(server.hosts, session_timeout=2, guard="strict") as client,
    ):
        async with aioelect.leadership(client, path) as leader:
            assert leader.is_leader
        assert client.guard is not None
        pid = client.guard.pid
        assert pid is not None
        before = time.monotonic()
    assert time.monotonic() - before < 3  # it does not listen, and is killed
    assert not is_there(pid)


async def test_helpers_that_end_are_replaced_ever_more_slowly(
    pretend: Pretend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(f"echo started >> {tmp_path}/starts; exit 3")
    guard = Guard(True)
    guard.start()
    await eventually(lambda: len([m for m in caplog.messages if "is gone" in m]) == 3)
    assert [m for m in caplog.messages if "is gone" in m] == [
        f"the guard of this process is gone (exit status 3); there will be another one in {pause} s"
        for pause in ("0.05", "0.1", "0.2")
    ]
    await guard.close()
    assert (tmp_path / "starts").read_text() == "started\n" * 3


async def test_a_helper_says_what_keeps_it_from_its_work(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(True)
    guard.start()
    guard.bequeath(WILL._replace(tls=parent.TlsFiles("/nowhere/ca.pem", None, None, None)))
    await eventually(lambda: any("FileNotFoundError: [Errno 2]" in message for message in caplog.messages))
    await guard.close()


async def test_hosts_are_handed_over_as_bytes(pretend: Pretend) -> None:
    pretend("exec cat")
    async with EmbeddedServer() as server, aioelect.connect(f"{server.hosts},localhost", guard=True) as client:
        assert client.guard is not None
        assert client.guard._will is not None
        for host, _, name in client.guard._will.servers:
            assert {type(host), type(name)} == {bytes}


async def test_an_interpreter_that_is_gone_is_waited_for(pretend: Pretend, caplog: pytest.LogCaptureFixture) -> None:
    pretend("")
    os.unlink(sys.executable)
    guard = Guard(True)
    guard.start()
    await eventually(lambda: any("No such file or directory" in message for message in caplog.messages))
    pretend("exec cat")
    await eventually(lambda: guard.pid is not None)
    await guard.close()


async def test_a_helper_that_does_not_read_is_replaced(pretend: Pretend) -> None:
    pretend("exec sleep 1000")
    guard = Guard(True)
    guard.start()
    await eventually(lambda: guard.pid is not None)
    first = guard.pid
    for _ in range(5_000):
        guard.bequeath(WILL)
    await eventually(lambda: guard.pid not in (None, first))
    await guard.close()


async def test_the_next_helper_hears_the_newest_will(pretend: Pretend, tmp_path: Path) -> None:
    pretend(f"exec cat > {tmp_path}/$$")
    guard = Guard(True)
    guard.start()
    guard.bequeath(WILL)
    guard.bequeath(WILL._replace(patience=2.0))
    await eventually(lambda: guard.pid is not None)
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: guard.pid not in (None, first))
    heard = tmp_path / str(guard.pid)
    await eventually(lambda: heard.exists() and heard.read_bytes() == WILL._replace(patience=2.0).encode())
    await guard.close()


async def test_its_helper_has_all_signals_blocked_and_this_thread_has_not(pretend: Pretend) -> None:
    pretend("exec sleep 1000")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    guard = Guard(True)
    guard.start()
    await eventually(lambda: guard.pid is not None)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert guard.pid is not None
    blocked = int(status(guard.pid, "SigBlk"), 16)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCHLD):
        assert blocked & 1 << number - 1
    await guard.close()


async def test_process_one_is_warned(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend("exec cat")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    guard = Guard(True)
    guard.start()
    assert "process 1 of its container" in caplog.text
    await guard.close()


@pytest.mark.parametrize("without", ["pidfd", "hook"])
async def test_who_was_forked_while_the_helper_started_hides_no_end(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    """A child, forked by another thread, holds copies of both ends of the link. A hook closes them, and a pidfd tells, too."""
    pretend("trap '' TERM; exec sleep 1000")
    children, popen = list[int](), subprocess.Popen

    def fork() -> None:
        if (child := os.fork()) == 0:
            signal.pause()
        children.append(child)

    def start(*args: Any, **options: Any) -> Any:
        threading.Thread(target=fork).start()
        while not children:
            time.sleep(0.001)
        return popen(*args, **options)

    if without == "hook":
        monkeypatch.setattr(parent, "_links", Forgetful())
    else:
        monkeypatch.setattr(parent, "_open_pidfd", lambda pid: -1)
    monkeypatch.setattr(subprocess, "Popen", start)
    guard = Guard(True)
    guard.start()
    try:
        await eventually(lambda: guard.pid is not None)
        monkeypatch.undo()
        pretend("exec sleep 1000")
        first = guard.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: guard.pid not in (None, first))
        await asyncio.wait_for(guard.close(), 5)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)


async def test_a_helper_that_is_abandoned_hears_of_it_though_others_hold_the_link(
    pretend: Pretend, tmp_path: Path
) -> None:
    pretend(f"cat > {tmp_path}/heard; echo left > {tmp_path}/left")
    guard = Guard(True)
    guard.start()
    await eventually(lambda: guard._helper is not None)
    assert guard._helper is not None
    copy = os.dup(guard._helper._link.fileno())
    await guard.close(abandon=True)
    await eventually((tmp_path / "left").exists)
    os.close(copy)


async def test_a_guard_that_is_abandoned_between_two_helpers_gets_one_more(
    pretend: Pretend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(f"exec cat > {tmp_path}/heard")
    heard = tmp_path / "heard"
    monkeypatch.setattr(parent, "FIRST_PAUSE", 1000.0)
    guard = Guard("strict")
    guard.start()
    guard.bequeath(WILL)
    guard.hold("term", 5.0)
    await eventually(lambda: heard.exists() and WILL.encode() in heard.read_bytes())
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    await eventually(lambda: guard.pid is None)
    heard.unlink()
    await guard.close(abandon=True)
    assert guard.deadline == 5.0
    await eventually(lambda: heard.exists() and heard.read_bytes() == WILL.encode())


async def test_a_forked_child_does_not_own_the_helper(pretend: Pretend) -> None:
    pretend("exec cat")
    guard = Guard(True)
    guard.start()
    await eventually(lambda: guard.pid is not None)
    pid = guard.pid
    if (child := os.fork()) == 0:
        closing = guard.close()
        try:
            closing.send(None)
        except StopIteration:  # there was nothing to wait for
            os._exit(0)
        os._exit(1)
    assert await asyncio.to_thread(os.waitpid, child, 0) == (child, 0)
    assert guard.pid == pid
    assert pid is not None
    assert is_there(pid)
    await guard.close()
