"""Credentials: sent on every connection, never shown, and what a server says to the wrong ones."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiozk import ACL, exc, protocol
from aiozk.protocol.acl import AUTHED_UNRESTRICTED

import aioelect
from aioelect import AuthenticationFailed, Digest, LossReason, SaslDigestMd5, connect
from aioelect import events as ev
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from aioelect.zookeeper import wire
from aioelect.zookeeper.security.auth import Auth
from tests.conftest import Logged

from .certificates import Authority
from .conftest import JAAS, Open, Record, elect_twice, lead

KINDS: list[type[Digest] | type[SaslDigestMd5]] = [Digest, SaslDigestMd5]

AUTH, SASL, SET_WATCHES, CLOSE = 100, 102, 101, -11
"""Opcodes."""

SECRET = "open sesame"


def bob() -> SaslDigestMd5:
    return SaslDigestMd5("bob", "builder's")


# What is never shown


def disguises(secret: str) -> list[str]:
    """How a secret may look."""
    return [secret, repr(secret.encode())[2:-1], secret.encode().hex()]


def assert_hidden(text: str, secret: str = SECRET) -> None:
    for shape in disguises(secret):
        assert shape not in text


def proc(name: str) -> bytes:
    """What Linux shows other processes of this one."""
    return Path(f"/proc/self/{name}").read_bytes() if sys.platform == "linux" else b""


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_show_their_user_alone(kind: type[Digest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text(SECRET)
    monkeypatch.setenv("ZK_PASSWORD", SECRET)
    for source in (
        {"password": SECRET},
        {"password_file": tmp_path / "password"},
        {"password_env": "ZK_PASSWORD"},
    ):
        auth = kind("user", **source)
        assert repr(auth) == str(auth) == f"<{kind.__name__} of 'user'>"
        assert_hidden(repr(auth._secret))
        assert not hasattr(auth, "__dict__")
        assert not hasattr(auth._secret, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_are_neither_pickled_nor_copied(kind: type[Digest]) -> None:
    auth = kind("user", SECRET)
    for protocol_version in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(auth, protocol_version)
        assert_hidden(str(caught.value))
    with pytest.raises(TypeError, match="credentials are not pickled or copied"):
        copy.deepcopy(auth)


def test_requests_show_no_secret() -> None:
    digest = Digest("user", SECRET).request()
    assert_hidden(f"{digest} {digest!r} {wire.SaslRequest(token=SECRET.encode())}")
    assert SECRET.encode() in digest.serialize(-4)


async def test_nothing_that_a_client_says_holds_the_password(
    caplog: pytest.LogCaptureFixture,
    logged: Logged,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole life of a client at the highest log level, with the event loop's debugging, and what other processes see."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with (
        EmbeddedServer() as server,
        connect(server.hosts, auth=Digest("user", SECRET), on_event=record) as client,
    ):
        server.drop_connections()
        await record.wait(ev.Reconnected)
        pending = client.session.conn
        assert pending is not None
        said = f"{client!r} {client.session!r} {pending!r} {vars(client.session)} {vars(client.session._handshake)}"
        assert_hidden(said)
        assert_hidden(" ".join(map(repr, asyncio.all_tasks())))
        assert SECRET.encode() not in proc("cmdline") + proc("environ")
    assert len(logged()) > 5
    assert_hidden(caplog.text)
    assert_hidden(repr(record))


async def test_an_error_shows_no_password_nor_do_those_behind_it(secure_zookeeper: ZooKeeperServer) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        await connect(secure_zookeeper.hosts, auth=SaslDigestMd5("bob", SECRET), timeout=10)
    shown = "".join(traceback.TracebackException.from_exception(caught.value).format())
    assert_hidden(shown)
    assert_hidden(repr(vars(caught.value)))
    error: BaseException | None = caught.value
    while error is not None:
        assert_hidden(repr(error.args))
        error = error.__cause__ or error.__context__


def test_a_password_that_is_no_text_is_not_shown_in_the_error() -> None:
    with pytest.raises(ValueError, match="the password is empty, or no text") as caught:
        Digest("user", SECRET + "\udc80")
    assert caught.value.__cause__ is caught.value.__context__ is None


# Where passwords come from


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_source_of_the_password(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    monkeypatch.delenv("NO_PASSWORD", raising=False)
    for source, said in (
        ({}, "exactly one of password, password_file and password_env"),
        ({"password": "x", "password_env": "HOME"}, "exactly one of password, password_file and password_env"),
        ({"password": ""}, "the password is empty"),
        ({"password_file": tmp_path / "missing"}, f"No such file or directory: '{tmp_path}/missing'"),
        ({"password_file": empty}, f"it is empty: '{empty}'"),
        ({"password_env": "NO_PASSWORD"}, r"no such environment variable: '\$NO_PASSWORD'"),
    ):
        with pytest.raises(ValueError, match=said):
            kind("user", **source)
    with pytest.raises(TypeError, match="password must be a str, not bytes"):
        kind("user", b"secret")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_newline_at_the_end_of_a_file_is_no_part_of_the_password(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" open\nsesame {end}".encode())
    assert Digest("user", password_file=str(file)).request().auth == b"user: open\nsesame "


def test_the_environment_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK_PASSWORD", "sécret\n")
    assert Digest("user", password_env="ZK_PASSWORD").request().auth == "user:sécret\n".encode()


async def test_a_password_file_is_read_afresh_for_each_connection(
    open_client: Open, record: Record, tmp_path: Path
) -> None:
    """While it can't be read, the client waits, as somebody may be writing it."""
    file = tmp_path / "password"
    file.write_text("first")
    async with EmbeddedServer() as server:
        client = await open_client(server.hosts, auth=Digest("user", password_file=file), on_event=record)
        await client.create("/first", acl=[AUTHED_UNRESTRICTED])
        file.unlink()
        server.drop_connections()
        assert "No such file or directory" in (await record.wait(ev.Unreachable)).why
        file.write_text("second")
        await record.wait(ev.Reconnected)
        with pytest.raises(exc.NoAuth):
            await client.get("/first")
        await client.close()


