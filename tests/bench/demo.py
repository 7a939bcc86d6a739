"""How long `make demo` takes, from an empty machine to a model in production and back."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS
from tests.bench.figures import Figure
from tests.story import chapters
from tests.story.demo import CLOCK_SPEED, PROJECT, TOLD, the_story

ROUNDS = 2


def demo() -> list[Figure]:
    """The whole, and its chapters; all as the demo tells them, but for what it prints."""
    wholes: list[float] = []
    by_chapter: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            started = time.monotonic()
            with LocalAWS(clock_speed=CLOCK_SPEED, enforce_iam=True, builds=True) as aws:
                story = the_story(aws.server, PROJECT, Path(folder), Console(file=io.StringIO()))
                chapters.tell(story, (*TOLD, chapters.DELETE))
            wholes.append(time.monotonic() - started)
        for told in story.told:
            by_chapter.setdefault(told.name, []).append(told.seconds)
    return [
        Figure("the whole demo", wholes, "s", at_most=240),
        *(Figure(f"of it, the chapter {name}", seconds, "s") for name, seconds in by_chapter.items()),
    ]
