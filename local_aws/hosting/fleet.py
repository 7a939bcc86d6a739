"""The container of one production variant, kept running: started, restarted when it dies, put to sleep, drained."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from local_aws.clock import Clock
from local_aws.hosting.container import HEALTH_CHECK_TIMEOUT, Container, ContainerFailure, ContainerSpec
from local_aws.images import Images
from local_aws.jobs.log import JobLog
from local_aws.jobs.opt_ml import OptMl
from local_aws.jobs.process import Ending
from local_aws.loopback import Loopback
from local_aws.store import Scope

LOG_GROUP = "/aws/sagemaker/Endpoints/"
RESTART_WAITS = (0.0, 1.0, 5.0, 10.0, 30.0)  # AWS's seconds before the first, second ... restart in a row
# Real seconds that the same takes, however fast the clock is, and that a container must have run for the row to begin
# anew: what dies again and again must not take the machine from the others.
SHORTEST_RESTART_WAIT, SHORTEST_RUN = 0.5, 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetSpec:
    """What a fleet serves.

    Args:
        scope: the endpoint's account and Region.
        endpoint, config, variant: names; the metrics carry them.
        container: the model's.
        instance_type: of a real-time variant.
        serverless: ServerlessConfig of a serverless one, else None.
        instances: how many instances the variant has: one process answers for all of them, and InvocationsPerInstance
            is divided by it.
        startup_seconds: ContainerStartupHealthCheckTimeoutInSeconds, or None.
    """

    scope: Scope
    endpoint: str
    config: str
    variant: str
    container: ContainerSpec
    instance_type: str | None = None
    serverless: dict[str, Any] | None = None
    instances: int = 1
    startup_seconds: float | None = None

    @property
    def log_group(self) -> str:
        return LOG_GROUP + self.endpoint


class DataPlane(Protocol):
    """What a fleet tells the process that sends it requests."""

    def tell(self, do: str, *, timeout: float | None = None, **content: Any) -> bool:
        """Send a message and wait until it is acted on; False when that took longer than the timeout (seconds)."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What all fleets share."""

    loopback: Loopback
    images: Images
    opt_ml: OptMl
    clock: Clock
    work: Path
    data_plane: DataPlane


