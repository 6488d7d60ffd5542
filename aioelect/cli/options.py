"""Options that several commands share: which servers, and who we are to them; and what is said when these say no."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aioelect.cli.text import clean
from aioelect.naming import check_path
from aioelect.testing.cluster import Cluster
from aioelect.testing.jute import Code, code_of
from aioelect.zookeeper.hosts import Hosts

__all__ = [
    "LONGEST",
    "TIME_LIMIT",
    "check_hosts",
    "check_path_option",
    "identity",
    "make_cluster",
    "required_hosts",
    "session_timeout",
    "tell_error",
]

SHORTEST, LONGEST = 0.5, 60.0
"""Session timeouts, seconds, that may be asked for. In less, an ordinary pause of a busy machine looks like a death."""

F = TypeVar("F", bound=Callable[..., Any])


def check_hosts(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """For ``callback``: refuses what is no hosts string."""
    if value is not None:
        try:
            Hosts.parse(value)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None
    return value


def check_path_option(what: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """For ``callback``: refuses what is no path of a znode; ``what`` it is for."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                check_path(value, what)
            except ValueError as e:
                raise click.BadParameter(str(e)) from None
        return value

    return check


class _Seconds(click.FloatRange):
    """An option's number of seconds, in a range. click's own range lets nan through, which compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses what is no number, and what is out of the range."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return number


TIME_LIMIT = _Seconds(min=0, min_open=True, max=86_400)
"""When to give up: some time, within a day."""


def session_timeout(default: float, help: str) -> Callable[[F], F]:
    """Adds the option of that name."""
    return click.option(
        "--session-timeout",
        type=_Seconds(min=SHORTEST, max=LONGEST),
        metavar="SECONDS",
        default=default,
        show_default=True,
        help=help,
    )


required_hosts = click.option(
    "--hosts", metavar="HOSTS", required=True, callback=check_hosts, help="Such as zk1:2181,zk2:2181/app."
)

_IDENTITY = (
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


def identity(command: F) -> F:
    """Adds the options that say who we are; the command gets them as keywords, and passes them to :func:`make_cluster`."""
    for option in reversed(_IDENTITY):
        command = option(command)
    return command


def make_cluster(hosts: str, **identity: Any) -> Cluster:
    """The servers, as the options of :func:`identity` say. Raises ``click.UsageError`` for what can't be."""
    try:
        return Cluster(hosts, **identity)
    except (ValueError, ModuleNotFoundError) as e:
        raise click.UsageError(clean(str(e))) from None


def tell_error(command: str, error: Exception) -> None:
    """One line on stderr, with what to do about it if that can be told."""
    is_refused = code_of(error) == Code.NO_AUTH
    hint = ": what is there is protected, give its credentials (--user or --cert)" if is_refused else ""
    click.echo(f"aioelect {command}: {clean(str(error))}{hint}", err=True)
