"""An enforcing server that runs builds, with a repository, a build project and roles for pipelines."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from local_aws import LocalAWS
from tests.local_aws.people import root
from tests.local_aws.waiting import wait_for

HERE = "us-east-1:123456789012"
BUCKET = "pipeline-artifacts"
BUILDSPEC = """
version: 0.2
phases:
  build:
    commands:
      - echo "on $MODELYARD_BRANCH at $(git rev-parse HEAD)"
      - test ! -e broken
"""
Statement = dict[str, Any]


def allow(actions: list[str], on: str | list[str]) -> Statement:
    return {"Effect": "Allow", "Action": actions, "Resource": on}


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def source(repository: str, branch: str = "dev", **more: Any) -> dict[str, Any]:
    return {
        "name": "Source",
        "actionTypeId": {"category": "Source", "owner": "AWS", "provider": "CodeCommit", "version": "1"},
        "configuration": {
            "RepositoryName": repository,
            "BranchName": branch,
            "PollForSourceChanges": "false",
            "OutputArtifactFormat": "CODEBUILD_CLONE_REF",
        },
        "outputArtifacts": [{"name": "SourceArtifact"}],
        "namespace": "Source",
        **more,
    }


def build(name: str, project: str, **more: Any) -> dict[str, Any]:
    variables = [{"name": "MODELYARD_BRANCH", "value": "#{Source.BranchName}", "type": "PLAINTEXT"}]
    return {
        "name": name,
        "actionTypeId": {"category": "Build", "owner": "AWS", "provider": "CodeBuild", "version": "1"},
        "configuration": {"ProjectName": project, "EnvironmentVariables": json.dumps(variables)},
        "inputArtifacts": [{"name": "SourceArtifact"}],
        **more,
    }


def approval(name: str = "Approve", **configuration: str) -> dict[str, Any]:
    kind = {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"}
    return {"name": name, "actionTypeId": kind, "configuration": configuration}


def stage(*actions: dict[str, Any], name: str = "") -> dict[str, Any]:
    return {"name": name or actions[0]["name"], "actions": list(actions)}


def pipeline(name: str, role: str, *stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "roleArn": role,
        "artifactStore": {"type": "S3", "location": BUCKET},
        "stages": list(stages),
        "pipelineType": "V2",
        **more,
    }


@dataclass(frozen=True)
class Stand:
    """A repository with a build project, and the role of its pipelines.

    Args:
        name: of the repository and of the build project.
        role, build_role: ARNs.
    """

    aws: LocalAWS
    name: str
    role: str
    build_role: str

    @property
    def client(self) -> Any:
        return root(self.aws, "codepipeline")

    @property
    def git(self) -> Any:
        return root(self.aws, "codecommit")

    def rights(self, prefix: str) -> list[Statement]:
        """What the role of the pipelines needs, and no more."""
        return [
            allow(
                [f"codecommit:{name}" for name in ("GetRepository", "GetBranch", "GetCommit")],
                f"arn:aws:codecommit:{HERE}:{self.name}",
            ),
            allow(
                ["codebuild:StartBuild", "codebuild:BatchGetBuilds"], f"arn:aws:codebuild:{HERE}:project/{self.name}"
            ),
            allow(["s3:PutObject", "s3:GetObject"], f"arn:aws:s3:::{BUCKET}/{prefix}/*"),
        ]

    def may(self, *statements: Statement) -> None:
        """From now on the role of the pipelines may this."""
        put_policy(self.aws, self.role, *statements)

    def commit(self, branch: str = "dev", message: str = "Change", **files: str) -> str:
        """A commit on a branch, which is made when it is not there; the commit's id."""
        branches = self.git.list_branches(repositoryName=self.name)["branches"]
        parent = {}
        if branches:
            base = branch if branch in branches else "dev"
            found = self.git.get_branch(repositoryName=self.name, branchName=base)["branch"]["commitId"]
            if base != branch:
                self.git.create_branch(repositoryName=self.name, branchName=branch, commitId=found)
            parent = {"parentCommitId": found}
        content = {"buildspec.yml": BUILDSPEC, "change": uuid.uuid4().hex, **files}
        made: str = self.git.create_commit(
            repositoryName=self.name,
            branchName=branch,
            commitMessage=message,
            authorName="Ada",
            email="ada@example.com",
            putFiles=[{"filePath": path, "fileContent": text.encode()} for path, text in content.items()],
            **parent,
        )["commitId"]
        return made

    def make(self, *stages: dict[str, Any], name: str = "", **more: Any) -> str:
        """A new pipeline that begins with the repository's branch dev; its name."""
        name = name or f"p{uuid.uuid4().hex[:10]}-dev"
        first = more.pop("first", stage(source(self.name)))
        self.may(*self.rights(name[:20]))
        self.client.create_pipeline(pipeline=pipeline(name, self.role, first, *stages, **more))
        return name

    def newest(self, name: str) -> str:
        """The id of a pipeline's newest execution."""
        found: str = self.history(name)[0]["pipelineExecutionId"]
        return found

    def history(self, name: str) -> list[dict[str, Any]]:
        """The newest first."""
        found: list[dict[str, Any]] = self.client.list_pipeline_executions(pipelineName=name)[
            "pipelineExecutionSummaries"
        ]
        return found

    def start(self, name: str, **more: Any) -> str:
        found: str = self.client.start_pipeline_execution(name=name, **more)["pipelineExecutionId"]
        return found

    def status(self, name: str, execution: str) -> str:
        answer = self.client.get_pipeline_execution(pipelineName=name, pipelineExecutionId=execution)
        found: str = answer["pipelineExecution"]["status"]
        return found

    def ended(self, name: str, execution: str = "") -> str:
        """The status with which an execution ends (without an id, the newest)."""
        execution = execution or self.newest(name)

        def end() -> str | None:
            status = self.status(name, execution)
            return status if status not in ("InProgress", "Stopping") else None

        found: str = wait_for(end, pause=0.03)
        return found

    def state(self, name: str, stage: str) -> dict[str, Any]:
        stages = self.client.get_pipeline_state(name=name)["stageStates"]
        return next(each for each in stages if each["stageName"] == stage)

    def action(self, name: str, stage: str, action: str = "") -> dict[str, Any]:
        """The newest execution of an action, as GetPipelineState tells it; empty before the first."""
        found = self.state(name, stage)["actionStates"]
        chosen = next(each for each in found if each["actionName"] == (action or stage))
        return dict(chosen.get("latestExecution", {}))

    def asked(self, name: str, stage: str = "Approve") -> str:
        """The token of an approval, when it waits."""
        token: str = wait_for(lambda: self.action(name, stage).get("token"), pause=0.02)
        return token

    def decide(self, name: str, token: str, status: str = "Approved", client: Any = None) -> None:
        (client or self.client).put_approval_result(**decision(name, token, status))


