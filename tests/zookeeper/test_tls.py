"""TLS: whom the client trusts, who it is, and what each failure says."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aioelect import ConnectTimeout, TlsError, connect
from aioelect import events as ev
from aioelect.ports import Address, World, dial_tcp
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer, free_ports
from aioelect.zookeeper.security.tls import tls_error

from .certificates import Authority, Signed
from .conftest import Open, Record, elect_twice


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[EmbeddedServer]:
    """Takes TLS alone, in this process."""
    async with EmbeddedServer(tick_time=0.2, max_session_timeout=4.0, ssl=authority.server_context()) as server:
        yield server


async def refusal(hosts: str, **options: Any) -> TlsError:
    """What connecting fails with, at once."""
    async with asyncio.timeout(10):
        with pytest.raises(TlsError) as caught:
            await connect(hosts, timeout=None, **options)
    assert caught.value.final
    return caught.value


# Whom we trust


async def test_a_server_whose_ca_we_trust_is_used(
    server: EmbeddedServer, authority: Authority, open_client: Open
) -> None:
    client = await open_client(server.hosts, ssl=True, ssl_ca=authority.ca)
    assert await client.exists("/")
    context = ssl.create_default_context(cafile=authority.ca)
    assert await (await open_client(server.hosts, ssl=context)).exists("/")


async def test_an_unknown_ca_is_refused_at_once(server: EmbeddedServer) -> None:
    error = await refusal(server.hosts, ssl=True)
    assert str(error).startswith(
        f"no TLS connection to {server.hosts}: its certificate is signed by no CA that we trust"
    )
    assert "pass ssl_ca" in str(error)
    assert not server.sessions


async def test_an_expired_certificate_is_refused_at_once(authority: Authority) -> None:
    context = authority.server_context(authority.sign(expired=True))
    async with EmbeddedServer(ssl=context) as server:
        error = await refusal(server.hosts, ssl=True, ssl_ca=authority.ca)
    assert "its certificate is out of date: renew it" in str(error)
    assert "certificate has expired" in str(error)


async def test_a_certificate_for_another_name_is_refused_at_once(authority: Authority, open_client: Open) -> None:
    context = authority.server_context(authority.sign("zk1.example"))
    async with EmbeddedServer(ssl=context) as server:
        error = await refusal(server.hosts, ssl=True, ssl_ca=authority.ca)
        assert "its certificate is for another server" in str(error)
        assert "server_hostname" in str(error)
        error = await refusal(server.hosts, ssl=True, ssl_ca=authority.ca, server_hostname="zk2.example")
        assert "zk2.example" in str(error)
        client = await open_client(server.hosts, ssl=True, ssl_ca=authority.ca, server_hostname="zk1.example")
        assert await client.exists("/")
        await client.close()


async def test_a_server_must_be_the_host_that_the_user_wrote(authority: Authority, record: Record) -> None:
    """Also on the connection that only asks for the tick."""
    names: list[str | None] = []

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [("127.0.0.1", port)]

    async def dial(protocol: asyncio.Protocol, address: Address, **tls: Any) -> asyncio.Transport:
        names.append(tls["server_hostname"])
        return await dial_tcp(protocol, address, **tls)

    world = World(resolve=resolve, dial=dial)
    async with EmbeddedServer(ssl=authority.server_context(authority.sign("zk1.example"))) as server:
        trusting: dict[str, Any] = {"ssl": True, "ssl_ca": authority.ca, "world": world}
        async with connect(f"zk1.example.:{server.port}", on_event=record, **trusting) as client:
            await client.session.probe_tick()
            assert client.session.timing.tick_time < 1
            server.drop_connections()
            await record.wait(ev.Reconnected)
        assert set(names) == {"zk1.example"}
        assert len(names) == 3
        assert "another server" in str(await refusal(f"zk2.example:{server.port}", **trusting))


async def test_one_server_that_can_be_trusted_is_enough(
    server: EmbeddedServer, authority: Authority, open_client: Open, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    async with EmbeddedServer(ssl=other.server_context()) as stranger:
        for _ in range(4):  # the order of attempts is random
            await open_client(f"{stranger.hosts},{server.hosts}", ssl=True, ssl_ca=authority.ca)
        assert not stranger.sessions


async def test_a_server_that_is_away_may_be_the_one_to_trust(authority: Authority, tmp_path: Path) -> None:
    [away] = free_ports(1)
    async with EmbeddedServer(ssl=Authority(tmp_path).server_context()) as stranger:
        with pytest.raises(ConnectTimeout, match="signed by no CA that we trust"):
            await connect(f"127.0.0.1:{away},{stranger.hosts}", timeout=1, ssl=True, ssl_ca=authority.ca)


async def test_later_a_certificate_that_expired_is_waited_for_to_be_renewed(
    authority: Authority, open_client: Open, record: Record
) -> None:
    context = authority.server_context()
    async with EmbeddedServer(tick_time=0.2, ssl=context) as server:
        client = await open_client(server.hosts, ssl=True, ssl_ca=authority.ca, on_event=record)
        session_id = client.session.session_id
        expired, renewed = authority.sign(expired=True), authority.sign()
        context.load_cert_chain(expired.cert, expired.key)
        server.drop_connections()
        assert "out of date" in (await record.wait(ev.Unreachable)).why
        context.load_cert_chain(renewed.cert, renewed.key)
        await record.wait(ev.Reconnected)
        assert client.session.session_id == session_id


# Who we are


@pytest.fixture
def blunt(authority: Authority) -> Iterator[Callable[[ssl.TLSVersion], str]]:
    """Servers that demand a certificate, in threads: asyncio's keep their alerts to themselves."""
    with contextlib.ExitStack() as stack:

        def start(version: ssl.TLSVersion) -> str:
            context = authority.server_context(demands_certificate=True)
            context.minimum_version = context.maximum_version = version
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=refuse, args=(listener, context))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"127.0.0.1:{listener.getsockname()[1]}"

        def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
            with contextlib.suppress(OSError):  # of the listener: it is shut down
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        with pytest.raises(ssl.SSLError):
                            context.wrap_socket(connection.dup(), server_side=True)
                        connection.shutdown(socket.SHUT_WR)  # behind the alert
                        while connection.recv(1000):
                            pass

        yield start


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_demands_a_certificate_says_so_at_once(
    authority: Authority, blunt: Callable[[ssl.TLSVersion], str], version: ssl.TLSVersion
) -> None:
    """In TLS 1.3 the client has finished the handshake when the alert comes."""
    error = await refusal(blunt(version), ssl=True, ssl_ca=authority.ca)
    assert "it refused our certificate, or the lack of one: pass ssl_cert and ssl_key" in str(error)