# Arguments


def test_auth_takes_credentials_alone() -> None:
    for wrong in (("digest", f"user:{SECRET}"), [SECRET], f"user:{SECRET}"):
        with pytest.raises(TypeError, match=r"auth takes credentials like aioelect\.Digest") as caught:
            connect("zk", auth=wrong)  # type: ignore[arg-type]
        assert_hidden(str(caught.value))
    with pytest.raises(ValueError, match="one SASL user: choose one"):
        connect("zk", auth=[bob(), bob()])


def test_names_in_sasl_are_ascii() -> None:
    for names in ({"user": "évä"}, {"user": ""}, {"server": "zk\n"}, {"service": ""}):
        with pytest.raises(ValueError, match="must be printable ASCII text"):
            SaslDigestMd5(**{"user": "bob", "password": "x", **names})


def test_sasl_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "puresasl.client", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aioelect\[sasl\]'"):
        bob()


# The wire


async def test_authentication_goes_first_and_sasl_before_the_rest(
    secure_zookeeper: ZooKeeperServer, open_client: Open, record: Record, path: str
) -> None:
    async with FaultProxy(secure_zookeeper.hosts) as proxy:
        client = await open_client(proxy.hosts, auth=[Digest("user", "x"), bob()], on_event=record)
        await client.exists(path, watch=True)
        client.session.add_watch_callback(protocol.WatchEvent.CREATED, path, print)
        await client.exists(path, watch=True)
        for count in (1, 2):
            seen = len(proxy.requests)
            proxy.sever()
            await record.wait(ev.Reconnected, count)
            assert [request.opcode for request in proxy.requests[seen + 1 :]][:4] == [SASL, SASL, AUTH, SET_WATCHES]
        await client.close()


