"""Endpoints: created, described, listed, updated, rescaled, deleted, in AWS's states.

States and what is allowed in each: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html.
"""

from __future__ import annotations

import logging

from local_aws.calls import Call, Operation, Request, Response, ServiceError, validation_error
from local_aws.clock import Clock
from local_aws.events import Events
from local_aws.hosting import Hosting
from local_aws.loopback import Loopback
from local_aws.sagemaker import times
from local_aws.sagemaker.deployments import (
    Deployed,
    Variant,
    check_deployment_config,
    check_quota,
    rescaled,
    rollback_alarms,
    variants_to_deregister,
    with_retained,
)
from local_aws.sagemaker.endpoint_changes import Live, Machinery, alarm_states, scalable_targets
from local_aws.sagemaker.endpoint_configs import EndpointConfigs
from local_aws.sagemaker.endpoint_records import (
    CREATING,
    DELETING,
    FAILED,
    IN_SERVICE,
    UPDATE_ROLLBACK_FAILED,
    UPDATING,
    Keeping,
    Record,
    described,
)
from local_aws.sagemaker.listing import listed
from local_aws.sagemaker.models import Models
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store

SERVING = (IN_SERVICE, UPDATE_ROLLBACK_FAILED)
SETTLED = (*SERVING, FAILED)

logger = logging.getLogger(__name__)


