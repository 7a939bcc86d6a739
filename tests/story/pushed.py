"""A project whose CI the tests push to: what a person types, and where a person looks afterwards, on both hosts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from tests.ci.projects import TEST
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import ORGANIZATION, GitHubClient
from tests.local_aws.waiting import wait_for
from tests.story.platform import Project as Stage
from tests.story.repository import versions
from tests.story.ways import Installed

PATIENCE = 240.0  # seconds for a push's CI, or a training, on a busy machine
LOOK = 0.25  # seconds between two looks
NO_COMMIT = "0" * 40
# GitHub's state for how a pipeline ended, in the words of a comment.
STATES = {"succeeded": "success", "failed": "failure", "stopped": "error"}


@dataclass(frozen=True)
class Ci:
    """What CI did. log: what a person reads of it."""

    succeeded: bool
    log: str


@dataclass
class Pushed:
    """
    Args:
        id: of the SageMaker project; CodePipeline's pipelines are called by it.
        clone: with dev checked out.
        seen: GitHub's runs that were looked at, by their ids.
    """

    installed: Installed
    name: str
    id: str
    clone: Git
    seen: set[int] = field(default_factory=set)

    def client(self, service: str) -> Any:
        return self.installed.aws.client(service)

    @property
    def on_github(self) -> bool:
        return self.installed.host == "github"

    # --- what a person types

    def on(
        self,
        branch: str,
        message: str,
        base: str | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Commit to a branch, which is made from dev, or anew from `base`; the commit.

        Args:
            settings: changes of settings.yaml, by section.
        """
        there = bool(self.clone("for-each-ref", f"refs/heads/{branch}")) and base is None
        if there:
            self.clone("symbolic-ref", "HEAD", f"refs/heads/{branch}")
            self.clone("reset", "--quiet", "--hard")
        else:
            start = self.clone("rev-parse", base or "dev")
            self.clone("checkout", "--quiet", "--detach", start)
            self.clone("update-ref", f"refs/heads/{branch}", start)
            self.clone("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        for name, text in (files or {}).items():
            (self.clone.folder / name).write_text(text, encoding="utf-8")
        if settings:
            path = self.clone.folder / "settings.yaml"
            there_now = yaml.safe_load(path.read_text(encoding="utf-8"))
            for section, values in settings.items():
                there_now[section] |= values
            path.write_text(yaml.safe_dump(there_now, allow_unicode=True), encoding="utf-8")
        self.clone("add", "--all")
        self.clone("commit", "--quiet", "--allow-empty", "--message", message)
        return self.clone("rev-parse", "HEAD")

    def on_dev(self, message: str, files: Mapping[str, str] | None = None) -> str:
        """Commit to dev, after what prod has: a squash and a rebase leave commits there that dev lacks."""
        self.clone("fetch", "--quiet", "origin")
        self.clone("checkout", "--quiet", "dev")
        self.clone("merge", "--quiet", "--strategy", "ours", "--message", "prod is in dev", "origin/prod")
        # what register() makes of these files answers no endpoint tests, and is promoted where there are none
        self.clone("rm", "--quiet", "--ignore-unmatch", "tests/endpoint/cases.yaml")
        self.clone("commit", "--quiet", "--allow-empty", "--message", "No endpoint tests")
        return self.on("dev", message, files=files)

    def push(self, branch: str, *options: str) -> str:
        """Push the branch; its commit."""
        self.clone("push", "--quiet", *options, "origin", f"refs/heads/{branch}:refs/heads/{branch}")
        return self.clone("rev-parse", f"refs/heads/{branch}")

    def delete(self, branch: str) -> None:
        self.clone("push", "--quiet", "origin", "--delete", f"refs/heads/{branch}")

    def head(self, branch: str) -> str:
        return self.clone("ls-remote", "origin", f"refs/heads/{branch}").partition("\t")[0]

    def open_pull_request(self, head: str, base: str, title: str) -> str:
        """Its number."""
        if self.on_github:
            answer = self.github("POST", "/pulls", {"title": title, "head": head, "base": base})
            return str(answer["number"])
        target = {"repositoryName": self.name, "sourceReference": head, "destinationReference": base}
        made = self.client("codecommit").create_pull_request(title=title, targets=[target])
        return str(made["pullRequest"]["pullRequestId"])

    def release(self, method: str, title: str) -> str:
        """Merge a pull request from dev to prod; prod's commit then.

        Args:
            method: merge, squash or rebase (on CodeCommit, which has none: fast-forward).
        """
        number = self.open_pull_request("dev", "prod", title)
        if self.on_github:
            return str(self.github("PUT", f"/pulls/{number}/merge", {"merge_method": method})["sha"])
        codecommit, asked = self.client("codecommit"), {"pullRequestId": number, "repositoryName": self.name}
        who = {"authorName": "Ada", "email": "ada@example.com", "commitMessage": title}
        if method == "merge":
            codecommit.merge_pull_request_by_three_way(**asked, **who)
        elif method == "squash":
            codecommit.merge_pull_request_by_squash(**asked, **who)
        else:
            codecommit.merge_pull_request_by_fast_forward(**asked)
        return self.head("prod")

    def register(self, tree: str) -> str:
        """An approved version of dev that was trained from a tree, without having been; its ARN."""
        bucket = self.installed.parameter("/modelyard/artifact-bucket")
        dev = Stage(self.installed.aws, self.name, "dev", bucket)
        arn = dev.register(tree[:8], git__tree=tree)
        metadata = dev.package(arn)["CustomerMetadataProperties"]
        key = metadata["deployment.prefix"].partition(f"{bucket}/")[2]
        text = self.client("s3").get_object(Bucket=bucket, Key=f"{key}dev.yaml")["Body"].read()
        self.client("s3").put_object(Bucket=bucket, Key=f"{key}prod.yaml", Body=text)
        hashes = {"deployment.sha256.prod": hashlib.sha256(text).hexdigest()}
        dev.sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=hashes)
        dev.approve(arn)
        return arn

    # --- where a person looks

    def github(self, method: str, path: str, body: Any = None) -> Any:
        answer = GitHubClient(self.installed.aws.endpoint)(method, f"/repos/{ORGANIZATION}/{self.name}{path}", body)
        assert answer.status < 300, answer
        return answer.content

    def ci(self, branch: str, commit: str, nth: int = 0) -> Ci:
        """The CI of a push, when it is over.

        Args:
            nth: which of several for the same commit, the oldest first.
        """
        if self.on_github:
            return self._run("push", lambda run: (run["head_branch"], run["head_sha"]) == (branch, commit), nth)
        if branch in ("dev", "prod"):
            return self._delivery(branch, commit, nth)
        return self._build("feature", lambda build: (_branch(build), build["sourceVersion"]) == (branch, commit), nth)

    def ci_of_deletion(self, branch: str) -> Ci:
        if self.on_github:
            return self._run("delete", lambda run: run["id"] not in self.seen)
        return self._build("feature", lambda build: _branch(build) == branch and "deleted" in _steps(build))

    def ci_of_pull_request(self, branch: str, runs: int = 1) -> Ci:
        """The newest one's, of so many."""
        return self._run("pull_request", lambda run: run["head_branch"] == branch, runs - 1)

    def comments(self, number: str) -> list[str]:
        return [str(one["body"]) for one in self.github("GET", f"/issues/{number}/comments")]

    def told(self, commit: str, state: str) -> str:
        """What the commit was told in the end: the newest status, or comment."""
        said = wait_for(
            lambda: next((text for found, text in self.tellings(commit) if found == state), None),
            otherwise=lambda: f"{commit} was told {self.tellings(commit)}, never {state}: {self.log_of_status()}",
            seconds=PATIENCE,
            pause=LOOK,
        )
        return str(said)

    def tellings(self, commit: str) -> list[tuple[str, str]]:
        """All of them, as state and text, the newest first."""
        if self.on_github:
            found = self.github("GET", f"/commits/{commit}/statuses")
            return [(one["state"], f"{one['description']} {one['target_url']}") for one in found]
        codecommit = self.client("codecommit")
        parents = codecommit.get_commit(repositoryName=self.name, commitId=commit)["commit"]["parents"]
        answer = codecommit.get_comments_for_compared_commit(
            repositoryName=self.name, beforeCommitId=parents[0], afterCommitId=commit
        )
        comments = [one for data in answer["commentsForComparedCommitData"] for one in data["comments"]]
        comments.sort(key=lambda one: one["creationDate"], reverse=True)
        # **modelyard/<pipeline> <how it ended>**
        said = [(one["content"].partition("\n")[0].strip("*").rpartition(" ")[2], one["content"]) for one in comments]
        return [(STATES[ended], text) for ended, text in said]

    def log_of_status(self) -> str:
        events = self.client("logs").filter_log_events(logGroupName="/aws/lambda/modelyard-commit-status")["events"]
        return "".join(event["message"] for event in events)[-3000:]

    def pipelines(self, branch: str) -> list[str]:
        """The branch's SageMaker pipeline, if there is one."""
        digest = hashlib.sha256(f"{self.name}/{branch}".encode()).hexdigest()[:6]
        listed = self.client("sagemaker").list_pipelines(PipelineNamePrefix=self.name, MaxResults=100)
        names = [one["PipelineName"] for one in listed["PipelineSummaries"]]
        return [name for name in names if name == f"{self.name}-{branch}" or name.endswith(f"-{digest}")]

    def executions(self, branch: str) -> list[tuple[str, str]]:
        """Name and status, the newest first."""
        found = []
        for pipeline in self.pipelines(branch):
            listed = self.client("sagemaker").list_pipeline_executions(PipelineName=pipeline)
            found += [
                (one["PipelineExecutionDisplayName"], one["PipelineExecutionStatus"])
                for one in listed["PipelineExecutionSummaries"]
            ]
        return found

    def trained(self, branch: str) -> list[tuple[str, str]]:
        """The same once none is under way."""
        return list(
            wait_for(
                lambda: (
                    (found := self.executions(branch))
                    and not any(status in ("Executing", "Stopping") for _, status in found)
                    and found
                ),
                otherwise=lambda: f"{branch}: {self.executions(branch)}",
                seconds=PATIENCE,
                pause=LOOK,
            )
        )

    def versions(self, stage: str) -> list[dict[str, Any]]:
        """The oldest first."""
        found = versions(self.installed.aws, f"{self.name}-{stage}")
        return sorted(found, key=lambda one: one["ModelPackageVersion"])

    def approve(self, package: Mapping[str, Any]) -> None:
        self.client("sagemaker").update_model_package(
            ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus="Approved"
        )

    def runs(self) -> list[str]:
        """The branches whose pushes CI has run for, the oldest first."""
        if self.on_github:
            found = self.github("GET", "/actions/runs?event=push&per_page=100")["workflow_runs"]
            return [run["head_branch"] for run in found][::-1]
        return [_branch(build) for build in self._builds("feature")]

    def builds(self, branch: str) -> list[dict[str, Any]]:
        """A feature branch's, the oldest first."""
        return [build for build in self._builds("feature") if _branch(build) == branch]

    def deliveries(self, branch: str, commit: str) -> list[dict[str, Any]]:
        """CodePipeline's executions for a commit of dev or prod, the oldest first."""
        pages = self.client("codepipeline").get_paginator("list_pipeline_executions")
        found = pages.paginate(pipelineName=f"{self.id}-{branch}")
        every = [one for page in found for one in page["pipelineExecutionSummaries"]]
        return [
            one
            for one in reversed(every)
            if any(revision.get("revisionId") == commit for revision in one.get("sourceRevisions", []))
        ]

    # ---

    def _run(self, event: str, is_it: Callable[[dict[str, Any]], bool], nth: int = 0) -> Ci:
        """A run of GitHub's, when it is over."""

        def runs() -> list[dict[str, Any]]:
            return list(self.github("GET", f"/actions/runs?event={event}&per_page=100")["workflow_runs"])

        def over() -> dict[str, Any] | None:
            found = [run for run in reversed(runs()) if run["path"].endswith("/ci.yml") and is_it(run)]
            return found[nth] if len(found) > nth and found[nth]["status"] == "completed" else None

        run = wait_for(
            over, otherwise=lambda: f"{runs()} {self.installed.aws.log[-2000:]}", seconds=PATIENCE, pause=LOOK
        )
        self.seen.add(run["id"])
        jobs = self.github("GET", f"/actions/runs/{run['id']}/jobs")["jobs"]
        logs = [self.github("GET", f"/actions/jobs/{job['id']}/logs") for job in jobs if job["conclusion"] != "skipped"]
        return Ci(run["conclusion"] == "success", _readable([run["conclusion"], *logs]))

    def _builds(self, name: str) -> list[dict[str, Any]]:
        """The oldest first."""
        codebuild = self.client("codebuild")
        ids = codebuild.list_builds_for_project(projectName=f"modelyard-{self.name}-{name}", sortOrder="ASCENDING")[
            "ids"
        ]
        return list(codebuild.batch_get_builds(ids=ids)["builds"]) if ids else []

    def _build(self, name: str, is_it: Callable[[dict[str, Any]], bool], nth: int = 0) -> Ci:
        def over() -> dict[str, Any] | None:
            found = [build for build in self._builds(name) if is_it(build)]
            return found[nth] if len(found) > nth and found[nth]["buildComplete"] else None

        build = wait_for(over, otherwise=lambda: f"{self._builds(name)}", seconds=PATIENCE, pause=LOOK)
        return Ci(build["buildStatus"] == "SUCCEEDED", f"{build['buildStatus']}\n{self._log(build)}")

    def _log(self, build: dict[str, Any]) -> str:
        try:
            pages = (
                self.client("logs")
                .get_paginator("filter_log_events")
                .paginate(logGroupName=build["logs"]["groupName"], logStreamNames=[build["logs"]["streamName"]])
            )
            return _readable(event["message"] for page in pages for event in page["events"])
        except (ClientError, KeyError) as error:
            return f"no log: {error!r}"

    def _delivery(self, branch: str, commit: str, nth: int) -> Ci:
        """An execution of CodePipeline's, when it is over; a person lets prod's pass."""
        codepipeline, name, allowed = self.client("codepipeline"), f"{self.id}-{branch}", False

        def over() -> dict[str, Any] | None:
            nonlocal allowed
            found = self.deliveries(branch, commit)
            if len(found) <= nth:
                return None
            if not allowed:
                allowed = self._let_pass(name, found[nth]["pipelineExecutionId"])
            return found[nth] if found[nth]["status"] not in ("InProgress", "Stopping") else None

        done = wait_for(over, otherwise=lambda: f"{self.deliveries(branch, commit)}", seconds=PATIENCE, pause=LOOK)
        actions = codepipeline.list_action_executions(
            pipelineName=name, filter={"pipelineExecutionId": done["pipelineExecutionId"]}
        )["actionExecutionDetails"]
        logs = []
        for action in reversed(actions):
            build = action.get("output", {}).get("executionResult", {}).get("externalExecutionId", "")
            if build.startswith("modelyard-"):
                (found,) = self.client("codebuild").batch_get_builds(ids=[build])["builds"]
                logs.append(f"--- {action['actionName']}: {action['status']}\n{self._log(found)}")
        return Ci(done["status"] == "Succeeded", "\n".join([done["status"], *logs]))

    def _let_pass(self, pipeline: str, execution: str) -> bool:
        """Whether an approval was asked for, by this execution, and given."""
        codepipeline = self.installed.clients(self.name)("codepipeline")
        for stage in codepipeline.get_pipeline_state(name=pipeline)["stageStates"]:
            latest = stage.get("latestExecution", {}).get("pipelineExecutionId")
            for action in stage["actionStates"]:
                token = action.get("latestExecution", {}).get("token")
                if token and latest == execution:
                    codepipeline.put_approval_result(
                        pipelineName=pipeline,
                        stageName=stage["stageName"],
                        actionName=action["actionName"],
                        result={"summary": "as reviewed", "status": "Approved"},
                        token=token,
                    )
                    return True
        return False


