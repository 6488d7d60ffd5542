"""Who takes part, and how its players are started."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aioelect.testing.zookeeper import find_zookeeper

__all__ = ["FLOOR", "SYSTEMS", "Missing", "System", "available", "environment"]

HERE = Path(__file__).parent
JARS = Path("/usr/share/java")


class Missing(Exception):
    """It can't take part here; the message says what to install."""


@dataclass(frozen=True)
class System:
    """``prefix`` makes the name of a znode that it takes for a contender of its own kind, up to the sequence number."""

    name: str
    title: str
    module: str
    colour: str
    prefix: Callable[[], str] = field(default=lambda: "n_")
    variant: str = ""
    needs: Sequence[str] = ()
    is_raw: bool = False
    """Only the fastest possible exchange of messages: no library, no recovery from anything."""
    is_for_kills: bool = False
    """Differs from another system when its process is killed, and never else."""

    @property
    def is_ours(self) -> bool:
        return self.module == "benchmarks.peers.ours"

    def command(self) -> list[str]:
        """The player's, without options. Raises ``Missing``."""
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                raise Missing(f"{self.title}: {package} is not installed (pip install --group bench)")
        command = _curator() if self.module == "CuratorPlayer" else [sys.executable, "-m", self.module]
        return [*command, *(("--variant", self.variant) if self.variant else ())]


def _hex(form: str) -> Callable[[], str]:
    return lambda: form.format(uuid.uuid4().hex)


def _uuid(form: str) -> Callable[[], str]:
    return lambda: form.format(uuid.uuid4())


FLOOR = System("floor", "floor: raw sockets", "benchmarks.peers.floor", "#8c8c8c", is_raw=True)

SYSTEMS = (
    FLOOR,
    System("bare", "bare asyncio", "benchmarks.peers.bare", "#b8b8b8", is_raw=True),
    System("aioelect", "aioelect", "benchmarks.peers.ours", "#d1495b"),
    System("uvloop", "aioelect, uvloop", "benchmarks.peers.ours", "#edae49", variant="uvloop", needs=["uvloop"]),
    System("guard", "aioelect, guard", "benchmarks.peers.ours", "#8d1f32", variant="guard", is_for_kills=True),
    System("aiozk", "aiozk LeaderElection", "benchmarks.peers.stock", "#00798c", _hex("candidate-{}-")),
    System("kazoo", "kazoo Election", "benchmarks.peers.threads", "#30638e", _hex("{}__lock__"), needs=["kazoo"]),
    System("latch", "Curator LeaderLatch", "CuratorPlayer", "#6a994e", _uuid("_c_{}-latch-"), variant="latch"),
    System("selector", "Curator LeaderSelector", "CuratorPlayer", "#a7c957", _uuid("_c_{}-lock-"), variant="selector"),
)


@functools.cache
def _curator() -> list[str]:
    """Compiles the Java player, once."""
    javac = shutil.which("javac")
    if javac is None:
        raise Missing("Curator: there is no javac on the PATH (apt-get install default-jdk-headless)")
    names = ("curator-recipes", "curator-framework", "curator-client", "guava", "slf4j-nop")
    jars = [JARS / f"{name}.jar" for name in names]
    lacking = [jar.name for jar in jars if not jar.exists()]
    if lacking:
        raise Missing(f"Curator: no {', '.join(lacking)} in {JARS} (apt-get install libcurator-recipes-java)")
    classpath = ":".join([_classes.name, *map(str, jars), find_zookeeper()])
    source = HERE / "peers" / "CuratorPlayer.java"
    compiled = subprocess.run(
        [javac, "-nowarn", "-cp", classpath, "-d", _classes.name, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if compiled.returncode:
        raise Missing(f"Curator: javac refused the player: {compiled.stderr.strip()}")
    jvm = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Dzookeeper.sasl.client=false")
    return ["java", *jvm, "-cp", classpath, "CuratorPlayer"]


_classes = tempfile.TemporaryDirectory(prefix="aioelect-benchmarks-")


@functools.cache
def environment() -> dict[str, str]:
    """Of players: byte code is cached, as where a library is installed, and in a place that leaves no trace."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": f"{_classes.name}/python"}


def available(names: Sequence[str] | None = None) -> tuple[list[System], list[str]]:
    """The systems that can take part, of those with these names or of all; and why the others can't."""
    found: list[System] = []
    why: list[str] = []
    for system in SYSTEMS:
        if names is None or system.name in names:
            try:
                system.command()
            except Missing as e:
                why.append(str(e))
            else:
                found.append(system)
    return found, list(dict.fromkeys(why))
