"""A branch's pipeline: compiled from this commit, sent to SageMaker, started."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import boto3

from pipeline import aws, endpoint_test, execution, parameters, registry
from pipeline.lineage import read_lineage
from pipeline.names import Names
from pipeline.settings import Settings
from pipeline.source import build_archives
from pipeline.stage_file import StageFiles

if TYPE_CHECKING:
    from pipeline.frame import Commit


def compile_branch(settings: Settings, names: Names, stage_files: StageFiles, role_arn: str) -> tuple[str, Commit]:
    """The definition (JSON), and what it was compiled for. Calls nobody; the SDK's import takes seconds."""
    from pipeline.definition import compile_definition
    from pipeline.frame import Commit

    archives = build_archives(settings, names.folder)
    commit = Commit(names=names, lineage=read_lineage(), archives=archives, stage_files=stage_files)
    return compile_definition(settings, commit, role_arn), commit


def upsert(connection: boto3.Session, settings: Settings, names: Names) -> tuple[int | None, Commit]:
    """Checks what can be checked, uploads code, stage files and endpoint tests, then creates or updates the pipeline.

    Returns the version of the pipeline that has exactly this definition, and what was sent.

    Raises:
        InputError: bucket, role or model package group are not there, or a file of the repository is wrong.
    """
    stage_files = endpoint_test.stage_files(settings)
    aws.check_bucket(connection, settings.aws.bucket)
    group = registry.group_arn(connection, names.group)  # raises where there is none
    names = replace(names, project_id=registry.project_id(connection, group) or names.project_id)
    role_arn = aws.resolve_role(connection, settings.aws.role_of(names.stage))
    compiled, commit = compile_branch(settings, names, stage_files, role_arn)

    objects = {archive.key: archive.content for archive in commit.archives}
    objects |= stage_files.objects(names.folder)
    for key, content in objects.items():
        aws.put_if_absent(connection, settings.aws.bucket, key, content)
    version = execution.upsert(connection, names.pipeline, settings.description, compiled, role_arn, tags=names.tags)
    print(f"pipeline {names.pipeline}" + (f", version {version}" if version is not None else ""))
    return version, commit


def start(connection: boto3.Session, settings: Settings, names: Names, given: dict[str, str], trigger: str) -> str:
    """Upserts, then starts exactly this version; returns the execution's ARN.

    Args:
        given: values of the pipeline's parameters that are not the settings'.
        trigger: who starts it, with which the execution's name begins (execution.py).

    Raises:
        InputError: as `upsert`; or there is no data.
    """
    uri = given.get("DataUri", settings.data.uri)
    values = {**given, parameters.FINGERPRINT: aws.data_fingerprint(connection, uri)}
    version, commit = upsert(connection, settings, names)
    called = execution.display_name(trigger, commit.lineage)
    return execution.start(connection, names.pipeline, values, version, called)
