"""How fast AWS's time passes here.

Durations that a service keeps (an endpoint's creation, a bake, an alarm's period, a schedule) are divided by one
factor. Time stamps stay those of the wall clock, so that clients can compare them with their own; schedules alone are
reckoned in the clock's own time, which also can be moved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import MutableMapping
from typing import Any


class Clock:
    """AWS's time, for all services of one server.

    Args:
        speed: how many of AWS's seconds pass in one second here; 60 makes a minute of baking take a second.
        kept: remembers, each second, what time it was, so that after a restart the time of schedules does not go back.

    Raises:
        ValueError: the speed is not a positive number.
    """

    def __init__(self, speed: float = 1.0, kept: MutableMapping[str, float] | None = None) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"clock speed {speed}: it is a positive number; 1 is real time, 60 a minute in a second")
        self.speed = speed
        self._started = time.time()
        self._kept = {} if kept is None else kept
        self._ahead = max(0.0, self._kept.get("now", 0.0) - self._started)
        self._moved = 0.0
        self._changed = threading.Condition()

    def now(self) -> float:
        """The time that schedules go by, in seconds since the epoch."""
        real = time.time()
        now = self._started + self._ahead + (real - self._started) * self.speed + self._moved
        if now > real + 1 and abs(now - self._kept.get("now", 0.0)) > self.speed:
            self._kept["now"] = now
        return now

    def seconds(self, aws_seconds: float) -> float:
        """How long AWS's seconds take here."""
        return aws_seconds / self.speed

    def sleep(self, aws_seconds: float, stop: threading.Event | None = None) -> bool:
        """Let AWS's seconds pass, or fewer when `stop` is set; returns whether it was.

        Moving the clock forward lets them pass as well.
        """
        until = self.now() + aws_seconds
        with self._changed:
            while (left := until - self.now()) > 0 and not (stop is not None and stop.is_set()):
                # `stop` wakes nobody who waits for the condition: look at it often enough
                self._changed.wait(min(self.seconds(left), 0.05) if stop is not None else self.seconds(left))
        return stop is not None and stop.is_set()

    def settings(self) -> dict[str, Any]:
        """For the switch `/_local_aws/clock`."""
        return {"speed": self.speed, "now": self.now()}

    def configure(self, settings: dict[str, Any]) -> None:
        """The switch: {"advance": seconds}.

        Raises:
            ValueError: anything else.
        """
        seconds = settings.get("advance")
        if set(settings) != {"advance"} or isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError(f'clock: {settings} is no change; give {{"advance": seconds}}')
        self.advance(seconds)

    def advance(self, aws_seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: backwards is refused: what has happened cannot be undone.
        """
        if not aws_seconds >= 0:
            raise ValueError(f"advance {aws_seconds}: the clock can only be moved forward")
        with self._changed:
            self._moved += aws_seconds
            self._kept["now"] = self.now()
            self._changed.notify_all()
