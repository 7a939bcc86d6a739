"""Endpoints in this process, on fleets that are only written down and a clock that only tests move."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local_aws.calls import Call, Operation, ServiceError
from local_aws.clock import Clock
from local_aws.hosting import ContainerFailure, EndpointRoutes, FleetSpec
from local_aws.sagemaker.endpoint_configs import EndpointConfigs
from local_aws.sagemaker.endpoints import Endpoints
from local_aws.sagemaker.models import Models
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.local_aws.waiting import wait_for

SCOPE = Scope("123456789012", "us-east-1")
CALL = Call(SCOPE, "123456789012")
ROLE = "arn:aws:iam::123456789012:role/modelyard/models/churn"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"


class FakeFleet:
    """A fleet that is ready, or fails, when the test says so."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.instances, self.serverless = spec.instances, spec.serverless
        self.settled, self.failure = threading.Event(), ""
        self.stopped = False

    def succeed(self) -> None:
        self.settled.set()

    def fail(self, failure: str) -> None:
        self.failure = failure
        self.settled.set()

    def wait_ready(self, timeout: float) -> None:
        if not self.settled.wait(timeout) or self.failure:
            raise ContainerFailure(self.failure)

    def set_instances(self, count: int) -> None:
        self.instances = count

    def set_serverless(self, config: dict[str, Any]) -> None:
        self.serverless = config

    def stop(self, drain: float = 60.0) -> None:
        self.stopped = True


class FakeHosting:
    """Fleets and routes, written down."""

    def __init__(self, ready: bool = True) -> None:
        self.ready = ready
        self.fleets: list[FakeFleet] = []
        self.routes: dict[str, EndpointRoutes] = {}

    def start_fleet(self, spec: FleetSpec) -> FakeFleet:
        fleet = FakeFleet(spec)
        if self.ready:
            fleet.succeed()
        self.fleets.append(fleet)
        return fleet

    def route(self, scope: Scope, endpoint: str, routes: EndpointRoutes | None) -> None:
        if routes is None:
            self.routes.pop(endpoint, None)
        else:
            self.routes[endpoint] = routes

    def fleet(self, config: str) -> FakeFleet:
        """The newest fleet of an endpoint configuration."""
        return next(fleet for fleet in reversed(self.fleets) if fleet.spec.config == config)

    def shares(self, endpoint: str) -> dict[str, dict[str, float]]:
        """Of each variant's traffic, by endpoint configuration."""
        routes = self.routes[endpoint]
        return {
            one.name: {fleet.spec.config: round(share, 6) for fleet, share in one.fleets} for one in routes.variants
        }

    @property
    def running(self) -> list[str]:
        return [fleet.spec.config for fleet in self.fleets if not fleet.stopped]


class FakeAWS:
    """The few calls that endpoints make of other services; every client of it is itself."""

    def __init__(self) -> None:
        self.alarms: dict[str, str] = {}  # StateValue by name
        self.targets: list[dict[str, str]] = []

    def client(self, service: str, scope: Scope, role: str | None = None) -> FakeAWS:
        return self

    def get_role(self, RoleName: str) -> dict[str, Any]:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        return {"Role": {"Arn": ROLE, "AssumeRolePolicyDocument": {"Statement": [statement]}}}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if Key.startswith("missing"):
            answer = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
            raise ClientError(answer, "HeadObject")
        return {}

    def describe_alarms(self, AlarmNames: list[str], AlarmTypes: list[str]) -> dict[str, Any]:
        found = [{"AlarmName": name, "StateValue": self.alarms[name]} for name in AlarmNames if name in self.alarms]
        return {"MetricAlarms": found}

    def get_paginator(self, operation: str) -> FakeAWS:
        return self

    def paginate(self, ServiceNamespace: str) -> list[dict[str, Any]]:
        return [{"ScalableTargets": list(self.targets)}]

    def deregister_scalable_target(self, **target: str) -> None:
        self.targets.remove(target)