def decision(name: str, token: str, status: str = "Approved") -> dict[str, Any]:
    """A request of PutApprovalResult."""
    result = {"summary": "Looked at", "status": status}
    return {"pipelineName": name, "stageName": "Approve", "actionName": "Approve", "token": token, "result": result}


def put_policy(aws: LocalAWS, role: str, *statements: Statement) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    root(aws, "iam").put_role_policy(RoleName=role.rpartition("/")[2], PolicyName="rights", PolicyDocument=document)


def make_role(aws: LocalAWS, name: str, service: str) -> str:
    role: str = root(aws, "iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust(service))["Role"]["Arn"]
    return role


def make_stand(aws: LocalAWS) -> Stand:
    name = f"r{uuid.uuid4().hex[:10]}"
    buckets = [each["Name"] for each in root(aws, "s3").list_buckets()["Buckets"]]
    if BUCKET not in buckets:
        root(aws, "s3").create_bucket(Bucket=BUCKET)
    role = make_role(aws, f"{name}-pipeline", "codepipeline.amazonaws.com")
    build_role = make_role(aws, f"{name}-build", "codebuild.amazonaws.com")
    log = f"arn:aws:logs:{HERE}:log-group:/aws/codebuild/{name}:*"
    put_policy(
        aws,
        build_role,
        allow(["codecommit:GitPull"], f"arn:aws:codecommit:{HERE}:{name}"),
        allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], [log, log.removesuffix(":*")]),
        allow(["s3:GetObject"], f"arn:aws:s3:::{BUCKET}/*"),
    )
    stand = Stand(aws, name, role, build_role)
    stand.git.create_repository(repositoryName=name)
    stand.commit()
    location = stand.git.get_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
    root(aws, "codebuild").create_project(
        name=name,
        source={"type": "CODECOMMIT", "location": location},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
        },
        serviceRole=build_role,
    )
    return stand
