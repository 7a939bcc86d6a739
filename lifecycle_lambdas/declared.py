"""What should be: the version that was approved, served as the stage file of its own commit asks."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import names
from lifecycle_lambdas.aws_errors import not_allowed
from lifecycle_lambdas.records import Deployment, State

if TYPE_CHECKING:
    from lifecycle_lambdas.context import Context
    from lifecycle_lambdas.settings import Settings
    from lifecycle_lambdas.stage_schema import StageFile


class StageFileError(Exception):
    """A version that cannot be deployed as it asks: its stage file is missing, changed or wrong. Names the remedy."""


class AdministratorsFault(Exception):
    """What keeps any version from being deployed, until somebody puts it right. Names the remedy."""


@dataclass(frozen=True)
class Declared:
    """One deployment, with all that its calls are made of.

    Args:
        stage_file: a stage_schema.StageFile, as it applies here (records.Deployment.stage_file). What it has depends
            on its kind, which the plan goes by; only who deploys imports pydantic.
        role_arn: the model's execution role.
        tags: of all that belongs to the endpoint; `deployment_tags` are those of this deployment's own things.
        capture_uri: where requests and answers are kept, with a slash at the end.
        topic_arn: who is told by the standing alarms.
        function_arn: of the function that starts a batch stage's transform jobs.
        schedule_role_arn, schedule_group: of the schedule that calls it.
        requested: when SageMaker was asked for it; None before.
        noted: what was seen while it was under way, such as the alarm that made SageMaker roll back.
        guarded: whether alarms may roll it back, and it moves in the declared steps. Not of going back: what it leads
            to is known, and rolled back to would be what is at fault.
    """

    endpoint: str
    number: int
    package_arn: str
    stage_file: Any
    role_arn: str
    tags: dict[str, str]
    capture_uri: str
    topic_arn: str
    function_arn: str
    schedule_role_arn: str
    schedule_group: str
    requested: datetime | None = None
    noted: str = ""
    guarded: bool = True

    @property
    def name(self) -> str:
        """Of its model and its endpoint config."""
        return names.numbered(self.endpoint, self.number)

    @property
    def kind(self) -> str:
        return self.stage_file.kind

    @property
    def deployment_tags(self) -> dict[str, str]:
        return {**self.tags, "modelyard:deployment": str(self.number)}

    @property
    def region(self) -> str:
        return self.package_arn.split(":")[3]


def declare(
    deployment: Deployment, state: State, package: dict[str, Any], group_tags: dict[str, str], settings: Settings
) -> Declared:
    """The deployment as the plan takes it.

    Args:
        package: DescribeModelPackage's answer.
        group_tags: of the stage's model package group.

    Raises:
        AdministratorsFault: the group's tag modelyard:model-role names no role.
        StageFileError: a recorded stage file that this version of the platform does not read any more.
    """
    # pydantic takes longer to import than all the rest: only who deploys waits for it
    from lifecycle_lambdas import stage_schema

    bucket, _, _ = stage_file_place(package, state.stage)
    try:
        stage_file = stage_schema.parse(deployment.stage_file, state.stage)
    except stage_schema.StageFileError as error:
        raise StageFileError(f"the recorded stage file of deployment {deployment.number}: {error}") from error
    return Declared(
        endpoint=deployment.endpoint,
        number=deployment.number,
        package_arn=deployment.package_arn,
        stage_file=stage_file,
        role_arn=role_arn(deployment.package_arn, group_tags, settings.model_role_path, settings.default_model_role),
        tags=names.project_tags(state.project, group_tags.get("sagemaker:project-id", state.project), state.stage),
        capture_uri=f"s3://{bucket}/{state.project}/captured/{state.stage}/",
        topic_arn=settings.topic_arn,
        function_arn=settings.batch_function_arn,
        schedule_role_arn=settings.schedule_role_arn,
        schedule_group=settings.schedule_group,
        requested=deployment.requested,
        noted=deployment.reason,
        guarded=not deployment.goes_back,
    )


def role_arn(package_arn: str, group_tags: dict[str, str], path: str, default: str) -> str:
    """The execution role of the stage's models: the one that the group's tag names, always below `path`.

    Whoever may push to a repository cannot choose it: the tag is the administrator's. Raises
    AdministratorsFault for a tag that names no role.
    """
    name = group_tags.get("modelyard:model-role", default)
    if not re.fullmatch(r"[\w+=,.@-]{1,64}", name):
        raise AdministratorsFault(
            f"the model package group's tag modelyard:model-role is {name!r}, which is no name of a role: set it to "
            f"the name of a role below {path}, without the path"
        )
    _, partition, _, _, account, _ = package_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:role{path}{name}"


def stage_file_place(package: dict[str, Any], stage: str) -> tuple[str, str, str]:
    """Bucket, key and SHA-256 of the version's stage file. Raises StageFileError when the version does not say."""
    metadata = package.get("CustomerMetadataProperties", {})
    prefix, sha256 = metadata.get("deployment.prefix", ""), metadata.get(f"deployment.sha256.{stage}", "")
    match = re.fullmatch(r"s3://([^/]+)/(.+/)", prefix)
    if match is None:
        raise StageFileError(
            f"{package['ModelPackageArn']} does not say where its stage files are (metadata deployment.prefix is "
            f"{prefix!r}): register it with the project's pipeline, which does"
        )
    if not sha256:
        raise StageFileError(
            f"{package['ModelPackageArn']} was registered without deployment/{stage}.yaml (no metadata "
            f"deployment.sha256.{stage}): add the file and run the pipeline again"
        )
    return match[1], f"{match[2]}{stage}.yaml", sha256


