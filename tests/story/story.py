"""The story that `make demo` tells on this machine and `make story-aws` in an AWS account: the same commands, typed by
an administrator and a data scientist, from an account without Modelyard to a model that serves, and back.

The story knows nothing of local_aws: where it plays is decided by the environment variables it is given.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pyarrow.csv
import pyarrow.parquet
import yaml
from rich.console import Console

from tests.story.leftovers import leftovers
from tests.story.traffic import Traffic, auc, predictions

CHECKOUT = Path(__file__).resolve().parents[2]
AUTHOR = ("-c", "user.name=Data Scientist", "-c", "user.email=data.scientist@example.com")
CANARY = """rollout: {{type: canary, size: 50%, bake_minutes: {minutes}}}
alarms: {{error_share: 0.05}}
"""


class ChapterFailed(Exception):
    """A command of the story failed; the message names it and its exit code."""


@dataclass
class Story:
    """One telling.

    Attributes:
        project: the name of the project that is created.
        region: where it plays.
        environment: the AWS variables of the data scientist (credentials, and AWS_ENDPOINT_URL where it is not AWS
            itself).
        administrator: those of the administrator, who installs the platform.
        folder: where the repository is cloned to; `folder/project` must not exist yet.
        creators: who may create projects, as the portfolio's principals are written.
        welcome: what the administrator does for the data scientist once the platform is there.
        admit: what the administrator does for the data scientist once the project is there.
        release: what the administrator does before the project is deleted.
        problem_type: one of the template's.
        bake_minutes: of the second version's canary, which is rejected in them.
    """

    project: str
    region: str
    environment: Mapping[str, str]
    administrator: Mapping[str, str]
    folder: Path
    creators: str = ""
    welcome: Callable[[], None] = lambda: None
    admit: Callable[[], None] = lambda: None
    release: Callable[[], None] = lambda: None
    problem_type: str = "binary_classification"
    bake_minutes: int = 30
    console: Console = field(default_factory=lambda: Console(highlight=False, emoji=False, soft_wrap=True))
    timings: list[tuple[str, float]] = field(default_factory=list)

    @property
    def repository(self) -> Path:
        return self.folder / self.project

    @property
    def endpoint(self) -> str:
        """Of stage dev, whose versions the story approves."""
        return f"{self.project}-dev"

    def tell(self) -> None:
        """All of it. Raises ChapterFailed at the first command that fails."""
        self.install()
        self.create()
        self.train()
        self.deploy()
        self.delete()

    def install(self) -> None:
        """An account without Modelyard gets the platform."""
        with self.chapter("An administrator installs the platform: functions, ledger, and the product in the catalog"):
            install = ("python", "-m", "servicecatalog", "install", "--principals", self.creators, "--yes")
            self.run(*install, folder=CHECKOUT, as_administrator=True)
            self.welcome()

    def create(self) -> None:
        """From the product in the catalog to a clone of the project's own repository.

        Raises:
            ChapterFailed: at the first command that fails.
        """
        with self.chapter("A data scientist creates the project, by the form that SageMaker Studio shows"):
            answers = {
                "Description": "The story of Modelyard",
                "ProblemType": self.problem_type,
                "OnDelete": "delete",
            }
            self.run(
                *(
                    "python",
                    "-m",
                    "local_aws",
                    "studio",
                    "create",
                    "--template",
                    "Modelyard project",
                    "--name",
                    self.project,
                ),
                *(word for name, value in answers.items() for word in ("--parameter", f"{name}={value}")),
                folder=CHECKOUT,
            )
            self.admit()
        with self.chapter("The project has a repository with branches prod and dev: it is cloned"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.run(*shlex.split(self.outputs["CloneCommand"]), self.project, folder=self.folder)
            self.run("git", "checkout", "dev")
            self.run("git", "--no-pager", "log", "--oneline", "--decorate", "--all")

    def delete(self) -> None:
        """The project goes, and with it all that it owned; what is left is the ledger's history and the bucket's data.

        Raises:
            ChapterFailed: the command fails, or something is left.
        """
        with self.chapter("The project is deleted: endpoint, pipelines, versions, roles, repository"):
            self.release()
            self.run("python", "-m", "local_aws", "studio", "delete", self.project, folder=CHECKOUT)
            if left := self.left():
                raise ChapterFailed("something is left of the project:\n  " + "\n  ".join(left))
            self.console.print("Nothing is left of it but the ledger's history, and its data and models in the bucket.")

    def train(self) -> None:
        """From the repository to a registered model.

        Raises:
            ChapterFailed: at the first command that fails.
        """
        with self.chapter("Sample data is written and sent to the artifact bucket"):
            self.pipeline("sample-data")
            self.pipeline("upload-data")
        with self.chapter("The pipeline of branch dev runs: process, train, evaluate, gate, register"):
            self.pipeline("start", "--watch")
        with self.chapter("The model is in the registry, waiting for a person to approve it"):
            self.pipeline("versions")
        with self.chapter("How good it is stands on one page, which needs no network to be read"):
            self.pipeline("report")

    def deploy(self) -> None:
        """From the registered model to one that serves, and to a second one that is rolled out and rejected again.

        Raises:
            ChapterFailed: at the first command that fails, and when the endpoint does not answer as it should.
        """
        with self.chapter("What an approval would do is planned, and what it would cost at most"):
            self.pipeline("plan", "1")
        with self.chapter("Version 1 is approved: the platform deploys it"):
            self.pipeline("approve", "1", "--watch", "--reason", "good enough to begin with")
        with self.chapter("The test set goes through the endpoint: it predicts as the evaluation said"):
            self.check_endpoint()
        with self.chapter("Version 2: flatter trees, two instances, and a canary that is watched"):
            self.change_model()
            self.pipeline("start", "--watch")
        with self.chapter("It is approved under load, rejected in the canary: version 1 takes over"):
            self.approve_and_reject()

    def check_endpoint(self) -> None:
        """Send the rows that Evaluate scored through the endpoint, as a client would: CSV in, JSON out."""
        package = self.describe_version(1)
        rows = self.test_rows(package)
        labels = [label.as_py() for label in rows[self.target]]
        body = as_csv(rows.drop_columns([self.target]))
        answers = predictions(self.client("sagemaker-runtime"), self.endpoint, body)
        positive = max(labels)  # a probability is of the second class, in the order of the labels
        found = auc([label == positive for label in labels], [answer["probability"] for answer in answers])
        evaluated = float(package["CustomerMetadataProperties"]["metric.auc"])
        self.console.print(
            f"{len(answers)} rows: AUC {found:.6f} through the endpoint, {evaluated:.6f} in the evaluation"
        )
        if abs(found - evaluated) > 1e-6:
            raise ChapterFailed("the endpoint predicts otherwise than the evaluation did")

    def change_model(self) -> None:
        """What a data scientist edits for the second version."""
        settings = self.repository / "settings.yaml"
        settings.write_text(re.sub(r"max_depth: \d+", "max_depth: 2", settings.read_text(encoding="utf-8")))
        stage_file = self.repository / "deployment" / "dev.yaml"
        text = re.sub(r"instance_count: \d+", "instance_count: 2", stage_file.read_text(encoding="utf-8"))
        stage_file.write_text(text + CANARY.format(minutes=self.bake_minutes))
        self.run("git", "--no-pager", "diff", "--unified=0")
        self.run("git", *AUTHOR, "commit", "--quiet", "--all", "--message", "Flatter trees, and a canary")

    def approve_and_reject(self) -> None:
        """Approve version 2 under load, and reject it as soon as its canary answers."""
        row = as_csv(self.test_rows(self.describe_version(1)).drop_columns([self.target]).slice(0, 1))
        runtime, sagemaker = self.client("sagemaker-runtime"), self.client("sagemaker")
        first = predictions(runtime, self.endpoint, row)
        with Traffic(runtime, self.endpoint, row) as traffic:
            self.pipeline("approve", "2", "--reason", "flatter trees")
            self.wait_for(
                "the canary of version 2 to answer",
                lambda: any(a.answer not in (first, None) for a in traffic.answered),
            )
            self.pipeline("status")
            self.pipeline("reject", "2", "--watch", "--reason", "second thoughts")
            self.wait_for(
                "version 1 alone to answer",
                lambda: sagemaker.describe_endpoint(EndpointName=self.endpoint)["EndpointStatus"] == "InService",
            )
            since = time.monotonic()
            self.wait_for("more requests", lambda: len(traffic.answers_since(since)) > 50)
        by_second = sum(answer.answer not in (first, None) for answer in traffic.answered)
        asked, failed = len(traffic.answered), len(traffic.failed)
        self.console.print(f"{asked} requests meanwhile: {by_second} answered by version 2, {failed} failed")
        if traffic.failed:
            raise ChapterFailed(f"a request failed: {traffic.failed[0].error}")
        if any(answer != first for answer in traffic.answers_since(since)):
            raise ChapterFailed("version 2 still answers after it was rejected")

    def wait_for(self, what: str, is_so: Any, seconds: float = 900) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > until:
                raise ChapterFailed(f"waited {seconds:g} s for {what}")
            time.sleep(0.2)

    @property
    def target(self) -> str:
        settings = yaml.safe_load((self.repository / "settings.yaml").read_text(encoding="utf-8"))
        return str(settings["data"]["target"])

    def describe_version(self, version: int) -> dict[str, Any]:
        """A version of stage dev's group, as DescribeModelPackage answers."""
        sagemaker = self.client("sagemaker")
        for page in sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=self.endpoint):
            for summary in page["ModelPackageSummaryList"]:
                if summary["ModelPackageVersion"] == version:
                    found: dict[str, Any] = sagemaker.describe_model_package(
                        ModelPackageName=summary["ModelPackageArn"]
                    )
                    return found
        raise ChapterFailed(f"{self.endpoint} has no version {version}")

    def test_rows(self, package: dict[str, Any]) -> pyarrow.Table:
        """The raw rows that the version's Evaluate scored, from its execution's Preprocess."""
        sagemaker, s3 = self.client("sagemaker"), self.client("s3")
        execution = package["CustomerMetadataProperties"]["pipeline.execution"]
        steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)["PipelineExecutionSteps"]
        job = next(step["Metadata"]["ProcessingJob"]["Arn"] for step in steps if step["StepName"] == "Preprocess")
        described = sagemaker.describe_processing_job(ProcessingJobName=job.rpartition("/")[2])
        outputs = {
            one["OutputName"]: one["S3Output"]["S3Uri"] for one in described["ProcessingOutputConfig"]["Outputs"]
        }
        bucket, _, prefix = outputs["test"].removeprefix("s3://").partition("/")
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        parts = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed]
        return pyarrow.concat_tables([pyarrow.parquet.read_table(io.BytesIO(part)) for part in parts])

    @property
    def outputs(self) -> dict[str, str]:
        """What the project's stack answered."""
        catalog, sagemaker = self.client("servicecatalog"), self.client("sagemaker")
        project = sagemaker.describe_project(ProjectName=self.project)
        product = project["ServiceCatalogProvisionedProductDetails"]["ProvisionedProductId"]
        answer = catalog.get_provisioned_product_outputs(ProvisionedProductId=product)
        return {output["OutputKey"]: output["OutputValue"] for output in answer["Outputs"]}

    def left(self) -> list[str]:
        """What AWS still has that bears the project's name, the ledger and the bucket aside."""
        return leftovers(lambda service: self.client(service, as_administrator=True), self.project)

    def client(self, service: str, as_administrator: bool = False) -> Any:
        """A boto3 client of the data scientist's, or of the administrator's."""
        given = self.administrator if as_administrator else self.environment
        return boto3.Session(
            given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY"), region_name=self.region
        ).client(
            service,
            endpoint_url=given.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}")
            or given.get("AWS_ENDPOINT_URL"),
        )

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        self.console.print()
        self.console.rule(f"[bold]{len(self.timings) + 1}. {title}", align="left", style="cyan")
        started = time.monotonic()
        yield
        self.timings.append((title, time.monotonic() - started))

    def generate(self, bucket: str) -> None:
        """The repository by cookiecutter, for where there is no platform: bucket and roles are there already."""
        answers = {
            "project": self.project,
            "description": "The story of Modelyard",
            "problem_type": self.problem_type,
            "region": self.region,
            "artifact_bucket": bucket,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run(
            *("cookiecutter", str(CHECKOUT), "--no-input", "--output-dir", str(self.folder)),
            *(f"{name}={value}" for name, value in answers.items()),
            folder=self.folder,
        )

    def pipeline(self, *arguments: str) -> None:
        """A command of the generated repository."""
        self.run("python", "-m", "pipeline", *arguments)

    def run(self, *command: str, folder: Path | None = None, as_administrator: bool = False) -> None:
        """Run a command where a user would: in the repository, with this environment's programs first on the PATH."""
        self.console.print(f"$ {_as_typed(command)}", style="dim", markup=False)
        programs = str(Path(sys.executable).parent)
        environment = os.environ | dict(self.administrator if as_administrator else self.environment)
        environment["PATH"] = os.pathsep.join([programs, environment.get("PATH", "")])
        result = subprocess.run(command, cwd=folder or self.repository, env=environment, check=False)
        if result.returncode != 0:
            raise ChapterFailed(f"`{_as_typed(command)}` ended with exit code {result.returncode}.")


def as_csv(rows: pyarrow.Table) -> str:
    """The rows as text/csv with a header, which is how columns are given by name."""
    written = io.BytesIO()
    pyarrow.csv.write_csv(rows, written)
    return written.getvalue().decode()


def _as_typed(command: Sequence[str]) -> str:
    """The command as a reader would type it, this machine's paths shortened."""
    words = [word.replace(str(CHECKOUT), "modelyard") for word in command]
    return " ".join(_quoted(word) if " " in word else word for word in words)


def _quoted(word: str) -> str:
    """In quotes within which a shell takes the word as it is."""
    return f"'{word}'" if set(word) & set("$!`") else f'"{word}"'


def fresh_folder(folder: Path) -> Path:
    """The folder, empty: an earlier telling is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
