"""Hosts strings: ``host:port,[ipv6]:port,.../chroot``, as ZooKeeper's own clients take them (``ConnectStringParser``)."""

from __future__ import annotations

from aioelect.naming import check_path
from aioelect.ports import Address
from aioelect.value import value

__all__ = ["DEFAULT_PORT", "Hosts"]

DEFAULT_PORT = 2181


@value
class Hosts:
    """The servers of one ensemble, and the path that all paths of a client are below ("" for none)."""

    servers: tuple[Address, ...]
    chroot: str = ""

    @classmethod
    def parse(cls, text: str) -> Hosts:
        """Blanks around the servers and empty parts (a trailing comma) are skipped, as ZooKeeper does.

        Raises ``ValueError`` that names the part it can't read.
        """
        if not isinstance(text, str):
            raise TypeError(f"hosts must be a str like 'zk1:2181,zk2:2181/app', not {text!r}")
        listed, slash, below = text.strip().partition("/")
        parts = [part.strip() for part in listed.split(",") if part.strip()]
        if not parts:
            raise ValueError(f"no host name in hosts {text!r}: give 'host:port,host:port'")
        servers = tuple(dict.fromkeys(_parse_server(part, text) for part in parts))
        return cls(servers, check_path(slash + below, "chroot in hosts") if below else "")

    def __str__(self) -> str:
        return ",".join(format_address(server) for server in self.servers) + self.chroot


def format_address(address: Address) -> str:
    """``host:port``, with the host in brackets where it has colons."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_server(part: str, text: str) -> Address:
    if part.startswith("["):
        host, bracket, rest = part[1:].partition("]")
        if not bracket or not (rest == "" or rest.startswith(":")):
            raise ValueError(
                f"can't read {part!r} in hosts {text!r}: an IPv6 address stands in brackets, as in '[::1]:2181'"
            )
        port = rest[1:]
    else:
        host, colon, port = part.partition(":")
        if ":" in port:
            raise ValueError(
                f"can't read {part!r} in hosts {text!r}: put an IPv6 address in brackets, as in '[::1]:2181'"
            )
        rest = colon + port
    if not host or any(c.isspace() or c in "@[]\\" for c in host):
        raise ValueError(f"no host name in {part!r} of hosts {text!r}: give 'host:port,host:port'")
    try:
        host.encode("idna")
    except UnicodeError as e:
        raise ValueError(f"{host!r} in hosts {text!r} can't be a host name: {e}") from e
    if rest == "":
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} in {part!r} of hosts {text!r} is no port: give a number from 1 to 65535")
    return host, int(port)
