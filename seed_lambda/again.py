"""What failed for the moment is tried again: where nobody else would, or a stack would have to be helped by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from seed_lambda.aws_calls import FOR_A_ROUND, is_passing
from seed_lambda.context import Context
from seed_lambda.errors import HostUnreachable, RateLimited

# Seconds before another try of what failed for the moment.
AGAIN = (5.0, 15.0, 30.0)
# Seconds that are waited for a rate limit: longer than those that GitHub sets for calls in quick succession; what an
# hour's calls have used up is not waited for.
LONGEST_LIMIT = 120.0

Result = TypeVar("Result")


def again(context: Context, work: Callable[[], Result], pauses: Sequence[float] = AGAIN) -> Result:
    """The work's result, after some tries where it fails for the moment, as far as the time suffices.

    Args:
        work: can be done again.
        pauses: seconds between the tries.
    """
    for usual in pauses:
        try:
            return work()
        except (ClientError, BotoCoreError, HostUnreachable, RateLimited) as error:
            pause = max(usual, error.seconds) if isinstance(error, RateLimited) else usual
            if not passes(error) or context.remaining() < pause + FOR_A_ROUND:
                raise
            context.log("failed for the moment: trying again", level="WARNING", error=str(error))
        context.pause(pause)
    return work()


def passes(error: Exception) -> bool:
    """Whether it can be over in a moment: too many calls, a fault of AWS's or of the host's, no connection."""
    if isinstance(error, ClientError):
        return is_passing(error)
    if isinstance(error, RateLimited):
        return error.seconds <= LONGEST_LIMIT
    return isinstance(error, BotoCoreError | HostUnreachable)
