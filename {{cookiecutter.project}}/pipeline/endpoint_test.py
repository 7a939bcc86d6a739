"""tests/endpoint/*.yaml: read, sent with every version, and asked of an endpoint: `python -m pipeline test-endpoint`.

What the files may say is in endpoint_suite.py, how an endpoint is asked in endpoint_checks.py. The platform does the
same after every deployment, with the cases that the version was registered with.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from pipeline import InputError, aws, endpoint, endpoint_answers, endpoint_checks, endpoint_suite, registry
from pipeline.endpoint_suite import Suite, SuiteError
from pipeline.settings import ROOT, Settings
from pipeline.stage_file import StageFiles, load_stage_files
from pipeline.yaml_file import parse_yaml, read_bytes

FOLDER = ROOT / "tests" / "endpoint"
SCHEMA = "cases.schema.json"
# Of these a suite has one, whatever the number of its files.
ONCE = ("on_failure", "load")
# An endpoint that fails is asked once: what AWS's clients would hide by asking again is what is looked for.
ASKING = Config(
    retries={"mode": "standard", "total_max_attempts": 1},
    read_timeout=endpoint_checks.LONGEST_ANSWER + 5,
    max_pool_connections=endpoint_checks.MOST_LOAD_THREADS,
)


def load_suite(settings: Settings, folder: Path = FOLDER) -> Suite | None:
    """The files' cases as one suite; None where there is no file. Raises InputError with one line per fault."""
    if misnamed := sorted(path.name for path in folder.glob("*.yml")):
        raise InputError(f"{_name(folder)}/{misnamed[0]} would not be read: rename it to end with .yaml")
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        return None
    named = {f"{_name(folder)}/{path.name}": path for path in paths}
    contents = {name: parse_yaml(name, read_bytes(path)) for name, path in named.items()}
    for name, content in contents.items():
        _parsed(name, content, settings)
    whole: dict[str, Any] = {"cases": [case for content in contents.values() for case in content["cases"]]}
    for section in ONCE:
        names = [name for name, content in contents.items() if section in content]
        if len(names) > 1:
            raise InputError(f"{' and '.join(names)}: {section} is in both, and a version has one: remove it in one")
        if names:
            whole[section] = contents[names[0]][section]
    return _parsed(_name(folder), whole, settings)


def stage_files(settings: Settings) -> StageFiles:
    """What a version carries: deployment/ and tests/endpoint/. Raises InputError."""
    suite = load_suite(settings)
    return replace(load_stage_files(), endpoint_tests=None if suite is None else _canonical(suite))


def digest(settings: Settings, folder: Path = FOLDER) -> str | None:
    """SHA-256 of the cases as a version is registered with them; None where there are none. Raises InputError."""
    suite = load_suite(settings, folder)
    return None if suite is None else endpoint_suite.sha256(_canonical(suite))


def warnings(settings: Settings, suite: Suite | None) -> list[str]:
    """What may not be meant, one line each."""
    if suite is None:
        return [f"{_name(FOLDER)}/ holds no case: what is deployed is served untested"]
    found = []
    known = ("score",) if settings.problem_type == "regression" else ("predicted_label", "probability", "probabilities")
    for case in suite.cases:
        for field in case.expect.checks:
            if field.partition(".")[0] not in (*known, "contributions", "bias"):
                found.append(
                    f"{_name(FOLDER)}/: {case.name!r} expects {field}, which steps/inference.py does not answer in a "
                    f"{settings.problem_type} ({', '.join(known)})"
                )
    return found


def counted(cases: Sized) -> str:
    """As in "1 case" and "6 cases"."""
    return f"{len(cases)} case{'' if len(cases) == 1 else 's'}"


def too_long(seconds: float) -> str:
    """That the platform could not ask all of what took so long, the load with it; "" where it can."""
    if seconds <= endpoint_checks.PLATFORM_SECONDS:
        return ""
    return (
        f"the cases and the load take {seconds:.0f} s, and the platform has {endpoint_checks.PLATFORM_SECONDS} s for "
        "them: it would come to no verdict. Write fewer cases, vary fewer values, or send a shorter load"
    )


@dataclass(frozen=True)
class Target:
    """What is asked: an endpoint's name, and the version whose evaluated rows are sent. why: where it has none."""

    name: str
    version: str
    evaluated: endpoint_answers.EvaluatedRows | None
    why: str


def find_target(
    connection: boto3.Session,
    name: str,
    package: dict[str, Any] | None,
    remedy: Callable[[], str | None] = lambda: None,
) -> Target:
    """Raises InputError where nothing can be asked.

    Args:
        package: of the evaluated rows; None: the version that serves.
        remedy: asked where there is no such endpoint: how it comes back, None where nobody knows.
    """
    found = endpoint.read(connection, name)
    if found["status"] == endpoint.SCHEDULED:
        raise InputError(
            f"{name} is no endpoint, but a schedule of transform jobs: the platform tests those after every deployment"
        )
    if found["status"] == endpoint.NONE:
        how = remedy() or "approve a version, or name another with --endpoint"
        raise InputError(f"there is no endpoint {name}: {how}")
    if package is None and found["package_arn"] is not None:
        package = registry.describe_package(connection.client("sagemaker"), found["package_arn"])
    if package is None:
        return Target(name, "no version of the registry", None, "what serves is no version of the registry")
    version = str(package["ModelPackageArn"]).partition(":model-package/")[2]
    try:
        return Target(name, version, _evaluated_rows(connection, package), "")
    except (InputError, endpoint_answers.RowsError) as error:
        return Target(name, version, None, str(error))


def run(connection: boto3.Session, suite: Suite, target: Target) -> endpoint_checks.Results:
    """Asks the endpoint. Raises botocore's ClientError for what is not the endpoint's fault, such as no permission."""
    runtime = connection.client("sagemaker-runtime", config=ASKING)
    return endpoint_checks.run(suite, target.evaluated, endpoint_checks.endpoint(runtime, target.name))


def _evaluated_rows(connection: boto3.Session, package: dict[str, Any]) -> endpoint_answers.EvaluatedRows:
    """Of the evaluation that the version was registered with. Raises InputError, RowsError."""
    report = package.get("CustomerMetadataProperties", {}).get("report")
    if report is None:
        raise InputError("the version was registered without a report")
    uri = f"{report.rpartition('/')[0]}/{endpoint_answers.ROWS_FILE}"
    return endpoint_answers.EvaluatedRows.read(aws.read_object(connection, uri))


def _parsed(name: str, content: dict[Any, Any], settings: Settings) -> Suite:
    try:
        return endpoint_suite.parse(content, settings.train.monotone)
    except SuiteError as error:
        raise InputError("\n".join(f"{name}: {fault}" for fault in error.faults)) from None


def _canonical(suite: Suite) -> bytes:
    try:
        return endpoint_suite.canonical(suite)
    except SuiteError as error:
        raise InputError("\n".join(f"{_name(FOLDER)}: {fault}" for fault in error.faults)) from None


def _name(folder: Path) -> str:
    """As the repository calls it."""
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder.name
