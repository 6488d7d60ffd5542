"""What the demo's audience sees: a live table on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aioelect.cli.text import clean, count, describe, seconds
from aioelect.cli.verdict import Kind, Summary, Takeover
from aioelect.cli.worker import State, Worker

__all__ = ["LiveScreen", "PlainScreen", "Silence", "show_summary"]

FRAMES = 10
"""Frames a second."""

_STYLES = {
    State.LEADING: "bold green",
    State.NEXT: "cyan",
    State.STANDING_DOWN: "yellow",
    State.KILLED: "bold red",
    State.ENDED: "bold red",
    State.STARTING: "dim",
    State.JOINING: "dim",
}


def explain(kind: Kind, leader: str, session_timeout: float, *, silently: bool) -> str:
    """What is done to ``leader``, and what is to be expected of it."""
    match kind:
        case Kind.RESIGN:
            return (
                f"{leader} resigns. It deletes its znode, and ZooKeeper tells exactly one contender, the next in line."
            )
        case Kind.KILL:
            return (
                f"{leader} is killed (kill -9). It can't say goodbye, so ZooKeeper waits for it "
                f"until its session times out: {session_timeout:g} s."
            )
        case Kind.CUT:
            how = "packets vanish" if silently else "connections are closed and refused"
            return (
                f"{leader}'s network is cut ({how}). It can't prove its leadership any more and stops by itself, "
                f"before its session times out after {session_timeout:g} s and another leads."
            )


class Silence:
    """Shows nothing: for programs that want the summary alone."""

    breath = 0.0

    async def __aenter__(self) -> Silence:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def meet(self, workers: Sequence[Worker]) -> None:
        pass

    def hear(self, worker: Worker, event: dict[str, Any]) -> None:
        pass

    def begin_round(self, number: int, rounds: int) -> None:
        pass

    def see_cause(self, kind: Kind, leader: Worker, *, silently: bool) -> None:
        pass

    def see_takeover(self, takeover: Takeover, began: float) -> None:
        pass

    def end(self) -> None:
        pass


class PlainScreen(Silence):
    """One line for each thing that happens, with the seconds since the beginning."""

    def __init__(self, console: Console, title: str, session_timeout: float) -> None:
        self._console = console
        self._title = title
        self._session_timeout = session_timeout
        self._began = time.monotonic()

    def _say(self, at: float, text: str) -> None:
        self._print(f"{at - self._began:7.2f} s  {text}")

    def _print(self, line: str = "") -> None:
        self._console.print(Text(line), soft_wrap=True)

    def meet(self, workers: Sequence[Worker]) -> None:
        self._print(self._title)

    def hear(self, worker: Worker, event: dict[str, Any]) -> None:
        if (told := describe(event)) is not None:
            self._say(event["at"], f"{worker.identity} {told}")

    def begin_round(self, number: int, rounds: int) -> None:
        self._print()
        self._print(f"Round {number} of {rounds}")

    def see_cause(self, kind: Kind, leader: Worker, *, silently: bool) -> None:
        self._print()
        self._say(time.monotonic(), explain(kind, leader.identity, self._session_timeout, silently=silently))

    def see_takeover(self, takeover: Takeover, began: float) -> None:
        line = f"{takeover.after} leads {seconds(began - takeover.at)} after the {takeover.kind.describe()}"
        if takeover.kind is Kind.CUT:
            line += f"; {takeover.before} had stopped {seconds(began - takeover.stopped)} earlier"
        self._say(began, line)


class LiveScreen(Silence):
    """Who leads and who waits, now, with the takeovers so far below."""

    breath = 1.0

    def __init__(self, console: Console, title: str, session_timeout: float) -> None:
        self._console = console
        self._title = title
        self._session_timeout = session_timeout
        self._workers: Sequence[Worker] = ()
        self._takeovers: list[tuple[Takeover, float]] = []
        self._round = ""
        self._cause = "The contenders start and queue up."
        # Without a thread: it would compete with the server and the proxies for the interpreter.
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._frame)
        self._painting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LiveScreen:
        self._live.start()
        self._painting = asyncio.create_task(self._paint())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Leaves the last picture standing."""
        if self._painting is not None:
            self._painting.cancel()
        self._live.stop()

    def meet(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def begin_round(self, number: int, rounds: int) -> None:
        self._round = f"Round {number} of {rounds}"
        self._cause = "All are in place: one leads, the others sleep until the one before them goes."

    def see_cause(self, kind: Kind, leader: Worker, *, silently: bool) -> None:
        self._cause = explain(kind, leader.identity, self._session_timeout, silently=silently)

    def see_takeover(self, takeover: Takeover, began: float) -> None:
        self._takeovers.append((takeover, began))

    async def _paint(self) -> None:
        while True:
            self._live.refresh()
            await asyncio.sleep(1 / FRAMES)

    def _frame(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self._title, "bold"), self._contenders()]
        scene = Text.assemble((self._round, "bold"), "  " if self._round else "", self._cause)
        parts.append(Padding(scene, (0, 0, 1, 1)))
        if self._takeovers:
            parts.append(self._log())
        return Group(*parts)

    def _contenders(self) -> Table:
        table = Table("contender", expand=True, box=box.ROUNDED)
        table.add_column("pid", justify="right")
        table.add_column("state", ratio=1)
        table.add_column("token", justify="right")
        table.add_column("since", justify="right", width=8)
        now = time.monotonic()
        for worker in self._workers:
            style = "yellow" if worker.cut else _STYLES.get(worker.state, "")
            table.add_row(
                worker.identity,
                str(worker.pid or ""),
                self._state_of(worker, now),
                "" if worker.token is None else f"{worker.token:#x}",
                f"{now - worker.since:.1f} s",
                style=style,
            )
        return table

    def _state_of(self, worker: Worker, now: float) -> str:
        state = worker.state.value
        if worker.state is State.LEADING and worker.proven_until > worker.since:
            state += f", proven for {max(0.0, worker.proven_until - now):.1f} s"
        elif worker.state in (State.WAITING, State.NEXT):
            state = self._place_of(worker)
        elif worker.state is State.KILLED:
            state += "; ZooKeeper does not know yet"
        elif worker.cut:
            state = "leads no longer; ZooKeeper does not know yet"
        return f"CUT OFF, {state}" if worker.cut else state

    def _place_of(self, worker: Worker) -> str:
        """Tokens are given in the order of the queue; what is before the newest leader is gone."""
        tokens = [each.token for each in self._workers if each.token is not None]
        leading = max((each.token or 0 for each in self._workers if each.state is State.LEADING), default=0)
        before = sum(leading <= token < (worker.token or 0) for token in tokens)
        return State.NEXT.value if before == 1 else f"{State.WAITING.value}, {count(before)} before it"

    def _log(self) -> Table:
        table = Table("takeover after", "from -> to", box=None, padding=(0, 2, 0, 1), header_style="dim")
        table.add_column("latency", justify="right")
        table.add_column("nobody led for", justify="right")
        room = max(3, self._console.height - len(self._workers) - 12)
        for takeover, began in self._takeovers[-room:]:
            table.add_row(
                takeover.kind.describe(),
                f"{takeover.before} ({takeover.token_before:#x}) -> {takeover.after} ({takeover.token_after:#x})",
                Text(seconds(began - takeover.at), "bold"),
                seconds(began - takeover.stopped),
            )
        return table


def show_summary(console: Console, summary: Summary, session_timeout: float) -> None:
    """The takeovers by kind, and the verdict."""
    table = Table("takeover after", box=box.ROUNDED, title="Summary", title_justify="left", title_style="bold")
    for heading in ("happened", "median latency", "worst latency", "shortest gap"):
        table.add_column(heading, justify="right")
    for each in summary.by_kind:
        missing = each.count < each.expected
        table.add_row(
            each.kind.describe(),
            Text(f"{each.count} of {each.expected}", "bold red" if missing else ""),
            *("" if value is None else seconds(value) for value in (each.median, each.worst, each.shortest_gap)),
        )
    console.print()
    console.print(table)
    console.print(
        f"A leader that resigns hands over at once. One that was killed or cut off is given {session_timeout:g} s, the session "
        "timeout, to come back. In the gap nobody leads.",
        highlight=False,
    )
    console.print(
        f"Leadership intervals recorded: {summary.intervals}; overlapped: {summary.overlaps}.", highlight=False
    )
    if summary.ok:
        console.print(Text("Every takeover happened, nobody led beside another, and tokens grew.", "bold green"))
    for problem in summary.problems:
        console.print(Text(f"Problem: {clean(problem)}", "bold red"), soft_wrap=True)
