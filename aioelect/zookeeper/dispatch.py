"""What is done with watch events: listeners are called, and a watch that somebody still needs is set again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiozk import protocol

from aioelect.zookeeper.connection import Answer
from aioelect.zookeeper.observers import guarded
from aioelect.zookeeper.watches import Kind, Watches

__all__ = ["Dispatch"]


class Dispatch:
    """Brings the events of one session to those who listen by ``watches``.

    ``send`` takes a request that sets a watch. It may drop it: the next connection sets all watches again.
    """

    def __init__(self, watches: Watches, send: Callable[[Any], None]) -> None:
        self._watches = watches
        self._send = send
        self._early: list[Any] = []
        self._asked: set[tuple[str, Kind]] = set()
        """The watches that are being set again on this connection: events that come meanwhile ask for no more."""

    def expect(self) -> None:
        """A connection begins: what is early on it is a batch of its own."""
        self._early.clear()

    def postpone(self, event: Any) -> None:
        """Keeps an event that came before the connection was ready: in the order of a list, not of time."""
        if event.path in self._watches:
            self._early.append(event)

    def catch_up(self) -> None:
        """The connection is ready: everything that was early is one batch."""
        early, self._early = self._early, []
        self._asked.clear()
        for event in early:
            self.happened(event)
        for path in self._watches.used_up():
            self._rearm(path)

    def happened(self, event: Any) -> None:
        """Calls those who listen, and sets again, soon, what the event has used up under others."""
        self._watches.fired(event.type, event.path)
        self._call(event.type, event.path)
        if self._watches.missing(event.path):
            asyncio.get_running_loop().call_soon(self._rearm, event.path)

    def answered(self, answer: Answer) -> None:
        """Notes the watch that a request has set, and calls those who listen for what its answer proves to have been missed."""
        if self._asked:
            self._asked.difference_update((getattr(answer.request, "path", None), kind) for kind in Kind)
        for event_type in self._watches.answered(answer.request, answer.record, answer.error):
            self._call(event_type, answer.request.path)

    def _call(self, event_type: int, path: str) -> None:
        for callback in self._watches.listening(event_type, path):
            with guarded("a watch callback"):
                callback(path)

    def _rearm(self, path: str) -> None:
        for kind in self._watches.missing(path):
            if (path, kind) in self._asked:
                continue
            self._asked.add((path, kind))
            request = protocol.GetChildren2Request if kind is Kind.CHILD else protocol.ExistsRequest
            self._send(request(path=path, watch=True))
