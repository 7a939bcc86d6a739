"""The process: `python -m local_aws.data_plane --listen FD --control FD --clock-speed N`, by local_aws.hosting only."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import socket
from typing import Any

from local_aws.data_plane.listener import Client
from local_aws.data_plane.permits import Permits
from local_aws.data_plane.plane import Plane

MINUTE = 60.0  # AWS's seconds between two publications of metrics
SHORTEST_MINUTE = 0.05  # seconds, however fast the clock is
CHECK_INTERVAL = 0.1  # seconds


class Control(asyncio.Protocol):
    """Messages from and to local_aws.hosting: JSON, one a line. When it is gone, so are we.

    Args:
        clock_speed: how many of AWS's seconds pass in one here.
        enforce_iam: whether the server is asked who may invoke what.
        told: is set once everything that there is was told: clients wait until then.
        ended: is set when nothing more will come.
    """

    def __init__(self, clock_speed: float, enforce_iam: bool, told: asyncio.Event, ended: asyncio.Event) -> None:
        self.plane = Plane(self.say, clock_speed, permits=Permits(self.say) if enforce_iam else None)
        self._told, self._ended = told, ended
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def say(self, kind: str, **content: Any) -> None:
        self._transport.write(json.dumps({"say": kind, **content}).encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["do"] == "listen":
                self._told.set()
            else:
                self.plane.act(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()
        self._told.set()


async def serve(listener: socket.socket, control: socket.socket, clock_speed: float, enforce_iam: bool) -> None:
    """Answer requests until the control connection ends."""
    loop = asyncio.get_running_loop()
    told, ended = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C in a terminal is the server's to act on
    _, protocol = await loop.create_connection(lambda: Control(clock_speed, enforce_iam, told, ended), sock=control)
    plane = protocol.plane
    await told.wait()
    # One backlog of connections is as good as another: the listener is the server's and listens already.
    server = await loop.create_server(lambda: Client(plane), sock=listener, backlog=1024)
    regular = [
        loop.create_task(_regularly(plane.publish, max(SHORTEST_MINUTE, MINUTE / clock_speed))),
        loop.create_task(_regularly(plane.check, CHECK_INTERVAL)),
    ]
    await ended.wait()
    for task in regular:
        task.cancel()
    server.close()


async def _regularly(function: Any, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        function()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="file descriptor of the listening socket")
    parser.add_argument("--control", type=int, required=True, help="file descriptor of the socket to local_aws.hosting")
    parser.add_argument("--clock-speed", type=float, required=True)
    parser.add_argument("--enforce-iam", action="store_true", help="ask IAM before an endpoint is invoked")
    arguments = parser.parse_args()
    # A descriptor for each client and each request under way.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))
    listener, control = socket.socket(fileno=arguments.listen), socket.socket(fileno=arguments.control)
    asyncio.run(serve(listener, control, arguments.clock_speed, arguments.enforce_iam))


if __name__ == "__main__":
    main()
