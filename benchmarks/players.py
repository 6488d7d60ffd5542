"""Players as the one who measures sees them: processes that are told to join and to leave, and pairs of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aioelect.testing.zookeeper import ZooKeeperServer
from benchmarks.systems import System, environment
from benchmarks.wire import RawClient

__all__ = ["ROOT", "Lookout", "Pair", "Player", "Silent", "pair_notes", "settle"]

ROOT = Path(__file__).parent.parent

PATIENCE = 20.0
"""Seconds after which a player will not say any more what is waited for."""

SETTLE = 0.005
"""Seconds for everybody to fall asleep once the last watch is set."""


def settle() -> None:
    """Lets everybody fall asleep."""
    time.sleep(SETTLE)


class Silent(Exception):
    """A player did not say what was waited for."""


class Player:
    """A contender's process. Nothing it says is read before it is asked for, so that it wakes nobody up while it is measured."""

    def __init__(self, system: System, hosts: str, election: str, session_timeout: float) -> None:
        self.system = system
        stdin, self._input = os.pipe()
        self._output, stdout = os.pipe()
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(*system.command(), "--hosts", hosts, "--election", election),
                *("--session-timeout", str(session_timeout)),
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )
        os.close(stdin)
        os.close(stdout)
        self._buffer = b""
        self._said: list[tuple[str, str]] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, word: str) -> None:
        try:
            os.write(self._input, f"{word}\n".encode())
        except BrokenPipeError:
            raise Silent(f"{self.system.title}: it ended with status {self._process.wait()}") from None

    def expect(self, word: str, within: float = PATIENCE) -> float:
        """Waits until it says ``word``, and returns the time that goes with it. What it says before is dropped."""
        end = time.monotonic() + within
        while True:
            while self._said:
                said, value = self._said.pop(0)
                if said == word:
                    return float(value or 0)
                if said == "failed":
                    raise Silent(f"{self.system.title}: {value}")
            if not select.select([self._output], [], [], max(0, end - time.monotonic()))[0]:
                raise Silent(f"{self.system.title}: no {word!r} within {within:g} s")
            data = os.read(self._output, 65536)
            if not data:
                raise Silent(f"{self.system.title}: it ended with status {self._process.wait()}")
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                said, _, value = line.decode().partition(" ")
                self._said.append((said, value.strip()))

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def dismiss(self) -> None:
        """Lets it end, which takes a while."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def close(self, within: float = 5.0) -> None:
        """Waits until it has ended, and kills it when that takes too long."""
        self.dismiss()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within)
        self.kill()
        os.close(self._output)


class Lookout:
    """Knows from the servers, not from the players, when a contender watches the leader. It needs ``wchp``."""

    def __init__(self, servers: Sequence[ZooKeeperServer]) -> None:
        self._servers = servers
        self._client = RawClient(servers[0].hosts, 40.0)

    def close(self) -> None:
        self._client.__exit__()

    def _watchers(self, path: str) -> set[int]:
        found: set[int] = set()
        for server in self._servers:
            inside = False
            for line in server.ask("wchp").splitlines():
                if not line.startswith("\t"):
                    inside = line.strip() == path
                elif inside:
                    found.add(int(line.strip(), 16))
        return found

    def wait_watched(self, election: str, within: float = PATIENCE) -> None:
        """Returns when the leader's znode is watched by somebody else, and things have settled."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            names = sorted(self._client.children(election), key=lambda name: name[-10:])
            if len(names) > 1:
                leader = f"{election}/{names[0]}"
                owner = self._client.owner(leader) % 2**64
                if owner and self._watchers(leader) - {owner}:
                    settle()
                    return
            time.sleep(0.001)
        raise Silent(f"nobody came to watch the leader of {election} within {within:g} s")

    def wait_contenders(self, election: str, count: int, within: float = PATIENCE) -> None:
        """Returns when so many znodes stand in the queue."""
        end = time.monotonic() + within
        while len(self._client.children(election)) != count:
            if time.monotonic() > end:
                raise Silent(f"{election} did not come to {count} contenders within {within:g} s")
            time.sleep(0.002)


class Pair:
    """Two players of one election: one leads, one waits. A context manager."""

    def __init__(
        self, system: System, hosts: Sequence[str], election: str, session_timeout: float, lookout: Lookout
    ) -> None:
        self.system = system
        self.election = election
        self.failures: list[str] = []
        self._hosts = hosts
        self._session_timeout = session_timeout
        self._lookout = lookout
        self.leader, self.waiter = self._start(0), self._start(1)

    def _start(self, seat: int) -> Player:
        return Player(self.system, self._hosts[seat % len(self._hosts)], self.election, self._session_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.dismiss()
        for player in (self.waiter, self.leader):
            player.close()

    def dismiss(self) -> None:
        """Lets both end, which takes a while."""
        for player in (self.waiter, self.leader):
            player.dismiss()

    def begin(self) -> None:
        """Returns when one leads, and the other watches it."""
        for player in (self.leader, self.waiter):
            player.expect("ready")
        self.leader.tell("join")
        self.leader.expect("leads")
        self._queue_up()

    def _queue_up(self) -> None:
        self.waiter.tell("join")
        self._lookout.wait_watched(self.election)

    def hand_over(self) -> float:
        """Seconds from the call that releases leadership, in one process, to the first line of the next leader, in the other.

        Nobody but these two and the servers has anything to do meanwhile. The one that has left queues up again.
        """
        self.leader.tell("leave")
        led = self.waiter.expect("leads")
        left = self.leader.expect("left")
        self.leader, self.waiter = self.waiter, self.leader
        return led - left

    def again(self) -> None:
        """Who has left queues up again."""
        self._queue_up()

    def restart(self, why: str) -> None:
        """New processes, after a failure."""
        self.failures.append(why)
        for player in (self.waiter, self.leader):
            player.kill()
            player.close()
        self._lookout.wait_contenders(self.election, 0, within=3 * self._session_timeout)
        self.leader, self.waiter = self._start(0), self._start(1)
        self.begin()


def pair_notes(pairs: Sequence[Pair]) -> list[str]:
    """What went wrong."""
    return [f"{pair.system.title}: {len(pair.failures)} failed ({pair.failures[0]})" for pair in pairs if pair.failures]
