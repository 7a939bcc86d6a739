"""Endpoints' metrics to CloudWatch and captured data to S3, apart from the requests that they are about."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.clock import Clock
from local_aws.hosting.container import UTILIZATION
from local_aws.jobs.staging import s3_location
from local_aws.loopback import Loopback
from local_aws.store import Scope

if TYPE_CHECKING:
    from local_aws.hosting.fleet import Fleet

INVOCATIONS = "AWS/SageMaker"
MINUTE = 60.0  # AWS's seconds
SHORTEST_MINUTE = 0.5  # seconds between two looks at what containers use, however fast the clock is
MOST_IN_A_CALL = 500  # PutMetricData: 1000, and 1 MB

logger = logging.getLogger(__name__)


class Publisher:
    """One thread does it all, one after the other.

    Args:
        loopback: clients of CloudWatch and S3.
        clock: utilization is published each of its minutes.
    """

    def __init__(self, loopback: Loopback, clock: Clock) -> None:
        self._loopback, self._clock = loopback, clock
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._watched: dict[Fleet, tuple[float, float]] = {}  # when last looked at, CPU seconds then
        self._thread = threading.Thread(target=self._run, name="endpoint-metrics", daemon=True)
        self._thread.start()

    def watch(self, fleet: Fleet) -> None:
        """Publish what the fleet's process uses, from now on."""
        with self._lock:
            self._watched[fleet] = (time.monotonic(), 0.0)

    def forget(self, fleet: Fleet) -> None:
        with self._lock:
            self._watched.pop(fleet, None)

    def metrics(self, message: dict[str, Any]) -> None:
        """Publish what the data plane counted: {"scope", "at", "data": MetricData without Timestamp}."""
        scope, at = Scope(*message["scope"]), datetime.fromtimestamp(message["at"], UTC)
        data = [{**datum, "Timestamp": at} for datum in message["data"]]
        self._work.put(lambda: self._put_metrics(scope, INVOCATIONS, data))

    def capture(self, message: dict[str, Any], role: str | None) -> None:
        """Write captured records: {"scope", "to": s3://..., "endpoint", "variant", "kms_key", "at", "records"}.

        Args:
            role: the execution role of the variant's model, which writes them; without the right to they are lost.
        """
        self._work.put(lambda: self._put_capture(message, role))

    def flush(self) -> None:
        """Return when everything given so far is published."""
        done = threading.Event()
        self._work.put(done.set)
        done.wait()

    def stop(self) -> None:
        """Publish nothing more."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + self._clock.seconds(MINUTE)
        while True:
            try:
                work = self._work.get(timeout=max(0.001, due - time.monotonic()))
            except queue.Empty:
                work = self._put_utilization
                due = time.monotonic() + max(SHORTEST_MINUTE, self._clock.seconds(MINUTE))
            if work is None:
                return
            try:
                work()
            except (ClientError, BotoCoreError, ValueError):
                logger.exception("metrics or captured data of an endpoint are lost")

    def _put_metrics(self, scope: Scope, namespace: str, data: list[dict[str, Any]]) -> None:
        client = self._loopback.client("cloudwatch", scope)
        for start in range(0, len(data), MOST_IN_A_CALL):
            client.put_metric_data(Namespace=namespace, MetricData=data[start : start + MOST_IN_A_CALL])

    def _put_capture(self, message: dict[str, Any], role: str | None) -> None:
        target, at = s3_location(message["to"]), datetime.fromtimestamp(message["at"], UTC)
        name = f"{at:%M-%S}-{at.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        target = target / message["endpoint"] / message["variant"] / f"{at:%Y/%m/%d/%H}" / name
        key = message["kms_key"]
        options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        body = "".join(record + "\n" for record in message["records"]).encode()
        client = self._loopback.client("s3", Scope(*message["scope"]), role)
        client.put_object(Bucket=target.bucket, Key=target.key, Body=body, **options)

    def _put_utilization(self) -> None:
        with self._lock:
            watched = dict(self._watched)
        found: dict[Scope, list[dict[str, Any]]] = {}
        for fleet, (before, seconds_before) in watched.items():
            pid = fleet.container.pid
            used = process_usage(pid) if pid is not None else None
            if used is None:
                continue
            now, (seconds, share) = time.monotonic(), used
            with self._lock:
                if fleet not in self._watched:
                    continue
                self._watched[fleet] = (now, seconds)
            # of a process started anew the CPU seconds begin again
            busy = seconds - seconds_before if seconds >= seconds_before else seconds
            values = {"CPUUtilization": 100 * busy / max(now - before, 1e-3), "MemoryUtilization": 100 * share}
            found.setdefault(fleet.spec.scope, []).extend(_utilization(fleet, values))
        for scope, data in found.items():
            self._put_metrics(scope, UTILIZATION, data)


def _utilization(fleet: Fleet, values: dict[str, float]) -> list[dict[str, Any]]:
    at = datetime.now(UTC)
    named = (("EndpointName", fleet.spec.endpoint), ("VariantName", fleet.spec.variant))
    dimensions = [{"Name": name, "Value": value} for name, value in named]
    return [
        {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "Percent", "Timestamp": at}
        for name, value in values.items()
    ]


def process_usage(pid: int) -> tuple[float, float] | None:
    """CPU seconds that a process has used, and its share (0 to 1) of this machine's memory; None without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # proc(5): after the name comes field 3; utime and stime are 14 and 15, rss (pages) is 24
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, int(fields[21]) / os.sysconf("SC_PHYS_PAGES")
