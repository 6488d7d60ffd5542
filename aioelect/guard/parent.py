"""The parent's side of the guard: starts the helper process, tells it what to do in case of death, and starts it again.

**Why it is safe.** The helper (``child``) closes a session only when the process that used it is *proven* dead. The kernel says
so of a descriptor that this process opened of itself: a pidfd is readable when the last of its threads has ended. A kernel queue
reports the exit of a process that was then our parent. Where there is neither, the link has ended *and* the helper has another
parent. No body of this process runs any more by then, whatever its leases say, and nobody else has the session's password. The
end of the link alone is no death, for a daemon closes all of its descriptors; and the signal that a parent's death can raise
(PDEATHSIG) tells of the death of a thread.

So a living process can't lose a session to its guard, neither an old one nor a new one: the helper does nothing while it lives,
and of its last will, which is read to the end after its death, the newest line counts. A session that was granted but not yet
told of has no ephemeral znode; it expires. A forked child owns neither the helper nor the session, is not waited for, and
closes its copies of the link, whose end would not be noticed otherwise. After an exec the process lives on, without the
session, which expires; then the helper leaves.

What it closes may come to life again, by a connect request of the dead process that was under way, perhaps to another server. So
it closes until a server says that there is no such session.

``strict`` bounds how long a body can run on. Leaders write into eight bytes of shared memory when their bodies must have ended,
and the helper kills the process when that time has come. It closes the session as ever, when the process is dead.

The helper has all signals blocked, and a session and a process group of its own: it does not end with what it guards.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import marshal
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from aioelect.guard.deadlines import Deadlines

__all__ = ["Guard", "Guarding", "Sasl", "TlsFiles", "Will", "check_guarding"]

log = logging.getLogger("aioelect.guard")

CHILD = str(Path(__file__).with_name("child.py"))

FAREWELL = 1.0
"""Seconds that a helper may take to leave before it is killed."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0
"""Seconds until a helper that has ended is replaced: doubled every time, unless it had lived for longer than the longest."""

Guarding: TypeAlias = bool | Literal["strict"]
"""What ``guard=`` takes."""


class TlsFiles(NamedTuple):
    """PEM files for the helper's connections, and the ``password`` of the ``key``."""

    ca: str | None
    cert: str | None
    key: str | None
    password: bytes | None


class Sasl(NamedTuple):
    """Who we are, by DIGEST-MD5."""

    user: bytes
    password: bytes
    uri: bytes


class Will(NamedTuple):
    """What to do when this process is dead."""

    greeting: bytes
    """The packet that resumes the session."""

    sasl: Sasl | None
    """What follows it, where a server may demand that."""

    farewell: bytes
    """The packets that close the session."""

    servers: list[tuple[bytes, int, bytes]]
    """Host, port, and the name that stands in the server's certificate; the best one first. In bytes (IDNA), for whose sake
    nothing has to be imported when they are needed."""

    patience: float
    """Seconds after which the session has ended by itself."""

    tls: TlsFiles | None

    def encode(self) -> bytes:
        """A line for the helper."""
        parts = {name: part and part._asdict() for name, part in (("sasl", self.sasl), ("tls", self.tls))}
        return _encode({**self._asdict(), **parts})


def _encode(said: dict[str, Any] | None) -> bytes:
    return marshal.dumps(said, 2).hex().encode() + b"\n"


def check_guarding(guarding: Guarding) -> None:
    """Raises ``ValueError`` where there can't be such a guard."""
    if guarding not in (True, False, "strict"):
        raise ValueError(f"guard must be True, False or 'strict', not {guarding!r}")
    if not guarding:
        return
    if os.name != "posix" or not hasattr(select, "poll") or not hasattr(signal, "pthread_sigmask"):
        raise ValueError(
            f"guard={guarding!r} is not possible: on {sys.platform} nobody can prove that a process is dead"
        )
    if getattr(sys, "frozen", False) or not sys.executable or not os.path.isfile(CHILD):
        raise ValueError(
            f"guard={guarding!r} is not possible: it needs a Python interpreter (sys.executable is {sys.executable!r}) and "
            f"aioelect as files (not {CHILD!r}). Install Python and the package as usual, or leave the guard out"
        )
    if guarding == "strict" and not (
        _has_pidfd() and hasattr(signal, "pidfd_send_signal") and hasattr(os, "memfd_create")
    ):
        raise ValueError("guard='strict' needs pidfds and memfds (Linux 5.3 and newer): use guard=True here")
    if guarding == "strict" and os.getpid() == 1:
        raise ValueError(
            "guard='strict' is not possible: this is process 1 of its container, which nobody inside can kill. Start it below "
            "an init (docker run --init)"
        )


