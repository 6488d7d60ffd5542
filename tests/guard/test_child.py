"""The helper process, with servers that answer what the test wants."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aioelect.guard import child
from tests.elections import soon
from tests.guard.guarded import gone, is_running, settled_rss

GREETING, FAREWELL = b"resume", b"close"


class Server:
    """Answers each greeting with a session id, a packet, or none; hangs up, after the farewell where there was a session."""

    def __init__(self, *answers: int | bytes) -> None:
        self.greetings: list[bytes] = []
        self.farewells: list[bytes] = []
        self.prefix: bytes | None = None
        """In place of the length of an answer."""
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            self.greetings.append(await reader.readexactly(len(GREETING)))
            answer = self._answers.pop(0)
            if isinstance(answer, int):
                answer = struct.pack("!iiqi16sb", 0, 0, answer, 16, bytes(16), 0)
            if answer:
                writer.write((struct.pack("!i", len(answer)) if self.prefix is None else self.prefix) + answer)
                if answer[8:16] != bytes(8):
                    self.farewells.append(await reader.readexactly(len(FAREWELL)))
        writer.close()

    @contextlib.asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[int]:
        """The port."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, **options)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


@contextlib.asynccontextmanager
async def bare(
    ports: list[int], *options: str, patience: float = 10.0, tls: object = None
) -> AsyncIterator[tuple[Process, int]]:
    """A process, and its guard's process id."""
    servers = [("127.0.0.1", port, "localhost") for port in ports]
    packets = {"greeting": GREETING.hex(), "farewell": FAREWELL.hex()}
    will = json.dumps({**packets, "servers": servers, "patience": patience, "tls": tls})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.guard.bare", will, *options), stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    guard = int(await soon(process.stdout.readline()))
    try:
        yield process, guard
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await gone(guard)


async def test_it_closes_until_a_server_says_that_the_session_has_ended() -> None:
    server = Server(7, 7, 7, 0, 7)
    async with server.open() as port, bare([port]) as (process, guard):
        process.kill()
        await gone(guard)
        assert server.greetings == [GREETING] * 4
        assert server.farewells == [FAREWELL] * 3


async def test_the_answer_to_something_else_does_not_say_that_the_session_has_ended() -> None:
    to_credentials = struct.pack("!iqi", -4, 0, 0)
    server = Server(to_credentials, 7, 0)
    async with server.open() as port, bare([port]) as (process, guard):
        process.kill()
        await gone(guard)
        assert server.greetings == [GREETING] * 3
        assert server.farewells == [FAREWELL]


async def test_a_server_that_hangs_up_or_refuses_is_tried_again() -> None:
    server = Server(b"", b"", 7, b"", 0)
    async with server.open() as port, bare([1, port]) as (process, guard):
        process.kill()
        await gone(guard)
        assert len(server.greetings) == 5


async def test_a_server_that_speaks_another_language_is_passed_by() -> None:
    other, server = Server(b"HTTP/1.1 400 Bad Request\r\n"), Server(7, 0)
    other.prefix = b""
    async with other.open() as first, server.open() as port, bare([first, port]) as (process, guard):
        process.kill()
        await gone(guard)
        assert server.farewells == [FAREWELL]


@pytest.mark.parametrize("size", [-1, child.LARGEST + 1, 1213486160])
def test_no_packet_is_waited_for_that_nobody_sends(size: int) -> None:
    one, other = socket.socketpair()
    with one, other:
        other.sendall(struct.pack("!i", size))
        with pytest.raises(ConnectionError, match=f"a packet of {size} bytes"):
            child.receive_packet(one)


def test_an_error_that_nobody_has_foreseen_costs_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Any] = [LookupError("unknown encoding: idna"), True]

    def close_at(self: child.Will, server: object, bound: float) -> bool:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return bool(outcome)

    monkeypatch.setattr(child.Will, "_close_at", close_at)
    servers = [(b"127.0.0.1", 1, b"localhost")]
    will = {"greeting": GREETING, "farewell": FAREWELL, "servers": servers, "patience": 5.0, "sasl": None, "tls": None}
    child.Will(will).execute()
    assert outcomes == []


async def test_when_its_process_is_dead_nothing_is_imported() -> None:
    """That takes as long as all else together, and fails where the files are gone by then. It is told of hosts as bytes:
    ``test_hosts_are_handed_over_as_bytes``."""
    code = (
        "import runpy, sys; child = runpy.run_path(sys.argv[1]);"
        "will = dict(patience=1.0, greeting=b'resume', farewell=b'close', sasl=None, tls=None);"
        "will = child['Will'](will | {'servers': [(b'127.0.0.1', int(sys.argv[2]), b'localhost')]});"
        "before = set(sys.modules); will.execute(); print(set(sys.modules) - before)"
    )
    server = Server(7, 0)
    async with server.open() as port:
        helper = [sys.executable, "-I", "-S", "-c", code, str(Path(child.__file__)), str(port)]
        process = await asyncio.create_subprocess_exec(*helper, stdout=PIPE)
        assert (await soon(process.communicate()))[0] == b"set()\n"
    assert server.greetings == [GREETING] * 2


