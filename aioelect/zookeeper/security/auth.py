"""What every kind of credentials is: a name to show, and a way to convince a server of it."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NoReturn

__all__ = ["Ask", "Auth", "check_auth"]

Ask = Callable[[Any], Awaitable[Any]]
"""Sends a request on the new connection and gives its ``Reply``. Raises what ZooKeeper answers, and ``ConnectionLoss``."""


class Auth(abc.ABC):
    """Credentials, used on every connection before anything else. They show their user and nothing more, and can't be pickled."""

    __slots__ = ("user",)

    is_sasl: ClassVar[bool] = False
    """Such go first, as ZooKeeper's own client has it, and there is one at most."""

    def __init__(self, user: str) -> None:
        self.user = user

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.user!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled or copied: make them where they are needed")

    @abc.abstractmethod
    async def authenticate(self, ask: Ask, server: str, host: str) -> None:
        """Convinces ``server`` (``address:port``), whose ``host`` the user wrote so in the hosts string.

        Raises ``AuthenticationFailed``; ``OSError`` where we ourselves lack something now that may come.
        """


def check_auth(auth: Auth | Sequence[Auth]) -> tuple[Auth, ...]:
    """What ``auth=`` says, in the order in which it is used. Raises ``TypeError`` and ``ValueError``, which show no secret."""
    listed = (auth,) if isinstance(auth, Auth) else tuple(auth)
    for each in listed:
        if not isinstance(each, Auth):
            raise TypeError(f"auth takes credentials like aioelect.Digest(user, password), not a {type(each).__name__}")
    if sum(each.is_sasl for each in listed) > 1:
        raise ValueError("auth has two kinds of SASL credentials, but a connection has one SASL user: choose one")
    return tuple(sorted(listed, key=lambda each: not each.is_sasl))
