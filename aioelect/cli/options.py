"""Options that several commands share: which servers, and who we are to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import click

import aioelect
from aioelect.cli.text import clean
from aioelect.naming import check_path
from aioelect.zookeeper.hosts import Hosts

__all__ = ["check_election", "check_hosts", "connect", "connection"]

SESSION_TIMEOUT = 2.0
"""Seconds, or what the servers grant: what a command has made goes so long after it, should it die."""

F = TypeVar("F", bound=Callable[..., Any])


def check_hosts(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """For ``callback``: refuses what is no hosts string."""
    if value is not None:
        try:
            Hosts.parse(value)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
    return value


def check_election(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """For ``callback``: refuses what is no path of an election."""
    try:
        return check_path(value, "election path")
    except ValueError as e:
        raise click.BadParameter(str(e)) from None


_OPTIONS = (
    click.option(
        "--hosts", metavar="HOSTS", required=True, callback=check_hosts, help="Such as zk1:2181,zk2:2181/app."
    ),
    click.option("--tls", is_flag=True, help="Speak TLS, and trust the system's CAs or that of --ca."),
    click.option("--ca", metavar="FILE", help="The CAs to trust, PEM."),
    click.option("--cert", metavar="FILE", help="Our certificate, PEM."),
    click.option("--key", metavar="FILE", help="Its key, PEM."),
    click.option("--server-hostname", metavar="NAME", help="What the servers' certificates must be for."),
    click.option("--user", metavar="NAME", help="Authenticate as this user, by ZooKeeper's digest scheme."),
    click.option("--sasl", is_flag=True, help="Authenticate by SASL DIGEST-MD5 instead."),
    click.option("--password-file", metavar="FILE", help="Where the user's password stands."),
    click.option("--password-env", metavar="NAME", help="Or the environment variable that holds it."),
)


def connection(command: F) -> F:
    """Adds the options; the command gets them as keywords, and passes them to :func:`connect`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def connect(
    hosts: str,
    timeout: float,
    *,
    tls: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    server_hostname: str | None,
    user: str | None,
    sasl: bool,
    password_file: str | None,
    password_env: str | None,
) -> AbstractAsyncContextManager[aioelect.Client]:
    """A client as the options of :func:`connection` say. Raises ``click.UsageError`` for what can't be."""
    if user is None and (sasl or password_file or password_env):
        raise click.UsageError("a password is of no use without a name: give --user as well")
    kind = aioelect.SaslDigestMd5 if sasl else aioelect.Digest
    try:
        return aioelect.connect(
            hosts,
            session_timeout=SESSION_TIMEOUT,
            timeout=timeout,
            ssl=True if tls else None,
            ssl_ca=ca,
            ssl_cert=cert,
            ssl_key=key,
            server_hostname=server_hostname,
            auth=() if user is None else kind(user, password_file=password_file, password_env=password_env),
        )
    except (ValueError, ModuleNotFoundError) as e:
        raise click.UsageError(clean(str(e))) from None
