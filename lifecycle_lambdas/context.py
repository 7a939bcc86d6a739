"""What looking after an endpoint needs from outside: the same for a function and for the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lifecycle_lambdas import metrics
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.settings import Settings


@dataclass(frozen=True)
class Context:
    """
    Args:
        owner: in whose name endpoints are leased: the function's request id, or the operator.
        deadline: when to have stopped, as time.monotonic() has it.
        now: the time, UTC.
    """

    settings: Settings
    clients: Clients
    ledger: Ledger
    owner: str
    deadline: float
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, settings: Settings, clients: Clients, owner: str, seconds: float) -> Context:
        """A context with the ledger of these settings and so many seconds left."""
        ledger = Ledger(clients("dynamodb"), settings.ledger_table)
        return cls(settings, clients, ledger, owner, time.monotonic() + seconds)

    def client(self, service: str) -> Any:
        return self.clients(service)

    def remaining(self) -> float:
        """Seconds left to work in; less than nothing when there are none."""
        return self.deadline - time.monotonic()

    def tell(self, message: Message) -> None:
        """Send a message to the topic, unless the one with its id was sent already.

        It is sent first and recorded then: a function that is killed between the two sends it twice, and never not at
        all.
        """
        if self.ledger.was_told(message.endpoint, message.id):
            return
        self.ledger.begin_telling(message.endpoint, message.id)
        self.client("sns").publish(
            TopicArn=self.settings.topic_arn,
            Subject=message.subject,
            MessageStructure="json",
            Message=message.body(),
            MessageAttributes={
                "endpoint": {"DataType": "String", "StringValue": message.endpoint},
                "kind": {"DataType": "String", "StringValue": message.kind},
            },
        )
        self.ledger.record_told(message.endpoint, message.id)
        counted = metrics.embedded(metrics.MESSAGES, 1, "Count", self.now(), **{metrics.KIND: message.kind})
        log("told", endpoint=message.endpoint, kind=message.kind, id=message.id, **counted)
