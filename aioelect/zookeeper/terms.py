"""The terms on which we have a session: its timeout, and the lease and the timing that follow. PURE: time is an argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from aioelect.lease import Lease
from aioelect.model import Timing

__all__ = ["Terms"]


class Terms:
    """What servers have granted, and what was learned of their tickTime. All times in seconds."""

    def __init__(self, timeout: float, derive: Callable[[float], Timing]) -> None:
        self.timeout = timeout
        """As granted by the last connection, or asked for."""
        self.lease = Lease()
        self.timing = derive(timeout)
        self._derive = derive
        self._learned_tick: float | None = None

    def check(self, timeout: float, *, is_new: bool) -> None:
        """Raises ``ValueError`` where no lease can be kept by the user's times if ``timeout`` was granted, to our session or to a
        new one; it says what to change."""
        self._derive(timeout if is_new else min(timeout, self.lease.session_timeout))

    def opened(self, sent: float, timeout: float) -> None:
        """A new session was granted by a connect request sent at ``sent``."""
        self.timeout = timeout
        self.lease.opened(sent, timeout)
        self._derive_timing()

    def resumed(self, sent: float, answered: float, timeout: float) -> None:
        """The session was resumed by a connect request sent at ``sent`` and answered at ``answered``."""
        self.timeout = timeout
        self.lease.resumed(sent, answered, timeout)
        self._derive_timing()

    @property
    def tick_is_stated(self) -> bool:
        """Whether the user has said what the servers' tickTime is."""
        return self._derive(self.timeout).tick_time < self.timeout / 2

    def learn_tick(self, tick_time: float) -> None:
        """A server's own bound of its tickTime; the largest that was ever learned counts."""
        self._learned_tick = max(tick_time, self._learned_tick or 0)
        self._derive_timing()

    def _derive_timing(self) -> None:
        timing = self._derive(self.lease.session_timeout)
        if self._learned_tick is not None and self._learned_tick < timing.tick_time:
            timing = dataclasses.replace(timing, tick_time=self._learned_tick)
        self.timing = timing
        self.lease.tick = timing.tick_time
        self.lease.margin = timing.margin
