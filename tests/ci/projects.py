"""A generated repository and an account for the jobs of its CI: data, groups, roles by class of branches."""

from __future__ import annotations

import json
from pathlib import Path

from cookiecutter.main import cookiecutter

from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import ORGANIZATION, TOKEN, GitHubClient

CHECKOUT = Path(__file__).resolve().parents[2]
ACCOUNT, BUCKET, AUDIENCE = "123456789012", "churn-artifacts", "sts.amazonaws.com"
# What a shell, YAML, Markdown or a log could take for something else than a name.
HOSTILE = "feature-$(touch${IFS}x)`id`\"';&|<>#!{}()%0Aset-output,name=x-é"
MESSAGE = "$(id) `id` \"quoted\" 'quoted' ${{ github.token }}\n\n::set-output name=x::y\n<!-- --> | ``` @everyone"
# The repository's own tests have their own place (tests/template): here one stands for them.
TEST = """import os


def test_nothing_can_be_signed_in_with():
    assert not [name for name in os.environ if "TOKEN" in name or name.startswith("AWS_")]
"""


def generate(folder: Path, host: str) -> Path:
    """A repository for a Git host, with one test; prod and dev are the same, and dev is checked out."""
    config = folder / "cookiecutter.yaml"
    config.write_text(json.dumps({"cookiecutters_dir": str(folder / "c"), "replay_dir": str(folder / "r")}))
    answers = {"project": "churn", "problem_type": "regression", "git_host": host}
    made = Path(
        cookiecutter(
            str(CHECKOUT), no_input=True, extra_context=answers, output_dir=str(folder), config_file=str(config)
        )
    )
    for path in (made / "tests").glob("*.py"):
        path.unlink()
    (made / "tests" / "test_one.py").write_text(TEST)
    git = Git(made)
    git("add", "--all")
    git("commit", "--quiet", "--message", "One test")
    git("branch", "--force", "prod")
    return made


def prepare(aws: LocalAWS) -> None:
    """Data, model package groups, and the roles of the pipelines."""
    aws.client("s3").create_bucket(Bucket=BUCKET)
    aws.client("s3").put_object(Bucket=BUCKET, Key="churn/data/diabetes.csv", Body=b"a,disease_progression\n1,2\n")
    trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    for stage in ("feature", "dev", "prod"):
        if stage != "prod":  # which trains nothing
            aws.client("iam").create_role(RoleName=f"churn-pipeline-{stage}", AssumeRolePolicyDocument=document(trust))
        tags = [{"Key": "modelyard:project", "Value": "churn"}, {"Key": "modelyard:stage", "Value": stage}]
        aws.client("sagemaker").create_model_package_group(ModelPackageGroupName=f"churn-{stage}", Tags=tags)


def ci_roles(aws: LocalAWS) -> dict[str, str]:
    """A repository of GitHub's stand-in, and roles for its jobs, which trust the tokens of their branches alone.

    What the product's roles may do is tested with them (tests/servicecatalog): these may do everything. By the names
    of the CI's variables.
    """
    token = {TOKEN: {"login": "admin"}}
    aws.configure("github", {"organizations": {ORGANIZATION: {}}, "users": {"admin": {}}, "tokens": token})
    repository = GitHubClient(aws.endpoint).create("churn")
    subject = f"repo:{ORGANIZATION}@{repository['owner']['id']}/churn@{repository['id']}"
    issuer = f"{aws.endpoint}/_github/_services/token".removeprefix("http://")
    iam = aws.client("iam")
    provider = iam.create_open_id_connect_provider(Url=f"https://{issuer}", ClientIDList=[AUDIENCE])
    made = {}
    for name, context in (
        ("FEATURE", "ref:refs/heads/feature-*"),
        ("DEV", "ref:refs/heads/dev"),
        ("PROD", "ref:refs/heads/prod"),
        ("CHECK", "*"),
    ):
        trust = {
            "Effect": "Allow",
            "Principal": {"Federated": provider["OpenIDConnectProviderArn"]},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringLike": {f"{issuer}:sub": f"{subject}:{context}"}},
        }
        role = iam.create_role(RoleName=f"churn-ci-{name.lower()}", AssumeRolePolicyDocument=document(trust))["Role"]
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName="all", PolicyDocument=document(everything))
        made[f"MODELYARD_CI_ROLE_{name}"] = role["Arn"]
    return made


def document(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def executions(aws: LocalAWS, pipeline: str) -> list[tuple[str, str]]:
    """Name and status of a pipeline's executions, the newest first."""
    listed = aws.client("sagemaker").list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"]
    return [(one["PipelineExecutionDisplayName"], one["PipelineExecutionStatus"]) for one in listed]


def pipelines(aws: LocalAWS) -> list[str]:
    listed = aws.client("sagemaker").list_pipelines(PipelineNamePrefix="churn")["PipelineSummaries"]
    return sorted(one["PipelineName"] for one in listed)