def read_stage_file(context: Context, package: dict[str, Any], stage: str) -> StageFile:
    """The version's stage file, checked.

    Args:
        package: DescribeModelPackage's answer.

    Raises:
        StageFileError: the file is not there, is not the one that was registered, or is wrong.
        AdministratorsFault: it may not be read.
        ClientError: S3 answers with any other error.
    """
    bucket, key, sha256 = stage_file_place(package, stage)
    try:
        content = context.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if not_allowed(error):
            raise AdministratorsFault(
                f"s3://{bucket}/{key} may not be read ({error.response['Error']['Code']}: "
                f"{error.response['Error'].get('Message')}): name the bucket in the platform's parameter "
                "ArtifactBuckets, and its key, which must be enabled, in ProjectKmsKeyArns"
            ) from error
        if error.response["Error"]["Code"] not in ("NoSuchKey", "NoSuchBucket"):
            raise
        raise StageFileError(
            f"s3://{bucket}/{key} is not there any more, and without it nobody knows how the version should be served: "
            "run the pipeline again"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise StageFileError(
            f"s3://{bucket}/{key} is not the file that was registered: its SHA-256 is {found}, and the version says "
            f"{sha256}. Find out who changed it, and run the pipeline again"
        )
    return parse_stage_file(content, stage)


def parse_stage_file(content: bytes | str, stage: str) -> StageFile:
    """A stage file's text, checked. Raises StageFileError with every fault, in the words of stage_schema."""
    from lifecycle_lambdas import stage_schema, yaml_text

    content = content if isinstance(content, bytes) else content.encode()
    try:
        return stage_schema.parse(yaml_text.fields(content), stage)
    except yaml_text.YamlError as error:
        raise StageFileError(f"deployment/{stage}.yaml: it {error}") from error
    except stage_schema.StageFileError as error:
        raise StageFileError(f"deployment/{stage}.yaml: {error}") from error


def effective(stage_file: StageFile, serving: StageFile, count: int | None) -> StageFile:
    """The stage file as it applies to going back to an older version: that changes the model, not the capacity.

    Args:
        serving: of the deployment that serves now.
        count: how many instances serve now, which somebody may have changed since; None when unknown.
    """
    from lifecycle_lambdas import stage_schema

    if serving.kind == "real_time" and serving.scaling is None and count is not None:
        serving = serving.model_copy(update={"instance_count": count})
    return stage_schema.with_capacity_of(stage_file, serving)
