"""What a guard saves when a leader's process is killed, by session timeout."""

from __future__ import annotations

import asyncio

from aioelect.testing.failover import FailoverMeter
from benchmarks.ensemble import MAX_SESSION_TIMEOUT
from benchmarks.report import Result
from benchmarks.setting import SESSION_TIMEOUT, Setting
from benchmarks.stats import format_seconds, percentile

METHOD = """`kill -9` of aioelect's leader: seconds from before the system call to the first line of the next leader, in
another process. No peer is here, since none has a guard, and without one nobody can know of a death before the session
timeout T is over: "Time without a leader" has all of them side by side. What a guard takes does not depend on T, hence the
two. It is measured with `aioelect.testing.FailoverMeter`, as [your own servers](../docs/measuring.md) can be. Median, and
worst in brackets."""


def run(setting: Setting) -> list[Result]:
    return asyncio.run(_run(setting))


async def _run(setting: Setting) -> list[Result]:
    places = {"one server": setting.server.hosts}
    if setting.ensemble is not None:
        places["three servers"] = setting.ensemble.hosts
    kills, deaths, alone = setting.some((1, 1, 4.0), (20, 2, SESSION_TIMEOUT))
    samples: dict[str, dict[str, list[float]]] = {place: {} for place in places}
    for place, hosts in places.items():
        for timeout in (SESSION_TIMEOUT, MAX_SESSION_TIMEOUT):
            found = await _kill(setting, hosts, timeout, kills, guard=True)
            samples[place][f"guard, T = {timeout:g} s"] = found
    # Without a guard everybody waits for the session timeout, and for nothing else: so they may do it together.
    waiting = (_kill(setting, hosts, alone, deaths, guard=False) for hosts in places.values())
    for place, found in zip(places, await asyncio.gather(*waiting), strict=True):
        samples[place][f"no guard, T = {alone:g} s"] = found
    columns = list(samples["one server"])
    rows = [[place, *(_describe(samples[place][column]) for column in columns)] for place in places]
    title = "kill -9, with a guard and without"
    return [Result("guard", title, METHOD, ["aioelect", *columns], rows, {"seconds": samples})]


async def _kill(setting: Setting, hosts: str, timeout: float, times: int, *, guard: bool) -> list[float]:
    async with FailoverMeter(hosts, session_timeout=timeout, guard=guard) as meter:
        what = "kill -9 with a guard" if guard else "kill -9 without a guard"
        return [await meter.kill() for _ in setting.track(what, times)]


def _describe(times: list[float]) -> str:
    return f"{format_seconds(percentile(times, 0.5))} ({format_seconds(max(times))})"
