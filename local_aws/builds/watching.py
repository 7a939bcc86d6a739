"""`python -m local_aws builds`: the builds that a server has run, and what one prints, as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

BETWEEN_LOOKS = 0.2  # seconds
UNDER_WAY = ("IN_PROGRESS", "queued", "in_progress")
GOOD = ("SUCCEEDED", "success")

Build = dict[str, Any]
# The builds that there are now, oldest first.
Look = Callable[[], list[Build]]


class NoSuchBuild(LookupError):
    """There is no build of this id; the message says which there are."""


def listed(builds: list[Build], now: float) -> Iterator[str]:
    """A line for each build, the newest last.

    Args:
        now: seconds since the epoch, for how long those take that are under way.
    """
    for build in builds:
        begun = datetime.fromtimestamp(build["begun"], UTC).astimezone().strftime("%H:%M:%S")
        seconds = (build["ended"] or now) - build["begun"]
        line = f"{begun}  {build['status']:<12}  {seconds:6.1f} s  {build['version'][:12]:<12}  {build['name']}"
        yield f"{line}  {build['id']}"


def chosen(builds: list[Build], wanted: str | None) -> Build:
    """The build of an id, or of the beginning or end of one; the newest one without an id.

    Raises:
        NoSuchBuild: there is none, or there are several.
    """
    found = [each for each in builds if wanted is None or wanted == each["id"]]
    if wanted is not None and not found:
        ends = [each for each in builds if each["id"].rpartition(":")[2].startswith(wanted)]
        found = ends or [each for each in builds if each["id"].startswith(wanted)]
    if wanted is not None and len({each["id"] for each in found}) > 1:
        raise NoSuchBuild(f"{len(found)} builds begin with {wanted!r}: {', '.join(each['id'] for each in found)}.")
    if not builds:
        raise NoSuchBuild("No build has run yet.")
    if not found:
        raise NoSuchBuild(f"There is no build {wanted}; there are {', '.join(each['id'] for each in builds)}.")
    return found[-1]


def follow(look: Look, wanted: str | None, target: TextIO) -> int:
    """Print a build's log as it comes, until the build is over.

    Args:
        wanted: as `chosen` takes it.

    Returns:
        The exit code: 0 when the build has succeeded.

    Raises:
        NoSuchBuild: see `chosen`.
    """
    build = chosen(look(), wanted)
    print(f"{build['name']}  {build['id']}", file=sys.stderr)
    log, at = Path(build["log"]), 0
    while True:
        # Looked at before the log is read: what an ended build has printed is then all there.
        build = chosen(look(), build["id"])
        at = _print_from(log, at, target)
        if build["status"] not in UNDER_WAY:
            break
        time.sleep(BETWEEN_LOOKS)
    print(f"{build['status']}", file=sys.stderr)
    return 0 if build["status"] in GOOD else 1


def _print_from(log: Path, at: int, target: TextIO) -> int:
    """Print what is new; where it ends, in bytes."""
    if not log.is_file():
        return at
    with log.open("rb") as file:
        file.seek(at)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    target.write(whole.decode("utf-8", "replace"))
    target.flush()
    return at + len(whole)