async def test_it_gives_up_when_the_session_has_ended_by_itself() -> None:
    async with bare([1], patience=0.5) as (process, guard):
        process.kill()
        await gone(guard)


async def test_it_does_nothing_while_its_process_lives() -> None:
    server = Server(0)
    async with server.open() as port, bare([port]) as (_, guard):
        await asyncio.sleep(0.3)
        assert is_running(guard)
        assert server.greetings == []


async def test_it_does_nothing_more_where_descriptors_are_low() -> None:
    server = Server(7, 0)
    async with server.open() as port, bare([port], "--without-stdio") as (process, guard):
        await asyncio.sleep(0.5)
        assert is_running(guard)
        assert server.greetings == []
        process.kill()
        await gone(guard)
        assert server.greetings == [GREETING] * 2


def test_what_is_no_pidfd_tells_of_no_death() -> None:
    with open(os.devnull, "rb") as other, pytest.raises(OSError, match="Bad file descriptor"):
        child.PidfdWatch(other.fileno())


# Where there is no pidfd


async def test_without_a_pidfd_an_orphan_whose_link_has_ended_acts() -> None:
    server = Server(7, 0)
    async with server.open() as port, bare([port], "--without-pidfd") as (process, guard):
        process.kill()
        await gone(guard)
        assert server.greetings == [GREETING] * 2


def test_without_a_pidfd_the_end_of_the_link_alone_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = child.OrphanWatch(os.getppid())
    watch.listen_no_more()
    watch.wait(0)
    assert not watch.is_dead
    monkeypatch.setattr(os, "getppid", lambda: 1)
    watch.wait(0)
    assert watch.is_dead


def test_a_parent_in_another_namespace_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 0)
    with pytest.raises(OSError, match="namespace"):
        child.make_watch(5, -1)


class Kqueue:
    """What the BSDs have, as far as it is used."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.happens: list[Any] = []
        self.missing = False

    def control(self, changes: list[Any] | None, count: int, timeout: float | None = None) -> list[Any]:
        self.asked += changes or []
        if self.missing and changes and changes[0].filter == "proc":
            raise ProcessLookupError
        return self.happens


@pytest.fixture
def kqueue(monkeypatch: pytest.MonkeyPatch) -> Kqueue:
    queue = Kqueue()

    def kevent(ident: int, filter: str, flags: str, fflags: str = "") -> Any:
        return SimpleNamespace(ident=ident, filter=filter, flags=flags, fflags=fflags)

    names = {"KQ_FILTER_READ": "read", "KQ_FILTER_PROC": "proc", "KQ_EV_ADD": "add", "KQ_EV_DELETE": "delete"}
    kernel = SimpleNamespace(kqueue=lambda: queue, kevent=kevent, KQ_NOTE_EXIT="exit", **names)
    monkeypatch.setattr(child, "kernel", kernel)
    return queue


def test_a_kernel_queue_tells_of_the_exit(kqueue: Kqueue) -> None:
    watch = child.make_watch(os.getppid(), -1)
    assert isinstance(watch, child.KqueueWatch)
    assert [(event.ident, event.filter, event.fflags) for event in kqueue.asked] == [
        (0, "read", ""),
        (os.getppid(), "proc", "exit"),
    ]
    kqueue.happens = [kqueue.asked[0]]
    watch.wait(1)
    assert not watch.is_dead
    watch.listen_no_more()
    assert kqueue.asked[-1].flags == "delete"
    kqueue.happens = [kqueue.asked[1]]
    watch.wait(None)
    assert watch.is_dead


def test_who_is_gone_or_no_longer_our_parent_when_the_queue_is_asked_is_dead(kqueue: Kqueue) -> None:
    assert child.KqueueWatch(os.getppid() + 1).is_dead
    kqueue.missing = True
    assert child.KqueueWatch(os.getppid()).is_dead


# The deadline


class Proc:
    """What a /proc shows of a process and of the descriptor that stands for it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.cell = os.open(root / "cell", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.cell, 8)
        monkeypatch.setattr(child, "PROC", str(root))

    def says_of_pidfd(self, text: str) -> None:
        """Its number is 5."""
        directory = self.root / "self" / "fdinfo"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "5").write_text(f"pos:\t0\nflags:\t02000002\n{text}")

    def maps(self, pid: int, *inodes: int) -> None:
        directory = self.root / str(pid)
        directory.mkdir()
        lines = [f"7f0000000000-7f0000001000 rw-s 00000000 00:01 {inode} /memfd:x (deleted)\n" for inode in inodes]
        (directory / "maps").write_text("".join(lines))

    @property
    def inode(self) -> int:
        return os.fstat(self.cell).st_ino

    def would_kill(self) -> bool:
        return child.Deadline(5, self.cell)._is_mapped()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proc]:
    proc = Proc(tmp_path, monkeypatch)
    yield proc
    os.close(proc.cell)


