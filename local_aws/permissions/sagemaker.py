"""What each of SageMaker's operations asks IAM.

Resources, condition keys and dependent actions:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local_aws.permissions.autoscaling import deregister
from local_aws.permissions.questions import (
    Ask,
    Context,
    Known,
    Question,
    Request,
    known_keys,
    nothing_in_particular,
    pass_role,
    resource_tags,
    tags_in_request,
    use_keys,
)

SERVICE = "sagemaker.amazonaws.com"
# Kinds whose names keep their case in ARNs.
AS_NAMED = ("pipeline", "model-package", "model-package-group", "project", "domain")


def arn_of(known: Known, kind: str, name: str) -> str:
    """The ARN of a resource that a request names, by its name or by its ARN."""
    if name.startswith("arn:"):
        return name
    return known.arn("sagemaker", f"{kind}/{name if kind in AS_NAMED else name.lower()}")


def existing(known: Known, arn: str) -> Context:
    """The condition keys that a resource has, whatever is asked about it."""
    tags = known.tags(arn)
    context = resource_tags(tags) | {f"sagemaker:ResourceTag/{key}": value for key, value in tags.items()}
    package = known.package(arn) if ":model-package/" in arn else {}
    stage = package.get("ModelLifeCycle", {})
    properties = package.get("CustomerMetadataProperties", {})
    return (
        context
        | known_keys(CurrentModelLifeCycleStage=stage.get("Stage"))
        | known_keys(CurrentModelLifeCycleStageStatus=stage.get("StageStatus"))
        | {f"sagemaker:CurrentCustomerMetadataProperties/{key}": value for key, value in properties.items()}
    )


def on(kind: str, member: str, keys: Callable[[Request], Context] = lambda request: {}) -> Ask:
    """About one resource, which the request's member names."""

    def ask(action: str, request: Request, known: Known) -> list[Question]:
        arn = arn_of(known, kind, request.get(member, "*"))  # a member that the model does not require
        return [Question(action, arn, existing(known, arn) | keys(request))]

    return ask


def create(
    kind: str,
    member: str,
    keys: Callable[[Request, Known], Context] = lambda request, known: {},
    roles: Callable[[Request], Iterable[str | None]] = lambda request: (),
    volumes: Callable[[Request], Iterable[str | None]] = lambda request: (),
) -> Ask:
    """A new resource.

    Args:
        keys: the condition keys of such a request besides its tags'.
        roles: that the request passes to SageMaker.
        volumes: the KMS keys of the volumes that it asks for.
    """

    def ask(action: str, request: Request, known: Known) -> list[Question]:
        arn, tags = arn_of(known, kind, request[member]), tags_in_request(request.get("Tags"))
        return [
            Question(action, arn, tags | keys(request, known)),
            *tag_while_creating(action, arn, tags),
            *[pass_role(role, SERVICE, action) for role in _each(roles(request))],
            *use_keys(known, _each(volumes(request)), action),
        ]

    return ask


def tag_while_creating(action: str, arn: str, tags: Context) -> list[Question]:
    if not tags:
        return []
    tagging = {"sagemaker:TaggingAction": action.partition(":")[2]}
    return [Question("sagemaker:AddTags", arn, tags | tagging, action)]