class FakeEvents:
    """Events, written down."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.serverless = False

    def emit(self, scope: Scope, detail_type: str, resources: list[str], detail: dict[str, Any]) -> None:
        self.sent.append((detail_type, detail))

    def for_serverless(self) -> bool:
        return self.serverless

    def of(self, detail_type: str) -> list[dict[str, Any]]:
        return [detail for kind, detail in self.sent if kind == f"SageMaker {detail_type} State Change"]


class Stand:
    """All of it, put together; AWS's time stands still but for what the test lets pass."""

    def __init__(self, state: Path | None = None, hosting: FakeHosting | None = None) -> None:
        self.store = Store(state)
        self.clock = Clock(0.001)  # so slow that in effect time passes by `passes` alone
        self.hosting, self.aws, self.events = hosting or FakeHosting(), FakeAWS(), FakeEvents()
        tags = Tags(self.store)
        events: Any = self.events
        loopback: Any = self.aws
        fleets: Any = self.hosting
        registry = Registry(self.store, tags, events)
        self.models = Models(self.store, tags, loopback, registry, events)
        self.configs = EndpointConfigs(self.store, tags, self.models, events)
        self.endpoints = Endpoints(self.store, tags, loopback, self.models, self.configs, events, fleets, self.clock)
        self.operations: dict[str, Operation] = {}
        for part in (tags, registry, self.models, self.configs, self.endpoints):
            self.operations |= part.operations()

    def close(self) -> None:
        self.endpoints.kill()
        self.endpoints.join()
        self.store.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.operations[operation](CALL, request)

    def refused(self, operation: str, **request: Any) -> str:
        """The code and message with which a call is refused."""
        try:
            answer = self.call(operation, **request)
        except ServiceError as error:
            return str(error)
        raise AssertionError(f"{operation} was not refused: {answer}")

    def model(self, name: str, **members: Any) -> None:
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://bucket/{name}.tar.gz"}
        self.call("CreateModel", ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE, **members)

    def config(self, name: str, variants: dict[str, dict[str, Any]] | None = None, **members: Any) -> None:
        """A configuration with a model of its own name; two instances of variant AllTraffic by default."""
        self.model(name)
        given = variants or {"AllTraffic": {"InstanceType": "ml.m5.large", "InitialInstanceCount": 2}}
        production = [{"VariantName": variant, "ModelName": name} | given[variant] for variant in given]
        self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=production, **members)

    def in_service(self, endpoint: str = "churn", config: str = "churn-1", **members: Any) -> None:
        """Create an endpoint and wait until it is in service."""
        self.config(config, **members)
        self.call("CreateEndpoint", EndpointName=endpoint, EndpointConfigName=config)
        self.passes(120)
        self.wait(endpoint, "InService")

    def passes(self, seconds: float) -> None:
        """Let AWS's seconds pass."""
        self.clock.advance(seconds + 0.1)

    def alarm(self, name: str, state: str) -> None:
        """Put an alarm, and let whoever watches it look again."""
        self.aws.alarms[name] = state
        self.passes(0)

    def describe(self, endpoint: str = "churn") -> dict[str, Any]:
        return self.call("DescribeEndpoint", EndpointName=endpoint)

    def variant(self, endpoint: str = "churn") -> dict[str, Any]:
        (only,) = self.describe(endpoint)["ProductionVariants"]
        return only

    def wait(self, endpoint: str, status: str) -> dict[str, Any]:
        wait_for(
            lambda: self.describe(endpoint)["EndpointStatus"] == status, otherwise=lambda: str(self.describe(endpoint))
        )
        return self.describe(endpoint)

    def settles(self, status: str, after: float, endpoint: str = "churn") -> None:
        """Let AWS's seconds pass and wait until the endpoint is in a state."""
        self.passes(after)
        self.wait(endpoint, status)

    def stage(self, status: str, endpoint: str = "churn") -> str:
        """Wait until the pending deployment is at a stage; its message."""

        def current() -> list[dict[str, Any]]:
            pending = self.describe(endpoint).get("PendingDeploymentSummary", {"ProductionVariants": []})
            return [one for variant in pending["ProductionVariants"] for one in variant["VariantStatus"]]

        wait_for(
            lambda: [one["Status"] for one in current()][:1] == [status], otherwise=lambda: str(self.describe(endpoint))
        )
        return current()[0]["StatusMessage"]

    def gone(self, endpoint: str) -> None:
        wait_for(lambda: not self.call("ListEndpoints", NameContains=endpoint)["Endpoints"])
