"""A generated repository as its owner uses it, and what AWS then holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from local_aws import LocalAWS, control

PROGRAMS = Path(sys.executable).parent
BUCKET = f"modelyard-artifacts-{control.DEFAULT_ACCOUNT}-{control.DEFAULT_REGION}"
"""The platform's, where nothing else is asked for."""


class Repository:
    """A generated repository, and the commands that its owner types in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = os.environ | environment
        self.environment["PATH"] = f"{PROGRAMS}{os.pathsep}{self.environment['PATH']}"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "pipeline", *arguments)

    def git(self, *arguments: str) -> str:
        result = self.run("git", "-c", "user.name=Tester", "-c", "user.email=tester@example.com", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def settings(self, **changes: Any) -> None:
        """Change settings.yaml; `data__uri="..."` sets data.uri."""
        path = self.folder / "settings.yaml"
        settings = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            *sections, field = name.split("__")
            section = settings
            for part in sections:
                section = section[part]
            section[field] = value
        path.write_text(yaml.safe_dump(settings))


def versions(aws: LocalAWS, group: str) -> list[dict[str, Any]]:
    """The described model packages of a group, the oldest first."""
    sagemaker = aws.client("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
    summaries = [summary for page in pages for summary in page["ModelPackageSummaryList"]]
    found = [sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"]) for summary in summaries]
    for package in found:
        del package["ResponseMetadata"]  # it is the answer's, another one at every call
    return found


def steps(aws: LocalAWS, execution: str) -> dict[str, dict[str, Any]]:
    answer = aws.client("sagemaker").list_pipeline_execution_steps(PipelineExecutionArn=execution)
    return {step["StepName"]: step for step in answer["PipelineExecutionSteps"]}


def started(output: str) -> str:
    """The execution's ARN in what `start` prints."""
    found = re.search(r"^started (arn:\S+)$", output, re.MULTILINE)
    assert found, output
    return found[1]
