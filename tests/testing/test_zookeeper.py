import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss

from aioelect.testing import zookeeper
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import (
    ZooKeeperEnsemble,
    ZooKeeperNotFound,
    ZooKeeperServer,
    ZooKeeperStartFailed,
    find_zookeeper,
    free_ports,
    serves,
)
from tests import processes
from tests.zookeeper.certificates import Authority

SOON = 20.0


# Finding it.


def test_the_classpath_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOELECT_ZOOKEEPER_CLASSPATH", "/my/jars/*")
    assert find_zookeeper() == "/my/jars/*"


def test_a_missing_zookeeper_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AIOELECT_ZOOKEEPER_CLASSPATH", raising=False)
    monkeypatch.setattr(zookeeper, "_DEBIAN_JARS", tmp_path)
    monkeypatch.setattr(zookeeper, "_HOMEBREW_JARS", (tmp_path,))
    with pytest.raises(ZooKeeperNotFound, match=rf"looked for .*{tmp_path}/zookeeper.jar.*apt-get install"):
        ZooKeeperServer()
    (tmp_path / "zookeeper-3.9.3.jar").touch()
    assert find_zookeeper() == f"{tmp_path}/*"


def test_a_missing_java_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZooKeeperNotFound, match=r"'java'.*default-jre-headless"):
        ZooKeeperEnsemble().start()


def test_free_ports_are_different_and_bindable() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


# One server.


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer() as running:
        yield running


def test_it_serves_from_a_private_folder(server: ZooKeeperServer) -> None:
    assert server.hosts == f"127.0.0.1:{server.port}"
    assert server.folder.stat().st_mode & 0o777 == 0o700
    with client(server.hosts) as zk:
        zk.create("/here")
        assert zk.exists("/here")
    assert "Mode: standalone" in server.ask("srvr")


def test_a_restart_keeps_data_and_port_unless_wiped(server: ZooKeeperServer) -> None:
    with client(server.hosts) as zk:
        zk.create("/kept")
    hosts, pid = server.hosts, server.pid
    server.restart()
    assert server.hosts == hosts
    assert server.pid != pid
    with client(hosts) as zk:
        assert zk.exists("/kept")
    server.restart(wipe=True)
    with client(hosts) as zk:
        assert not zk.exists("/kept")


def test_data_outlives_a_kill(server: ZooKeeperServer) -> None:
    with client(server.hosts) as zk:
        zk.create("/survivor")
    pid = server.pid
    server.kill()
    assert not is_alive(pid)
    assert not serves(server.port)
    with pytest.raises(RuntimeError, match="does not run"):
        server.freeze()
    server.kill()
    server.stop()
    server.start()
    with client(server.hosts) as zk:
        assert zk.exists("/survivor")


def test_a_frozen_server_answers_nothing_until_resumed(server: ZooKeeperServer) -> None:
    for _ in range(20):
        server.freeze()
        assert {processes.state(stat) for stat in Path(f"/proc/{server.pid}/task").glob("*/stat")} == {"T"}
        server.resume()
    server.freeze()
    server.freeze()
    assert not serves(server.port, timeout=0.2)
    server.resume()
    assert serves(server.port)


def test_a_server_that_has_ended_can_be_frozen_and_killed() -> None:
    with ZooKeeperServer() as server:
        os.kill(server.pid, signal.SIGKILL)
        server.freeze()
        server.kill()
        server.start()
        assert serves(server.port)


def test_a_frozen_server_can_be_stopped(server: ZooKeeperServer) -> None:
    pid = server.pid
    server.freeze()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5, "it was killed, not stopped"
    assert not is_alive(pid)
    server.start()


async def test_a_restart_lets_the_loop_run(server: ZooKeeperServer) -> None:
    longest, began = 0.0, time.monotonic()
    restarting = asyncio.create_task(server.arestart())
    while not restarting.done():
        before = time.monotonic()
        await asyncio.wait([restarting], timeout=0.01)
        longest = max(longest, time.monotonic() - before)
    await restarting
    assert longest < (time.monotonic() - began) / 2  # not a share of a second: the machine may be busy
    assert serves(server.port)