class Endpoints:
    """Endpoints, by their lower-case name.

    Args:
        store: where they are kept.
        tags: of their ARNs.
        loopback: clients for CloudWatch's alarms and Application Auto Scaling.
        models, configs: what they serve.
        events: where state changes are told.
        hosting: what runs their containers and answers InvokeEndpoint.
        clock: how fast their states pass.
        quotas: what an account may have; None: AWS's defaults.
    """

    def __init__(
        self,
        store: Store,
        tags: Tags,
        loopback: Loopback,
        models: Models,
        configs: EndpointConfigs,
        events: Events,
        hosting: Hosting,
        clock: Clock,
        quotas: Quotas | None = None,
    ) -> None:
        self._lock, self._tags, self._loopback = store.lock, tags, loopback
        self._models, self._configs = models, configs
        self._endpoints = store.table("endpoints")
        self._keeping = Keeping(store, self._endpoints, tags, events)
        self._machinery = Machinery(hosting, clock, loopback, self._still_there)
        self._live: dict[tuple[Scope, str], Live] = {}
        self.quotas = quotas or Quotas()
        self._stopped = False
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateEndpoint": self.create_endpoint,
            "DescribeEndpoint": self.describe_endpoint,
            "ListEndpoints": self.list_endpoints,
            "UpdateEndpoint": self.update_endpoint,
            "UpdateEndpointWeightsAndCapacities": self.update_endpoint_weights_and_capacities,
            "DeleteEndpoint": self.delete_endpoint,
        }

    def create_endpoint(self, call: Call, request: Request) -> Response:
        """Start an endpoint.

        Raises:
            ServiceError: ValidationException: the name is taken, the configuration or its model is not there;
                ResourceLimitExceeded.
        """
        name = request["EndpointName"]
        key, arn = name.lower(), call.arn(f"endpoint/{name.lower()}")
        new = self._wanted(call.scope, request["EndpointConfigName"])
        if "DeploymentConfig" in request:
            self._check_deployment(call.scope, request["DeploymentConfig"], new, None)
        check_quota(new, None, self.quotas["instances_per_endpoint"])
        now = times.now()
        document = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": new.config,
            "EndpointStatus": CREATING,
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        if "DeploymentConfig" in request:
            document["LastDeploymentConfig"] = request["DeploymentConfig"]
        with self._lock:
            self._refuse_when_stopped()
            if self._endpoints.get(call.scope, key) is not None:
                raise validation_error(f'Cannot create already existing endpoint "{arn}".')
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._endpoints.put(call.scope, key, document)
            live = self._live[call.scope, key] = Live(Record(call.scope, key, self._keeping), self._machinery)
            live.record.begin(new, CREATING, request.get("DeploymentConfig"))
            live.record.tell_state()
            live.start(live.create, new)
        return {"EndpointArn": arn}

    def describe_endpoint(self, call: Call, request: Request) -> Response:
        return described(self._get(call, request["EndpointName"]))

    def list_endpoints(self, call: Call, request: Request) -> Response:
        summary = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        found, more = listed(self._endpoints.values(call.scope), request, "Endpoint", summary)
        return {"Endpoints": found, **more}

    def update_endpoint(self, call: Call, request: Request) -> Response:
        """Deploy another endpoint configuration, blue/green.

        Raises:
            ServiceError: ValidationException: a change is under way, the endpoint has failed, the configuration is
                the one that it has, is not there or is of a kind that it cannot change to, an alarm is not there, ...;
                ResourceLimitExceeded.
        """
        document = self._get(call, request["EndpointName"])
        _check_changeable(document)
        old = self._current(call.scope, document)
        new = with_retained(self._wanted(call.scope, request["EndpointConfigName"]), old, request)
        arn = document["EndpointArn"]
        if new.config.lower() == old.config.lower():
            raise validation_error(
                f'Cannot update endpoint "{arn}" with the endpoint configuration that it has, {old.config}: none'
                " can change. Create another and give its name."
            )
        if new.serverless and not old.serverless:
            raise validation_error(
                f'Cannot update endpoint "{arn}" from instances to serverless. Delete it and create it again.'
            )
        config = request.get("DeploymentConfig")
        if config is None and request.get("RetainDeploymentConfig"):
            config = document.get("LastDeploymentConfig")
        if config is not None:
            self._check_deployment(call.scope, config, new, old)
        self._check_scaling(call.scope, document["EndpointName"], new, old)
        check_quota(new, old, self.quotas["instances_per_endpoint"])
        with self._lock:
            live = self._changeable(call.scope, document)
            kept = {} if config is None else {"LastDeploymentConfig": config}
            live.record.begin(new, UPDATING, config, **kept)
            live.start(live.update, old, new, config)
        return {"EndpointArn": arn}

    def update_endpoint_weights_and_capacities(self, call: Call, request: Request) -> Response:
        """Change weights, instance counts or concurrency of variants; no deployment, no bake.

        Raises:
            ServiceError: ValidationException; ResourceLimitExceeded.
        """
        document = self._get(call, request["EndpointName"])
        _check_changeable(document)
        new = rescaled(self._current(call.scope, document), request["DesiredWeightsAndCapacities"])
        check_quota(new, None, self.quotas["instances_per_endpoint"])
        with self._lock:
            live = self._changeable(call.scope, document)
            live.record.change(EndpointStatus=UPDATING, Deployed=new.dump(), FailureReason=None)
            live.start(live.rescale, new)
        return {"EndpointArn": document["EndpointArn"]}

    def delete_endpoint(self, call: Call, request: Request) -> Response:
        """Take an endpoint away; its scalable targets with it.

        Raises:
            ServiceError: ValidationException: a change is under way, or there is no such endpoint.
        """
        with self._lock:
            document = self._get(call, request["EndpointName"])
            if document["EndpointStatus"] not in SETTLED:
                raise _in_progress(document)
            live = self._changeable(call.scope, document)
            live.record.change(EndpointStatus=DELETING)
            live.start(self._delete, live)
        return {}

    # For the server

    def resume(self) -> None:
        """After a restart with state: what was served is served again, and what was under way goes on.

        A creation or an update that had not come to its end begins anew, an update of which only the old fleet was
        left is done, a roll-back is finished.
        """
        for scope, key, document in self._endpoints.items():
            live = self._live[scope, key] = Live(Record(scope, key, self._keeping), self._machinery)
            status, deployed, pending = document["EndpointStatus"], live.record.deployed, document.get("Pending")
            new = Deployed.load(pending["Deployed"]) if pending else None
            if status == DELETING:
                live.start(self._delete, live)
            elif status == CREATING and new is not None:
                live.start(live.create, new)
            elif deployed is None or status == FAILED:
                continue
            elif pending is None or new is None:
                live.start(live.finish_rescaling if status == UPDATING else live.serve_again, deployed)
            elif "Fault" in pending:
                live.start(live.finish_roll_back, deployed, pending["Fault"])
            elif pending.get("Stage") == "Deleting":
                live.start(live.finish_deleting, new)
            else:
                live.start(live.finish_update, deployed, new, pending.get("DeploymentConfig"))

    def kill(self) -> None:
        """Change nothing any more."""
        with self._lock:
            self._stopped = True
            endpoints = list(self._live.values())
        for live in endpoints:
            live.kill()

    def join(self) -> None:
        """Wait, after `kill`, for the threads of changes that were under way."""
        for live in list(self._live.values()):
            if live.thread is not None:
                live.thread.join()

    @property
    def busy(self) -> bool:
        """Whether any endpoint is changing."""
        return any(live.busy for live in list(self._live.values()))

    # Within

    def _delete(self, live: Live) -> None:
        live.delete()
        with self._lock:
            key = (live.record.scope, live.record.key)
            if self._live.get(key) is live:  # not one of the same name that was created since
                del self._live[key]

    def _get(self, call: Call, name: str) -> Document:
        document = self._endpoints.get(call.scope, name.lower())
        if document is None:
            raise validation_error(f'Could not find endpoint "{call.arn(f"endpoint/{name.lower()}")}".')
        return document

    def _changeable(self, scope: Scope, document: Document) -> Live:
        """With the lock held: the endpoint's running side, when the document is still the one that was looked at."""
        self._refuse_when_stopped()
        key = document["EndpointName"].lower()
        if self._endpoints.get(scope, key) is not document:
            raise _in_progress(document)
        return self._live[scope, key]

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise ServiceError("InternalFailure", "local_aws is going down and changes no endpoint any more.", 500)

    def _wanted(self, scope: Scope, config_name: str) -> Deployed:
        """A configuration as it would be served.

        Raises:
            ServiceError: ValidationException: it, or a model of it, is not there.
        """
        config = self._configs.get(scope, config_name)
        now = times.now()
        variants = []
        for one in config["ProductionVariants"]:
            (container,) = self._models.containers(scope, one["ModelName"])
            weight, count = one["InitialVariantWeight"], one.get("InitialInstanceCount", 0)
            variants.append(
                Variant(
                    name=one["VariantName"],
                    model=one["ModelName"],
                    image=container.image,
                    model_data_url=container.model_data_url,
                    environment=container.environment,
                    weight=weight,
                    desired_weight=weight,
                    count=count,
                    desired_count=count,
                    instance_type=one.get("InstanceType"),
                    serverless=one.get("ServerlessConfig"),
                    desired_serverless=one.get("ServerlessConfig"),
                    resolved=now,
                    startup_seconds=one.get("ContainerStartupHealthCheckTimeoutInSeconds"),
                    network_isolation=container.network_isolation,
                    role=container.role,
                    vpc=container.vpc,
                )
            )
        return Deployed(config["EndpointConfigName"], tuple(variants), config.get("DataCaptureConfig"))

    def _current(self, scope: Scope, document: Document) -> Deployed:
        """What the endpoint serves, with its configuration and models still there: AWS needs them for any change.

        Raises:
            ServiceError: ValidationException: one of them was deleted.
        """
        deployed = Deployed.load(document["Deployed"])
        self._configs.get(scope, deployed.config)
        for variant in deployed.variants:
            self._models.get(scope, variant.model)
        return deployed

    def _still_there(self, scope: Scope, deployed: Deployed) -> bool:
        try:
            self._wanted(scope, deployed.config)
        except ServiceError as error:
            logger.info("endpoint configuration %s cannot be gone back to: %s", deployed.config, error)
            return False
        return True

    def _check_deployment(self, scope: Scope, config: Document, new: Deployed, old: Deployed | None) -> None:
        check_deployment_config(config, new, old)
        names = rollback_alarms(config)
        states = alarm_states(self._loopback, scope, names)
        if missing := [name for name in names if name not in states]:
            raise validation_error(
                f"AutoRollbackConfiguration: could not find CloudWatch alarm(s) {', '.join(missing)}."
                " Create them first."
            )

    def _check_scaling(self, scope: Scope, endpoint: str, new: Deployed, old: Deployed) -> None:
        names = variants_to_deregister(new, old)
        targets = scalable_targets(self._loopback, scope, endpoint) if names else []
        scaled = {target["ResourceId"].rpartition("/")[2] for target in targets}
        if left := [name for name in names if name in scaled]:
            raise validation_error(
                f'The variant(s) "[{", ".join(left)}]" must be deregistered as scalable targets with AWS Auto Scaling'
                " before they can be removed or have their instance type updated."
            )

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        document = self._endpoints.get(scope, arn.rpartition("/")[2])
        return document is not None and document["EndpointArn"] == arn


def _check_changeable(document: Document) -> None:
    """Raise ValidationException for an endpoint that cannot be updated in its state."""
    status = document["EndpointStatus"]
    if status == FAILED:
        raise validation_error(
            f'Cannot update endpoint "{document["EndpointArn"]}" in status {FAILED}: DeleteEndpoint is the only'
            " operation that can be performed on it."
        )
    if status not in SERVING:
        raise _in_progress(document)


def _in_progress(document: Document) -> ServiceError:
    # AWS's words, as its clients look for them; for DeleteEndpoint too.
    return validation_error(f'Cannot update in-progress endpoint "{document["EndpointArn"]}".')
