"""The guard itself: waits for the death of one process, then resumes its ZooKeeper session and closes it.

Run by path, ``python -I -S child.py PARENT PIDFD CELL``, by ``aioelect.guard.parent``, which says why this is safe; it imports
the standard library alone. PARENT is the process to wait for, PIDFD an inherited descriptor of it, CELL one of eight bytes of
shared memory that hold a deadline; -1 where there is none. It inherits a mask that blocks all signals.

Standard input is one end of a socket pair. Each line from there is a dict, the *will*, as ``marshal`` writes it (json would cost
half a megabyte), in hex digits, and the newest one counts:

``greeting``  the packet that resumes the session.
``sasl``      None, or who we are then, by DIGEST-MD5: ``user``, ``password`` and ``uri``.
``farewell``  the packets that close the session.
``servers``   lists of host, port, and the name in the server's certificate; the best one first. Names are bytes: strings would
              have to be encoded, by modules that are imported then.
``patience``  seconds after which the session has ended by itself.
``tls``       None, or the names of PEM files ``ca``, ``cert``, ``key``, and the ``password`` of the last, each perhaps None.

None says that nothing is left to do, and an empty line that there is another deadline. What keeps it from its work it says
there, before it ends.
"""

from __future__ import annotations

import marshal
import math
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module typing would cost a megabyte
    import ssl
    from typing import Any, Protocol

    class DeathWatch(Protocol):
        """Waits for words of the parent and for its death."""

        is_dead: bool
        """Proven: no thread of the parent can run any more."""

        def wait(self, timeout: float | None) -> None:
            """Returns after ``timeout`` seconds, or as soon as there is something to read or the parent is dead."""

        def listen_no_more(self) -> None:
            """Nothing comes from the parent any more."""


__all__ = ["main"]

INBOX = 0

SASL = 102
"""The opcode."""

GLANCE = 0.25
"""Seconds between two looks at the deadline: a timer stands still while the machine is suspended."""

POLL = 0.01
"""Seconds between two looks for the parent where nothing tells of its death."""

FIRST_BOUND, LONGEST_BOUND = 0.4, 5.0
"""Seconds that a server may take for each step: doubled every round."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between two rounds: doubled every time."""

LARGEST = 65536
"""Bytes of an answer: ZooKeeper's have 37, and a SASL challenge some hundred."""

PROC = "/proc"

kernel: Any = select
"""No type checker knows all of it on every platform."""

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds, on the clock of the parent's deadline."""
    return time.clock_gettime(_CLOCK)


# The death of the parent


class PidfdWatch:
    """A pidfd is readable when the last thread of its process has ended. It was opened by the parent, so it is the parent's."""

    def __init__(self, pidfd: int) -> None:
        """Raises ``OSError`` for any other descriptor, which might be readable as well."""
        self.is_dead = False
        self._pidfd = pidfd
        try:
            signal.pidfd_send_signal(pidfd, 0)
        except ProcessLookupError:
            self.is_dead = True
        except PermissionError:
            pass  # it has another user by now
        self._poll = select.poll()
        self._poll.register(pidfd, select.POLLIN)
        self._poll.register(INBOX, select.POLLIN)

    def wait(self, timeout: float | None) -> None:
        ready = self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        self.is_dead = any(fd == self._pidfd and event & select.POLLIN for fd, event in ready)

    def listen_no_more(self) -> None:
        self._poll.unregister(INBOX)


class KqueueWatch:
    """A kernel queue tells of the exit of a process, which was our parent when it was asked to."""

    def __init__(self, parent: int) -> None:
        self._queue = kernel.kqueue()
        self._inbox = kernel.kevent(INBOX, kernel.KQ_FILTER_READ, kernel.KQ_EV_ADD)
        death = kernel.kevent(parent, kernel.KQ_FILTER_PROC, kernel.KQ_EV_ADD, kernel.KQ_NOTE_EXIT)
        self._queue.control([self._inbox], 0)
        try:
            self._queue.control([death], 0)
        except ProcessLookupError:
            self.is_dead = True
        else:
            self.is_dead = os.getppid() != parent

    def wait(self, timeout: float | None) -> None:
        for event in self._queue.control(None, 2, timeout):
            if event.filter == kernel.KQ_FILTER_PROC:
                self.is_dead = True

    def listen_no_more(self) -> None:
        self._inbox.flags = kernel.KQ_EV_DELETE
        self._queue.control([self._inbox], 0)


class OrphanWatch:
    """Where the kernel tells of no death: the pipe has ended, and somebody else is our parent now. Neither alone is a death."""

    def __init__(self, parent: int) -> None:
        self.is_dead = False
        self._parent = parent
        self._ended = False
        self._poll = select.poll()
        self._poll.register(INBOX, select.POLLIN)

    def wait(self, timeout: float | None) -> None:
        if self._ended:
            time.sleep(POLL)
            self.is_dead = os.getppid() != self._parent
        else:
            self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))

    def listen_no_more(self) -> None:
        self._ended = True


