"""What goes wrong in a way that a person can do something about: messages name the input, the fault, the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class SeedError(Exception):
    """The request fails; the message becomes the reason that CloudFormation shows, and so holds no secret."""


class InvalidProperties(SeedError):
    """The resource's properties cannot be used.

    Args:
        faults: one text each, all that were found.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class NameTaken(SeedError):
    """A repository or a model package group of this name is there and does not carry this stack's mark."""


class Unmarked(SeedError):
    """The project's repository is there, and carries no stack's mark any more."""


class Superseded(SeedError):
    """The stack waits for something else by now: nothing more may be changed in the name of this request."""


class OutOfTime(SeedError):
    """The function's time is nearly up; what was done counts, and the same request again goes on."""


class HostUnreachable(SeedError):
    """The Git host did not answer, or answered with a fault of its own (5xx), however often it was asked."""


class RateLimited(SeedError):
    """The Git host takes no calls for the moment, and that is longer than the call can wait.

    Args:
        seconds: until it takes them again.
    """

    def __init__(self, words: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(words)


def repository_taken(which: str) -> str:
    """What a person is told of a repository that is somebody else's. which: such as "CodeCommit repository churn"."""
    return (
        f"the {which} is there already and not this project's: choose another name for the project or its repository, "
        "or have whoever owns it delete it"
    )
