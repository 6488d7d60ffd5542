"""A process with a guard and nothing else: ``python -m tests.guard.bare WILL``, a JSON object; tells its guard's process id.

``--without-pidfd``: as where the kernel has none. ``--without-stdio``: the standard descriptors are free, as in some daemons.
"""

import asyncio
import json
import os
import sys

from aioelect.guard import parent


async def main(will: str, *options: str) -> None:
    if "--without-pidfd" in options:
        parent._open_pidfd = lambda pid: -1
    out = os.dup(1)
    if "--without-stdio" in options:
        os.closerange(0, 3)
    said = json.loads(will)
    tls = said["tls"] and parent.TlsFiles(**said["tls"])
    guard = parent.Guard(True)
    guard.start()
    greeting, farewell = (bytes.fromhex(said[name]) for name in ("greeting", "farewell"))
    servers = [(host.encode(), port, name.encode()) for host, port, name in said["servers"]]
    guard.bequeath(parent.Will(greeting, None, farewell, servers, said["patience"], tls))
    while guard.pid is None:
        await asyncio.sleep(0)
    os.write(out, b"%d\n" % guard.pid)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
