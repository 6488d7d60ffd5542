"""Real ZooKeeper servers for tests, on loopback ports, each in a private temporary folder.

`ZooKeeperServer` runs one server, `ZooKeeperEnsemble` several whose mutual links can be cut. Both need Java
and ZooKeeper's jars, found by `find_zookeeper`. A server is ready when it serves: when it has opened a
session.

The core is synchronous and needs no event loop, so that session-scoped fixtures can use it with `with`. What
takes longer than a few milliseconds has a twin for event loops, with an "a" in front: `astart`, `arestart`.

No server outlives its owner. A tiny shell watches a pipe that only this process holds: when it is closed, be
it by SIGKILL, the shell kills the server and removes its folder.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .proxy import FaultProxy

__all__ = [
    "ServerTls",
    "ZooKeeperEnsemble",
    "ZooKeeperNotFound",
    "ZooKeeperServer",
    "ZooKeeperStartFailed",
    "find_zookeeper",
    "free_ports",
]

CLASSPATH_VARIABLE: Final = "AIOELECT_ZOOKEEPER_CLASSPATH"

_DEBIAN_JARS: Final = Path("/usr/share/java")
# The manifest of Debian's zookeeper.jar names the others, without a logger and what a TLS port needs.
_DEBIAN_EXTRAS: Final = (
    "slf4j-simple.jar",
    "netty-codec.jar",
    "netty-resolver.jar",
    "netty-transport-native-unix-common.jar",
)
_HOMEBREW_JARS: Final = tuple(Path(prefix, "opt/zookeeper/libexec/lib") for prefix in ("/opt/homebrew", "/usr/local"))
_JVM: Final = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
_PROPERTIES: Final = {
    "zookeeper.forceSync": "no",
    "zookeeper.admin.enableServer": "false",
    "zookeeper.jmx.log4j.disable": "true",
    "org.slf4j.simpleLogger.showDateTime": "true",
}
_WATCHER: Final = 'read -r _ || { kill -9 "$1"; sleep 0.2; rm -rf -- "$2"; }'

# Below the ports that kernels hand out by themselves (32768 and up on Linux): a client that dials a dead
# server's port in that range now and then gets that same port as its own, and talks to itself.
_PORTS: Final = range(15000, 32000)

_CONNECT: Final = struct.pack(">iiqiqi16s?", 45, 0, 0, 4000, 0, 16, bytes(16), False)
_CLOSE_SESSION: Final = struct.pack(">iii", 8, 1, -11)
_PORT_ATTEMPTS: Final = 3
_POLL: Final = 0.01

# By default a member that hears nothing asks again after up to a minute.
_FAST_ELECTION: Final = {"zookeeper.fastleader.maxNotificationInterval": "500"}


class ZooKeeperNotFound(Exception):
    """No ZooKeeper or no Java here; the message says where it was looked for and how to install it."""


class ZooKeeperStartFailed(Exception):
    """A server ended or did not serve in time; the message has the end of its log."""


def find_zookeeper() -> str:
    """The Java classpath of ZooKeeper's server.

    Taken from the environment variable AIOELECT_ZOOKEEPER_CLASSPATH, Debian's package or Homebrew's.

    Raises:
        ZooKeeperNotFound: it is in none of these places, or there is no java.
    """
    if shutil.which("java") is None:
        raise ZooKeeperNotFound(f"there is no 'java' on the PATH; {_HOW_TO_INSTALL}")
    if given := os.environ.get(CLASSPATH_VARIABLE):
        return given
    if (_DEBIAN_JARS / "zookeeper.jar").exists():
        extras = [_DEBIAN_JARS / name for name in _DEBIAN_EXTRAS]
        return ":".join(str(jar) for jar in [_DEBIAN_JARS / "zookeeper.jar", *extras] if jar.exists())
    for folder in _HOMEBREW_JARS:
        if any(folder.glob("zookeeper-*.jar")):
            return f"{folder}/*"
    places = [f"${CLASSPATH_VARIABLE} (not set)", f"{_DEBIAN_JARS}/zookeeper.jar", *map(str, _HOMEBREW_JARS)]
    raise ZooKeeperNotFound(f"ZooKeeper was not found; looked for {', '.join(places)}; {_HOW_TO_INSTALL}")


_HOW_TO_INSTALL: Final = (
    "install both with 'apt-get install --no-install-recommends zookeeper default-jre-headless' or "
    f"'brew install zookeeper', or set {CLASSPATH_VARIABLE} to a Java classpath"
)


_given: Final[set[int]] = set()
"""Ports that this process was given: who got one may not listen yet, or not at this moment."""


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports, free at this moment, and never given before as long as there are others."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = random.choice(_PORTS)
            if port in _given and len(_given) < len(_PORTS) // 2:
                continue
            sock = held.enter_context(socket.socket())
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
            _given.add(port)
        return ports


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server's TLS port is made of: PEM files, read when the server starts.

    `key_store` holds the private key, in PKCS #8 and without a password, and the certificates up to the CA's; `trust_store` the
    certificates of the CAs whose clients are trusted. Clients need a certificate of their own unless `demands_certificate` is
    false.
    """

    key_store: Path
    trust_store: Path
    demands_certificate: bool = True

    def properties(self) -> dict[str, str]:
        """As Java system properties."""
        return {
            "zookeeper.serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "zookeeper.ssl.keyStore.location": str(self.key_store),
            "zookeeper.ssl.keyStore.type": "PEM",
            "zookeeper.ssl.trustStore.location": str(self.trust_store),
            "zookeeper.ssl.trustStore.type": "PEM",
            "zookeeper.ssl.clientAuth": "need" if self.demands_certificate else "none",
        }


