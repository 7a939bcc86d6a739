"""A version that goes bad while it serves goes back by itself, or by hand: end to end on the installed platform."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_aws import LocalAWS
from servicecatalog import archive
from tests.story.platform import REAL_TIME, Project
from tests.story.story import CHECKOUT
from tests.story.traffic import Traffic

pytestmark = pytest.mark.slow  # test_bad_models.py has the straight line
CLOCK_SPEED, STAGE = 60.0, "prod"
# The version fails from its first request on, and nothing watches its deployment for as long as an alarm needs.
WATCHED = REAL_TIME + "alarms: {error_share: 0.05}\n"
# In the place of the controller's handler: it takes more memory than the function has.
GREEDY = "def handler(event, context):\n    return len(b'x' * (3 << 29))\n"


def test_a_version_that_fails_after_its_deployment_goes_back_by_itself_and_leaves_a_record(project: Project) -> None:
    first, second = project.register("first", WATCHED), project.register("second", WATCHED, fails=True)
    project.approve(first)
    project.deployed(first)
    project.serves("first")

    with Traffic(project.runtime, project.endpoint, "1\n", pause=0.005):
        project.approve(second)
        project.until(lambda: bool(project.gone_back()), "it to go back", lambda: str(project.describe()))
        project.settled()
        project.serves("first")

    (entry,) = project.gone_back()
    assert (entry.package_arn, entry.leaves, entry.by) == (first, second, "modelyard")
    assert f"the alarm {project.endpoint}-errors is raised" in entry.why
    package = project.package(second)
    assert package["ModelApprovalStatus"] == "Rejected"
    assert package["ApprovalDescription"].startswith(f"{project.endpoint} went back: the alarm")
    (page,) = project.incidents().values()
    assert f"# {project.endpoint}: back from version 2 to version 1" in page
    assert "| Status | went back |" in page
    assert "update_endpoint" in page


@pytest.mark.parametrize("fault", ["broken", "forbidden", "out of memory"])
def test_an_operator_goes_back_from_here_while_the_platforms_function_is_of_no_use(
    project: Project, fault: str
) -> None:
    first, second = project.register("first"), project.register("second")
    for version in (first, second):
        project.approve(version)
        project.deployed(version)
    project.settled()

    with of_no_use(project.aws, fault):
        result = as_operator(project.aws, "go-back", project.endpoint, "--why", "slow since noon", "--yes", "--here")
        assert result.returncode == 0, result.stdout + result.stderr
        project.serves("first")

    lines = result.stdout.splitlines()
    assert lines[0] == f"{project.endpoint}, version 1"
    assert "  version: 2 -> 1" in lines
    assert lines[-1] == f"{project.endpoint}: version 1 serves (deployment 3)"
    assert project.package(second)["ModelApprovalStatus"] == "Approved"
    (page,) = project.incidents().values()
    assert "| Cause | slow since noon |" in page


@contextmanager
def of_no_use(aws: LocalAWS, fault: str) -> Iterator[None]:
    """The controller's function, as long as the block lasts."""
    functions, iam = aws.client("lambda"), aws.client("iam")
    name, role = "modelyard-deploy", f"modelyard-deploy-{aws.server.region}"
    before = functions.get_function_configuration(FunctionName=name)
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    if fault == "forbidden":
        iam.put_role_policy(RoleName=role, PolicyName="nothing", PolicyDocument=json.dumps(nothing))
    elif fault == "broken":
        functions.update_function_configuration(FunctionName=name, Handler="lifecycle_lambdas.handlers.gone.handler")
    else:
        functions.update_function_code(
            FunctionName=name, ZipFile=zipped({"lifecycle_lambdas/handlers/deploy.py": GREEDY})
        )
    try:
        record = {"messageId": "1", "receiptHandle": "1", "attributes": {"ApproximateReceiveCount": "1"}}
        record["body"] = json.dumps({"look": "everything"})
        answer = functions.invoke(FunctionName=name, Payload=json.dumps({"Records": [record]}).encode())
        said = answer["Payload"].read().decode()
        assert "FunctionError" in answer or json.loads(said)["batchItemFailures"], said
        yield
    finally:
        if fault == "forbidden":
            iam.delete_role_policy(RoleName=role, PolicyName="nothing")
        elif fault == "broken":
            functions.update_function_configuration(FunctionName=name, Handler=before["Handler"])
        else:
            functions.update_function_code(FunctionName=name, ZipFile=archive.build())


def zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return content.getvalue()


def operators_credentials(aws: LocalAWS) -> dict[str, str]:
    """As environment variables, of a new user who has the operators' policies and no other."""
    iam = aws.client("iam")
    user = f"operator-{len(iam.list_users()['Users'])}"
    iam.create_user(UserName=user)
    policies = {
        one["PolicyName"]: one["Arn"]
        for page in iam.get_paginator("list_policies").paginate(Scope="Local")
        for one in page["Policies"]
    }
    for policy in ("operator", "looking", "serving", "watching", "ledger"):
        iam.attach_user_policy(UserName=user, PolicyArn=policies[f"modelyard-{policy}-{aws.server.region}"])
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def as_operator(aws: LocalAWS, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m lifecycle_lambdas` by such a user."""
    return subprocess.run(
        [sys.executable, "-m", "lifecycle_lambdas", *arguments],
        cwd=CHECKOUT,
        env=os.environ | aws.environment | operators_credentials(aws),
        capture_output=True,
        text=True,
        check=False,
    )