class Fleet:
    """Starts at once, in a thread of its own."""

    def __init__(self, spec: FleetSpec, surroundings: Surroundings) -> None:
        self.spec = spec
        self.id = uuid.uuid4().hex[:8]
        self.failed: str | None = None
        self.instances = spec.instances
        self.serverless = spec.serverless
        self._around = surroundings
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._exited = self._asleep = self._wanted = False
        loopback = surroundings.loopback
        logs = loopback.client("logs", spec.scope, spec.container.role)
        self._log = JobLog(logs, spec.log_group, self._log_stream(), as_agent=loopback.enforced)
        self.container = Container(
            spec.container,
            spec.scope,
            loopback,
            surroundings.images,
            surroundings.work / self.id,
            surroundings.opt_ml,
            self._log,
            name=f"The primary container for production variant {spec.variant}",
            memory_mb=spec.serverless["MemorySizeInMB"] if spec.serverless else None,
            startup_seconds=spec.startup_seconds or HEALTH_CHECK_TIMEOUT,
            on_exit=self._on_exit,
        )
        self._up = self._sleeps = False
        surroundings.data_plane.tell("fleet", fleet=self.described())
        self._thread = threading.Thread(target=self._run, name=f"fleet-{spec.endpoint}-{spec.variant}", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout: float) -> None:
        """Return once the container answers.

        Raises:
            ContainerFailure: it does not run, or not within so many seconds.
        """
        if not self._ready.wait(timeout):
            raise ContainerFailure(
                f"The primary container for production variant {self.spec.variant} did not pass the ping health check"
                f" within {timeout:g} s. Please check CloudWatch logs for this endpoint."
            )
        if self.failed is not None:
            raise ContainerFailure(self.failed)

    def set_instances(self, count: int) -> None:
        """The variant has another number of instances."""
        self.instances = count
        self._describe()

    def set_serverless(self, config: dict[str, Any]) -> None:
        """The serverless variant has another MaxConcurrency or ProvisionedConcurrency."""
        self.serverless = config
        self._describe()

    def stop(self, drain: float = 60.0) -> None:
        """End it, once the requests that it has are answered or so many seconds have passed."""
        self._around.data_plane.tell("drain", timeout=drain, fleet=self.id)
        self._end(Container.stop, deliver=True)

    def kill(self) -> None:
        """End it at once: the server is going down, and nobody is told anything any more."""
        self._end(Container.kill, deliver=False)

    def described(self) -> dict[str, Any]:
        """What the data plane must know of it."""
        serverless = self.serverless
        return {
            "id": self.id,
            "scope": list(self.spec.scope),
            "endpoint": self.spec.endpoint,
            "config": self.spec.config,
            "variant": self.spec.variant,
            "instances": None if serverless else self.instances,
            "max_concurrency": serverless["MaxConcurrency"] if serverless else None,
            "provisioned_concurrency": serverless.get("ProvisionedConcurrency") if serverless else None,
            "socket": self.container.socket,
            "up": self._up,
            "asleep": self._sleeps,
        }

    def wake(self) -> None:
        """A request has come for a serverless variant that sleeps."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def sleep(self) -> None:
        """No request came for a long time: the container of a serverless variant goes."""
        with self._changed:
            self._asleep = True
            self._changed.notify_all()

    def _describe(self) -> None:
        self._around.data_plane.tell("fleet", fleet=self.described())

    def _log_stream(self) -> str:
        tail = uuid.uuid4().hex
        return f"{self.spec.variant}/{tail if self.spec.serverless else f'i-{tail[:17]}'}"

    def _end(self, way: Callable[[Container], None], deliver: bool) -> None:
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        way(self.container)
        self._thread.join()
        self._around.data_plane.tell("forget", fleet=self.id)
        self._log.close(deliver)
        self.container.remove()

    def _on_exit(self, ending: Ending) -> None:
        with self._changed:
            self._exited = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._start()
        except ContainerFailure as failure:
            self.failed = str(failure)
        except Exception as error:
            logger.exception("the container of endpoint %s failed unforeseen", self.spec.endpoint)
            self.failed = f"InternalServerError: local_aws failed: {error!r}; its log has the reason."
        self._ready.set()
        if self.failed is None:
            self._keep_running()

    def _start(self) -> None:
        started = time.monotonic()
        with self._changed:
            self._exited = self._asleep = self._wanted = False
        how = self._around.opt_ml.why
        self._log.line(f"[local_aws] image {self.spec.container.image}; {how.replace('job', 'container')}")
        self.container.start()
        self._up = True
        microseconds = (time.monotonic() - started) * 1e6
        self._around.data_plane.tell("up", fleet=self.id, setup=microseconds)

    def _keep_running(self) -> None:
        restarts = 0
        started = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping.is_set() or self._exited or self._asleep)
                asleep = self._asleep and not self._exited
            self._up = False
            if self._stopping.is_set():
                return
            if asleep:
                if not self._sleep_until_wanted():
                    return
            else:
                self._around.data_plane.tell("down", fleet=self.id)
                if time.monotonic() - started > max(self._around.clock.seconds(60.0), SHORTEST_RUN):
                    restarts = 0
                wait = RESTART_WAITS[min(restarts, len(RESTART_WAITS) - 1)]
                restarts += 1
                self._log.line(f"[local_aws] the container has ended by itself and is started again in {wait:g} s")
                if self._stopping.wait(max(self._around.clock.seconds(wait), min(wait, SHORTEST_RESTART_WAIT))):
                    return
            try:
                self._start()
            except ContainerFailure as failure:
                if self._stopping.is_set():
                    return
                logger.warning("endpoint %s, variant %s: %s", self.spec.endpoint, self.spec.variant, failure)
                self._around.data_plane.tell("broken", fleet=self.id)
                with self._changed:
                    self._exited = True
            started = time.monotonic()

    def _sleep_until_wanted(self) -> bool:
        """Without a process until a request comes; False when the fleet is to end."""
        self._sleeps = True
        self.container.pause()
        with self._changed:
            self._asleep = False
            self._changed.wait_for(lambda: self._stopping.is_set() or self._wanted)
            self._sleeps = False
            return not self._stopping.is_set()