@pytest.mark.parametrize(
    "request_", [Digest("user", "x").request(), wire.SaslRequest(token=b"")], ids=["digest", "sasl"]
)
async def test_the_reply_to_an_authentication_touches_no_session(request_: Any) -> None:
    async with EmbeddedServer() as server, connect(server.hosts, session_timeout=2.0) as client:
        session = client.session
        conn = session.conn
        assert conn is not None
        touched: list[tuple[float, float]] = []
        session.lease.touched = lambda sent, acknowledged: touched.append((sent, acknowledged))  # type: ignore[method-assign]
        await conn.request(request_, 7)
        assert touched == []
        await conn.request(protocol.ExistsRequest(path="/", watch=False), 8)
        assert len(touched) == 1


def test_what_touches_a_session() -> None:
    assert wire.touches(None)  # a ping
    assert wire.touches(protocol.SetWatchesRequest())
    assert not wire.touches(protocol.AuthRequest())
    assert not wire.touches(wire.AuthRequest())
    assert not wire.touches(wire.SaslRequest())


# SASL, without a server


CHALLENGE = b'realm="zk-sasl-md5",nonce="ly0c2IUa1QPqoHdSa6xiS4yWr4BKVeCeNuGyOpI6",charset=utf-8,algorithm=md5-sess'