def test_a_process_is_looked_up_by_the_id_that_this_proc_gives_it(proc: Proc) -> None:
    """It may belong to another PID namespace, where the process has another id, and its id belongs to somebody else."""
    proc.maps(os.getppid(), 3, 99)
    proc.maps(4242, 3, proc.inode)
    proc.says_of_pidfd("Pid:\t4242\nNSpid:\t4242\t17\n")
    assert proc.would_kill()


def test_a_process_without_the_shared_memory_is_another_program(proc: Proc) -> None:
    proc.maps(4242, 3, 99)
    proc.says_of_pidfd("Pid:\t4242\n")
    assert not proc.would_kill()


@pytest.mark.parametrize("said", ["", "Pid:\t0\n", "Pid:\t-1\n", "Pid:\t4242\n"])
def test_what_a_process_has_promised_counts_where_nobody_can_see_it(proc: Proc, said: str) -> None:
    """In the last case it has just ended, or hides its memory."""
    proc.says_of_pidfd(said)
    assert proc.would_kill()


def test_what_a_process_has_promised_counts_where_there_is_no_proc(proc: Proc) -> None:
    assert proc.would_kill()


def test_a_process_whose_main_thread_has_ended_shows_nothing_and_is_no_other_program(proc: Proc) -> None:
    proc.maps(4242)
    proc.says_of_pidfd("Pid:\t4242\n")
    assert proc.would_kill()


def test_a_deadline_that_was_put_off_meanwhile_kills_nobody(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pidfd: int, number: int) -> None:
        pytest.fail("it still has time")

    monkeypatch.setattr(signal, "pidfd_send_signal", kill)
    os.pwrite(proc.cell, struct.pack("d", child.clock() + 60), 0)
    assert not child.Deadline(5, proc.cell).enforce()


@pytest.mark.parametrize("refusal", [ProcessLookupError, PermissionError])
def test_who_can_not_be_killed_is_still_waited_for(
    proc: Proc, monkeypatch: pytest.MonkeyPatch, refusal: type[OSError]
) -> None:
    """It has died by itself, or has another user by now."""

    def refuse(pidfd: int, number: int) -> None:
        raise refusal

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    assert child.Deadline(5, proc.cell).enforce()


# SASL


def test_a_challenge_is_answered_as_in_the_example_of_rfc_2831() -> None:
    """Section 4; its answer's other parts may stand in any order."""
    challenge = (
        b'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'  # for IMAP
    )
    answer = child.DigestMd5(b"chris", b"secret", b"imap/elwood.innosoft.com").respond(challenge, b"OA6MHXh6VqTrRk")
    assert set(answer.split(b",")) == {
        b'username="chris"',
        b'realm="elwood.innosoft.com"',
        b'nonce="OA6MG9tEQGm2hh"',
        b"nc=00000001",
        b'cnonce="OA6MHXh6VqTrRk"',
        b'digest-uri="imap/elwood.innosoft.com"',
        b"response=d388dad90d4bbd760a152321f2143af7",
        b"qop=auth",
        b"charset=utf-8",
    }


def test_a_quoted_name_stays_one() -> None:
    answer = child.DigestMd5(b'a"b\\c', b"secret", b"u").respond(b'nonce="n"', b"c")
    assert answer.startswith(b'username="a\\"b\\\\c",realm="",nonce="n",')


def reply(error: int, token: bytes | None) -> bytes:
    size = -1 if token is None else len(token)
    return struct.pack("!iqii", 0, 1, error, size) + (token or b"")


def test_it_asks_for_a_challenge() -> None:
    assert child.DigestMd5(b"user", b"secret", b"uri").ask() == struct.pack("!iiii", 12, 0, child.SASL, 0)


def test_the_answer_is_a_packet() -> None:
    packet = child.DigestMd5(b"user", b"secret", b"uri").answer(reply(0, b'nonce="n"'))
    size, xid, opcode, length = struct.unpack_from("!iiii", packet)
    assert (size, xid, opcode, length) == (len(packet) - 4, 0, child.SASL, len(packet) - 16)
    assert packet[16:].startswith(b'username="user"')


@pytest.mark.parametrize("token", [None, b""])
def test_a_server_that_knows_no_sasl_asks_for_nothing(token: bytes | None) -> None:
    assert child.DigestMd5(b"user", b"secret", b"uri").answer(reply(0, token)) == b""


def test_a_refusal_ends_the_attempt() -> None:
    with pytest.raises(PermissionError, match="SASL was refused with -115"):
        child.DigestMd5(b"user", b"secret", b"uri").answer(reply(-115, None))


# TLS


async def test_it_speaks_tls_and_shows_a_certificate(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client@localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("localhost").configure_cert(context)
    pem = str(tmp_path / "client.pem")
    server = Server(7, 0)
    tls = {"ca": str(tmp_path / "ca.pem"), "cert": pem, "key": pem, "password": None}
    async with server.open(ssl=context) as port, bare([port], tls=tls) as (process, guard):
        size = await settled_rss(guard)
        print(f"RSS {size:.1f} MB")
        assert size <= 20
        process.kill()
        await gone(guard)
        assert server.greetings == [GREETING] * 2


# By itself


def test_it_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(child.__file__).read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert found <= sys.stdlib_module_names