def test_a_second_start_is_refused(server: ZooKeeperServer) -> None:
    with pytest.raises(RuntimeError, match=f"runs already, with pid {server.pid}"):
        server.start()


async def test_tick_time_bounds_the_session_timeouts() -> None:
    async with ZooKeeperServer(tick_time=0.1, min_session_timeout=0.3, max_session_timeout=7.0) as own:
        settings = own.ask("conf").splitlines()
    assert {"tickTime=100", "minSessionTimeout=300", "maxSessionTimeout=7000"} <= set(settings)


def test_config_and_properties_reach_the_server() -> None:
    with ZooKeeperServer(config={"maxClientCnxns": 7}, properties={"user.name": "somebody"}) as own:
        assert "maxClientCnxns=7" in own.ask("conf")
        assert "user.name=somebody" in own.ask("envi")


def test_a_tls_port_and_sasl_users(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    users = 'Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="open sesame"; };'
    with ZooKeeperServer(tls=authority.server_tls(demands_certificate=False), jaas=users) as server:
        for _ in range(2):
            host, port = server.secure_hosts.split(":")
            context = ssl.create_default_context(cafile=authority.ca)
            with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host):
                pass
            assert (server.folder / "jaas.conf").read_text() == users
            assert b"sesame" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
            server.restart()
            assert server.secure_hosts == f"{host}:{port}"


def test_a_server_without_tls_has_no_tls_port(server: ZooKeeperServer) -> None:
    with pytest.raises(RuntimeError, match="no TLS port"):
        _ = server.secure_hosts


def test_a_failed_start_shows_the_log_and_leaves_nothing() -> None:
    own = ZooKeeperServer(config={"tickTime": "soon"})
    with pytest.raises(ZooKeeperStartFailed, match=r"ended with status 2 (.|\n)*soon"), own:
        pytest.fail("it served")
    with pytest.raises(RuntimeError, match="no folder"):
        _ = own.folder


def test_a_server_that_never_serves_is_given_up() -> None:
    quorum, election = free_ports(2)
    without_quorum = {
        "initLimit": 10,
        "syncLimit": 10,
        "server.1": f"127.0.0.1:{quorum}:{election}",
        "server.2": "127.0.0.1:1:2",
        "server.3": "127.0.0.1:3:4",
    }
    own = ZooKeeperServer(config=without_quorum, member_id=1, start_timeout=1.5)
    with pytest.raises(ZooKeeperStartFailed, match=r"did not serve within 1\.5 s"), own:
        pytest.fail("it served")


def test_a_port_that_was_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    [free] = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = iter([[taken.getsockname()[1]], [free]])
        monkeypatch.setattr(zookeeper, "free_ports", lambda count: next(ports))
        with ZooKeeperServer() as own:
            assert own.port == free


async def test_a_cancelled_start_leaves_nothing() -> None:
    own = ZooKeeperServer()
    entering = asyncio.create_task(own.__aenter__())
    while own._process is None:
        await asyncio.sleep(0.001)
    pid, folder = own.pid, own.folder
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert not is_alive(pid)
    assert not folder.exists()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit()", "server.freeze(); os._exit(0)"])
def test_no_server_outlives_its_owner(end: str) -> None:
    script = f"""
import os, sys
from aioelect.testing.zookeeper import ZooKeeperServer
server = ZooKeeperServer()
server.start()
print(server.pid, server.folder, flush=True)
{end}
"""
    owner = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)
    pid, folder = owner.stdout.split()
    eventually(lambda: not is_alive(int(pid)))
    eventually(lambda: not Path(folder).exists())