class ZooKeeperServer:
    """One ZooKeeper server process on a loopback port, with its data in a private folder.

    A context manager, with `with` and `async with`. Without one, call `start`, and `close` in the end.

    Args:
        tick_time: ZooKeeper's tickTime, seconds. Sessions are granted between 2 and 20 ticks.
        min_session_timeout: the shortest session timeout to grant, seconds, instead of 2 ticks.
        max_session_timeout: the longest session timeout to grant, seconds, instead of 20 ticks.
        config: more lines of zoo.cfg.
        properties: more Java system properties.
        tls: makes the server listen on a second port, for TLS alone.
        jaas: a JAAS configuration with a section "Server": the server then knows SASL. It goes into a file, since a command line
            is there for all to read.
        member_id: the server's id in an ensemble.
        start_timeout: seconds within which the server must serve.

    Raises:
        ZooKeeperNotFound: there is no ZooKeeper, or no Java, on this machine.
    """

    def __init__(
        self,
        *,
        tick_time: float = 0.2,
        min_session_timeout: float | None = None,
        max_session_timeout: float | None = None,
        config: Mapping[str, object] | None = None,
        properties: Mapping[str, str] | None = None,
        tls: ServerTls | None = None,
        jaas: str | None = None,
        member_id: int | None = None,
        start_timeout: float = 20.0,
    ) -> None:
        self._classpath = find_zookeeper()
        self._properties = {**_PROPERTIES, **(tls.properties() if tls else {}), **(properties or {})}
        self._config: dict[str, object] = {
            "tickTime": _milliseconds(tick_time),
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "maxClientCnxns": 0,
        }
        if min_session_timeout is not None:
            self._config["minSessionTimeout"] = _milliseconds(min_session_timeout)
        if max_session_timeout is not None:
            self._config["maxSessionTimeout"] = _milliseconds(max_session_timeout)
        if jaas is not None:
            self._config["authProvider.sasl"] = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
        self._config |= config or {}
        self._is_secure = tls is not None
        self._jaas = jaas
        self._member_id = member_id
        self._start_timeout = start_timeout
        self._folder: Path | None = None
        self._port: int | None = None
        self._secure_port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self.astart()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await _in_thread(self.close)

    @property
    def port(self) -> int:
        """The client port; stays the same over restarts.

        Raises:
            RuntimeError: the server was never started.
        """
        if self._port is None:
            raise RuntimeError("the server has no port before its first start")
        return self._port

    @property
    def hosts(self) -> str:
        """The hosts string for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def secure_hosts(self) -> str:
        """The hosts string for clients with TLS; stays the same over restarts.

        Raises:
            RuntimeError: the server was never started, or has no TLS port.
        """
        if self._secure_port is None:
            raise RuntimeError("the server has no TLS port: give it tls, and start it")
        return f"127.0.0.1:{self._secure_port}"

    @property
    def folder(self) -> Path:
        """The private folder, with zoo.cfg, data and log.

        Raises:
            RuntimeError: the server is not in use.
        """
        if self._folder is None:
            raise RuntimeError("the server has no folder before its first start and after its end")
        return self._folder

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            RuntimeError: the server does not run.
        """
        return self._running().pid

    def start(self) -> None:
        """Start the server on its data, and return when it serves.

        Raises:
            ZooKeeperStartFailed: it ended, or did not serve within `start_timeout`.
            RuntimeError: it runs already.
        """
        port_is_kept = self._port is not None
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.launch()
            try:
                self.wait_ready()
            except ZooKeeperStartFailed as error:
                if port_is_kept or attempt == _PORT_ATTEMPTS or "BindException" not in str(error):
                    raise
                self._port = self._secure_port = None  # somebody else took one since
            else:
                break

    def launch(self) -> None:
        """Start the process without waiting; `wait_ready` does that.

        Raises:
            RuntimeError: it runs already.
        """
        if self._process is not None:
            raise RuntimeError(f"the server runs already, with pid {self._process.pid}")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="aioelect-zookeeper-"))
        if self._port is None:
            self._port, *secure = free_ports(2 if self._is_secure else 1)
            self._secure_port = secure[0] if secure else None
        self._spawn(self._folder)

    def wait_ready(self) -> None:
        """Return when the server serves.

        Raises:
            ZooKeeperStartFailed: it ended, or did not serve within `start_timeout` of this call.
        """
        process = self._running()
        began = time.monotonic()
        # A starting server accepts connections that it never answers: ask again soon, but not too soon for
        # a machine that is slow.
        while not (serves(self.port, timeout=0.1 + (time.monotonic() - began) / 4) and self._is_listening_securely()):
            if process.poll() is not None:
                problem = f"ended with status {process.returncode} before it served"
            elif time.monotonic() > began + self._start_timeout:
                problem = f"did not serve within {self._start_timeout} s"
            else:
                time.sleep(_POLL)
                continue
            tail = self.log_tail()
            self.kill()
            raise ZooKeeperStartFailed(f"ZooKeeper on {self.hosts} {problem}; its log ends with:\n{tail}")

    def _is_listening_securely(self) -> bool:
        """The TLS port is opened after the other one."""
        if self._secure_port is None:
            return True
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self._secure_port)) == 0

    def stop(self) -> None:
        """End the server with SIGTERM, and after 5 seconds with SIGKILL; nothing when it does not run.

        A frozen server is resumed for that, and may act for a moment; `kill` lets it do nothing more.
        """
        if self._process is None:
            return
        self._process.terminate()
        self.resume()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self.kill()

    def restart(self, *, wipe: bool = False) -> None:
        """Stop the server if it runs, and start it on the same port.

        Args:
            wipe: forget all data first.

        Raises:
            ZooKeeperStartFailed: it ended, or did not serve within `start_timeout`.
        """
        self.stop()
        if wipe:
            shutil.rmtree(self.folder / "data")
        self.start()

    async def astart(self) -> None:
        """`start` without blocking the loop."""
        await _in_thread(self.start)

    async def astop(self) -> None:
        """`stop` without blocking the loop."""
        await _in_thread(self.stop)

    async def arestart(self, *, wipe: bool = False) -> None:
        """`restart` without blocking the loop."""
        await _in_thread(lambda: self.restart(wipe=wipe))

    def kill(self) -> None:
        """End the server with SIGKILL; nothing when it does not run."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        if self._watcher is not None:
            self._watcher.communicate(b"\n")
            self._watcher = None

    def close(self) -> None:
        """Kill the server if it runs, and remove its folder."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def freeze(self) -> None:
        """Stop the process where it stands (SIGSTOP): it holds its connections and answers nothing.

        Returns when all of its threads stand still, which a busy machine may take milliseconds for.
        """
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # macOS has it since Python 3.13
            # WNOWAIT: an end stays for Popen to see, and a second freeze() finds it stopped.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def ask(self, word: str) -> str:
        """The answer to a four-letter word, such as "srvr"; empty when there is none within a second."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(word.encode())
                return b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        except OSError:
            return ""

    def log_tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        text = (self.folder / "log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    def _spawn(self, folder: Path) -> None:
        (folder / "data").mkdir(exist_ok=True)
        if self._member_id is not None:
            (folder / "data" / "myid").write_text(f"{self._member_id}\n")
        config = {**self._config, "clientPort": self.port, "dataDir": folder / "data"}
        properties = dict(self._properties)
        if self._secure_port is not None:
            config |= {"secureClientPort": self._secure_port, "secureClientPortAddress": "127.0.0.1"}
        if self._jaas is not None:
            (folder / "jaas.conf").write_text(self._jaas)
            properties["java.security.auth.login.config"] = str(folder / "jaas.conf")
        (folder / "zoo.cfg").write_text("".join(f"{key}={value}\n" for key, value in config.items()))
        command = ["java", *_JVM, *(f"-D{key}={value}" for key, value in properties.items())]
        command += ["-cp", self._classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        with (folder / "log").open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches the tests alone, which then stop the server.
            self._process = subprocess.Popen(
                [*command, str(folder / "zoo.cfg")],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(self._process.pid), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class ZooKeeperEnsemble:
    """Several ZooKeeper servers that form an ensemble, all on loopback, whose mutual links can be cut.

    A context manager, with `with` and `async with`. Every link between two members goes through proxies,
    which run in a thread of the ensemble, so that the calls fit any event loop, or none. A cut link is a
    black hole: nobody is told, nothing gets through, and what was sent meanwhile arrives when the link is
    healed. (A process that is frozen freezes the links of its ensemble, too.)

    Args:
        members: how many servers.
        tick_time: ZooKeeper's tickTime, seconds.
        init_limit: ticks within which a follower must connect to a leader and catch up.
        sync_limit: ticks after which a silent member is given up; so long a follower that was cut off goes
            on answering the pings of its clients.
        min_session_timeout: the shortest session timeout to grant, seconds, instead of 2 ticks.
        max_session_timeout: the longest session timeout to grant, seconds, instead of 20 ticks.
        config: more lines of zoo.cfg.
        properties: more Java system properties.
        tls: gives each member a second port, for TLS alone; members talk to each other without.
        jaas: a JAAS configuration with a section "Server", as for `ZooKeeperServer`.
        start_timeout: seconds within which all members must serve.

    Raises:
        ZooKeeperNotFound: there is no ZooKeeper, or no Java, on this machine.
    """

    def __init__(
        self,
        members: int = 3,
        *,
        tick_time: float = 0.2,
        init_limit: int = 20,
        sync_limit: int = 10,
        min_session_timeout: float | None = None,
        max_session_timeout: float | None = None,
        config: Mapping[str, object] | None = None,
        properties: Mapping[str, str] | None = None,
        tls: ServerTls | None = None,
        jaas: str | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        self._size = members
        self._tick_time = tick_time
        self._session_timeouts = (min_session_timeout, max_session_timeout)
        self._config = {"initLimit": init_limit, "syncLimit": sync_limit, **(config or {})}
        self._properties = {**_FAST_ELECTION, **(properties or {})}
        self._tls = tls
        self._jaas = jaas
        self._start_timeout = start_timeout
        self._links = _MemberLinks()
        self._cut_members: set[int] = set()
        self._cut_links: set[frozenset[int]] = set()
        self.members: tuple[ZooKeeperServer, ...] = ()
        """The servers, from `start` to `close`; a server's id is its index plus one."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self.start)
        except BaseException:
            await _in_thread(self.close)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await _in_thread(self.close)

    @property
    def hosts(self) -> str:
        """The hosts string of all members."""
        return ",".join(member.hosts for member in self.members)

    def start(self) -> None:
        """Start all members, and return when all serve.

        Raises:
            ZooKeeperStartFailed: a member ended, or did not serve within `start_timeout`.
            RuntimeError: the ensemble runs already.
        """
        if self.members:
            raise RuntimeError(f"the ensemble runs already, on {self.hosts}")
        ports = free_ports(2 * self._size)
        quorum, election = ports[: self._size], ports[self._size :]
        self._links.open(quorum, election)
        self.members = tuple(
            ZooKeeperServer(
                tick_time=self._tick_time,
                min_session_timeout=self._session_timeouts[0],
                max_session_timeout=self._session_timeouts[1],
                config={**self._config, **self._addresses(index, quorum, election)},
                properties=self._properties,
                tls=self._tls,
                jaas=self._jaas,
                member_id=index + 1,
                start_timeout=self._start_timeout,
            )
            for index in range(self._size)
        )
        for member in self.members:
            member.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when all members serve; they must all run, and none be cut off.

        Raises:
            ZooKeeperStartFailed: a member ended, or did not serve within `start_timeout`.
        """
        for member in self.members:
            member.wait_ready()

    async def await_ready(self) -> None:
        """`wait_ready` without blocking the loop."""
        await _in_thread(self.wait_ready)

    def close(self) -> None:
        """Kill all members, and remove their folders."""
        for member in self.members:
            member.close()
        self.members = ()
        self._links.close()

    def modes(self) -> tuple[str, ...]:
        """What each member takes itself for: "leader", "follower", or "" when it does not serve.

        A leader that was cut off goes on calling itself one for up to `sync_limit` ticks.
        """
        answers = (member.ask("srvr") for member in self.members)
        return tuple(answer.partition("Mode: ")[2].partition("\n")[0] for answer in answers)

    def leader_index(self) -> int:
        """The index of the leader among the members that are not cut off.

        Raises:
            LookupError: there is none at the moment.
        """
        for index, mode in enumerate(self.modes()):
            if mode == "leader" and index not in self._cut_members:
                return index
        raise LookupError(f"there is no ZooKeeper leader at the moment; the members are {self.modes()}")

    def followers(self) -> tuple[int, ...]:
        """The indices of the followers."""
        return tuple(index for index, mode in enumerate(self.modes()) if mode == "follower")

    def cut(self, index: int) -> None:
        """Cut a member off from all others; its clients still reach it."""
        self._cut_members.add(self._checked(index))
        self._apply_cuts()

    def heal(self, index: int) -> None:
        """Undo `cut`."""
        self._cut_members.discard(self._checked(index))
        self._apply_cuts()

    def cut_link(self, one: int, other: int) -> None:
        """Cut the link between two members, in both directions."""
        self._cut_links.add(frozenset((self._checked(one), self._checked(other))))
        self._apply_cuts()

    def heal_link(self, one: int, other: int) -> None:
        """Undo `cut_link`."""
        self._cut_links.discard(frozenset((self._checked(one), self._checked(other))))
        self._apply_cuts()

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self.members):
            raise IndexError(f"there is no member {index}; there are {len(self.members)}, counted from 0")
        return index

    def _apply_cuts(self) -> None:
        self._links.cut(
            pair
            for pair in permutations(range(len(self.members)), 2)
            if self._cut_members.intersection(pair) or frozenset(pair) in self._cut_links
        )

    def _addresses(self, own: int, quorum: Sequence[int], election: Sequence[int]) -> dict[str, str]:
        """The server lines of a member: itself where it listens, the others behind its proxies."""
        lines = {f"server.{own + 1}": f"127.0.0.1:{quorum[own]}:{election[own]}"}
        for other in range(self._size):
            if other != own:
                to_quorum, to_election = self._links.ports(own, other)
                lines[f"server.{other + 1}"] = f"127.0.0.1:{to_quorum}:{to_election}"
        return lines


class _MemberLinks:
    """The proxies between the members, two for each ordered pair, in a thread with its own event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._proxies: dict[tuple[int, int], tuple[FaultProxy, FaultProxy]] = {}

    def open(self, quorum: Sequence[int], election: Sequence[int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="member links", daemon=True)
        self._thread.start()
        for dialer, target in permutations(range(len(quorum)), 2):
            self._proxies[dialer, target] = (
                FaultProxy(f"127.0.0.1:{quorum[target]}", raw=True),
                FaultProxy(
                    f"127.0.0.1:{election[target]}",
                    raw=True,
                    rewrite_first=partial(self._redirect, election[dialer], (target, dialer)),
                ),
            )
        self._run(self._enter_all())

    async def _enter_all(self) -> None:
        for proxy in self._all():
            await proxy.__aenter__()

    def _redirect(self, real_port: int, back: tuple[int, int], first: bytes) -> bytes:
        """Make the peer call back through its own proxy.

        A member that dials one of a higher id is hung up on and called back, at the address that its first
        message gives (`QuorumCnxManager.InitialMessage`): its real one, past the proxy. Five digits on either
        side keep the message's length field true.
        """
        _, to_election = self.ports(*back)
        return first.replace(b"127.0.0.1:%05d" % real_port, b"127.0.0.1:%05d" % to_election)

    def ports(self, dialer: int, target: int) -> tuple[int, int]:
        """Where `dialer` finds the quorum port and the election port of `target`."""
        to_quorum, to_election = self._proxies[dialer, target]
        return to_quorum.port, to_election.port

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Cut the links of these ordered pairs, and heal all others."""
        self._run(self._cut(frozenset(pairs)))

    async def _cut(self, pairs: frozenset[tuple[int, int]]) -> None:
        for pair, proxies in self._proxies.items():
            for proxy in proxies:
                if pair in pairs:
                    proxy.freeze()
                else:
                    proxy.thaw()

    def close(self) -> None:
        if self._loop is None or self._thread is None:
            return
        self._run(self._exit_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        self._proxies.clear()

    async def _exit_all(self) -> None:
        for proxy in self._all():
            await proxy.__aexit__(None, None, None)

    def _all(self) -> Iterator[FaultProxy]:
        return chain.from_iterable(self._proxies.values())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the ensemble does not run")
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


async def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread, to its end even when the waiting task is cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def serves(port: int, timeout: float = 2.0) -> bool:
    """Whether a server on this loopback port opens a session, which is closed again at once.

    An open port is not enough: a member without a quorum accepts connections and closes them.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
            sock.sendall(_CONNECT)
            answer = sock.recv(4, socket.MSG_WAITALL)
            if len(answer) < 4:
                return False
            sock.recv(int.from_bytes(answer, "big"), socket.MSG_WAITALL)
            sock.sendall(_CLOSE_SESSION)
            return bool(sock.recv(4, socket.MSG_WAITALL))
    except OSError:
        return False
