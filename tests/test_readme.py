"""Every example in the README runs, and every command in it is the one that is tested."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import textwrap
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from aioelect.testing.zookeeper import ZooKeeperServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def command(name: str) -> str:
    found = re.search(rf"^<!-- run: {name} -->\n```sh\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"no command named {name} in the README"
    return found[1]


def find_example(marker: str) -> str:
    (found,) = [example for example in examples() if marker in example]
    return found


async def run(code: str, *, until: bytes | None = None) -> str:
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", code, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    if until is not None:
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert until in line, line
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        return (line + out).decode()
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return out.decode()


def at(server: ZooKeeperServer, code: str) -> str:
    assert "127.0.0.1:2181" in code
    return code.replace("127.0.0.1:2181", server.hosts)


async def test_first_example_leads(zookeeper: ZooKeeperServer) -> None:
    await run(at(zookeeper, find_example('"/scheduler"')), until=b"leading, with fencing token")


async def test_client_and_campaign_example(zookeeper: ZooKeeperServer) -> None:
    out = await run(at(zookeeper, find_example("aioelect.campaign(")))
    assert re.fullmatch(r"worker-1 leads, proven for \d+\.\d s\ndone\nnobody leads\n", out), out


async def test_embedded_server_example() -> None:
    code = find_example("EmbeddedServer")
    await run(code + "\nimport asyncio\nasyncio.run(test_only_one_leads())\n")


def test_all_examples_are_tested() -> None:
    assert len(examples()) == 3


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "run: tests" in script
    assert "pytest" in command("tests")


def test_demo_command_is_the_one_that_is_tested() -> None:
    assert command("demo").endswith(".venv/bin/aioelect demo")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists(), textwrap.shorten(link, 80)