def make_watch(parent: int, pidfd: int) -> DeathWatch:
    """The best there is here. Raises ``OSError`` where the parent can't be seen."""
    if pidfd >= 0:
        return PidfdWatch(pidfd)
    if os.getppid() == 0:
        raise OSError("the parent lives in another PID namespace, where its death can't be seen")
    return KqueueWatch(parent) if hasattr(kernel, "kqueue") else OrphanWatch(parent)


# What the parent says


class Will:
    """What is to be done when the parent is dead."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.patience: float = said["patience"]
        self._servers: list[tuple[bytes, int, bytes]] = said["servers"]
        self._greeting: bytes = said["greeting"]
        self._farewell: bytes = said["farewell"]
        self._sasl = DigestMd5(**said["sasl"]) if said["sasl"] else None
        self._tls = make_context(**said["tls"]) if said["tls"] else None

    def execute(self) -> None:
        """Resumes and closes the session until a server says that it has ended.

        A connect request of the dead parent that was still under way may have revived it.
        """
        give_up_at = clock() + self.patience
        bound, pause = FIRST_BOUND, FIRST_PAUSE
        while clock() < give_up_at:
            for server in self._servers:
                try:
                    if self._close_at(server, bound):
                        return
                except Exception:  # nobody is left to tell, and another server may be in order
                    continue
            time.sleep(pause)
            bound, pause = min(2 * bound, LONGEST_BOUND), min(2 * pause, LONGEST_PAUSE)

    def _close_at(self, server: tuple[bytes, int, bytes], bound: float) -> bool:
        """Resumes and closes the session at one server; whether it had ended before."""
        host, port, name = server
        address: Any = (host, port)  # typeshed knows of strings alone
        with socket.create_connection(address, bound) as plain:
            link = self._tls.wrap_socket(plain, server_hostname=name) if self._tls else plain
            with link:
                link.sendall(self._greeting)
                if read_session_id(receive_packet(link)) == 0:
                    return True
                if self._sasl:
                    link.sendall(self._sasl.ask())
                    link.sendall(self._sasl.answer(receive_packet(link)))
                link.sendall(self._farewell)
                while link.recv(4096):  # the server hangs up when it has closed the session
                    pass
                return False


def receive(link: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        more = link.recv(size - len(data))
        if not more:
            raise ConnectionError("the server hung up")
        data += more
    return data


def receive_packet(link: socket.socket) -> bytes:
    """Without its length. Raises ``ConnectionError`` for one that is none of those we wait for."""
    (size,) = struct.unpack("!i", receive(link, 4))
    if not 0 <= size <= LARGEST:
        raise ConnectionError(f"a packet of {size} bytes")
    return receive(link, size)


def read_session_id(packet: bytes) -> int:
    """That of the answer to a greeting, 0 where there is no such session. Raises ``ConnectionError`` for any other packet.

    ZooKeeper on Netty may answer credentials before a connect request that went ahead of them (``NettyServerCnxn.receiveMessage``
    goes on when another thread enables it, whose answer is still in its queue), and such an answer has zeros there.
    """
    if len(packet) < 36:
        raise ConnectionError(f"{len(packet)} bytes are no answer to a connect request")
    session_id: int = struct.unpack_from("!q", packet, 8)[0]
    return session_id


class DigestMd5:
    """SASL by DIGEST-MD5 (RFC 2831). Nobody waits for the server's own proof: it knows the session by then."""

    def __init__(self, user: bytes, password: bytes, uri: bytes) -> None:
        self._user, self._password, self._uri = user, password, uri
        try:  # hashlib costs megabytes
            from _md5 import md5  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import md5
        self._md5: Any = md5

    def ask(self) -> bytes:
        """The packet that asks for a challenge."""
        return self._pack(b"")

    def answer(self, packet: bytes) -> bytes:
        """The packet that answers a server's; none to one without a challenge. Raises ``PermissionError`` for a refusal."""
        error, size = struct.unpack_from("!ii", packet, 12)
        if error:
            raise PermissionError(f"SASL was refused with {error}")
        if size <= 0:
            return b""
        return self._pack(self.respond(packet[20:], os.urandom(16).hex().encode()))

    def respond(self, challenge: bytes, cnonce: bytes) -> bytes:
        """The answer to a challenge."""
        nonce, realm = quoted(challenge, b"nonce"), quoted(challenge, b"realm")
        secret = self._md5(b":".join([self._user, realm, self._password])).digest()
        one, two = b":".join([secret, nonce, cnonce]), b"AUTHENTICATE:" + self._uri
        response = self._hash(b":".join([self._hash(one), nonce, b"00000001", cnonce, b"auth", self._hash(two)]))
        user = self._user.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return (
            b'username="%s",realm="%s",nonce="%s",cnonce="%s",nc=00000001,qop=auth,digest-uri="%s",response=%s,charset=utf-8'
            % (user, realm, nonce, cnonce, self._uri, response)
        )

    def _pack(self, token: bytes) -> bytes:
        return struct.pack("!iiii", 12 + len(token), 0, SASL, len(token)) + token

    def _hash(self, text: bytes) -> bytes:
        digits: str = self._md5(text).hexdigest()
        return digits.encode()


