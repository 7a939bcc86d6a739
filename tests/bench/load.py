"""A closed loop of clients that send the same HTTP request again and again: the load tool of the benchmarks.

One thread waits for all connections at once and does nothing but compare lengths, so that it costs little beside the
servers that it measures. Run as a script it is a process of its own: `python load.py HOST PORT CLIENTS SECONDS`, the
request's bytes on standard input, {"rate", "p50", "p99", "errors"} on standard output.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """rate: answers a second; p50, p99: milliseconds; errors: answers that were not 200."""

    rate: float
    p50: float
    p99: float
    errors: int


def http_request(target: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body


def put_load(port: int, request: bytes, clients: int = 8, seconds: float = 2.0) -> Load:
    """Send the request from so many keep-alive connections for so long, from a process of its own."""
    command = [sys.executable, "-S", __file__, "127.0.0.1", str(port), str(clients), str(seconds)]
    ended = subprocess.run(command, input=request, stdout=subprocess.PIPE, check=True)
    return Load(**json.loads(ended.stdout))


def main() -> None:
    host, port, clients, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    request = sys.stdin.buffer.read()
    latencies: list[float] = []
    errors = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            stream = socket.create_connection((host, port))
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(stream, selectors.EVENT_READ, [stream, b"", 0.0])
        started = time.perf_counter()
        for key in selector.get_map().values():
            key.data[2] = time.perf_counter()
            key.data[0].sendall(request)
        until = started + seconds
        while (now := time.perf_counter()) < until:
            for key, _ in selector.select(1.0):
                connection = key.data
                data = connection[0].recv(1 << 18)
                if not data:
                    raise ConnectionError(f"the server closed a connection after {connection[1][:200]!r}")
                connection[1] += data
                head, separator, rest = connection[1].partition(b"\r\n\r\n")
                if not separator or len(rest) < _length(head):
                    continue
                now = time.perf_counter()
                latencies.append(now - connection[2])
                errors += not head.startswith(b"HTTP/1.1 200")
                connection[1], connection[2] = b"", now
                connection[0].sendall(request)
    elapsed = now - started
    cuts = statistics.quantiles(latencies, n=100)
    result = Load(len(latencies) / elapsed, 1000 * cuts[49], 1000 * cuts[98], errors)
    print(json.dumps(result.__dict__))


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        raise ValueError(f"an answer without Content-Length: {head[:300]!r}")
    return int(lower[at + 15 :].partition(b"\r\n")[0])


if __name__ == "__main__":
    main()
