"""kazoo: ``client.Election(path).run(function)`` in a thread, as its documentation has it."""

from __future__ import annotations

import threading

from kazoo.client import KazooClient

from benchmarks.peers.player import Commands, now, parse_options, tell


def main() -> None:
    options = parse_options()
    client = KazooClient(hosts=options.hosts, timeout=options.session_timeout)
    client.start()
    commands = Commands()
    leave = threading.Event()

    def turn(leave: threading.Event) -> None:
        begun = 0.0

        def lead() -> None:
            nonlocal begun
            tell("leads", now())
            leave.wait()
            begun = now()

        try:
            client.Election(options.election).run(lead)
        except Exception as e:
            tell("failed", f"{type(e).__name__}: {e}".replace("\n", " "))
        else:
            tell("left", begun)

    tell("ready")
    while (words := commands.read()) is not None:
        for word in words:
            if word == "join":
                leave = threading.Event()
                threading.Thread(target=turn, args=(leave,), daemon=True).start()
            else:
                leave.set()
    client.stop()


if __name__ == "__main__":
    main()
