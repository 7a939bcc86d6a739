"""How long local_aws takes from the command to its first answer."""

from __future__ import annotations

import time

from local_aws import LocalAWS
from tests.bench.figures import Figure


def ready() -> list[Figure]:
    samples = []
    for _ in range(7):
        started = time.monotonic()
        with LocalAWS():  # it returns when the server has said that it answers
            samples.append(time.monotonic() - started)
    return [Figure("local_aws ready", samples, "s", at_most=2)]
