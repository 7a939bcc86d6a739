"""Transform jobs: predictions for the objects below an S3 prefix, by a container that runs for the job alone."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, validation_error
from local_aws.hosting import Container, ContainerSpec
from local_aws.images import Images
from local_aws.jobs.json_path import JsonPath, read_path
from local_aws.jobs.log import JobLog, Metrics
from local_aws.jobs.records import FORMATS, JSON, Processing
from local_aws.jobs.staging import s3_location
from local_aws.jobs.transform import DEFAULT_PAYLOAD_MB, MOST_PAYLOAD_MB, TransformPlan, TransformRun
from local_aws.loopback import Loopback
from local_aws.sagemaker.job_checks import MOST_INSTANCES
from local_aws.sagemaker.jobs import TRANSFORM, Jobs, Prepared
from local_aws.sagemaker.models import Models
from local_aws.store import Document, Scope

DEFAULT_TIMEOUT = 600  # seconds, of ModelClientConfig
DEFAULT_RETRIES = 3


class TransformJobs:
    """CreateTransformJob and its sisters.

    Args:
        jobs: keeps and runs them, as it does all kinds of job.
        models: whose containers are run.
        loopback: clients for S3 and CloudWatch Logs.
        images: the environments that containers run in.
        work: a folder for the jobs' own folders; its path is short, since a container's socket lies below it.
    """

    def __init__(self, jobs: Jobs, models: Models, loopback: Loopback, images: Images, work: Path) -> None:
        self._jobs, self._models = jobs, models
        self._loopback, self._images, self._work = loopback, images, work.absolute()

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateTransformJob": self.create_transform_job,
            "DescribeTransformJob": self.describe_transform_job,
            "ListTransformJobs": self.list_transform_jobs,
            "StopTransformJob": self.stop_transform_job,
        }

    def create_transform_job(self, call: Call, request: Request) -> Response:
        """Start a transform job.

        Raises:
            ServiceError: ValidationException for what cannot run, a model that is not there included; ResourceInUse
                when the name is taken.
        """
        plan = read_plan(request)
        (container,) = self._models.containers(call.scope, request["ModelName"])
        self._images.find(container.image)
        name = request["TransformJobName"]
        arn = call.arn(f"{TRANSFORM.noun}/{name.lower()}")
        document = _described(request) | self._jobs.new_document(TRANSFORM, arn)
        spec = dataclasses.replace(container, environment=container.environment | _environment(request))
        prepare = partial(self._prepare, call.scope, plan, spec)
        self._jobs.start(call, TRANSFORM, name, document, request, prepare, Metrics())
        return {"TransformJobArn": arn}

    def _prepare(
        self,
        scope: Scope,
        plan: TransformPlan,
        spec: ContainerSpec,
        document: Document,
        on_phase: Callable[[str], None],
    ) -> Prepared:
        loopback, role, name = self._loopback, spec.role, document["TransformJobName"]
        client, agent = loopback.client("logs", scope, role), loopback.enforced
        instances = [
            f"{name}/i-{secrets.token_hex(9)[:17]}-{int(document['CreationTime'])}" for _ in range(plan.instances)
        ]
        group = TRANSFORM.log_group
        logs = [JobLog(client, group, stream, as_agent=agent) for stream in instances]
        data_logs = [JobLog(client, group, f"{stream}/data-log", as_agent=agent) for stream in instances]

        def make_container(number: int, folder: Path, log: JobLog) -> Container:
            return Container(spec, scope, loopback, self._images, folder, self._jobs.opt_ml, log, metrics=group)

        folder = self._work / secrets.token_hex(4)
        s3, service_s3 = loopback.client("s3", scope, role), loopback.client("s3", scope)
        run = TransformRun(plan, folder, s3, service_s3, make_container, logs, data_logs, on_phase)
        return Prepared(run, [*logs, *data_logs])

    def describe_transform_job(self, call: Call, request: Request) -> Response:
        document = self._jobs.get(call.scope, TRANSFORM, request["TransformJobName"].lower())
        return {name: value for name, value in document.items() if name != "LastModifiedTime"}

    def list_transform_jobs(self, call: Call, request: Request) -> Response:
        """What matches the filters (default: by CreationTime, Descending, as documented)."""
        found, more = self._jobs.page(call.scope, TRANSFORM, {"SortOrder": "Descending"} | request)
        return {"TransformJobSummaries": found, **more}

    def stop_transform_job(self, call: Call, request: Request) -> Response:
        return self._jobs.stop(call, TRANSFORM, request["TransformJobName"])


def read_plan(request: Request) -> TransformPlan:
    """What a CreateTransformJob request asks for.

    Raises:
        ServiceError: ValidationException for what cannot be done, or not here; with the member's name.
    """
    source, output = request["TransformInput"], request["TransformOutput"]
    data = source["DataSource"]["S3DataSource"]
    _one_of("TransformInput.DataSource.S3DataSource.S3DataType", data["S3DataType"], "S3Prefix", "ManifestFile")
    _one_of("TransformInput.CompressionType", source.get("CompressionType", "None"), "None")
    _one_of("TransformInput.SplitType", source.get("SplitType", "None"), "None", "Line")
    for name in ("DataCaptureConfig", "ExperimentConfig"):
        if request.get(name):
            raise validation_error(f"{name} is not supported by local_aws. Leave it out.")
    lines = source.get("SplitType", "None") == "Line"
    instances = request["TransformResources"]["InstanceCount"]
    if instances > MOST_INSTANCES:
        raise validation_error(
            f"TransformResources.InstanceCount {instances} is not supported by local_aws; 1 to {MOST_INSTANCES} are."
        )
    _check_payload(request)
    client = request.get("ModelClientConfig", {})
    return TransformPlan(
        source=_location("TransformInput.DataSource.S3DataSource.S3Uri", data["S3Uri"]),
        manifest=data["S3DataType"] == "ManifestFile",
        content_type=source.get("ContentType"),
        accept=output.get("Accept"),
        lines=lines,
        assemble_lines=output.get("AssembleWith", "None") == "Line",
        processing=_processing(request, lines),
        output=_location("TransformOutput.S3OutputPath", output["S3OutputPath"]),
        kms_key=output.get("KmsKeyId") or None,
        instances=instances,
        concurrency=request.get("MaxConcurrentTransforms"),
        payload_mb=request.get("MaxPayloadInMB"),
        strategy=request.get("BatchStrategy"),
        timeout=client.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT),
        retries=client.get("InvocationsMaxRetries", DEFAULT_RETRIES),
    )


def _check_payload(request: Request) -> None:
    payload = request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB)
    at_once = (request.get("MaxConcurrentTransforms") or 1) * payload
    if at_once > MOST_PAYLOAD_MB:
        raise validation_error(
            f"MaxConcurrentTransforms * MaxPayloadInMB is {at_once} MB; it must not exceed {MOST_PAYLOAD_MB} MB."
        )


def _processing(request: Request, lines: bool) -> Processing | None:
    """DataProcessing; None when it asks for nothing."""
    asked = request.get("DataProcessing", {})
    input_filter, output_filter = (_path(name, asked.get(name, "$")) for name in ("InputFilter", "OutputFilter"))
    join = asked.get("JoinSource", "None") == "Input"
    if input_filter.everything and output_filter.everything and not join:
        return None
    kinds = {
        "TransformInput.ContentType": request["TransformInput"].get("ContentType"),
        "TransformOutput.Accept": request["TransformOutput"].get("Accept"),
    }
    formats = {member: (kind or "").partition(";")[0].strip().lower() for member, kind in kinds.items()}
    for member, kind in formats.items():
        if kind not in FORMATS:
            raise validation_error(f"DataProcessing needs {member} to be one of {', '.join(FORMATS)}; it is {kind!r}.")
    content, accept = formats.values()
    if content != accept:
        raise validation_error(
            f"DataProcessing needs TransformInput.ContentType ({content}) and TransformOutput.Accept ({accept}) to be"
            " the same."
        )
    if not lines and content != JSON:
        raise validation_error(f"DataProcessing of {content} needs TransformInput.SplitType Line.")
    return Processing(content, input_filter, output_filter, join, lines)


def _path(member: str, text: str) -> JsonPath:
    try:
        return read_path(text or "$")
    except ValueError as error:
        raise validation_error(f"DataProcessing.{member}: {error}.") from error


def _environment(request: Request) -> dict[str, str]:
    """What a container's program sees beside the model's own variables."""
    known = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": request.get("MaxPayloadInMB"),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": request.get("MaxConcurrentTransforms"),
        "SAGEMAKER_BATCH_STRATEGY": {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}.get(
            request.get("BatchStrategy", "")
        ),
    }
    variables = {name: str(value) for name, value in known.items() if value is not None}
    return request.get("Environment", {}) | {"SAGEMAKER_BATCH": "true"} | variables


def _described(request: Request) -> Document:
    """The request as Describe answers it, with AWS's defaults."""
    document: dict[str, Any] = {key: value for key, value in request.items() if key != "Tags"}
    defaults = {"CompressionType": "None", "SplitType": "None"}
    document["TransformInput"] = defaults | request["TransformInput"]
    document["TransformOutput"] = {"AssembleWith": "None", "KmsKeyId": ""} | request["TransformOutput"]
    document["DataProcessing"] = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"} | request.get(
        "DataProcessing", {}
    )
    return document


def _location(member: str, uri: str) -> Any:
    try:
        return s3_location(uri)
    except ValueError as error:
        raise validation_error(f"{member}: {error}.") from error


def _one_of(what: str, value: str, *supported: str) -> None:
    if value not in supported:
        raise validation_error(f"{what} {value!r} is not supported by local_aws; {' and '.join(supported)} are.")
