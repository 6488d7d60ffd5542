"""Those who depend on a session, and how they are told what becomes of it: a mistake of one harms nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from aioelect import events
from aioelect.ports import Clock

__all__ = ["Observer", "Observers", "guarded"]

log = logging.getLogger("aioelect.session")


class Observer(Protocol):
    """What a session tells those who depend on it: synchronously, in this order, each thing once."""

    def session_suspended(self) -> None:
        """The connection ended; the session lives on as far as anyone knows."""

    def session_resumed(self) -> None:
        """The same session is connected again, and its watches are set."""

    def session_ended(self) -> None:
        """The session is over, with all its ephemeral znodes."""

    def session_opened(self) -> None:
        """A new session is connected."""

    def session_closed(self) -> None:
        """The session was closed by our side; nothing follows."""


class Observers:
    """Who observes, in the order in which they came, and the user's handler of events, whose times are by ``monotonic``."""

    def __init__(self, monotonic: Clock, on_event: events.OnEvent | None) -> None:
        self._monotonic = monotonic
        self._on_event = on_event
        self._observers: dict[Observer, None] = {}

    def __len__(self) -> int:
        return len(self._observers)

    def add(self, observer: Observer) -> None:
        """Tells ``observer`` what happens from now on."""
        self._observers[observer] = None

    def remove(self, observer: Observer) -> None:
        """Does nothing where it does not observe."""
        self._observers.pop(observer, None)

    def tell(self, what: Callable[[Observer], None]) -> None:
        """Calls ``what`` with those who still observe when their turn comes."""
        for observer in list(self._observers):
            if observer in self._observers:
                with guarded("what depends on a session"):
                    what(observer)

    def report(self, kind: Callable[..., events.ClientEvent], session_id: int | None, **facts: Any) -> None:
        """Hands an event on to the user's handler."""
        event = kind(at=self._monotonic(), session_id=session_id or 0, **facts)
        log.debug("%s", event)
        if self._on_event is not None:
            with guarded("an on_event handler"):
                self._on_event(event)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Around a call of somebody else's code: its error goes to the event loop's handler, and we go on.

    Nothing awaits there: a ``CancelledError`` is the result of something that was cancelled before.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError) as e:
        asyncio.get_running_loop().call_exception_handler({"message": f"aioelect: error in {what}", "exception": e})
