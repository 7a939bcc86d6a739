"""What drives an endpoint through its changes: it starts fleets, shifts traffic, waits, watches, and goes back.

One thread for each change that is under way. What is to happen is data (local_aws.sagemaker.deployments).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from botocore.exceptions import ClientError

from local_aws.clock import Clock
from local_aws.hosting import (
    ContainerFailure,
    ContainerSpec,
    EndpointRoutes,
    Fleet,
    FleetSpec,
    Hosting,
    VariantRoute,
)
from local_aws.loopback import Loopback
from local_aws.sagemaker.deployments import (
    CREATING_SECONDS,
    RESCALING_SECONDS,
    SHIFTING_SECONDS,
    TERMINATING_SECONDS,
    Deployed,
    Stage,
    Turned,
    deployment_stages,
    maximum_seconds,
    rollback_alarms,
)
from local_aws.sagemaker.endpoint_records import (
    IN_SERVICE,
    LONGEST_REASON,
    UPDATE_ROLLBACK_FAILED,
    Closed,
    Record,
)
from local_aws.store import Document, Scope

HEALTH_CHECK_SECONDS = 600  # for a container to answer /ping, without ContainerStartupHealthCheckTimeoutInSeconds
WATCH_SECONDS = 10  # of AWS's between two looks at a deployment's alarms
SHORTEST_WATCH, LONGEST_WATCH = 0.05, 0.25  # real seconds that the same takes at any clock speed
DRAIN_SECONDS = 60.0  # real; the longest that a request may take

logger = logging.getLogger(__name__)

Fleets = dict[str, Fleet]  # by variant


@dataclass(frozen=True)
class Machinery:
    """What all changes use."""

    hosting: Hosting
    clock: Clock
    loopback: Loopback
    still_there: Callable[[Scope, Deployed], bool]  # configuration and models of what is deployed


class _Stopped(Exception):
    """The server is going down."""


class Live:
    """One endpoint's running side: the fleets that serve, and the change under way.

    Args:
        record: the endpoint's document.
        machinery: shared by all.
    """

    def __init__(self, record: Record, machinery: Machinery) -> None:
        self.record = record
        self._hosting, self._clock = machinery.hosting, machinery.clock
        self._loopback, self._still_there = machinery.loopback, machinery.still_there
        self._fleets: Fleets = {}  # those that serve
        self._running: list[Fleet] = []  # and those of a change under way, or that failed unforeseen
        self._stop = threading.Event()
        self._since = 0.0  # when the current stage of a change began, by the clock
        self._late = 0.0  # how much longer, in AWS's seconds, containers took to start than AWS's
        self.thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def start(self, change: Callable[..., None], *arguments: object) -> None:
        """Begin a change in a thread of its own."""
        previous, began = self.thread, self._clock.now()

        def run() -> None:
            if previous is not None:
                previous.join()  # it has written its last status already
            self._since, self._late = began, 0.0
            try:
                change(*arguments)
            except (_Stopped, Closed):
                logger.info("endpoint %s: left as it is, local_aws is going down", self.record.key)
            except Exception as error:
                if self._stop.is_set():  # what it called goes down as well
                    logger.info("endpoint %s: left as it is: %r", self.record.key, error)
                    return
                logger.exception("a change of endpoint %s failed unforeseen", self.record.key)
                self._give_up(f"InternalServerError: local_aws failed: {error!r}; its log has the reason.")

        self.thread = threading.Thread(target=run, name=f"endpoint {self.record.key}", daemon=True)
        self.thread.start()

    def kill(self) -> None:
        """Go no further. The fleets are the hosting's to end."""
        self.record.close()
        self._stop.set()

    # The changes

    def create(self, new: Deployed) -> None:
        """From Creating to InService, or Failed."""
        self._start_serving(new, CREATING_SECONDS, IN_SERVICE)

    def serve_again(self, deployed: Deployed) -> None:
        """After a restart: what was in service is served again; requests wait until its containers answer."""
        self._start_serving(deployed, 0, self.record.status, waiting=True)

    def update(self, old: Deployed, new: Deployed, config: Document | None) -> None:
        """From Updating to InService: with the new configuration, or after a roll-back with the old one."""
        counts = {variant.name: variant.count for variant in new.variants}
        stages = deployment_stages((config or {}).get("BlueGreenUpdatePolicy"), counts)
        blue, green = self._fleets, self._start_fleets(new)
        starting = _Starting(new, green)
        watch = self._watch(config, starting, new.variants[0].role)
        *guarded, deleting = stages
        for stage in guarded:
            self._shift(old, blue, new, green, stage.on)
            self._begin(stage)
            ready = starting.done if stage.status == "Creating" else None
            if fault := self._pass(stage.seconds, watch, ready):
                self._roll_back(old, blue, new, green, fault)
                return
        self._fleets = green
        self._begin(deleting)
        self._stop_fleets(blue.values())
        self._pass(deleting.seconds)
        self._serve(new)
        self.record.change(EndpointStatus=IN_SERVICE, EndpointConfigName=new.config, Deployed=new.dump(), Pending=None)

    def rescale(self, new: Deployed) -> None:
        """Other weights, counts or concurrency: from Updating to InService."""
        self._pass(RESCALING_SECONDS)
        settled = new.settled()
        for variant in settled.variants:
            fleet = self._fleets[variant.name]
            if variant.serverless is not None:
                fleet.set_serverless(variant.serverless)
            else:
                fleet.set_instances(variant.count)
        self._serve(settled)
        self.record.change(EndpointStatus=IN_SERVICE, Deployed=settled.dump())

    def delete(self) -> None:
        """From Deleting to nothing: no process, no route, no scalable target."""
        self._hosting.route(self.record.scope, self.record.name, None)
        deregister_scalable_targets(self._loopback, self.record.scope, self.record.name)
        self._stop_fleets(self._running)
        self._fleets = {}
        self._pass(TERMINATING_SECONDS)
        self.record.remove()

    # After a restart

    def finish_update(self, old: Deployed, new: Deployed, config: Document | None) -> None:
        """An update that had not come to its end begins anew, beside what served before it."""
        if self._restart_fleets(old):
            self._since = self._clock.now()
            self.update(old, new, config)

    def finish_deleting(self, new: Deployed) -> None:
        """An update of which nothing was left but to delete the old fleet."""
        if self._restart_fleets(new):
            self.record.change(
                EndpointStatus=IN_SERVICE, EndpointConfigName=new.config, Deployed=new.dump(), Pending=None
            )

    def finish_rescaling(self, deployed: Deployed) -> None:
        """Other weights, counts or concurrency, that were not in effect yet."""
        if self._restart_fleets(deployed):
            self.rescale(deployed)

    def finish_roll_back(self, old: Deployed, fault: str) -> None:
        """A roll-back that was under way: there is no new fleet any more."""
        if self._restart_fleets(old):
            self._rolled_back(old, fault)

    def _restart_fleets(self, deployed: Deployed) -> bool:
        """Serve again what was served; requests wait until its containers answer. False: they do not, and it failed."""
        self._fleets = self._start_fleets(deployed)
        self._serve(deployed)
        starting = _Starting(deployed, self._fleets)
        if fault := self._pass(0, lambda: starting.failure, starting.done):
            self._fail(self._fleets, fault)
            return False
        self._serve(deployed)
        return True

    # Within

    def _start_serving(self, new: Deployed, seconds: float, status: str, waiting: bool = False) -> None:
        fleets = self._start_fleets(new)
        if waiting:
            self._send(variant_routes(new, fleets), new.data_capture, deploying=False)
        starting = _Starting(new, fleets)
        stage = Stage("Creating", seconds, {variant.name: Turned(0.0, 0) for variant in new.variants}, "Creating.")
        if "Pending" in self.record.document:
            self.record.stage(stage)
        if fault := self._pass(seconds, lambda: starting.failure, starting.done):
            self._fail(fleets, fault)
            return
        self._fleets = fleets
        self._serve(new)
        self.record.change(EndpointStatus=status, Deployed=new.dump(), Pending=None)

    def _fail(self, fleets: Fleets, fault: str) -> None:
        self._hosting.route(self.record.scope, self.record.name, None)
        self._stop_fleets(fleets.values())
        self._fleets = {}
        self.record.fail(fault)

    def _roll_back(self, old: Deployed, blue: Fleets, new: Deployed, green: Fleets, fault: str) -> None:
        """All traffic goes back at once; then the new fleet is terminated."""
        off = {variant.name: Turned(0.0, 0) for variant in new.variants}
        self._shift(old, blue, new, green, off)
        self._since = self._clock.now()
        self.record.roll_back(fault)
        self.record.stage(Stage("Deleting", TERMINATING_SECONDS, off, "Deleting the new fleet."))
        self._stop_fleets(green.values())
        self._pass(SHIFTING_SECONDS + TERMINATING_SECONDS)
        self._serve(old)
        self._rolled_back(old, fault)

    def _rolled_back(self, old: Deployed, fault: str) -> None:
        status = IN_SERVICE
        if not self._still_there(self.record.scope, old):
            status = UPDATE_ROLLBACK_FAILED
            fault += f" The roll-back to {old.config} failed: the endpoint configuration or its model was deleted."
        self.record.change(EndpointStatus=status, FailureReason=fault[:LONGEST_REASON], Pending=None)

    def _begin(self, stage: Stage) -> None:
        """A stage of a deployment begins, now that the traffic goes as it says: a bake is never cut short."""
        self._since = self._clock.now()
        self.record.stage(stage)

    def _watch(self, config: Document | None, starting: _Starting, role: str | None) -> Callable[[], str | None]:
        """A function that says why the deployment must be rolled back, or None.

        Args:
            role: the model's, which must be allowed to look at the alarms
                (https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-configuration.html).
        """
        deadline = self._since + maximum_seconds(config)
        names = rollback_alarms(config)

        def watch() -> str | None:
            if starting.failure is not None:
                return starting.failure
            # A container takes this machine's time to start, which the clock does not make faster: that is not counted.
            if self._clock.now() - self._late > deadline:
                return f"The deployment took longer than {maximum_seconds(config)} seconds, and was rolled back."
            try:
                states = alarm_states(self._loopback, self.record.scope, names, role)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException"):
                    raise
                return f"The deployment was rolled back: {error.response['Error'].get('Message')}"
            if alarmed := [name for name in names if states.get(name) == "ALARM"]:
                return f"The deployment was rolled back: alarm(s) {', '.join(alarmed)} in state ALARM."
            return None

        return watch

    def _pass(
        self,
        seconds: float,
        watch: Callable[[], str | None] = lambda: None,
        ready: threading.Event | None = None,
    ) -> str | None:
        """Let AWS's seconds pass since the stage began, and longer until it is ready.

        Returns what the watch found, as soon as it does.

        Raises:
            _Stopped: the server is going down.
        """
        until, late = self._since + seconds, self._late
        real = min(max(self._clock.seconds(WATCH_SECONDS), SHORTEST_WATCH), LONGEST_WATCH)
        while True:
            if self._stop.is_set():
                raise _Stopped
            left = until - self._clock.now()
            over = left <= 0 and (ready is None or ready.is_set())
            if ready is not None:
                self._late = late + max(0.0, -left)
            if fault := watch():  # after `over`: what is ready because it has failed is seen
                return fault
            if over:
                return None
            if left > 0:
                self._clock.sleep(min(left, real * self._clock.speed), self._stop)
            elif ready is not None:
                ready.wait(SHORTEST_WATCH)

    def _start_fleets(self, deployed: Deployed) -> Fleets:
        record = self.record
        fleets = {}
        for variant in deployed.variants:
            spec = FleetSpec(
                scope=record.scope,
                endpoint=record.name,
                config=deployed.config,
                variant=variant.name,
                container=ContainerSpec(
                    variant.image,
                    variant.model_data_url,
                    variant.environment,
                    variant.network_isolation,
                    variant.role,
                    variant.vpc,
                ),
                instance_type=variant.instance_type,
                serverless=variant.serverless,
                instances=variant.count,
                startup_seconds=variant.startup_seconds,
            )
            fleets[variant.name] = self._hosting.start_fleet(spec)
            self._running.append(fleets[variant.name])
        return fleets

    def _stop_fleets(self, fleets: Iterable[Fleet]) -> None:
        """End them, all at the same time: each waits for the requests that it has."""
        ending = list(fleets)
        threads = [threading.Thread(target=fleet.stop, args=(DRAIN_SECONDS,)) for fleet in ending]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._running = [fleet for fleet in self._running if fleet not in ending]

    def _serve(self, deployed: Deployed) -> None:
        """Route to what serves now, with no deployment under way."""
        self._send(variant_routes(deployed, self._fleets), deployed.data_capture, deploying=False)

    def _shift(self, old: Deployed, blue: Fleets, new: Deployed, green: Fleets, on: Mapping[str, Turned]) -> None:
        """Route as a stage of a deployment says."""
        if all(turned.share == 1 for turned in on.values()):
            self._send(variant_routes(new, green), new.data_capture, deploying=True)
        else:
            self._send(variant_routes(old, blue, green, on), old.data_capture, deploying=True)

    def _send(self, variants: tuple[VariantRoute, ...], data_capture: Document | None, deploying: bool) -> None:
        routes = EndpointRoutes(IN_SERVICE, variants, data_capture, deploying)
        self._hosting.route(self.record.scope, self.record.name, routes)

    def _give_up(self, reason: str) -> None:
        try:
            self.record.fail(reason)
        except Closed:
            logger.info("endpoint %s: gone, or local_aws is going down", self.record.key)