def _open_pidfd(pid: int) -> int:
    """A descriptor of that process, -1 where there can't be one."""
    try:
        return _lift(os.pidfd_open(pid))
    except (AttributeError, OSError):
        return -1


def _lift(descriptor: int) -> int:
    """The same one above those that a new process uses for other things, which may be free in a daemon."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _has_pidfd() -> bool:
    if (pidfd := _open_pidfd(os.getpid())) >= 0:
        os.close(pidfd)
    return pidfd >= 0


class Guard:
    """The guard of one client's session, whichever that is; see the module's docstring."""

    def __init__(self, guarding: Guarding) -> None:
        self._is_strict = guarding == "strict"
        self._pid = os.getpid()
        self._will: Will | None = None
        self._cell: _Cell | None = None
        self._deadlines = Deadlines()
        self._helper: _Helper | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The helper's process id, while there is one."""
        return None if self._helper is None else self._helper.pid

    @property
    def deadline(self) -> float:
        """When a strict helper kills this process (CLOCK_BOOTTIME, seconds), if that does not change; infinity for never."""
        return math.inf if self._cell is None else self._cell.deadline

    def start(self) -> None:
        """Starts a helper, and another one whenever it ends, soon and in the background. Idempotent."""
        if self._keeping is None:
            self._pid = os.getpid()
            if self._pid == 1:
                log.warning(
                    "this is process 1 of its container: when it dies, the kernel kills its guard, too. Start it below an init "
                    "(docker run --init) for the guard to be of use"
                )
            self._cell = _Cell() if self._is_strict else None
            self._share_deadline()  # of terms that went on when their client was closed
            self._keeping = asyncio.create_task(self._keep(), name="aioelect guard")

    def bequeath(self, will: Will) -> None:
        """What to do in case of death from now on."""
        self._will = will
        self._say(will.encode())

    def hold(self, term: object, deadline: float) -> None:
        """``term`` must be over by that time (CLOCK_BOOTTIME), or by the one told next. Does nothing unless strict."""
        if self._is_strict:
            self._deadlines.hold(term, deadline)
            self._share_deadline()

    def release(self, term: object) -> None:
        """It is over; nothing where it was not held."""
        if self._is_strict:
            self._deadlines.release(term)
            self._share_deadline()

    def _share_deadline(self) -> None:
        if self._cell is None or os.getpid() != self._pid:
            return
        before, self._cell.deadline = self._cell.deadline, self._deadlines.earliest
        if self._cell.deadline < before:
            self._say(b"\n")

    async def close(self, *, abandon: bool = False) -> None:
        """Returns when the helper has left.

        ``abandon`` lets it stay until the session has expired, for somebody may still act in its name.
        """
        keeping, self._keeping = self._keeping, None
        if keeping is None or os.getpid() != self._pid:
            return
        keeping.cancel()
        await asyncio.wait([keeping])
        if abandon and self._helper is None and self._will is not None:  # the last one is about to be replaced
            try:
                self._engage()
            except OSError as e:
                log.warning("nobody guards the bodies that run on: %s", e)
        helper, self._helper = self._helper, None
        self._will = None
        if self._cell is not None:
            self._cell.close_descriptor()
        if helper is not None and abandon:
            helper.abandon()
            return
        self._cell = None
        if helper is not None:
            await helper.dismiss()

    def _say(self, line: bytes) -> None:
        if self._helper is not None and os.getpid() == self._pid:
            self._helper.say(line)

    def _engage(self) -> _Helper:
        """Raises ``OSError`` where no helper can be started."""
        self._helper = helper = _Helper(self._cell)
        if self._will is not None:
            self._say(self._will.encode())
        return helper

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while os.getpid() == self._pid:
            since = loop.time()
            try:
                why = await self._engage().wait()
            except OSError as e:
                why = str(e)
            self._helper = None
            if loop.time() - since > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            log.warning("the guard of this process is gone (%s); there will be another one in %.2g s", why, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


class _Cell:
    """Eight aligned bytes of memory, shared with the helper: written and read as a whole."""

    def __init__(self) -> None:
        self.descriptor = _lift(os.memfd_create("aioelect-guard"))
        os.ftruncate(self.descriptor, 8)
        self._value = memoryview(mmap.mmap(self.descriptor, 8)).cast("d")
        self.deadline = math.inf

    @property
    def deadline(self) -> float:
        """On CLOCK_BOOTTIME; infinity for none."""
        return float(self._value[0])

    @deadline.setter
    def deadline(self, value: float) -> None:
        self._value[0] = value

    def close_descriptor(self) -> None:
        """No other helper can be given the memory."""
        os.close(self.descriptor)


_links: set[socket.socket] = set()
"""Our ends of the links, and the other ones until a helper has them."""


def _close_links() -> None:
    """In a forked child: while it has copies, neither side would hear of the other's end."""
    for link in list(_links):
        link.close()
    _links.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_links)