async def test_a_create_whose_reply_is_lost_was_carried_out(server: ZooKeeperServer) -> None:
    """The proxy reads what a real client and a real server say to each other."""
    create = 1
    async with FaultProxy(server.hosts) as proxy:
        lost = proxy.lose_reply(create)

        def write() -> None:
            with client(proxy.hosts) as zk, pytest.raises(ConnectionLoss):
                zk.create("/lost")

        await asyncio.to_thread(write)
        assert lost.is_set()
        assert [request.opcode for request in proxy.requests].count(create) == 1
    with client(server.hosts) as zk:
        assert zk.exists("/lost")


# An ensemble.


@pytest.fixture(scope="module")
def ensemble() -> Iterator[ZooKeeperEnsemble]:
    with ZooKeeperEnsemble(init_limit=10, sync_limit=15, max_session_timeout=10) as running:
        yield running


@pytest.fixture
def whole(ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    """The ensemble with all members serving, before and after."""
    yield ensemble
    for index, member in enumerate(ensemble.members):
        ensemble.heal(index)
        if member._process is None:
            member.launch()
    ensemble.wait_ready()


def test_it_has_one_leader_and_shares_its_data(whole: ZooKeeperEnsemble) -> None:
    assert whole.hosts == ",".join(member.hosts for member in whole.members)
    assert sorted(whole.modes()) == ["follower", "follower", "leader"]
    assert {whole.leader_index(), *whole.followers()} == {0, 1, 2}
    with client(whole.members[0].hosts) as zk:
        zk.create("/shared")
    for member in whole.members:
        with client(member.hosts) as zk:
            zk.sync("/shared")
            assert zk.exists("/shared")


def test_the_leader_can_be_killed_and_come_back(whole: ZooKeeperEnsemble) -> None:
    old = whole.leader_index()
    whole.members[old].kill()
    eventually(lambda: "leader" in whole.modes())
    assert whole.leader_index() != old
    whole.members[old].start()
    assert whole.modes()[old] == "follower"


def test_a_cut_follower_answers_pings_while_its_sessions_expire(whole: ZooKeeperEnsemble) -> None:
    """The scene for which a ping reply is no proof that a session lives."""
    follower, other = whole.followers()[0], whole.leader_index()
    timeout = 1.0
    with client(whole.members[other].hosts, timeout=8) as watcher, Pinger(whole.members[follower].port) as pinger:
        path = pinger.create_ephemeral(timeout)
        watcher.sync(path)
        assert watcher.exists(path)
        whole.cut(follower)
        cut = time.monotonic()
        while watcher.exists(path):
            pinger.ping()
            assert time.monotonic() - cut < 2 * timeout + 1
            time.sleep(0.05)
        pinger.ping()
        assert whole.modes()[follower] == "follower"

        whole.heal(follower)
        whole.wait_ready()
        assert whole.modes()[follower] == "follower"


def test_a_cut_follower_gives_up_and_comes_back_when_healed(whole: ZooKeeperEnsemble) -> None:
    follower = whole.followers()[0]
    whole.cut(follower)
    eventually(lambda: whole.modes()[follower] == "")
    assert not serves(whole.members[follower].port)
    # Its notifications must not reach the others by any way: they would answer, and it would follow again.
    log = whole.members[follower].folder / "log"
    mark = log.stat().st_size
    eventually(lambda: "Notification time out" in log.read_text()[mark:])
    assert f"my state:LOOKING; n.sid:{whole.leader_index() + 1}," not in log.read_text()[mark:]
    whole.heal(follower)
    whole.wait_ready()


def test_a_cut_leader_is_replaced(whole: ZooKeeperEnsemble) -> None:
    old = whole.leader_index()
    whole.cut(old)
    with pytest.raises(LookupError, match="no ZooKeeper leader"):
        whole.leader_index()
    eventually(lambda: "leader" in [mode for index, mode in enumerate(whole.modes()) if index != old])
    assert whole.leader_index() != old
    whole.heal(old)
    whole.wait_ready()
    assert sorted(whole.modes()) == ["follower", "follower", "leader"]


def test_cuts_of_members_and_links_are_independent(whole: ZooKeeperEnsemble) -> None:
    """Healing one cut must not heal what another one holds."""
    first, second = whole.followers()
    leader = whole.leader_index()
    whole.cut_link(first, leader)
    whole.cut(first)
    whole.heal(first)
    eventually(lambda: whole.modes()[first] != "follower")
    assert whole.modes()[second] == "follower"
    whole.heal_link(leader, first)
    whole.wait_ready()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_no_link_between_members_bypasses_the_proxies(whole: ZooKeeperEnsemble) -> None:
    """The member of the lowest id is the one that the others call back when it has dialed them."""
    whole.members[0].restart()
    real: set[int] = set()
    for index, member in enumerate(whole.members):
        line = re.search(rf"^server\.{index + 1}=(.*)$", (member.folder / "zoo.cfg").read_text(), re.MULTILINE)
        assert line is not None
        real.update(int(port) for port in line[1].split(":")[1:])
    assert len(real) == 6
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in existing_fds()}
    dialed = [f"socket:[{inode}]" for remote, state, inode in tcp_sockets() if remote in real and state == "01"]
    assert len(dialed) >= 3 + 2
    assert set(dialed) <= ours


