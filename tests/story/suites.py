"""Versions that carry endpoint tests, and what they answered when they were evaluated."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from lifecycle_lambdas import endpoint_suite
from tests.story.platform import ARTIFACTS, REAL_TIME, Project

AS_EVALUATED = {
    "name": "answers as it did when it was evaluated",
    "rows": "evaluated",
    "formats": ["text/csv", "application/json"],
    "expect": {"as_evaluated": {"tolerance": 1e-4}},
}


def register_tested(
    project: Project,
    program: str,
    stage_file: str = REAL_TIME,
    suite: dict[str, Any] | None = None,
    evaluated: float = 2.0,
    **given: Any,
) -> str:
    """A version that answers {"score": number} to {"number": number}; its ARN.

    Args:
        program: inference.py, as Project.register takes it.
        suite: tests/endpoint/'s fields.
        evaluated: by how much it multiplied the number when it was evaluated.
        given: what Project.register takes besides.
    """
    cases = endpoint_suite.canonical(endpoint_suite.parse(suite or {"cases": [AS_EVALUATED]}))
    folder = f"{project.name}/{project.stage}/pipeline/{uuid.uuid4().hex}/evaluate/evaluation"
    numbers = [1.0, 2.5, 4.0]
    rows = {
        "columns": ["number"],
        "kinds": {"number": "number"},
        "classes": [],
        "rows": [{"number": number} for number in numbers],
        "answers": [{"score": evaluated * number} for number in numbers],
    }
    arn = project.register(
        given.pop("name", ""),
        stage_file,
        program=program,
        report=f"s3://{ARTIFACTS}/{folder}/report.html",
        tests__sha256=hashlib.sha256(cases).hexdigest(),
        **given,
    )
    place = project.package(arn)["CustomerMetadataProperties"]["deployment.prefix"].removeprefix(f"s3://{ARTIFACTS}/")
    files = {f"{place}endpoint-tests.json": cases, f"{folder}/endpoint-rows.json": json.dumps(rows)}
    for key, content in files.items():
        project.aws.client("s3").put_object(Bucket=ARTIFACTS, Key=key, Body=content)
    return arn
