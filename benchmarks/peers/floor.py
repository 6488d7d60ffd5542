"""The floor: blocking sockets, and nothing between ``recv`` and the first line of the leader but the parsing of one header."""

from __future__ import annotations

import select
import socket

from benchmarks.peers.player import Commands, now, parse_options, tell
from benchmarks.wire import Contest, connect_frame, ping_frame


def main() -> None:
    options = parse_options()
    host, _, port = options.hosts.partition(",")[0].rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    commands, begun = Commands(), 0.0
    contest = Contest(
        options.election,
        opened=lambda: tell("ready"),
        leads=lambda: tell("leads", now()),
        left=lambda: tell("left", begun),
    )
    sock.sendall(connect_frame(options.session_timeout))
    while True:
        sources = [sock.fileno(), 0] if contest.is_open else [sock.fileno()]
        readable, _, _ = select.select(sources, [], [], options.session_timeout / 3)
        if not readable:
            sock.sendall(ping_frame())
        if sock.fileno() in readable:
            data = sock.recv(65536)
            if not data:
                return
            if answer := contest.receive(data):
                sock.sendall(answer)
        if 0 in readable:
            words = commands.read()
            if words is None:
                return
            for word in words:
                if word == "join":
                    sock.sendall(contest.join())
                else:
                    frame = contest.leave()
                    begun = now()
                    sock.sendall(frame)


if __name__ == "__main__":
    main()
