"""Hosts strings. What ZooKeeper's own parser makes of them was tried with ConnectStringParser of 3.8.0."""

from __future__ import annotations

from typing import Any

import pytest

from aioelect.ports import Address
from aioelect.zookeeper.hosts import DEFAULT_PORT, Hosts


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("zk1", [("zk1", DEFAULT_PORT)]),
        ("zk1:2182", [("zk1", 2182)]),
        ("zk1:1,zk2:65535", [("zk1", 1), ("zk2", 65535)]),
        ("10.0.0.1:2182,zk-2.example.org", [("10.0.0.1", 2182), ("zk-2.example.org", DEFAULT_PORT)]),
        ("[::1]:2182", [("::1", 2182)]),
        ("[::1]", [("::1", DEFAULT_PORT)]),
        ("[fe80::1%eth0]:2182,zk1", [("fe80::1%eth0", 2182), ("zk1", DEFAULT_PORT)]),
        (" zk1:2182 ,\tzk2 \n", [("zk1", 2182), ("zk2", DEFAULT_PORT)]),
        ("zk1,zk2,", [("zk1", DEFAULT_PORT), ("zk2", DEFAULT_PORT)]),
        (",zk1,,zk2", [("zk1", DEFAULT_PORT), ("zk2", DEFAULT_PORT)]),
        ("zk2,zk1,zk2:2181,zk1:2182", [("zk2", DEFAULT_PORT), ("zk1", DEFAULT_PORT), ("zk1", 2182)]),
    ],
)
@pytest.mark.parametrize("chroot", ["", "/app", "/app/x"])
def test_servers(text: str, servers: list[Address], chroot: str) -> None:
    assert Hosts.parse(text + chroot) == Hosts(tuple(servers), chroot)


@pytest.mark.parametrize("text", ["zk1/app", "zk1/app\n", "zk1:2181,zk2/app"])
def test_a_chroot_keeps_its_slash(text: str) -> None:
    assert Hosts.parse(text).chroot == "/app"


def test_a_lone_slash_is_no_chroot() -> None:
    assert Hosts.parse("zk1/").chroot == ""


@pytest.mark.parametrize(
    ("text", "part", "said"),
    [
        ("", "''", "no host name in hosts"),
        (" , ", "' , '", "no host name in hosts"),
        ("/app", "'/app'", "no host name in hosts"),
        (":2181", "':2181'", "no host name in"),
        ("zk1,:2181", "':2181'", "no host name in"),
        ("[]:2181", "'[]:2181'", "no host name in"),
        ("zk 1", "'zk 1'", "no host name in"),
        ("user@zk1", "'user@zk1'", "no host name in"),
        ("zk1]", "'zk1]'", "no host name in"),
        ("zk1:", "'zk1:'", "'' in 'zk1:'"),
        ("zk1:x", "'zk1:x'", "'x' in"),
        ("zk1,zk2:0", "'zk2:0'", "'0' in"),
        ("zk1:65536", "'zk1:65536'", "number from 1 to 65535"),
        ("zk1:-1", "'zk1:-1'", "'-1' in"),
        ("zk1:+1", "'zk1:+1'", "'+1' in"),
        ("zk1:1_0", "'zk1:1_0'", "'1_0' in"),
        ("zk1:٢١", "'zk1:٢١'", "'٢١' in"),
        ("http://zk1:2181", "'http:'", "'' in 'http:'"),
        ("::1", "'::1'", "brackets"),
        ("::1:2181,zk1", "'::1:2181'", "brackets"),
        ("zk1,[::1", "'[::1'", "brackets"),
        ("[::1]x", "'[::1]x'", "brackets"),
        ("[::1]2181", "'[::1]2181'", "brackets"),
        ("[::1]:", "'[::1]:'", "no port"),
        ("zk1/app/", "'/app/'", "chroot in hosts must not end with '/'"),
        ("zk1//app", "'//app'", "chroot in hosts must not have an empty part"),
        ("zk1/../app", "'/../app'", "chroot in hosts must not have '.' or '..'"),
    ],
)
def test_what_can_not_be_read_is_named(text: str, part: str, said: str) -> None:
    with pytest.raises(ValueError, match="host") as caught:
        Hosts.parse(text)
    assert part in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", [None, b"zk1", ["zk1"]])
def test_hosts_are_text(text: Any) -> None:
    with pytest.raises(TypeError, match="hosts must be a str like"):
        Hosts.parse(text)


@pytest.mark.parametrize("text", ["zk1", " zk1 , [::1]:5/app", "a:1,b:2,a:1"])
def test_the_text_of_hosts_is_read_as_the_same_hosts(text: str) -> None:
    hosts = Hosts.parse(text)
    assert Hosts.parse(str(hosts)) == hosts


def test_the_text_of_hosts() -> None:
    assert str(Hosts.parse("zk1,[::1]:5/app")) == "zk1:2181,[::1]:5/app"
