"""What it costs that IAM is enforced: the demo's story up to what answers, told with it and without it in turn."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS
from tests.bench.figures import Figure
from tests.story import chapters
from tests.story.demo import CLOCK_SPEED, PROJECT, the_story

PAIRS = 3
CHAPTERS = (*chapters.TRAINING, chapters.SERVE, chapters.DELETE)


def enforcing() -> list[Figure]:
    """From the server's start to its end; the ratio of each pair of tellings."""
    with_it: list[float] = []
    without: list[float] = []
    for pair in range(PAIRS):
        # The first of a pair finds colder caches: they take turns.
        for enforce in (True, False) if pair % 2 else (False, True):
            (with_it if enforce else without).append(_told(enforce))
    ratios = [one / other for one, other in zip(with_it, without, strict=True)]
    return [
        Figure("the demo with IAM enforced, of the demo without", ratios, "x", at_most=1.15),
        Figure("the demo with IAM enforced", with_it, "s"),
        Figure("the demo without", without, "s"),
    ]


@contextmanager
def silence() -> Iterator[None]:
    """What the story's commands print is no part of the figures."""
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def _told(enforce: bool) -> float:
    """Seconds for one telling."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, silence():
        started = time.monotonic()
        with LocalAWS(clock_speed=CLOCK_SPEED, enforce_iam=enforce, builds=True) as aws:
            story = the_story(aws.server, PROJECT, Path(folder), Console(file=io.StringIO()))
            chapters.tell(story, CHAPTERS)
        return time.monotonic() - started