async def test_a_client_certificate_is_shown(authority: Authority, open_client: Open) -> None:
    us = authority.sign("worker@example.org")
    async with EmbeddedServer(ssl=authority.server_context(demands_certificate=True)) as server:
        trusting: dict[str, Any] = {"ssl": True, "ssl_ca": authority.ca}
        client = await open_client(server.hosts, ssl_cert=us.cert, ssl_key=us.key, **trusting)
        assert await client.exists("/")
        await client.close()
        with pytest.raises(ConnectTimeout, match=r"wants another certificate from us|no client without ssl_cert"):
            await connect(server.hosts, timeout=0.5, **trusting)
        assert not server.sessions


async def test_renewed_files_are_used_from_the_next_connection_on(
    authority: Authority, open_client: Open, record: Record, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Signed(tmp_path / "cert.pem", tmp_path / "key.pem")

    def renew(name: str) -> None:
        signed = authority.sign(name)
        shutil.copy(signed.cert, ours.cert)
        shutil.copy(signed.key, ours.key)

    def shown(server: EmbeddedServer) -> str:
        [connection] = server._connections
        name: str = connection._transport.get_extra_info("peercert")["subjectAltName"][0][1]
        return name

    renew("first@example.org")
    async with EmbeddedServer(ssl=authority.server_context(demands_certificate=True)) as server:
        files: dict[str, Any] = {"ssl": True, "ssl_ca": authority.ca, "ssl_cert": ours.cert, "ssl_key": ours.key}
        client = await open_client(server.hosts, on_event=record, **files)
        assert shown(server) == "first@example.org"
        renew("second@example.org")
        server.drop_connections()
        await record.wait(ev.Reconnected)
        assert shown(server) == "second@example.org"
        ours.key.write_text("half a file")
        server.drop_connections()
        await record.wait(ev.Reconnected, 2)
        assert shown(server) == "second@example.org"
        assert "the changed TLS files are not used" in caplog.text
        renew("third@example.org")
        server.drop_connections()
        await record.wait(ev.Reconnected, 3)
        assert shown(server) == "third@example.org"
        await client.close()


async def test_an_encrypted_key(authority: Authority, open_client: Open, tmp_path: Path) -> None:
    us = authority.sign("worker@example.org", password=b"open sesame")
    (tmp_path / "password").write_text("open sesame\n")
    async with EmbeddedServer(ssl=authority.server_context(demands_certificate=True)) as server:
        client = await open_client(
            server.hosts,
            ssl=True,
            ssl_ca=authority.ca,
            ssl_cert=us.cert,
            ssl_key=us.key,
            ssl_key_password=(tmp_path / "password").read_text,
        )
        assert await client.exists("/")
        await client.close()


# Those who speak something else


async def test_a_plain_connection_to_a_tls_port_says_what_may_be_wrong(server: EmbeddedServer) -> None:
    with pytest.raises(ConnectTimeout, match="takes only TLS on this port: then pass ssl"):
        await connect(server.hosts, timeout=0.5)
    assert not server.sessions


async def test_tls_to_a_plain_port_never_falls_back_to_plain_text(authority: Authority) -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(ConnectTimeout, match="it hung up in the handshake: it takes no TLS on this port"):
            await connect(server.hosts, timeout=0.5, ssl=True, ssl_ca=authority.ca)
        assert not server.sessions


async def test_an_endless_handshake_costs_its_attempt_alone(
    server: EmbeddedServer, authority: Authority, open_client: Open
) -> None:
    hellos: list[bytes] = []

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(1000))
        await reader.read()  # the client gives up
        writer.close()

    endless = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = endless.sockets[0].getsockname()[1]
    async with endless:
        while not hellos:  # the order of attempts is random
            async with asyncio.timeout(2):
                await open_client(f"127.0.0.1:{port},{server.hosts}", ssl=True, ssl_ca=authority.ca)
        assert hellos[0][0] == 22  # a TLS handshake record
        with pytest.raises(ConnectTimeout, match="no answer within"):
            await connect(f"127.0.0.1:{port}", timeout=0.6, ssl=True, ssl_ca=authority.ca)


