"""How many calls GitHub takes, and whether it answers at all: rate limits and an outage, as a test sets them.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from local_aws.git.github_calls import PRIMARY, PRIMARY_MESSAGE, SECONDARY, SECONDARY_MESSAGE
from local_aws.git.github_errors import ApiError

LIMIT, WINDOW = 5000, 3600.0  # calls of one user in so many seconds


@dataclass
class _Window:
    resets: float  # seconds since the epoch
    used: int = 0


@dataclass
class Limits:
    """What is in force; not remembered over a restart. Safe to share between threads.

    Args:
        limit: calls that one user may make in a window.
        seconds: a window's length.
        status: of the refusals, 403 or 429: GitHub says that it may be either.
        secondary: how many calls still are to be refused because they were too many at once.
        retry_after: seconds that those are told to wait.
        outage: the status of every answer while GitHub is out of order, or None.
    """

    limit: int = LIMIT
    seconds: float = WINDOW
    status: int = 403
    secondary: int = 0
    retry_after: int = 1
    outage: int | None = None
    _windows: dict[int, _Window] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set_rate(self, limit: int, seconds: float, status: int, secondary: int, retry_after: int) -> None:
        """Set the rate limits; counting begins anew."""
        with self._lock:
            self.limit, self.seconds, self.status = limit, seconds, status
            self.secondary, self.retry_after = secondary, retry_after
            self._windows.clear()

    def take(self, user: int, request: str) -> dict[str, str]:
        """Count a call of a user; answers the headers that tell how many are left.

        Args:
            user: the user's id.
            request: the request's id, which refusals name.

        Raises:
            ApiError: it is one too many.
        """
        with self._lock:
            window = self._windows.get(user)
            if window is None or window.resets <= time.time():
                window = self._windows[user] = _Window(time.time() + self.seconds)
            if self.secondary:
                self.secondary -= 1
                retry = {"Retry-After": str(self.retry_after)} | self._headers(window)
                raise ApiError(self.status, SECONDARY_MESSAGE.format(request=request), headers=retry, limit=SECONDARY)
            if window.used >= self.limit:
                message = PRIMARY_MESSAGE.format(user=user, request=request)
                raise ApiError(self.status, message, headers=self._headers(window), limit=PRIMARY)
            window.used += 1
            return self._headers(window)

    def _headers(self, window: _Window) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - window.used)),
            "X-RateLimit-Used": str(window.used),
            "X-RateLimit-Reset": str(int(window.resets) + 1),  # when it is over: not a moment before
            "X-RateLimit-Resource": "core",
        }