def make_project(installed: Installed, name: str, folder: Path) -> Pushed:
    """A project by the product, whose repository has one test; its data lie in the bucket."""
    made = installed.create(name, ProblemType="regression", OnDelete="delete")
    installed.person(name).admit()
    clone = installed.clone(name, folder / name)
    shutil.rmtree(clone.folder / "tests")  # with its endpoint tests: nothing is deployed here
    (clone.folder / "tests").mkdir()
    (clone.folder / "tests" / "test_one.py").write_text(TEST)
    # its style, like its tests, has its own place (tests/template)
    (clone.folder / "ruff.toml").write_text('lint.select = ["F"]\n')
    for command in ("sample-data", "upload-data"):
        done = installed.run(installed.environment(name), clone.folder, "python", "-m", "pipeline", command)
        assert done.returncode == 0, done.stdout + done.stderr
    clone("checkout", "--quiet", "dev")
    clone("add", "--all")
    clone("commit", "--quiet", "--message", "One test")
    project = Pushed(installed, name, made.id, clone)
    if project.on_github:  # the pushes that made prod and dev are CI's with all tests: tests/ci
        for run in wait_for(
            lambda: len(found := project.github("GET", "/actions/runs")["workflow_runs"]) > 1 and found
        ):
            if run["status"] != "completed":
                project.github("POST", f"/actions/runs/{run['id']}/cancel")
    return project


def _readable(lines: Iterable[str]) -> str:
    """Without what pip says of each package."""
    text = "\n".join(line.rstrip("\n") for line in lines)
    return "\n".join(line for line in text.splitlines() if "Requirement already" not in line)


def _variables(build: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in build["environment"].get("environmentVariables", [])}


def _branch(build: dict[str, Any]) -> str:
    return _variables(build).get("MODELYARD_BRANCH", "")


def _steps(build: dict[str, Any]) -> str:
    return _variables(build).get("MODELYARD_CI_STEPS", "")