async def test_the_lease_counts_from_after_the_handshake(server: EmbeddedServer, authority: Authority) -> None:
    """Counted from before, it would lack what a slow handshake takes."""
    now = 1000.0

    async def dial(protocol: asyncio.Protocol, address: Address, **tls: Any) -> asyncio.Transport:
        nonlocal now
        now += 100
        return await dial_tcp(protocol, address, **tls)

    world = World(clock=lambda: now, dial=dial)
    async with connect(server.hosts, session_timeout=2.0, ssl=True, ssl_ca=authority.ca, world=world) as client:
        lease = client.session.lease
        assert lease.deadline == pytest.approx(1100 + lease.session_timeout - lease.margin)


@pytest.mark.parametrize(
    ("reason", "said", "final"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "refused our certificate", True),
        ("TLSV1_ALERT_UNKNOWN_CA", "refused our certificate", True),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS", True),
        ("WRONG_VERSION_NUMBER", "check that this is a TLS port", False),
        ("TLSV1_ALERT_INTERNAL_ERROR", "TLSV1_ALERT_INTERNAL_ERROR", False),
    ],
)
def test_what_else_servers_say(reason: str, said: str, final: bool) -> None:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    told = tls_error(error, ("zk1", 2281))
    assert said in told.why
    assert told.final is final


# Arguments


def test_bad_combinations_are_refused_at_the_call(authority: Authority, tmp_path: Path) -> None:
    us, them = authority.sign(), authority.sign()
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()
    own = ssl.create_default_context()
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"ssl_ca": authority.ca}, ValueError, "ssl_ca without TLS: pass ssl=True"),
        ({"ssl": False, "ssl_cert": us.cert, "ssl_key": us.key}, ValueError, "ssl_cert and ssl_key without TLS"),
        ({"server_hostname": "zk"}, ValueError, "server_hostname without TLS"),
        ({"ssl": own, "ssl_ca": authority.ca}, ValueError, "ssl_ca can't go with a context of your own"),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, ValueError, "a context for servers"),
        ({"ssl": "yes"}, TypeError, "ssl must be True or an ssl.SSLContext, not 'yes'"),
        ({"ssl": True, "ssl_key": us.key}, ValueError, "pass ssl_cert, too"),
        ({"ssl": True, "ssl_key_password": str}, ValueError, "ssl_key_password is for the client's certificate"),
        ({"ssl": True, "ssl_ca": missing}, ValueError, f"can't read ssl_ca='{missing}' (No such file or directory)"),
        ({"ssl": True, "ssl_ca": tmp_path}, ValueError, f"can't read ssl_ca='{tmp_path}' (Is a directory)"),
        ({"ssl": True, "ssl_ca": empty}, ValueError, f"no CA certificates in ssl_ca='{empty}'"),
        ({"ssl": True, "ssl_cert": us.cert}, ValueError, f"no private key in '{us.cert}'"),
        ({"ssl": True, "ssl_cert": us.cert, "ssl_key": missing}, ValueError, f"can't read ssl_key='{missing}'"),
        (
            {"ssl": True, "ssl_cert": us.cert, "ssl_key": them.key},
            ValueError,
            f"'{them.key}' is not that of the certificate",
        ),
        ({"ssl": True, "server_hostname": ""}, ValueError, "server_hostname '' is no name of a server"),
    ]
    for options, kind, said in wrong:
        with pytest.raises(kind, match=re.escape(said)):
            connect("zk:2281", **options)