def quoted(challenge: bytes, name: bytes) -> bytes:
    """The value of that name; empty where there is none."""
    return challenge.partition(name + b'="')[2].partition(b'"')[0]


def make_context(ca: str | None, cert: str | None, key: str | None, password: bytes | None) -> ssl.SSLContext:
    """Made when the files are named: nothing is left to read or to import when the parent is dead."""
    import ssl

    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(cert, key, password or "")
    return context


class Inbox:
    """What has come from the parent so far."""

    def __init__(self) -> None:
        self.will: Will | None = None
        self.is_dismissed = False
        self.has_ended = False
        self._rest = b""
        os.set_blocking(INBOX, False)

    def read(self) -> None:
        """Takes in all there is."""
        while not self.has_ended:
            try:
                data = os.read(INBOX, 65536)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.has_ended = not data
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        if said := [line for line in lines if line]:
            newest = marshal.loads(bytes.fromhex(said[-1].decode()))
            self.is_dismissed = newest is None
            self.will = Will(newest) if newest else None


# The deadline


class Deadline:
    """Kills a parent that lets its deadline pass: ``guard="strict"``."""

    def __init__(self, pidfd: int, cell: int) -> None:
        self._pidfd = pidfd
        self._inode = os.fstat(cell).st_ino
        self._cell = memoryview(mmap.mmap(cell, 8, access=mmap.ACCESS_READ)).cast("d")

    @property
    def remaining(self) -> float:
        """Seconds; infinity while nobody leads."""
        return self._cell[0] - clock()

    def enforce(self) -> bool:
        """Kills the parent, unless that has become another program by an exec: it owes us nothing.

        Returns whether that is done. Meanwhile the deadline may have been put off.
        """
        if self._is_mapped():
            if self.remaining > 0:
                return False
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # it has died by itself, or has another user by now; when it is dead, there is the session to close
        return True

    def _is_mapped(self) -> bool:
        """Whether the parent has the shared memory yet: an exec takes it away, closing all descriptors does not.

        Where it is dead or hides from us, what it promised counts: then it is taken to have it. That of a process whose main
        thread has ended shows nothing.
        """
        inode = str(self._inode).encode()
        try:
            with open(f"{PROC}/{self._find_pid()}/maps", "rb") as maps:
                shown = maps.readlines()
        except OSError:
            return True
        return not shown or any(line.split(None, 5)[4] == inode for line in shown)

    def _find_pid(self) -> int:
        """The parent's process id in the PID namespace that this /proc belongs to, which may be another one than ours.

        Raises ``ProcessLookupError`` where it is dead, or not in that namespace.
        """
        with open(f"{PROC}/self/fdinfo/{self._pidfd}", "rb") as facts:
            said = [int(fact[4:]) for fact in facts if fact.startswith(b"Pid:")]
        if not said or said[0] <= 0:
            raise ProcessLookupError
        return said[0]


# Waiting


def attend(parent: int, pidfd: int, cell: int) -> None:
    """Returns when nothing is left to do."""
    watch = make_watch(parent, pidfd)
    inbox = Inbox()
    deadline = Deadline(pidfd, cell) if cell >= 0 else None
    leave_at = math.inf
    while not watch.is_dead:
        look_at = leave_at
        if deadline is not None and deadline.remaining < math.inf:
            look_at = min(look_at, clock() + min(max(0.0, deadline.remaining), GLANCE))
        watch.wait(None if look_at == math.inf else max(0.0, look_at - clock()))
        inbox.read()
        if inbox.is_dismissed or (inbox.has_ended and inbox.will is None) or clock() >= leave_at:
            break
        if inbox.has_ended and inbox.will is not None and leave_at == math.inf:
            # That is no death: a daemon closes everything. But without a connection its session ends by itself.
            leave_at = clock() + inbox.will.patience
            watch.listen_no_more()
        if deadline is not None and deadline.remaining <= 0 and deadline.enforce():
            deadline = None
    if watch.is_dead:
        inbox.read()
        if inbox.will is not None and not inbox.is_dismissed:
            inbox.will.execute()


def main() -> int:
    """The exit status."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        attend(*map(int, sys.argv[1:]))
    except Exception as e:
        os.write(INBOX, f"{type(e).__name__}: {e}".encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
