"""The commands of ``aioelect``, joined."""

from __future__ import annotations

import click

from aioelect.cli.bench import bench
from aioelect.cli.demo import demo
from aioelect.cli.step_down import step_down

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aioelect", prog_name="aioelect", message="%(prog)s %(version)s")
def app() -> None:
    """Leader election for asyncio on Apache ZooKeeper.

    To see it at work, with nothing to install besides: aioelect demo
    """


app.add_command(bench)
app.add_command(demo)
app.add_command(step_down)