def test_the_password_of_a_key_is_asked_for_and_never_shown(authority: Authority) -> None:
    us = authority.sign(password=b"open sesame")
    files: dict[str, Any] = {"ssl": True, "ssl_cert": us.cert, "ssl_key": us.key}
    with pytest.raises(ValueError, match="is encrypted: pass ssl_key_password"):
        connect("zk:2281", **files)
    with pytest.raises(ValueError, match="ssl_key_password is wrong"):
        connect("zk:2281", **files, ssl_key_password=lambda: "open barley")
    with pytest.raises(TypeError, match="must be a function") as caught:
        connect("zk:2281", **files, ssl_key_password="open sesame")  # type: ignore[arg-type]
    assert "sesame" not in str(caught.value)
    connect("zk:2281", **files, ssl_key_password=lambda: b"open sesame")


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    from aioelect.zookeeper.security import Tls

    tls = Tls.parse(True, authority.ca, None, None, None, None)
    assert tls is not None
    assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls.context.check_hostname
    assert tls.context.verify_mode is ssl.CERT_REQUIRED


# Real ZooKeeper


@pytest.fixture
def ours(authority: Authority) -> dict[str, Any]:
    """The options of a client that a real server takes."""
    us = authority.sign("worker@example.org")
    return {"ssl": True, "ssl_ca": authority.ca, "ssl_cert": us.cert, "ssl_key": us.key}


async def test_zookeeper_over_tls(
    secure_zookeeper: ZooKeeperServer, ours: dict[str, Any], open_client: Open, path: str
) -> None:
    client = await open_client(secure_zookeeper.secure_hosts, **ours)
    assert await client.create(path, b"x" * 500_000) == path
    assert await client.get_data(path) == b"x" * 500_000
    await client.delete(path)


async def test_zookeeper_demands_our_certificate(
    secure_zookeeper: ZooKeeperServer, authority: Authority, tmp_path: Path
) -> None:
    hosts = secure_zookeeper.secure_hosts
    assert "refused our certificate, or the lack of one" in str(await refusal(hosts, ssl=True, ssl_ca=authority.ca))
    strange = Authority(tmp_path).sign("worker@example.org")
    error = await refusal(hosts, ssl=True, ssl_ca=authority.ca, ssl_cert=strange.cert, ssl_key=strange.key)
    assert "refused our certificate" in str(error)


async def test_zookeeper_is_refused_where_we_do_not_trust_it(
    secure_zookeeper: ZooKeeperServer, authority: Authority, ours: dict[str, Any]
) -> None:
    hosts = secure_zookeeper.secure_hosts
    assert "no CA that we trust" in str(await refusal(hosts, **{**ours, "ssl_ca": None}))
    assert "another server" in str(await refusal(hosts, server_hostname="zk1.example", **ours))


async def test_zookeeper_refuses_us_in_tls_1_3_after_the_handshake(
    strict_zookeeper: ZooKeeperServer, authority: Authority
) -> None:
    error = await refusal(strict_zookeeper.secure_hosts, ssl=True, ssl_ca=authority.ca)
    assert "refused our certificate, or the lack of one" in str(error)


async def test_the_wrong_port_of_zookeeper(secure_zookeeper: ZooKeeperServer, ours: dict[str, Any]) -> None:
    with pytest.raises(ConnectTimeout, match="takes only TLS on this port: then pass ssl"):
        await connect(secure_zookeeper.secure_hosts, timeout=1)
    with pytest.raises(ConnectTimeout, match="it hung up in the handshake: it takes no TLS on this port"):
        await connect(secure_zookeeper.hosts, timeout=1, **ours)


async def test_an_election_over_tls(
    secure_zookeeper: ZooKeeperServer, ours: dict[str, Any], open_client: Open, record: Record, path: str
) -> None:
    async with FaultProxy(secure_zookeeper.secure_hosts, raw=True) as proxy:
        client = await open_client(proxy.hosts, on_event=record, **ours)
        rival = await open_client(secure_zookeeper.secure_hosts, **ours)
        await elect_twice(client, proxy, record, rival, path)
        await client.close()
