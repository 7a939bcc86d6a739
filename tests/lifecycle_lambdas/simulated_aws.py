"""AWS as far as the controller calls it, in memory and without time: an endpoint changes when the test says so.

Every request is checked against botocore's service model. Rules of hosting are those of the API reference and of
facts that local_aws's hosting is tested for; what a model answers is not simulated (test_deploying.py has that).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from local_aws.request_checks import check_request, service_model
from tests.simulated_clients import Answer, Client, Request

ACCOUNT, REGION = "123456789012", "us-east-1"
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
CHANGEABLE = ("InService", "OutOfService", "UpdateRollbackFailed")
# (operation, request, "before" or "after"): called around every call that changes something
Hook = Callable[[str, Request, str], None]


@dataclass
class SimulatedAWS:
    """
    Args:
        broken: ARNs of the versions whose containers do not start.
        missing: operations that the caller has no permission for.
    """

    broken: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    hook: Hook = lambda operation, request, when: None
    calls: list[str] = field(default_factory=list)
    published: list[Request] = field(default_factory=list)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    packages: dict[str, Answer] = field(default_factory=dict)
    models: dict[str, Answer] = field(default_factory=dict)
    configs: dict[str, Answer] = field(default_factory=dict)
    endpoints: dict[str, Answer] = field(default_factory=dict)
    alarms: dict[str, Answer] = field(default_factory=dict)
    dashboards: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, Answer] = field(default_factory=dict)
    targets: dict[str, Answer] = field(default_factory=dict)
    policies: dict[tuple[str, str], Answer] = field(default_factory=dict)
    tags: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    region: str = REGION

    def __call__(self, service: str, region: str | None = None) -> Any:
        return Client(self.call, service)

    def call(self, service: str, operation: str, request: Request) -> Answer:
        check_request(service_model(service).operation_model(operation), on_the_wire(request))
        self.calls.append(operation)
        changes = not operation.startswith(("Describe", "Get", "List"))
        if operation in self.missing:
            raise refusal(operation, "AccessDeniedException", f"not authorized to perform {operation}")
        if changes:
            self.hook(operation, request, "before")
        answer = getattr(self, xform_name(operation))(**request) or {}
        if changes:
            self.hook(operation, request, "after")
        return dict(answer)

    # --- what the test does

    def settle(self) -> None:
        """Every endpoint ends one thing that it is at."""
        for name, endpoint in list(self.endpoints.items()):
            status = endpoint["EndpointStatus"]
            if status == "Deleting":
                del self.endpoints[name]
            elif status == "Creating":
                fails = self._is_broken(endpoint["EndpointConfigName"])
                self._end(endpoint, "Failed" if fails else "InService", "The container did not start." if fails else "")
            elif status == "Updating":
                self._end_update(name, endpoint)
            elif status == "RollingBack":
                self._end(endpoint, "InService", "An alarm was raised, or the container did not start.")

    def _end_update(self, name: str, endpoint: Answer) -> None:
        if "PendingDeploymentSummary" not in endpoint:  # auto scaling was at it
            self._end(endpoint, "InService", endpoint.get("FailureReason", ""))
            return
        pending = endpoint["PendingDeploymentSummary"]["EndpointConfigName"]
        watched = endpoint["watched"]
        if self._is_broken(pending) or any(self.alarms[alarm]["StateValue"] == "ALARM" for alarm in watched):
            endpoint["EndpointStatus"] = "RollingBack"
            return
        endpoint["EndpointConfigName"] = pending
        endpoint["ProductionVariants"] = endpoint.pop("pending variants")
        self._end(endpoint, "InService", "")

    def _end(self, endpoint: Answer, status: str, failure: str) -> None:
        for gone in ("PendingDeploymentSummary", "FailureReason"):
            endpoint.pop(gone, None)
        endpoint |= {"EndpointStatus": status, "LastModifiedTime": self._now()}
        if failure:
            endpoint["FailureReason"] = failure

    def scale(self, name: str, count: int) -> None:
        """Auto scaling sets another number of instances."""
        endpoint = self.endpoints[name]
        endpoint["ProductionVariants"][0]["DesiredInstanceCount"] = count
        endpoint |= {"EndpointStatus": "Updating", "LastModifiedTime": self._now()}

    def _is_broken(self, config: str) -> bool:
        return any(variant["package"] in self.broken for variant in self._variants_of(config))

    def _now(self) -> datetime:
        return datetime.now(UTC)

    # --- SageMaker: registry

    def describe_model_package(self, ModelPackageName: str) -> Answer:
        return {**self._get(self.packages, ModelPackageName, "model package")}

    def update_model_package(
        self,
        ModelPackageArn: str,
        CustomerMetadataProperties: dict[str, str] | None = None,
        CustomerMetadataPropertiesToRemove: list[str] | None = None,
        **changes: Any,
    ) -> None:
        package = self.packages[ModelPackageArn]
        metadata = {**package["CustomerMetadataProperties"], **(CustomerMetadataProperties or {})}
        if len(metadata) > 50:
            raise validation("CustomerMetadataProperties: at most 50")
        for name in CustomerMetadataPropertiesToRemove or []:
            if metadata.pop(name, None) is None:
                raise validation(f"There is no property {name} to remove.")
        self.packages[ModelPackageArn] = {
            **package,
            **changes,
            "CustomerMetadataProperties": metadata,
            "LastModifiedTime": self._now(),
        }

    def list_tags(self, ResourceArn: str) -> Answer:
        return {"Tags": self.tags.get(ResourceArn, [])}

    # --- SageMaker: hosting

    def create_model(self, ModelName: str, Containers: list[Answer], Tags: list[dict[str, str]], **rest: Any) -> Answer:
        return self._create("model", self.models, ModelName, Tags, {"Containers": Containers, **rest})

    def describe_model(self, ModelName: str) -> Answer:
        return self._get(self.models, ModelName, "model")

    def delete_model(self, ModelName: str) -> None:
        self._get(self.models, ModelName, "model")
        del self.models[ModelName]

    def list_models(self, NameContains: str = "") -> Answer:
        return {
            "Models": [
                {
                    "ModelName": name,
                    "ModelArn": arn("sagemaker", f"model/{name}"),
                    "CreationTime": model["CreationTime"],
                }
                for name, model in self.models.items()
                if NameContains in name
            ]
        }

    def create_endpoint_config(
        self, EndpointConfigName: str, ProductionVariants: list[Answer], Tags: list[dict[str, str]], **rest: Any
    ) -> Answer:
        variants = []
        for variant in ProductionVariants:
            model = self._get(self.models, variant["ModelName"], "model")
            variants.append({**variant, "package": model["Containers"][0]["ModelPackageName"]})
        content = {"ProductionVariants": variants, **rest}
        return self._create("endpoint-config", self.configs, EndpointConfigName, Tags, content)

    def describe_endpoint_config(self, EndpointConfigName: str) -> Answer:
        return self._get(self.configs, EndpointConfigName, "endpoint configuration")

    def delete_endpoint_config(self, EndpointConfigName: str) -> None:
        self._get(self.configs, EndpointConfigName, "endpoint configuration")
        used = [
            name
            for endpoint in self.endpoints.values()
            for name in (
                endpoint["EndpointConfigName"],
                endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
            )
        ]
        assert EndpointConfigName not in used, f"{EndpointConfigName} is in use"
        del self.configs[EndpointConfigName]

    def list_transform_jobs(self, NameContains: str, StatusEquals: str, MaxResults: int = 10, **order: str) -> Answer:
        """None run here; simulated_platform has some."""
        return {"TransformJobSummaries": []}

    def list_endpoint_configs(self, NameContains: str = "") -> Answer:
        return {
            "EndpointConfigs": [
                {"EndpointConfigName": name, "EndpointConfigArn": arn("sagemaker", f"endpoint-config/{name}")}
                for name in self.configs
                if NameContains in name
            ]
        }

    def create_endpoint(self, EndpointName: str, EndpointConfigName: str, Tags: list[dict[str, str]]) -> Answer:
        content = {
            "EndpointArn": arn("sagemaker", f"endpoint/{EndpointName}"),
            "EndpointStatus": "Creating",
            "EndpointConfigName": EndpointConfigName,
            "ProductionVariants": self._variants(EndpointConfigName),
            "LastModifiedTime": self._now(),
        }
        return self._create("endpoint", self.endpoints, EndpointName, Tags, content)

    def describe_endpoint(self, EndpointName: str) -> Answer:
        return self._get(self.endpoints, EndpointName, "endpoint")

    def update_endpoint(
        self,
        EndpointName: str,
        EndpointConfigName: str,
        RetainAllVariantProperties: bool,
        ExcludeRetainedVariantProperties: list[dict[str, str]] | None = None,
        DeploymentConfig: Answer | None = None,
    ) -> None:
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        if endpoint["EndpointStatus"] not in CHANGEABLE:
            raise validation(f"Cannot update in-progress endpoint {EndpointName}.")
        if endpoint["EndpointConfigName"] == EndpointConfigName:
            raise validation("The endpoint configuration is the one that the endpoint has.")
        new, old = self._variants(EndpointConfigName), endpoint["ProductionVariants"]
        if ("CurrentServerlessConfig" in new[0]) > ("CurrentServerlessConfig" in old[0]):
            raise validation("An endpoint on instances cannot become serverless.")
        self._refuse_scaled(EndpointName, endpoint["EndpointConfigName"], EndpointConfigName)
        watched = [
            one["AlarmName"] for one in (DeploymentConfig or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
        ]
        for alarm in watched:
            if alarm not in self.alarms:
                raise validation(f"There is no alarm {alarm}.")
        assert RetainAllVariantProperties
        excluded = [one["VariantPropertyType"] for one in ExcludeRetainedVariantProperties or []]
        if "DesiredInstanceCount" not in excluded:
            counts = {one["VariantName"]: one.get("DesiredInstanceCount") for one in old}
            new = [
                {**one, "DesiredInstanceCount": counts.get(one["VariantName"]) or one.get("DesiredInstanceCount")}
                for one in new
            ]
        endpoint |= {
            "EndpointStatus": "Updating",
            "PendingDeploymentSummary": {"EndpointConfigName": EndpointConfigName},
            "LastModifiedTime": self._now(),
            "watched": watched,
            "pending variants": new,
            "LastDeploymentConfig": DeploymentConfig or {},
        }

    def _refuse_scaled(self, name: str, old: str, new: str) -> None:
        types = [
            {one["VariantName"]: one.get("InstanceType") for one in self._variants_of(config)} for config in (old, new)
        ]
        for variant, instance_type in types[0].items():
            if f"endpoint/{name}/variant/{variant}" in self.targets and types[1].get(variant) != instance_type:
                raise validation(f"The variant {variant} has a scalable target: deregister it first.")

    def _variants_of(self, config: str) -> list[Answer]:
        """None of a config that somebody deleted."""
        return list(self.configs.get(config, {}).get("ProductionVariants", []))

    def delete_endpoint(self, EndpointName: str) -> None:
        endpoint = self._get(self.endpoints, EndpointName, "endpoint")
        if endpoint["EndpointStatus"] in BUSY:
            raise validation(f"Cannot delete in-progress endpoint {EndpointName}.")
        endpoint |= {"EndpointStatus": "Deleting", "LastModifiedTime": self._now()}

    def _variants(self, config: str) -> list[Answer]:
        found = []
        for variant in self._get(self.configs, config, "endpoint configuration")["ProductionVariants"]:
            shown: Answer = {"VariantName": variant["VariantName"]}
            if "ServerlessConfig" in variant:
                shown["CurrentServerlessConfig"] = variant["ServerlessConfig"]
            else:
                shown["DesiredInstanceCount"] = variant["InitialInstanceCount"]
            found.append(shown)
        return found

    # --- CloudWatch

    def put_metric_alarm(self, AlarmName: str, Tags: list[dict[str, str]], **definition: Any) -> None:
        state = self.alarms.get(AlarmName, {}).get("StateValue", "INSUFFICIENT_DATA")
        self.tags.setdefault(arn("cloudwatch", f"alarm:{AlarmName}"), Tags)
        self.alarms[AlarmName] = {"AlarmName": AlarmName, **definition, "StateValue": state}

    def describe_alarms(
        self, AlarmTypes: list[str], AlarmNames: list[str] | None = None, AlarmNamePrefix: str | None = None
    ) -> Answer:
        return {
            "MetricAlarms": [
                {**alarm, "AlarmArn": arn("cloudwatch", f"alarm:{name}")}
                for name, alarm in self.alarms.items()
                if (name in AlarmNames if AlarmNames is not None else name.startswith(AlarmNamePrefix or ""))
            ]
        }

    def set_alarm_state(self, AlarmName: str, StateValue: str, StateReason: str) -> None:
        self._get(self.alarms, AlarmName, "alarm")
        alarm = self.alarms[AlarmName]
        if alarm["StateValue"] != StateValue:
            alarm["StateTransitionedTimestamp"] = self._now()
        alarm |= {"StateValue": StateValue, "StateReason": StateReason}

    def get_metric_data(self, MetricDataQueries: list[Answer], **span: Any) -> Answer:
        """Nobody asked the endpoints anything."""
        return {"MetricDataResults": [{"Id": one["Id"], "Timestamps": [], "Values": []} for one in MetricDataQueries]}

    def delete_alarms(self, AlarmNames: list[str]) -> None:
        for name in AlarmNames:
            self._get(self.alarms, name, "alarm")
            del self.alarms[name]

    def list_tags_for_resource(self, ResourceARN: str) -> Answer:
        return {"Tags": self.tags.get(ResourceARN, [])}

    def put_dashboard(self, DashboardName: str, DashboardBody: str) -> None:
        self.dashboards[DashboardName] = DashboardBody

    def get_dashboard(self, DashboardName: str) -> Answer:
        if DashboardName not in self.dashboards:
            raise refusal("GetDashboard", "ResourceNotFound", f"Dashboard {DashboardName} does not exist")
        return {"DashboardBody": self.dashboards[DashboardName]}

    def delete_dashboards(self, DashboardNames: list[str]) -> None:
        for name in DashboardNames:
            if name not in self.dashboards:
                raise refusal("DeleteDashboards", "DashboardNotFoundError", f"Dashboard {name} does not exist")
            del self.dashboards[name]

    # --- Application Auto Scaling

    def register_scalable_target(self, ResourceId: str, Tags: dict[str, str] | None = None, **target: Any) -> None:
        self.targets[ResourceId] = {"ResourceId": ResourceId, **target}

    def deregister_scalable_target(self, ResourceId: str, **place: Any) -> None:
        if ResourceId not in self.targets:
            raise refusal("DeregisterScalableTarget", "ObjectNotFoundException", "No scalable target found")
        del self.targets[ResourceId]
        self.policies = {key: policy for key, policy in self.policies.items() if key[0] != ResourceId}

    def describe_scalable_targets(self, ServiceNamespace: str, ResourceIds: list[str]) -> Answer:
        return {"ScalableTargets": [target for name, target in self.targets.items() if name in ResourceIds]}

    def put_scaling_policy(self, PolicyName: str, ResourceId: str, **policy: Any) -> None:
        self.policies[ResourceId, PolicyName] = {"PolicyName": PolicyName, **policy}

    def describe_scaling_policies(self, ResourceId: str, **place: Any) -> Answer:
        return {"ScalingPolicies": [policy for key, policy in self.policies.items() if key[0] == ResourceId]}

    # --- EventBridge Scheduler, S3, SNS

    def create_schedule(self, Name: str, ClientToken: str, **schedule: Any) -> None:
        if Name in self.schedules:
            raise refusal("CreateSchedule", "ConflictException", f"Schedule {Name} already exists.")
        self.schedules[Name] = {"Name": Name, **schedule}

    def update_schedule(self, Name: str, **schedule: Any) -> None:
        self.get_schedule(Name, schedule["GroupName"])
        self.schedules[Name] = {"Name": Name, **schedule}

    def get_schedule(self, Name: str, GroupName: str) -> Answer:
        if Name not in self.schedules:
            raise refusal("GetSchedule", "ResourceNotFoundException", f"Schedule {Name} does not exist.")
        return self.schedules[Name]

    def delete_schedule(self, Name: str, GroupName: str) -> None:
        self.get_schedule(Name, GroupName)
        del self.schedules[Name]

    def get_object(self, Bucket: str, Key: str) -> Answer:
        if (Bucket, Key) not in self.objects:
            raise refusal("GetObject", "NoSuchKey", "The specified key does not exist.")
        return {"Body": io.BytesIO(self.objects[Bucket, Key])}

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:
        self.objects[Bucket, Key] = Body

    def publish(self, **message: Any) -> None:
        self.published.append(message)

    # ---

    def _create(
        self, kind: str, table: dict[str, Answer], name: str, tags: list[dict[str, str]], content: Answer
    ) -> Answer:
        if name in table:
            raise validation(f"Cannot create already existing {kind} {name}.")
        self.tags[arn("sagemaker", f"{kind}/{name}")] = tags
        named = {"model": "ModelName", "endpoint": "EndpointName", "endpoint-config": "EndpointConfigName"}[kind]
        table[name] = content if kind == "endpoint" else {named: name, "CreationTime": self._now(), **content}
        return {}

    def _get(self, table: dict[str, Answer], name: str, kind: str) -> Answer:
        if name not in table:
            raise validation(f'Could not find {kind} "{name}".')
        return table[name]


def on_the_wire(request: Request) -> Request:
    """As boto3 sends it, as far as the services' models are asked: times are seconds since 1970."""
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in request.items()}


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def refusal(operation: str, code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def validation(message: str) -> ClientError:
    return refusal("", "ValidationException", message)