def test_unknown_members_are_refused(whole: ZooKeeperEnsemble) -> None:
    with pytest.raises(IndexError, match="no member 3; there are 3"):
        whole.cut(3)


async def test_it_can_be_used_from_a_loop() -> None:
    async with ZooKeeperEnsemble(members=1) as single:
        folder, pid = single.members[0].folder, single.members[0].pid
        single.members[0].kill()
        single.members[0].launch()
        await single.await_ready()
    assert not folder.exists()
    assert not is_alive(pid)
    with pytest.raises(IndexError):
        single.cut(0)


# The tools.


class Pinger:
    """A ZooKeeper session on one socket, which only pings when told to and never reconnects."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=5)

    def __enter__(self) -> "Pinger":
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def create_ephemeral(self, timeout: float) -> str:
        path = f"/ephemeral-{time.monotonic_ns()}"
        self._send(bytes(12), number(round(timeout * 1000)), bytes(8), number(16), bytes(17))
        granted = int.from_bytes(self._receive()[4:8], "big")
        assert granted == round(timeout * 1000)
        acl = number(1) + number(31) + text("world") + text("anyone")
        self._send(number(1), number(1), text(path), number(0), acl, number(1))
        assert self._receive()[12:16] == bytes(4)
        return path

    def ping(self) -> None:
        self._send(number(-2), number(11))
        reply = self._receive()
        assert reply[:4] == number(-2)
        assert reply[12:16] == bytes(4)

    def _send(self, *parts: bytes) -> None:
        payload = b"".join(parts)
        self._sock.sendall(number(len(payload)) + payload)

    def _receive(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, count: int) -> bytes:
        data = self._sock.recv(count, socket.MSG_WAITALL)
        assert len(data) == count, "the server closed the connection"
        return data


def number(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)


def text(value: str) -> bytes:
    return number(len(value)) + value.encode()


@contextmanager
def client(hosts: str, timeout: float = 4.0) -> Iterator[KazooClient]:
    zk = KazooClient(hosts, timeout=timeout)
    zk.start(timeout=SOON)
    try:
        yield zk
    finally:
        zk.stop()
        zk.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return "(java) Z" not in Path(f"/proc/{pid}/stat").read_text() if sys.platform == "linux" else True


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def existing_fds() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").is_symlink()]


def tcp_sockets() -> Iterator[tuple[int, str, str]]:
    """Remote port, state and inode of this host's TCP sockets, Java's (IPv6) included."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, _, remote, state, _, _, _, _, _, inode, *_ = line.split()
            yield int(remote.rpartition(":")[2], 16), state, inode
