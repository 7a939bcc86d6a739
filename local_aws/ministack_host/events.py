"""Events of AWS's services, put on EventBridge's default bus.

Touches: `eventbridge._put_events`.
"""

from __future__ import annotations

from typing import Any

from local_aws.ministack_host.app import requested_from
from local_aws.store import Scope


def put_event(scope: Scope, entry: dict[str, Any]) -> None:
    """Give EventBridge's default bus an event of an AWS service, which PutEvents takes from no client.

    On the server's event loop only: MiniStack's services change their state there without locks.

    Args:
        entry: as in PutEvents: Source, DetailType, Resources, Detail (a JSON string).
    """
    from ministack.services import eventbridge

    with requested_from(scope):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
