"""Requests to an endpoint: the test set once, and traffic without pause while something else happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent (time.monotonic), how long it took, and the answer or the error."""

    at: float
    seconds: float
    answer: Any
    error: str | None


@dataclass
class Traffic:
    """Within a `with` block: the same row sent by some clients, each without pause.

    Attributes:
        runtime: a boto3 client of sagemaker-runtime (safe to share between threads).
        endpoint: its name.
        body: a CSV body; its answer is read as JSON.
        clients: how many ask at once.
        pause: seconds between two requests of one client.
    """

    runtime: Any
    endpoint: str
    body: str
    clients: int = 2
    pause: float = 0.02
    answered: list[Answered] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Answered]:
        return [answer for answer in self.answered if answer.error is not None]

    def answers_since(self, at: float) -> list[Any]:
        return [answered.answer for answered in self.answered if answered.at >= at and answered.error is None]

    def _ask(self) -> None:
        while not self._ending.is_set():
            at = time.monotonic()
            answer, error = None, None
            try:
                answer = predictions(self.runtime, self.endpoint, self.body)
            except (ClientError, BotoCoreError) as fault:
                error = str(fault)
            self.answered.append(Answered(at, time.monotonic() - at, answer, error))
            self._ending.wait(self.pause)


def predictions(runtime: Any, endpoint: str, body: str) -> list[dict[str, Any]]:
    """What the endpoint says to rows of CSV: one prediction for each."""
    response = runtime.invoke_endpoint(
        EndpointName=endpoint, Body=body.encode(), ContentType="text/csv", Accept="application/json"
    )
    found: list[dict[str, Any]] = json.loads(response["Body"].read())["predictions"]
    return found


def auc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    """The area under the ROC curve, by ranks: how often a positive scores above a negative, ties counting half."""
    pairs = sorted(zip(scores, labels, strict=True))
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError("the area under the curve needs both classes")
    ranks, start = 0.0, 0
    while start < len(pairs):
        end = start
        while end < len(pairs) and pairs[end][0] == pairs[start][0]:
            end += 1
        ranks += (start + end + 1) / 2 * sum(label for _, label in pairs[start:end])
        start = end
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
