"""Kerberos, with a KDC of the test's own. Skipped without the package gssapi and Debian's krb5-kdc and krb5-admin-server."""

from __future__ import annotations

import contextlib
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiozk import ACL

from aioelect import AuthenticationFailed, ConnectTimeout, Gssapi, connect
from aioelect.testing.embedded import EmbeddedServer
from aioelect.testing.proxy import FaultProxy
from aioelect.testing.zookeeper import ZooKeeperServer, free_ports

from .conftest import Open, Record, elect_twice

TOOLS = [shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("krb5kdc", "kdb5_util", "kadmin.local")]

KRB5_CONF = """
[libdefaults]
    default_realm = TEST.LOCAL
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    TEST.LOCAL = {{
        kdc = 127.0.0.1:{port}
    }}
"""

KDC_CONF = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    TEST.LOCAL = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/acl
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""

JAAS = """
Server {{
    com.sun.security.auth.module.Krb5LoginModule required
    useKeyTab=true storeKey=true useTicketCache=false
    keyTab="{folder}/server.keytab" principal="zookeeper/localhost@TEST.LOCAL";
}};
"""


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a KDC that knows zookeeper/localhost and worker, and of their keytabs; this process is the worker."""
    pytest.importorskip("gssapi")
    if None in TOOLS:
        pytest.skip("needs krb5kdc, kdb5_util and kadmin.local: apt-get install krb5-kdc krb5-admin-server")
    krb5kdc, kdb5_util, kadmin = map(str, TOOLS)
    folder = tmp_path_factory.mktemp("kerberos")
    [port] = free_ports(1)
    (folder / "krb5.conf").write_text(KRB5_CONF.format(port=port))
    (folder / "kdc.conf").write_text(KDC_CONF.format(port=port, folder=folder))
    with pytest.MonkeyPatch.context() as environment, contextlib.ExitStack() as stack:
        for name, file in (
            ("KRB5_CONFIG", "krb5.conf"),
            ("KRB5_KDC_PROFILE", "kdc.conf"),
            ("KRB5_CLIENT_KTNAME", "worker.keytab"),
            ("KRB5CCNAME", "tickets"),
        ):
            environment.setenv(name, str(folder / file))
        run = {"check": True, "capture_output": True}
        subprocess.run([kdb5_util, "create", "-s", "-r", "TEST.LOCAL", "-P", "master"], **run)  # type: ignore[call-overload]
        for principal, keytab in (("zookeeper/localhost", "server.keytab"), ("worker", "worker.keytab")):
            for order in (f"addprinc -randkey {principal}", f"ktadd -k {folder / keytab} {principal}"):
                subprocess.run([kadmin, "-q", order], **run)  # type: ignore[call-overload]
        kdc = stack.enter_context(
            subprocess.Popen([krb5kdc, "-n"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        )
        stack.callback(kdc.terminate)
        give_up = time.monotonic() + 10
        while not listens(port):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        yield folder


@pytest.fixture(scope="module")
def kerberized(realm: Path) -> Iterator[ZooKeeperServer]:
    """A real server that serves nobody without a ticket."""
    properties = {"java.security.krb5.conf": str(realm / "krb5.conf"), "zookeeper.sessionRequireClientSASLAuth": "true"}
    with ZooKeeperServer(jaas=JAAS.format(folder=realm), properties=properties) as server:
        yield server


async def test_an_election_with_kerberos_on_zookeeper(
    kerberized: ZooKeeperServer, open_client: Open, record: Record, path: str
) -> None:
    async with FaultProxy(kerberized.hosts) as proxy:
        client = await open_client(f"localhost:{proxy.port}", auth=Gssapi(), on_event=record)
        acl = [ACL.make("sasl", "worker@TEST.LOCAL", read=True, write=True, create=True, delete=True, admin=True)]
        await client.create(path, b"data", acl=acl)
        rival = await open_client(kerberized.hosts, auth=Gssapi("worker@TEST.LOCAL", host="localhost"))
        await elect_twice(client, proxy, record, rival, f"{path}-election")
        assert await client.get_data(path) == b"data"
        await client.close()


async def test_zookeeper_without_a_principal_of_that_name_is_not_believed(kerberized: ZooKeeperServer) -> None:
    with pytest.raises(
        ConnectTimeout, match=r"no ticket of the default principal for zookeeper@127\.0\.0\.1.*not found"
    ):
        await connect(kerberized.hosts, auth=Gssapi(), timeout=2)


async def test_a_zookeeper_without_kerberos_refuses_a_ticket(realm: Path, secure_zookeeper: ZooKeeperServer) -> None:
    with pytest.raises(AuthenticationFailed, match="has another login module than Krb5LoginModule"):
        await connect(secure_zookeeper.hosts, auth=Gssapi(host="localhost"), timeout=10)


async def test_a_server_without_jaas_is_not_taken_for_one_that_knows_us(realm: Path) -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(AuthenticationFailed, match="has no SASL"):
            await connect(server.hosts, auth=Gssapi(host="localhost"), timeout=10)


@pytest.mark.parametrize("offer", [b"\6\0\0\0", b"\1", b""])
def test_a_security_layer_is_refused(realm: Path, offer: bytes) -> None:
    """As is an offer that is none."""
    context = SimpleNamespace(unwrap=lambda _: SimpleNamespace(message=offer))
    with pytest.raises(ValueError, match="insists on a security layer"):
        Gssapi()._refuse_layers(context, b"")


def test_without_a_ticket_there_are_no_credentials(realm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", str(realm / "no-tickets"))
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(realm / "no-keytab"))
    with pytest.raises(ValueError, match="run kinit, or set KRB5_CLIENT_KTNAME"):
        Gssapi()


def test_credentials_are_not_pickled(realm: Path) -> None:
    with pytest.raises(TypeError, match="are not pickled"):
        pickle.dumps(Gssapi())


def test_kerberos_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aioelect\[gssapi\]'"):
        Gssapi()
