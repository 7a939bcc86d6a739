"""A call to a service, what happens to it, and the end of the process that made it: what fault matrices are made of."""

from __future__ import annotations

from dataclasses import dataclass


class Killed(BaseException):
    """The function's process ended."""


@dataclass(frozen=True)
class Call:
    """The n-th call (from 1) of an operation since the test began to count."""

    service: str
    operation: str
    nth: int

    @property
    def reads(self) -> bool:
        return self.operation.startswith(("Describe", "Get", "List", "Query"))


@dataclass(frozen=True)
class Fault:
    """What happens to one call.

    Args:
        kind: "error": the service has a fault of its own (HTTP 500). "throttled". "not sent": it could not be reached.
            "not answered", "closed": the call was made, its answer never came (time-out; connection closed).
            "asked twice": the same, and botocore's second try got an answer. "late": the answer comes when another
            function may have the lease. "killed before", "killed after": the function's process ended, the call not
            made or made. Each matrix has those of these that can happen to its calls.
    """

    call: Call
    kind: str