class _Starting:
    """Waits, in a thread of its own, until all fleets of a deployed configuration answer or one of them has failed."""

    def __init__(self, deployed: Deployed, fleets: Fleets) -> None:
        self.failure: str | None = None
        self.done = threading.Event()
        timeouts = [(fleets[one.name], one.startup_seconds or HEALTH_CHECK_SECONDS) for one in deployed.variants]
        threading.Thread(target=self._wait, args=(timeouts,), name="fleets starting", daemon=True).start()

    def _wait(self, timeouts: Iterable[tuple[Fleet, float]]) -> None:
        try:
            for fleet, timeout in timeouts:
                fleet.wait_ready(timeout)
        except ContainerFailure as failure:
            self.failure = str(failure)
        finally:
            self.done.set()


def variant_routes(
    deployed: Deployed, fleets: Fleets, green: Fleets | None = None, on: Mapping[str, Turned] | None = None
) -> tuple[VariantRoute, ...]:
    """Where each variant's traffic goes.

    Args:
        deployed: whose variants and weights it is.
        fleets: of its variants.
        green: the new fleets of a deployment under way; a variant that is not among them keeps its own.
        on: how far each variant's new fleet is turned on.
    """
    routes = []
    for variant in deployed.variants:
        share = on[variant.name].share if on and variant.name in on else 0.0
        targets = [(fleets[variant.name], 1 - share)]
        if green and share:
            targets.append((green[variant.name], share))
        routes.append(VariantRoute(variant.name, variant.weight, tuple(targets)))
    return tuple(routes)


def alarm_states(loopback: Loopback, scope: Scope, names: Sequence[str], role: str | None = None) -> dict[str, str]:
    """StateValue of those of the named alarms that exist; as a role, when one is given."""
    if not names:
        return {}
    answer = loopback.client("cloudwatch", scope, role).describe_alarms(
        AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    alarms = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}


def scalable_targets(loopback: Loopback, scope: Scope, endpoint: str) -> list[dict[str, str]]:
    """ServiceNamespace, ResourceId and ScalableDimension of the targets that scale the endpoint's variants."""
    client = loopback.client("application-autoscaling", scope)
    pages = client.get_paginator("describe_scalable_targets").paginate(ServiceNamespace="sagemaker")
    return [
        {name: target[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension")}
        for page in pages
        for target in page["ScalableTargets"]
        if target["ResourceId"].lower().startswith(f"endpoint/{endpoint.lower()}/")
    ]


def deregister_scalable_targets(loopback: Loopback, scope: Scope, endpoint: str) -> None:
    """DeleteEndpoint does so itself, with its caller's permissions
    (https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-delete.html)."""
    client = loopback.client("application-autoscaling", scope)
    for target in scalable_targets(loopback, scope, endpoint):
        client.deregister_scalable_target(**target)