async def converse(*answers: bytes | Exception | None) -> list[bytes]:
    """Authenticates with a server that answers so; the tokens that it was sent."""
    tokens: list[bytes] = []
    script = iter(answers)

    async def ask(request: Any) -> Any:
        tokens.append(request.token)
        answer = next(script)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(record=SimpleNamespace(token=answer))

    await SaslDigestMd5("bob", SECRET).authenticate(ask, "zk:2181", "zk")
    return tokens


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([None], "zk:2181 has no SASL, and would take <SaslDigestMd5 of 'bob'> for nobody"),
        ([b""], "has no SASL"),
        ([exc.AuthFailed()], "zk:2181 refused <SaslDigestMd5 of 'bob'>: check that the credentials are right"),
        ([CHALLENGE, exc.AuthFailed()], "refused <SaslDigestMd5 of 'bob'>"),
        ([CHALLENGE, wire.AuthenticationRequired()], "refused <SaslDigestMd5 of 'bob'>"),
        ([CHALLENGE, None], "did not prove that it knows the password of 'bob'"),
        ([CHALLENGE, CHALLENGE], "did not prove that it knows the password"),
        ([CHALLENGE, b"rspauth=0123456789abcdef0123456789abcdef"], "does not know the password of 'bob'"),
        ([b"rspauth=0123456789abcdef0123456789abcdef"], "a SASL answer that makes no sense"),
        ([b"\xff\xfe=,,=="], "a SASL answer that makes no sense"),
        ([CHALLENGE + b',qop="auth-conf"'], "a SASL answer that makes no sense"),
    ],
)
async def test_only_a_server_that_proves_itself_is_believed(answers: list[Any], said: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        await converse(*answers)
    assert said in str(caught.value)
    assert_hidden("".join(traceback.TracebackException.from_exception(caught.value).format()))


async def test_other_errors_are_not_about_credentials() -> None:
    with pytest.raises(exc.MarshallingError):
        await converse(exc.MarshallingError())


async def test_a_server_without_jaas_is_not_taken_for_one_that_knows_us(record: Record) -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(AuthenticationFailed, match="has no SASL"):
            await connect(server.hosts, auth=bob(), timeout=10, on_event=record)
    assert record.of(ev.Connected) == []


# Real ZooKeeper


def only(scheme: str, identity: str) -> list[Any]:
    return [ACL.make(scheme=scheme, id=identity, read=True, write=True, create=True, delete=True, admin=True)]


@pytest.mark.parametrize(("user", "password"), [("bob", "builder's"), ("eva", "sécret"), ("kim", "秘密")])
async def test_sasl_users_are_known_to_zookeeper_on_every_connection(
    secure_zookeeper: ZooKeeperServer, open_client: Open, record: Record, path: str, user: str, password: str
) -> None:
    async with FaultProxy(secure_zookeeper.hosts) as proxy:
        client = await open_client(proxy.hosts, auth=SaslDigestMd5(user, password), on_event=record)
        nobody = await open_client(secure_zookeeper.hosts)
        await client.create(path, b"data", acl=only("sasl", user))
        with pytest.raises(exc.NoAuth):
            await nobody.get(path)
        proxy.sever()
        await record.wait(ev.Reconnected)
        assert await client.get_data(path) == b"data"
        await client.delete(path)
        await client.close()


@pytest.mark.parametrize(
    "auth", [SaslDigestMd5("bob", "wrong"), SaslDigestMd5("nobody", "x")], ids=["password", "user"]
)
@pytest.mark.parametrize("kind", ["secure_zookeeper", "strict_zookeeper"])
async def test_zookeeper_refuses_wrong_sasl_credentials(
    request: pytest.FixtureRequest, kind: str, auth: Auth, record: Record
) -> None:
    server = request.getfixturevalue(kind)
    with pytest.raises(
        AuthenticationFailed, match=r"refused <SaslDigestMd5 of .*>: check that the credentials are right"
    ):
        await connect(server.hosts, auth=auth, timeout=10, on_event=record)
    assert [type(event) for event in record if not isinstance(event, ev.Unreachable)] == [ev.Closed]


@pytest.mark.parametrize(("auth", "not_"), [((), ""), (Digest("bob", "builder's"), ", and not <Digest of 'bob'>")])
async def test_a_zookeeper_that_demands_sasl_gives_no_session_without(
    strict_zookeeper: ZooKeeperServer, auth: Any, not_: str, record: Record
) -> None:
    with pytest.raises(AuthenticationFailed, match=f"demands credentials{not_}: pass auth with such as"):
        await connect(strict_zookeeper.hosts, auth=auth, timeout=10, on_event=record)
    assert [type(event) for event in record] == [ev.Closed]


async def test_a_zookeeper_that_wants_another_scheme() -> None:
    config = {"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}
    async with ZooKeeperServer(config=config) as server:
        with pytest.raises(AuthenticationFailed, match="demands credentials: pass auth with such as"):
            await connect(server.hosts, timeout=10)
        async with connect(server.hosts, auth=Digest("user", "x"), timeout=10) as client:
            assert await client.exists("/")


async def test_a_refused_password_is_not_asked_again_and_again(secure_zookeeper: ZooKeeperServer) -> None:
    async with FaultProxy(secure_zookeeper.hosts) as proxy:
        with pytest.raises(AuthenticationFailed):
            await connect(proxy.hosts, auth=SaslDigestMd5("bob", "wrong"), timeout=10)
        assert proxy.connections == 1


async def test_questions_are_asked_with_credentials_where_a_server_demands_them(
    strict_zookeeper: ZooKeeperServer, open_client: Open
) -> None:
    async with FaultProxy(strict_zookeeper.hosts) as proxy:
        client = await open_client(proxy.hosts, auth=bob())
        seen = len(proxy.requests)
        await client.session.probe_tick()
        assert client.session.timing.tick_time == pytest.approx(0.2)
        assert [request.opcode for request in proxy.requests[seen + 1 :]] == [SASL, SASL, CLOSE]
        for auth in (), (SaslDigestMd5("bob", "wrong"),):
            client.session._handshake._auth = auth
            await client.session.probe_tick()  # its session is left to expire
        client.session._handshake._auth = (bob(),)
        assert await client.exists("/")
        await client.close()


async def test_an_election_with_sasl_over_tls(
    strict_zookeeper: ZooKeeperServer, authority: Authority, record: Record, path: str
) -> None:
    us = authority.sign("worker@example.org")
    options: dict[str, Any] = {"auth": bob(), "ssl": True, "ssl_ca": authority.ca}
    options |= {"ssl_cert": us.cert, "ssl_key": us.key, "acl": "creator"}
    async with (
        FaultProxy(strict_zookeeper.secure_hosts, raw=True) as proxy,
        connect(proxy.hosts, session_timeout=3.0, on_event=record, **options) as client,
        connect(strict_zookeeper.secure_hosts, session_timeout=3.0, **options) as rival,
    ):
        await elect_twice(client, proxy, record, rival, path)
        acl = await client.get_acl(path)
        assert {entry.id.scheme for entry in acl} == {"sasl", "x509"}  # who we are by our certificate, too
        assert ("sasl", "bob") in {(entry.id.scheme, entry.id.id) for entry in acl}


async def test_a_leader_moves_to_another_member_of_zookeeper_over_tls_with_sasl(
    authority: Authority, open_client: Open, record: Record, path: str
) -> None:
    """Its session, and what it may do there, go with it."""
    tls = authority.server_tls(demands_certificate=False)
    async with ZooKeeperEnsemble(3, tls=tls, jaas=JAAS) as ensemble:
        trusting: dict[str, Any] = {"ssl": True, "ssl_ca": authority.ca, "auth": bob()}
        followers = [ensemble.members[index] for index in ensemble.followers()]
        hosts = ",".join(member.secure_hosts for member in followers)
        client = await open_client(hosts, on_event=record, **trusting)
        await client.create(path, b"data", acl=only("sasl", "bob"))
        session_id, conn = client.session.session_id, client.session.conn
        assert conn is not None
        async with aioelect.leadership(client, f"{path}-election") as leader:
            [member] = [member for member in followers if member.secure_hosts == conn.server]
            member.kill()
            await record.wait(ev.Reconnected)
            assert await client.get_data(path) == b"data"
            assert client.session.session_id == session_id
            leader.check()
        await client.close()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """Bob's, until it is changed."""
    file = tmp_path / "password"
    file.write_text("builder's\n")
    return file


def change(file: Path) -> None:
    file.write_text("changed")


async def test_credentials_that_are_valid_no_longer_cost_the_leadership(
    secure_zookeeper: ZooKeeperServer, open_client: Open, record: Record, password_file: Path, path: str
) -> None:
    async with FaultProxy(secure_zookeeper.hosts) as proxy:
        client = await open_client(proxy.hosts, auth=SaslDigestMd5("bob", password_file=password_file), on_event=record)
        with pytest.raises(aioelect.LeadershipLost) as lost:
            async with aioelect.leadership(client, path):
                change(password_file)
                proxy.sever()
                await asyncio.sleep(30)
        assert lost.value.reason is LossReason.AUTHENTICATION_FAILED
        assert "a server refused the client's credentials" in str(lost.value)
        with pytest.raises(AuthenticationFailed, match="refused <SaslDigestMd5 of 'bob'>"):
            await client.exists("/")
        await client.close()


async def test_credentials_that_are_valid_no_longer_end_the_waiting(
    secure_zookeeper: ZooKeeperServer, open_client: Open, password_file: Path, path: str
) -> None:
    leading = await open_client(secure_zookeeper.hosts)
    async with FaultProxy(secure_zookeeper.hosts) as proxy, aioelect.leadership(leading, path):
        client = await open_client(proxy.hosts, auth=SaslDigestMd5("bob", password_file=password_file))
        queued = Record()
        waiting = asyncio.create_task(lead(client, path, queued))
        await queued.wait(ev.Queued)
        change(password_file)
        proxy.sever()
        with pytest.raises(AuthenticationFailed, match="refused <SaslDigestMd5 of 'bob'>"):
            await asyncio.wait_for(waiting, 10)
        await client.close()


async def test_a_campaign_ends_with_its_credentials(
    secure_zookeeper: ZooKeeperServer, open_client: Open, password_file: Path, path: str
) -> None:
    async def work(leader: aioelect.Leader) -> None:
        change(password_file)
        proxy.sever()
        await asyncio.sleep(30)

    async with FaultProxy(secure_zookeeper.hosts) as proxy:
        client = await open_client(proxy.hosts, auth=SaslDigestMd5("bob", password_file=password_file))
        with pytest.raises(aioelect.LeadershipLost) as lost:
            await aioelect.campaign(client, path, work)
        assert lost.value.reason is LossReason.AUTHENTICATION_FAILED
        await client.close()