class _Helper:
    """One helper process."""

    def __init__(self, cell: _Cell | None) -> None:
        self._link, inbox = socket.socketpair()
        _links.update((self._link, inbox))
        self._last_words = b""
        pidfd = _open_pidfd(os.getpid())
        shared = -1 if cell is None else cell.descriptor
        try:
            with inbox, _all_signals_blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", CHILD, *map(str, (os.getpid(), pidfd, shared))],
                    stdin=inbox.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[fd for fd in (pidfd, shared) if fd >= 0],
                    start_new_session=True,
                    cwd="/",
                )
        except BaseException:
            self._link.close()
            _links.discard(self._link)
            raise
        finally:
            _links.discard(inbox)
            if pidfd >= 0:
                os.close(pidfd)
        self._link.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._ear = self._link.fileno()
        self._loop.add_reader(self._ear, self._listen)
        self._exit = _open_pidfd(self._process.pid)
        if self._exit >= 0:
            self._loop.add_reader(self._exit, self._exited)

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: bytes) -> None:
        """Never waits: a helper that does not listen is killed, and is noticed to be gone."""
        if self._ended.done():
            return
        try:
            sent = self._link.send(line)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has ended
        if sent < len(line):
            self._process.kill()

    def _listen(self) -> None:
        try:
            words = self._link.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        self._last_words += words
        if not words:
            self._hang_up()

    def _exited(self) -> None:
        """The link tells of that, too, unless somebody else has a copy of its other end."""
        self._listen()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._ended.done():
            return
        self._ended.set_result(None)
        self._loop.remove_reader(self._ear)
        with contextlib.suppress(OSError):  # a daemon may have closed everything
            self._link.shutdown(socket.SHUT_RDWR)  # whoever else has a copy of our end
        with contextlib.suppress(OSError):
            self._link.close()
        _links.discard(self._link)
        if self._exit >= 0:
            self._loop.remove_reader(self._exit)
            with contextlib.suppress(OSError):
                os.close(self._exit)

    async def wait(self) -> str:
        """Returns when it has ended and left nothing behind, with the reason."""
        await asyncio.shield(self._ended)
        pause = 0.001
        while self._process.poll() is None:
            await asyncio.sleep(pause)
            pause *= 2
        return self._last_words.decode(errors="replace") or f"exit status {self._process.returncode}"

    async def dismiss(self) -> None:
        """Ends it; it has nothing to do any more."""
        self.say(_encode(None))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self.wait()
                return
        self._process.kill()
        self._hang_up()
        await self.wait()

    def abandon(self) -> None:
        """Lets it end when it finds that nothing is left to do."""
        self._hang_up()
        threading.Thread(target=self._process.wait, name="aioelect guard", daemon=True).start()


@contextlib.contextmanager
def _all_signals_blocked() -> Iterator[None]:
    """A process started meanwhile inherits that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