def _each(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _vpc(config: Mapping[str, Any]) -> Context:
    return known_keys(VpcSecurityGroupIds=config.get("SecurityGroupIds"), VpcSubnets=config.get("Subnets"))


def _kms_keys(known: Known, volume: str | None, output: str | None) -> Context:
    return known_keys(
        VolumeKmsKey=known.kms_key(volume) if volume else None,
        OutputKmsKey=known.kms_key(output) if output else None,
    )


# Jobs


def processing_keys(request: Request, known: Known) -> Context:
    cluster = request["ProcessingResources"].get("ClusterConfig", {})
    network = request.get("NetworkConfig", {})
    output = request.get("ProcessingOutputConfig", {}).get("KmsKeyId")
    return (
        known_keys(
            InstanceTypes=[each for each in [cluster.get("InstanceType")] if each],
            MaxRuntimeInSeconds=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
            NetworkIsolation=network.get("EnableNetworkIsolation"),
            InterContainerTrafficEncryption=network.get("EnableInterContainerTrafficEncryption"),
        )
        | _vpc(network.get("VpcConfig", {}))
        | _kms_keys(known, cluster.get("VolumeKmsKeyId"), output)
    )


def training_keys(request: Request, known: Known) -> Context:
    """Of CreateTrainingJob, and of a tuning job's definition of its training jobs."""
    resources = request.get("ResourceConfig") or request.get("HyperParameterTuningResourceConfig") or {}
    inside = [*resources.get("InstanceGroups", []), *resources.get("InstanceConfigs", [])]
    types = [each["InstanceType"] for each in (resources, *inside) if each.get("InstanceType")]
    systems = [
        channel["DataSource"]["FileSystemDataSource"]
        for channel in request.get("InputDataConfig", [])
        if "FileSystemDataSource" in channel["DataSource"]
    ]
    return (
        known_keys(
            InstanceTypes=types,
            MaxRuntimeInSeconds=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
            NetworkIsolation=request.get("EnableNetworkIsolation"),
            InterContainerTrafficEncryption=request.get("EnableInterContainerTrafficEncryption"),
            FileSystemId=[system["FileSystemId"] for system in systems],
            FileSystemType=[system["FileSystemType"] for system in systems],
            FileSystemAccessMode=[system["FileSystemAccessMode"] for system in systems],
            FileSystemDirectoryPath=[system["DirectoryPath"] for system in systems],
        )
        | _vpc(request.get("VpcConfig", {}))
        | _kms_keys(known, resources.get("VolumeKmsKeyId"), request.get("OutputDataConfig", {}).get("KmsKeyId"))
    )


def one_training_job_keys(request: Request, known: Known) -> Context:
    return training_keys(request, known) | known_keys(
        KeepAlivePeriod=request["ResourceConfig"].get("KeepAlivePeriodInSeconds"),
        EnableRemoteDebug=request.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
    )


def _definitions(request: Request) -> list[Request]:
    one = request.get("TrainingJobDefinition")
    return [*([one] if one else []), *request.get("TrainingJobDefinitions", [])]


def tuning_keys(request: Request, known: Known) -> Context:
    found: Context = {}
    for definition in _definitions(request):
        for key, value in training_keys(definition, known).items():
            before = found.get(key)
            several = isinstance(before, list) and isinstance(value, list)
            found[key] = [*before, *value] if several else value  # type: ignore[misc]
    return found


def _volume(resources: Mapping[str, Any] | None) -> str | None:
    return (resources or {}).get("VolumeKmsKeyId")


def tuning_volumes(request: Request) -> list[str | None]:
    names = ("ResourceConfig", "HyperParameterTuningResourceConfig")
    return [_volume(definition.get(name)) for definition in _definitions(request) for name in names]


def transform_keys(request: Request, known: Known) -> Context:
    resources = request["TransformResources"]
    return known_keys(
        InstanceTypes=[resources["InstanceType"]], ModelArn=[arn_of(known, "model", request["ModelName"])]
    ) | _kms_keys(known, resources.get("VolumeKmsKeyId"), request["TransformOutput"].get("KmsKeyId"))


# Hosting


def model_keys(request: Request, known: Known) -> Context:
    isolated = known_keys(NetworkIsolation=request.get("EnableNetworkIsolation"))
    return isolated | _vpc(request.get("VpcConfig", {}))


def endpoint_config_keys(request: Request, known: Known) -> Context:
    variants = [*request["ProductionVariants"], *request.get("ShadowProductionVariants", [])]
    serverless = [variant["ServerlessConfig"] for variant in variants if "ServerlessConfig" in variant]

    def each(member: str) -> list[str]:
        return [variant[member] for variant in variants if variant.get(member)]

    return (
        known_keys(
            InstanceTypes=each("InstanceType"),
            AcceleratorTypes=each("AcceleratorType"),
            ModelArn=[arn_of(known, "model", name) for name in each("ModelName")],
            ServerlessMaxConcurrency=max((each["MaxConcurrency"] for each in serverless), default=None),
            ServerlessMemorySize=max((each["MemorySizeInMB"] for each in serverless), default=None),
            NetworkIsolation=request.get("EnableNetworkIsolation"),
        )
        | _vpc(request.get("VpcConfig", {}))
        | _kms_keys(known, request.get("KmsKeyId"), None)
    )


def create_endpoint(action: str, request: Request, known: Known) -> list[Question]:
    arn, tags = arn_of(known, "endpoint", request["EndpointName"]), tags_in_request(request.get("Tags"))
    config = arn_of(known, "endpoint-config", request["EndpointConfigName"])
    return [
        Question(action, arn, tags),
        Question(action, config, tags | existing(known, config)),
        *tag_while_creating(action, arn, tags),
        *_what_a_deployment_needs(action, request.get("DeploymentConfig"), request, known),
    ]


def update_endpoint(action: str, request: Request, known: Known) -> list[Question]:
    arns = [
        arn_of(known, "endpoint", request["EndpointName"]),
        arn_of(known, "endpoint-config", request["EndpointConfigName"]),
    ]
    deployment = request.get("DeploymentConfig")
    if deployment is None and request.get("RetainDeploymentConfig"):
        deployment = known.endpoint(request["EndpointName"]).get("LastDeploymentConfig")
    return [
        *[Question(action, arn, existing(known, arn)) for arn in arns],
        *_what_a_deployment_needs(action, deployment, request, known),
    ]


def _what_a_deployment_needs(
    action: str, deployment: Mapping[str, Any] | None, request: Request, known: Known
) -> list[Question]:
    alarms = (deployment or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    volume = known.endpoint_config(request["EndpointConfigName"]).get("KmsKeyId")
    return [
        *[
            Question("cloudwatch:DescribeAlarms", known.arn("cloudwatch", f"alarm:{alarm['AlarmName']}"), {}, action)
            for alarm in alarms
        ],
        *use_keys(known, _each([volume]), action),
    ]


def delete_endpoint(action: str, request: Request, known: Known) -> list[Question]:
    """Scalable targets are deregistered with the caller's rights:
    https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-delete.html.
    """
    arn = arn_of(known, "endpoint", request["EndpointName"])
    targets = known.scalable_targets(f"endpoint/{request['EndpointName']}/")
    return [
        Question(action, arn, existing(known, arn)),
        *[
            question
            for target in targets
            for question in deregister(
                "application-autoscaling:DeregisterScalableTarget", target["answer"], known, because=action
            )
        ],
    ]


# Model packages


def package_keys(request: Request) -> Context:
    stage = request.get("ModelLifeCycle", {})
    properties = request.get("CustomerMetadataProperties", {})
    return (
        known_keys(
            ModelApprovalStatus=request.get("ModelApprovalStatus"),
            CustomerMetadataPropertiesToRemove=request.get("CustomerMetadataPropertiesToRemove"),
        )
        | known_keys(**{"ModelLifeCycle:Stage": stage.get("Stage")})
        | known_keys(**{"ModelLifeCycle:StageStatus": stage.get("StageStatus")})
        | {f"sagemaker:CustomerMetadataProperties/{key}": value for key, value in properties.items()}
    )


def create_model_package(action: str, request: Request, known: Known) -> list[Question]:
    """A version is asked about as any of its group: its number is not known yet, and nobody's who may not make one."""
    tags = tags_in_request(request.get("Tags"))
    keys = tags | package_keys(request)
    group = request.get("ModelPackageGroupName")
    if group is None:
        arn = arn_of(known, "model-package", request.get("ModelPackageName", "*"))
        return [Question(action, arn, keys), *tag_while_creating(action, arn, tags)]
    arns = [arn_of(known, "model-package-group", group), _any_version(known, group)]
    return [
        *[Question(action, arn, existing(known, arn) | keys) for arn in arns],
        *tag_while_creating(action, arns[1], tags),
    ]


def _any_version(known: Known, group: str) -> str:
    arn = arn_of(known, "model-package-group", group)
    return arn.replace(":model-package-group/", ":model-package/", 1) + "/*"


def list_model_packages(action: str, request: Request, known: Known) -> list[Question]:
    group = request.get("ModelPackageGroupName")
    arn = arn_of(known, "model-package", "*") if group is None else _any_version(known, group)
    return [Question(action, arn, existing(known, arn))]


def batch_describe(action: str, request: Request, known: Known) -> list[Question]:
    return [Question(action, arn, existing(known, arn)) for arn in request["ModelPackageArnList"]]


# Pipelines


def version_key(request: Request) -> Context:
    return known_keys(PipelineVersionId=request.get("PipelineVersionId"))


def update_pipeline(action: str, request: Request, known: Known) -> list[Question]:
    roles = [pass_role(role, SERVICE, action) for role in _each([request.get("RoleArn")])]
    return [*on("pipeline", "PipelineName")(action, request, known), *roles]


# Projects and domains


def update_project(action: str, request: Request, known: Known) -> list[Question]:
    """What the project's stack needs besides is asked where it is changed: Service Catalog, CloudFormation, S3."""
    arn, tags = arn_of(known, "project", request["ProjectName"]), tags_in_request(request.get("Tags"))
    return [Question(action, arn, existing(known, arn) | tags), *tag_while_creating(action, arn, tags)]


def create_domain(action: str, request: Request, known: Known) -> list[Question]:
    """A domain's id is not known yet. With the first one SageMaker gets its service-linked role.

    https://docs.aws.amazon.com/sagemaker/latest/dg/using-service-linked-roles.html
    """
    arn, tags = arn_of(known, "domain", "*"), tags_in_request(request.get("Tags"))
    roles = _each([request["DefaultUserSettings"].get("ExecutionRole")])
    vpc = known_keys(VpcSubnets=request.get("SubnetIds"), AppNetworkAccessType=request.get("AppNetworkAccessType"))
    found = [
        Question(action, arn, tags | vpc),
        *tag_while_creating(action, arn, tags),
        *[pass_role(role, SERVICE, action) for role in roles],
    ]
    if not known.has_domain():
        linked = f"role/aws-service-role/{SERVICE}/AWSServiceRoleForAmazonSageMakerNotebooks"
        arn = f"arn:aws:iam::{known.scope.account}:{linked}"
        found.append(Question("iam:CreateServiceLinkedRole", arn, {"iam:AWSServiceName": SERVICE}, action))
    return found


# Tags


def add_tags(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["ResourceArn"]
    return [Question(action, arn, existing(known, arn) | tags_in_request(request["Tags"]))]


def delete_tags(action: str, request: Request, known: Known) -> list[Question]:
    arn = request["ResourceArn"]
    return [Question(action, arn, existing(known, arn) | {"aws:TagKeys": list(request["TagKeys"])})]


def _role(request: Request) -> list[str | None]:
    return [request.get("RoleArn")]


_EXECUTION = on("pipeline-execution", "PipelineExecutionArn")
_PACKAGE = on("model-package", "ModelPackageName")
_GROUP = on("model-package-group", "ModelPackageGroupName")

TABLE: dict[str, Ask] = {
    "CreateProcessingJob": create(
        "processing-job",
        "ProcessingJobName",
        processing_keys,
        _role,
        lambda request: [_volume(request["ProcessingResources"].get("ClusterConfig"))],
    ),
    "DescribeProcessingJob": on("processing-job", "ProcessingJobName"),
    "ListProcessingJobs": nothing_in_particular,
    "StopProcessingJob": on("processing-job", "ProcessingJobName"),
    "CreateTrainingJob": create(
        "training-job",
        "TrainingJobName",
        one_training_job_keys,
        _role,
        lambda request: [_volume(request["ResourceConfig"])],
    ),
    "DescribeTrainingJob": on("training-job", "TrainingJobName"),
    "ListTrainingJobs": nothing_in_particular,
    "StopTrainingJob": on("training-job", "TrainingJobName"),
    "CreateTransformJob": create(
        "transform-job",
        "TransformJobName",
        transform_keys,
        volumes=lambda request: [_volume(request["TransformResources"])],
    ),
    "DescribeTransformJob": on("transform-job", "TransformJobName"),
    "ListTransformJobs": nothing_in_particular,
    "StopTransformJob": on("transform-job", "TransformJobName"),
    "CreateHyperParameterTuningJob": create(
        "hyper-parameter-tuning-job",
        "HyperParameterTuningJobName",
        tuning_keys,
        lambda request: [definition.get("RoleArn") for definition in _definitions(request)],
        tuning_volumes,
    ),
    "DescribeHyperParameterTuningJob": on("hyper-parameter-tuning-job", "HyperParameterTuningJobName"),
    "ListHyperParameterTuningJobs": nothing_in_particular,
    "StopHyperParameterTuningJob": on("hyper-parameter-tuning-job", "HyperParameterTuningJobName"),
    "ListTrainingJobsForHyperParameterTuningJob": on("hyper-parameter-tuning-job", "HyperParameterTuningJobName"),
    "CreateModel": create("model", "ModelName", model_keys, lambda request: [request.get("ExecutionRoleArn")]),
    "DescribeModel": on("model", "ModelName"),
    "ListModels": nothing_in_particular,
    "DeleteModel": on("model", "ModelName"),
    "CreateEndpointConfig": create(
        "endpoint-config",
        "EndpointConfigName",
        endpoint_config_keys,
        lambda request: [request.get("ExecutionRoleArn")],
        lambda request: [request.get("KmsKeyId")],
    ),
    "DescribeEndpointConfig": on("endpoint-config", "EndpointConfigName"),
    "ListEndpointConfigs": nothing_in_particular,
    "DeleteEndpointConfig": on("endpoint-config", "EndpointConfigName"),
    "CreateEndpoint": create_endpoint,
    "DescribeEndpoint": on("endpoint", "EndpointName"),
    "ListEndpoints": nothing_in_particular,
    "UpdateEndpoint": update_endpoint,
    "UpdateEndpointWeightsAndCapacities": on("endpoint", "EndpointName"),
    "DeleteEndpoint": delete_endpoint,
    "InvokeEndpoint": on("endpoint", "EndpointName"),  # asked by the data plane (local_aws.hosting)
    "CreateModelPackageGroup": create("model-package-group", "ModelPackageGroupName"),
    "DescribeModelPackageGroup": _GROUP,
    "ListModelPackageGroups": nothing_in_particular,
    "DeleteModelPackageGroup": _GROUP,
    "CreateModelPackage": create_model_package,
    "DescribeModelPackage": _PACKAGE,
    "BatchDescribeModelPackage": batch_describe,
    "ListModelPackages": list_model_packages,
    "UpdateModelPackage": on("model-package", "ModelPackageArn", package_keys),
    "DeleteModelPackage": _PACKAGE,
    "CreatePipeline": create("pipeline", "PipelineName", roles=_role),
    "UpdatePipeline": update_pipeline,
    "DescribePipeline": on("pipeline", "PipelineName", version_key),
    "ListPipelines": nothing_in_particular,
    "ListPipelineVersions": on("pipeline", "PipelineName"),
    "DeletePipeline": on("pipeline", "PipelineName"),
    "StartPipelineExecution": on("pipeline", "PipelineName", version_key),
    "ListPipelineExecutions": on("pipeline", "PipelineName"),
    "DescribePipelineExecution": _EXECUTION,
    "ListPipelineExecutionSteps": _EXECUTION,
    "ListPipelineParametersForExecution": _EXECUTION,
    "DescribePipelineDefinitionForExecution": _EXECUTION,
    "StopPipelineExecution": _EXECUTION,
    "RetryPipelineExecution": _EXECUTION,
    "CreateProject": create("project", "ProjectName"),
    "DescribeProject": on("project", "ProjectName"),
    "ListProjects": nothing_in_particular,
    "UpdateProject": update_project,
    "DeleteProject": on("project", "ProjectName"),
    "CreateDomain": create_domain,
    "DescribeDomain": on("domain", "DomainId"),
    "ListDomains": nothing_in_particular,
    "DeleteDomain": on("domain", "DomainId"),
    "AddTags": add_tags,
    "ListTags": on("", "ResourceArn"),
    "DeleteTags": delete_tags,
}
