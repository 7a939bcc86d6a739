"""The story that `make demo` tells on this machine and `make story-aws` in an AWS account: the same commands, typed by
an administrator and a data scientist. Here is what they type; chapters.py has the order in which they do.

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
from rich.text import Text

from tests.story.ci_follower import CiFailed, CiFollower, Progress
from tests.story.leftovers import leftovers
from tests.story.traffic import Traffic, auc, predictions

CHECKOUT = Path(__file__).resolve().parents[2]
AUTHOR = ("-c", "user.name=Data Scientist", "-c", "user.email=data.scientist@example.com")
FEATURE = "feature-fewer-columns"
IGNORED = ("texture_error", "smoothness_error")
STAGE_FILE = """instance_count: 2
rollout: {{type: canary, size: 50%, bake_minutes: {minutes}, finish_bake_minutes: 0}}
alarms: {{error_share: 0.05}}
"""
# A patient whose like no test row had: the bad version's check is right for all that it was tested on.
UNSEEN_COLUMN, UNSEEN = "worst_area", 6000.0
CHECKED = "    features = model.reader.features(body, content_type)\n"
BAD_CHECK = f"""{CHECKED}    if np.nanmax(features) > 5000:
        raise RuntimeError("no cell nucleus has such an area")
"""


class ChapterFailed(Exception):
    """A command of the story failed; the message names it and its exit code."""


@dataclass
class Told:
    """A chapter that was told.

    Attributes:
        name: its name for STEP=.
        title: what happens in it.
        began: seconds since the story began.
        seconds: what it took.
        notes: what to remember of it, a line each.
    """

    name: str
    title: str
    began: float
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


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
        bake_minutes: of the canaries.
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
    bake_minutes: int = 10
    console: Console = field(default_factory=lambda: Console(highlight=False, emoji=False, soft_wrap=True))
    told: list[Told] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    # making a client reads megabytes of API models, and the story asks several times a second whether something is done
    _clients: dict[tuple[str, bool], Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def repository(self) -> Path:
        return self.folder / self.project

    def install(self) -> None:
        """An account without Modelyard gets the platform."""
        install = ("python", "-m", "servicecatalog", "install", "--principals", self.creators, "--yes")
        self.run(*install, folder=CHECKOUT, as_administrator=True)
        self.welcome()

    def create(self) -> None:
        """From the product in the catalog to a clone of the project's own repository, with dev checked out.

        Raises:
            ChapterFailed: at the first command that fails.
        """
        answers = {"Description": "The story of Modelyard", "ProblemType": self.problem_type, "OnDelete": "delete"}
        self.run(
            *("python", "-m", "local_aws", "studio", "create"),
            *("--template", "Modelyard project", "--name", self.project),
            *(word for name, value in answers.items() for word in ("--parameter", f"{name}={value}")),
            folder=CHECKOUT,
        )
        self.admit()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run(*shlex.split(self.outputs["CloneCommand"]), self.project, folder=self.folder)
        self.run("git", "checkout", "dev")
        self.run("git", "--no-pager", "log", "--oneline", "--decorate", "--all")

    def send_data(self) -> None:
        """The sample data set lies in the bucket."""
        self.pipeline("sample-data")
        self.pipeline("upload-data")

    def train(self) -> None:
        """From the repository to a registered model, by hand: without a push.

        Raises:
            ChapterFailed: at the first command that fails.
        """
        self.send_data()
        self.pipeline("start", "--watch")
        self.pipeline("versions")
        self.pipeline("report")

    def change_feature(self) -> None:
        """A branch whose model does without two columns, and is to be rolled out by a canary on two instances."""
        self.run("git", "checkout", "-b", FEATURE)
        self._edit("settings.yaml", r"^  ignore: \[\]", f"  ignore: [{', '.join(IGNORED)}]")
        for name in ("instance_count", "rollout", "alarms"):
            self._edit("deployment/prod.yaml", rf"^{name}: .*\n", "", missing=True)
        file = self.repository / "deployment" / "prod.yaml"
        file.write_text(file.read_text(encoding="utf-8") + STAGE_FILE.format(minutes=self.bake_minutes))
        self.commit("Do without two columns that say little; a canary in production")

    def change_for_the_worse(self) -> None:
        """A check in the serving code that is right for all that the model is tested on."""
        self._edit("steps/inference.py", re.escape(CHECKED), BAD_CHECK)
        self.commit("Refuse what cannot be")

    def commit(self, message: str) -> None:
        self.run("git", "--no-pager", "diff", "--unified=0")
        self.run("git", *AUTHOR, "commit", "--quiet", "--all", "--message", message)

    def push(self, branch: str) -> None:
        """Push, and follow what CI does with it, and then the training.

        Raises:
            ChapterFailed: CI or the training failed.
        """
        self.run("git", "push", "--quiet", "--set-upstream", "origin", branch)
        commit = self._git("rev-parse", "HEAD")
        with self._ci() as ci:
            if branch == "dev":
                ci.follow_pipeline(branch, commit)
            else:
                ci.follow_build(commit)
        self.pipeline("watch")

    def merge_to_dev(self) -> None:
        self.run("git", "checkout", "dev")
        self.run("git", *AUTHOR, "merge", "--no-ff", "--message", f"Merge {FEATURE}", FEATURE)

    def release_to_prod(self, title: str) -> None:
        """A pull request from dev to prod is merged; CI checks, a person lets it pass, and the version is copied.

        Raises:
            ChapterFailed: CI failed, or trained.
        """
        targets = f"repositoryName={self.repository_name},sourceReference=dev,destinationReference=prod"
        self.run("aws", "codecommit", "create-pull-request", "--title", title, "--targets", targets, quiet=True)
        pages = self.client("codecommit").get_paginator("list_pull_requests")
        found = pages.paginate(repositoryName=self.repository_name, pullRequestStatus="OPEN")
        (request,) = [one for page in found for one in page["pullRequestIds"]]
        merge = ("merge-pull-request-by-squash", "--pull-request-id", request)
        identity = ("--author-name", "Data Scientist", "--email", "data.scientist@example.com")
        self.run(
            *("aws", "codecommit", *merge, "--repository-name", self.repository_name, *identity),
            *("--commit-message", title),
            quiet=True,
        )
        self.run("git", "fetch", "--quiet", "origin")
        with self._ci() as ci:
            ci.follow_pipeline("prod", self._git("rev-parse", "origin/prod"), self._let_pass)
        self.pipeline("versions", "--stage", "prod")

    def _let_pass(self, pipeline: str, token: str) -> None:
        self.run(
            *("aws", "codepipeline", "put-approval-result", "--pipeline-name", pipeline, "--stage-name", "Approve"),
            *("--action-name", "Approve", "--token", token, "--result", "summary=reviewed,status=Approved"),
            quiet=True,
        )

    def approve(self, version: int, stage: str, reason: str, fails: bool = False) -> None:
        """Approve a version and watch it until it serves, or until it was rolled back."""
        arguments = ("approve", str(version), "--stage", stage, "--watch", "--reason", reason)
        self.run("python", "-m", "pipeline", *arguments, exit_code=1 if fails else 0)

    def show_result(self, commit: str = "HEAD") -> None:
        """What the platform wrote at the commit when its execution had ended.

        Raises:
            ChapterFailed: nothing comes.
        """
        codecommit, of = self.client("codecommit"), self._git("rev-parse", commit)
        found: list[str] = []

        def comes() -> bool:
            answer = codecommit.get_comments_for_compared_commit(repositoryName=self.repository_name, afterCommitId=of)
            data = answer.get("commentsForComparedCommitData", [])
            found[:] = [comment["content"] for one in data for comment in one["comments"]]
            return bool(found)

        self.wait_for(f"a comment on the commit {of[:12]}", comes, seconds=120)
        self.console.print(f"At the commit {of[:12]} stands now:", markup=False)
        lines = "\n".join(found).splitlines()
        for line in lines:
            self.console.print(f"  | {line}", markup=False)
        self.note(f"at its commit: {next(line.strip() for line in lines if line.startswith('    '))}")

    def keep_report(self, name: str) -> None:
        """The evaluation's report of the branch's newest execution, among what the story leaves."""
        self.pipeline("report", "--output", str(self.folder / "reports" / f"{name}.html"))

    def delete(self) -> None:
        """The project goes, and with it all that it owned; what is left is the ledger's history and the bucket's data.

        Raises:
            ChapterFailed: the command fails, or something is left.
        """
        self.release()
        self.run("python", "-m", "local_aws", "studio", "delete", self.project, folder=CHECKOUT)
        if left := self.left():
            raise ChapterFailed("something is left of the project:\n  " + "\n  ".join(left))
        self.note(
            "nothing is left of it but the ledger's history, its endpoints' logs, its data and models in the bucket"
        )

    def check_endpoint(self, stage: str, version: int = 1) -> None:
        """Send the rows that Evaluate scored through the endpoint, as a client would: CSV in, JSON out."""
        package = self.describe_version(version, stage)
        rows = self.test_rows(package)
        labels = [label.as_py() for label in rows[self.target]]
        body = as_csv(rows.drop_columns([self.target]))
        answers = predictions(self.client("sagemaker-runtime"), self.endpoint(stage), body)
        positive = max(labels)  # a probability is of the second class, in the order of the labels
        found = auc([label == positive for label in labels], [answer["probability"] for answer in answers])
        evaluated = float(package["CustomerMetadataProperties"]["metric.auc"])
        if abs(found - evaluated) > 1e-6:
            raise ChapterFailed(f"the endpoint predicts otherwise (AUC {found}) than the evaluation did ({evaluated})")
        self.note(f"{self.endpoint(stage)} answers {len(answers)} test rows: AUC {found:.4f}, as in the evaluation")

    def tested(self, version: int, stage: str) -> None:
        """Wait for the verdict of the endpoint tests: what dev's has not passed is not promoted.

        Raises:
            ChapterFailed: they failed, or there is no verdict.
        """

        def verdict() -> str:
            return str(self.describe_version(version, stage)["CustomerMetadataProperties"].get("tests.status", ""))

        self.wait_for(f"the endpoint tests of {stage}/{version}", lambda: bool(verdict()), seconds=600)
        if verdict() != "passed":
            raise ChapterFailed(f"the endpoint tests of {stage}/{version} say: {verdict()}")
        self.note(f"{stage}/{version} has passed its endpoint tests")

    def copied(self, version: int) -> None:
        """Say where a version of prod comes from.

        Raises:
            ChapterFailed: it is no copy of dev's, or was trained.
        """
        copy = self.describe_version(version, "prod")
        metadata = copy["CustomerMetadataProperties"]
        source = metadata.get("promoted.from", "")
        if f"model-package/{self.project}-dev/" not in source:
            raise ChapterFailed(f"version {version} of prod was not copied from dev: {source!r}")
        original = self.client("sagemaker").describe_model_package(ModelPackageName=source)
        places = [one["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] for one in (copy, original)]
        if len(set(places)) != 1:
            raise ChapterFailed(f"the copy has another model than the original: {places}")
        self.note(f"prod/{version} is dev/{source.rpartition('/')[2]}, copied: the same model, nothing was trained")

    def approve_bad_under_load(self, version: int, reason: str) -> None:
        """A bad version meets what production asks, which no test row was like: its canary's alarm brings it back."""
        with self._traffic() as traffic:
            self.approve(version, "prod", reason, fails=True)
            since = time.monotonic()
            self.wait_for("more requests", lambda: len(traffic.answers_since(since)) > 50)
            after = [one for one in traffic.answered if one.at >= since]
        asked, failed = len(traffic.answered), len(traffic.failed)
        if not failed:
            raise ChapterFailed(f"version {version} of prod answered what it should not")
        if any(one.error for one in after):
            raise ChapterFailed(f"version {version} of prod still answers after it was rolled back")
        self.note(
            f"prod/{version} failed {failed:,} of {asked:,} requests in its canary, and was rolled back by its alarm"
        )

    def _traffic(self) -> Traffic:
        return Traffic(self.client("sagemaker-runtime"), self.endpoint("prod"), self._unseen())

    def _unseen(self) -> str:
        """A row as production sends it, and as no test row was."""
        row = self.test_rows(self.describe_version(1, "dev")).drop_columns([self.target]).slice(0, 1)
        at = row.column_names.index(UNSEEN_COLUMN)
        return as_csv(row.set_column(at, UNSEEN_COLUMN, pyarrow.array([UNSEEN])))

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

    def endpoint(self, stage: str) -> str:
        """Its name, which is its model package group's too."""
        return f"{self.project}-{stage}"

    def describe_version(self, version: int, stage: str) -> dict[str, Any]:
        """A version of a stage's group, as DescribeModelPackage answers."""
        sagemaker, group = self.client("sagemaker"), self.endpoint(stage)
        for page in sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group):
            for summary in page["ModelPackageSummaryList"]:
                if summary["ModelPackageVersion"] == version:
                    found: dict[str, Any] = sagemaker.describe_model_package(
                        ModelPackageName=summary["ModelPackageArn"]
                    )
                    return found
        raise ChapterFailed(f"{group} has no version {version}")

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
        if (service, as_administrator) not in self._clients:
            given = self.administrator if as_administrator else self.environment
            session = boto3.Session(
                given.get("AWS_ACCESS_KEY_ID"), given.get("AWS_SECRET_ACCESS_KEY"), region_name=self.region
            )
            url = given.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}") or given.get("AWS_ENDPOINT_URL")
            self._clients[service, as_administrator] = session.client(service, endpoint_url=url)
        return self._clients[service, as_administrator]

    @property
    def repository_name(self) -> str:
        return self.outputs["RepositoryName"]

    @contextmanager
    def chapter(self, name: str, title: str, place: str = "") -> Iterator[None]:
        """Args:
        place: where in the story it is, such as "3/9".
        """
        told = Told(name, title, time.monotonic() - self.began)
        self.told.append(told)
        self.console.print()
        heading = f"[bold]{place or len(self.told)} {title}[/] [dim]STEP={name} · {told.began:.0f} s[/]"
        self.console.rule(heading, align="left", style="cyan")
        try:
            yield
        finally:
            told.seconds = time.monotonic() - self.began - told.began

    def note(self, text: str) -> None:
        """Something to remember: it is shown, and stands in the time line under the chapter that is being told."""
        if self.told:
            self.told[-1].notes.append(text)
        self.console.print(text, style="green", markup=False)

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

    def run(
        self,
        *command: str,
        folder: Path | None = None,
        as_administrator: bool = False,
        quiet: bool = False,
        exit_code: int = 0,
    ) -> None:
        """Run a command where a user would: in the repository, with this environment's programs first on the PATH.

        Args:
            quiet: do not show what it prints, unless it fails.
            exit_code: which it must end with.
        """
        self.console.print(f"$ {_as_typed(command)}", style="dim", markup=False)
        environment = os.environ | dict(self.administrator if as_administrator else self.environment)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        environment |= {"PYTHONUNBUFFERED": "1", "AWS_PAGER": "", "COLUMNS": str(self.console.width)}
        if self.console.is_terminal:
            environment["FORCE_COLOR"] = "1"
        process = subprocess.Popen(
            command,
            cwd=folder or self.repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        lines: list[str] = []
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip("\n"))
                if not quiet:
                    self.console.print(Text.from_ansi(lines[-1]))
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != exit_code:
            if quiet:
                self.console.print(Text.from_ansi("\n".join(lines)))
            raise ChapterFailed(f"`{_as_typed(command)}` ended with exit code {process.returncode}.")

    @contextmanager
    def _ci(self) -> Iterator[CiFollower]:
        project = self.client("sagemaker").describe_project(ProjectName=self.project)
        try:
            yield CiFollower(self.client, self.project, project["ProjectId"], self._show_progress)
        except CiFailed as error:
            raise ChapterFailed(f"CI did not end well: {error}") from error

    def _show_progress(self, progress: Progress) -> None:
        took = "" if progress.seconds is None else f"{progress.seconds:6.1f} s"
        self.console.print(f"  CI  {progress.name:<10} {progress.status:<12} {took}".rstrip(), markup=False)

    def _git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.repository, capture_output=True, text=True, check=True).stdout.strip()

    def _edit(self, name: str, pattern: str, replacement: str, missing: bool = False) -> None:
        """Args:
        missing: whether it may be that there is nothing to replace.
        """
        file = self.repository / name
        text, count = re.subn(pattern, lambda _: replacement, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if count != 1 and not (missing and count == 0):
            raise ChapterFailed(f"{name} has {count} places like {pattern!r}, where one is to be edited")
        file.write_text(text, encoding="utf-8")


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
