"""From CI's command for a push (`python -m pipeline ci push`) to the execution, beside the SDK's import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local_aws import LocalAWS
from tests.bench.account import PROJECT, prepare
from tests.bench.enforcing import silence
from tests.bench.figures import Figure
from tests.story.story import AUTHOR, Story

BUCKET = "bench-artifacts"
BRANCH = "dev"  # which the generated repository has checked out
ROUNDS = 7


def push() -> list[Figure]:
    """A commit that changes nothing which trains: all that is sent is there but for the definition."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, LocalAWS() as aws:
        with silence():
            repository, environment = _repository(aws, Path(folder))
        imports, starts, differences = [], [], []
        for number in range(ROUNDS):
            _run(repository, environment, "git", *AUTHOR, "commit", "--allow-empty", "--quiet", "-m", str(number))
            _run(repository, environment, "git", "push", "--quiet", "origin", BRANCH)
            began = time.monotonic()
            _run(repository, environment, sys.executable, "-c", "import pipeline.definition")
            imports.append(time.monotonic() - began)
            asked = time.time()
            said = _run(repository, environment, sys.executable, "-m", "pipeline", "ci", "push")
            starts.append(_created(aws, said) - asked)
            differences.append(starts[-1] - imports[-1])
    return [
        Figure("`ci push` to the execution started, less the SDK's import", differences, "s", at_most=5),
        Figure("`ci push` to the execution started", starts, "s"),
        Figure("the SDK's import alone", imports, "s"),
    ]


def _repository(aws: LocalAWS, folder: Path) -> tuple[Path, dict[str, str]]:
    """A project with data and groups, its remote, and the variables that CodeBuild would give a push's build."""
    prepare(aws, BUCKET)
    story = Story(PROJECT, aws.server.region, aws.environment, aws.environment, folder)
    story.generate(BUCKET)
    story.send_data()
    story.pipeline("register-project", "--groups-only")
    environment = os.environ | dict(aws.environment)
    environment |= {"CODEBUILD_BUILD_ID": "bench:1", "MODELYARD_BRANCH": BRANCH, "MODELYARD_CI_STEPS": "push"}
    _run(folder, environment, "git", "init", "--quiet", "--bare", "remote")
    _run(story.repository, environment, "git", "remote", "add", "origin", str(folder / "remote"))
    return story.repository, environment


def _created(aws: LocalAWS, said: str) -> float:
    """When the execution was made that the command names, in seconds since the epoch."""
    arn = next(word for word in said.split() if ":pipeline/" in word and "/execution/" in word)
    answer = aws.client("sagemaker").describe_pipeline_execution(PipelineExecutionArn=arn)
    return float(answer["CreationTime"].timestamp())


def _run(folder: Path, environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout
