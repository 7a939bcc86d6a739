"""A version that goes bad while it serves goes back by itself, or by hand: end to end on the installed platform."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_aws import LocalAWS
from servicecatalog import archive
from tests.story.platform import REAL_TIME, Project, as_operator
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
        # Refused, the function answers what failed, which is no error to Lambda: in AWS modelyard-deploy-retrying tells
        # of that, by a metric in the log, which is none here (tests/lifecycle_lambdas/test_metrics.py).
        if fault != "forbidden":
            project.until(lambda: raised(project.aws, "modelyard-deploy-failing"), "the platform's alarm", lambda: "")

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


def raised(aws: LocalAWS, alarm: str) -> bool:
    (found,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    return found["StateValue"] == "ALARM"


def zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return content.getvalue()
