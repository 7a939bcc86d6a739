"""python -m pipeline: see `python -m pipeline --help`, and the README for what each command is for."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, execution, registry, report, sample_data
from pipeline.errors import InputError
from pipeline.lineage import current_branch, read_lineage
from pipeline.names import Names, default_project_id, group_name, names_of, stage_of
from pipeline.settings import S3_URI, Settings, check_threshold, load_settings
from pipeline.source import build_archives
from pipeline.stage_file import STAGES, StageFiles, load_stage_files

if TYPE_CHECKING:
    from pipeline.definition import Commit

OK, EXECUTION_FAILED, BAD_INPUT, EXECUTION_STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = """exit codes:
  0    done; with --watch or watch: the execution succeeded
  1    the execution failed
  2    bad input, or AWS refused a call; nothing was started
  3    the execution was stopped
  130  interrupted (Ctrl-C); an execution that was started goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except ClientError as error:
        print(f"error: AWS refused {error.operation_name}: {error.response['Error']['Message']}", file=sys.stderr)
    except BotoCoreError as error:
        print(f"error: AWS cannot be reached: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return BAD_INPUT


def check(options: argparse.Namespace) -> int:
    settings, stage_files = load_settings(), load_stage_files()
    stages = ", ".join(sorted(stage_files.contents))
    print(f"settings.yaml is right ({settings.problem_type}, project {settings.project})")
    print(f"deployment/ is right (stages {stages})")
    return OK


def definition(options: argparse.Namespace) -> int:
    settings = load_settings()
    names = _names(settings, options.branch)
    role_arn = aws.resolve_role(aws.session(settings), settings.aws.role)
    compiled, _ = _compile(settings, names, load_stage_files(), role_arn)
    print(json.dumps(json.loads(compiled), indent=2))
    return OK


def register_project(options: argparse.Namespace) -> int:
    settings, stage_files = load_settings(), load_stage_files()
    project_id = settings.aws.sagemaker_project_id or default_project_id(settings.project)
    made = registry.register_project(
        aws.session(settings), settings.project, project_id, settings.description, sorted(stage_files.contents)
    )
    for name, new in made.items():
        print(f"model package group {name}: {'created' if new else 'was there'}")
    return OK


def upsert(options: argparse.Namespace) -> int:
    settings = load_settings()
    _upsert(settings, _names(settings, options.branch))
    return OK


def start(options: argparse.Namespace) -> int:
    settings = load_settings()
    names = _names(settings, options.branch)
    wanted = dict(_name_and_value(text) for text in options.parameter)
    data_uri = wanted.get("DataUri", settings.data.uri)
    _check_data_uri(data_uri)
    wanted.setdefault("DataFingerprint", aws.data_fingerprint(aws.session(settings), data_uri))
    version, commit = _upsert(settings, names, wanted)
    arn = execution.start(aws.session(settings), names.pipeline, wanted, version, commit.lineage.commit)
    print(f"started {arn}")
    return _watch(settings, arn) if options.watch else OK


def watch(options: argparse.Namespace) -> int:
    settings = load_settings()
    arn = options.execution
    if arn is None:
        arn = execution.newest_execution(aws.session(settings), _names(settings, options.branch).pipeline)
    return _watch(settings, arn)


def versions(options: argparse.Namespace) -> int:
    settings = load_settings()
    stage = options.stage or stage_of(current_branch(options.branch))
    found = registry.versions(aws.session(settings), group_name(settings.project, stage), options.limit)
    if options.json:
        print(json.dumps(found, indent=2))
    elif found:
        report.print_versions(report.console(), found)
    else:
        print(f"no version is registered in {group_name(settings.project, stage)} yet")
    return OK


def write_sample_data(options: argparse.Namespace) -> int:
    print(sample_data.write_sample(load_settings().problem_type))
    return OK


def upload_data(options: argparse.Namespace) -> int:
    settings = load_settings()
    path = options.path or sample_data.sample_path(settings.problem_type)
    connection = aws.session(settings)
    if aws.split_uri(settings.data.uri)[0] == settings.aws.bucket:
        aws.check_bucket(connection, settings.aws.bucket)
    for uri in aws.upload_data(connection, path, settings.data.uri):
        print(uri)
    return OK


def _names(settings: Settings, branch: str | None) -> Names:
    return names_of(settings.project, current_branch(branch), settings.aws.sagemaker_project_id)


def _compile(settings: Settings, names: Names, stage_files: StageFiles, role_arn: str) -> tuple[str, Commit]:
    from pipeline.definition import Commit, compile_definition  # the SDK takes seconds to import

    commit = Commit(names=names, lineage=read_lineage(), archives=build_archives(settings), stage_files=stage_files)
    return compile_definition(settings, commit, role_arn), commit


def _upsert(settings: Settings, names: Names, wanted: dict[str, str] | None = None) -> tuple[int | None, Commit]:
    """Checks what can be checked, then uploads code and stage files, then creates or updates the pipeline."""
    connection = aws.session(settings)
    stage_files = load_stage_files()
    aws.check_bucket(connection, settings.aws.bucket)
    registry.check_group(connection, names.group)
    role_arn = aws.resolve_role(connection, settings.aws.role)
    compiled, commit = _compile(settings, names, stage_files, role_arn)
    _check_parameters(settings, compiled, wanted or {})

    objects = {archive.key: archive.content for archive in commit.archives}
    prefix = stage_files.prefix(settings.project)
    objects |= {f"{prefix}{stage}.yaml": content for stage, content in stage_files.contents.items()}
    for key, content in objects.items():
        aws.put_if_absent(connection, settings.aws.bucket, key, content)
    version = execution.upsert(
        connection, names.pipeline, settings.description, compiled, role_arn, tags=names.tags
    )
    print(f"pipeline {names.pipeline}" + (f", version {version}" if version is not None else ""))
    return version, commit


def _watch(settings: Settings, arn: str) -> int:
    connection, out = aws.session(settings), report.console()
    failed: list[execution.Step] = []

    def on_change(step: execution.Step) -> None:
        report.print_step(out, step)
        if step.status == "Failed":
            failed.append(step)

    try:
        ended = execution.watch(connection, arn, on_change)
    except KeyboardInterrupt:
        print(
            f"\nno longer watching; the execution goes on. To stop it:\n  aws sagemaker stop-pipeline-execution "
            f"--region {settings.aws.region} --pipeline-execution-arn {arn}",
            file=sys.stderr,
        )
        return INTERRUPTED
    for step in failed:
        for line in execution.last_log_lines(connection, step):
            out.print(f"  | {line}", markup=False)
        out.print(f"{step.name} failed: {step.reason}", style="red", markup=False)
    status = ended["PipelineExecutionStatus"]
    out.print(f"execution {status}: {arn}", style=report.STYLES.get(status, ""), markup=False)
    if not failed and ended.get("FailureReason"):
        out.print(ended["FailureReason"], style="red", markup=False)
    return {"Succeeded": OK, "Failed": EXECUTION_FAILED, "Stopped": EXECUTION_STOPPED}[status]


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(f"--parameter {text!r}: write Name=Value")
    return name, value


def _check_data_uri(uri: str) -> None:
    if not re.match(S3_URI, uri) or len(uri) > 256:
        raise InputError(
            f"--parameter DataUri={uri}: must be s3://bucket/key of at most 256 letters, digits, spaces and _.:/=+-@"
        )


def _check_parameters(settings: Settings, compiled: str, wanted: dict[str, str]) -> None:
    from pipeline.definition import parameters_of, threshold_parameter

    known = parameters_of(compiled)
    for name, value in wanted.items():
        if name not in known:
            raise InputError(f"--parameter {name}: there is no such parameter (there are {', '.join(known)})")
        kind = {"Integer": int, "Float": float}.get(known[name]["Type"], str)
        try:
            number = kind(value)
            if name == threshold_parameter(settings):
                check_threshold(number, settings.gate.metric, settings.metric)
        except ValueError as error:
            fault = error if name == threshold_parameter(settings) else f"must be {known[name]['Type']}"
            raise InputError(f"--parameter {name}={value}: {fault}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Train, evaluate and register this repository's model on Amazon SageMaker.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str, branch: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if branch:
            command.add_argument("--branch", help="act for this branch (default: the one checked out, or the CI's)")
        return command

    add("check", check, "check settings.yaml and deployment/; calls nobody")
    add("sample-data", write_sample_data, "write the sample data set of the problem type to data/")
    upload = add("upload-data", upload_data, "send a file or folder to data.uri (default: the sample data)")
    upload.add_argument("path", nargs="?", type=Path, help="a file, or a folder whose files are sent")
    add("register-project", register_project, "make the project's model package groups, with tags")
    add("definition", definition, "print the pipeline's definition; calls nobody when aws.role is an ARN", branch=True)
    add("upsert", upsert, "send the code, and create or update the branch's pipeline", branch=True)
    starting = add("start", start, "upsert, then start an execution", branch=True)
    starting.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter for this execution"
    )
    starting.add_argument("--watch", action="store_true", help="watch the execution until it ends")
    watching = add("watch", watch, "watch an execution until it ends; Ctrl-C stops watching alone", branch=True)
    watching.add_argument("execution", nargs="?", metavar="EXECUTION_ARN", help="default: the branch's newest")
    listing = add("versions", versions, "list the registered versions with their metrics, the newest first", branch=True)
    listing.add_argument("--stage", choices=STAGES, help="of this stage (default: the branch's)")
    listing.add_argument("--limit", type=int, default=20, help="how many at most (default: 20)")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser
