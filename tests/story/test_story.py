"""The loop end to end, as its user sees it: the demo's story, then what can go wrong in it.

boto3, the AWS CLI and the SageMaker SDK are the clients; nothing here knows how local_aws works.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from local_aws import LocalAWS
from tests import proof
from tests.story.aws import remove_data
from tests.story.demo import STEPS
from tests.story.least_privilege import after_the_whole_module, counts, denied, reports, unexplained, unneeded
from tests.story.repository import BUCKET, PROGRAMS, started, steps, versions
from tests.story.story import CHECKOUT

PROJECT = "told"


def aws_cli(aws: LocalAWS, *arguments: str) -> Any:
    environment = os.environ | aws.environment
    command = [str(PROGRAMS / "aws"), *arguments, "--output", "json"]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return json.loads(output)


def test_its_archive_serves_the_model_with_its_transformation(told, aws, tmp_path):
    package = versions(aws, "told-dev")[0]
    container = package["InferenceSpecification"]["Containers"][0]
    bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
    aws.client("s3").download_file(bucket, key, str(tmp_path / "model.tar.gz"))
    shutil.unpack_archive(tmp_path / "model.tar.gz", tmp_path / "model")
    rows = (told.repository / "data" / "breast_cancer.csv").read_text().splitlines()[:3]
    serve = """if True:
        import sys
        import inference
        model = inference.model_fn(sys.argv[1])
        print(inference.transform_fn(model, sys.stdin.read(), "text/csv", "application/json")[0])
    """

    answer = subprocess.run(
        [sys.executable, "-c", serve, str(tmp_path / "model")],
        input="\n".join(rows).encode(),
        env=os.environ | {"PYTHONPATH": str(tmp_path / "model" / "code")},
        capture_output=True,
        check=True,
    ).stdout

    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "inference.py"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["code", "xgboost-model"]
    assert [0 <= prediction["probability"] <= 1 for prediction in json.loads(answer)["predictions"]] == [True, True]


def test_the_aws_cli_sees_the_same(told, aws):
    execution = aws_cli(aws, "sagemaker", "list-pipeline-executions", "--pipeline-name", "told-dev")
    arn = execution["PipelineExecutionSummaries"][-1]["PipelineExecutionArn"]
    listed = aws_cli(aws, "sagemaker", "list-pipeline-execution-steps", "--pipeline-execution-arn", arn)
    packages = aws_cli(aws, "sagemaker", "list-model-packages", "--model-package-group-name", "told-dev")
    tags = aws_cli(
        aws,
        "sagemaker",
        "list-tags",
        "--resource-arn",
        aws_cli(aws, "sagemaker", "describe-pipeline", "--pipeline-name", "told-dev")["PipelineArn"],
    )

    status = {step["StepName"]: step["StepStatus"] for step in listed["PipelineExecutionSteps"]}
    assert status == dict.fromkeys(["Preprocess", "Train", "Evaluate", "CheckQuality", "Register"], "Succeeded")
    assert packages["ModelPackageSummaryList"][0]["ModelApprovalStatus"] == "PendingManualApproval"
    assert {"Key": "modelyard:stage", "Value": "dev"} in tags["Tags"]


@pytest.mark.slow
def test_the_sagemaker_sdk_starts_and_waits_for_the_pipeline(told, aws):
    program = f"""if True:
        from sagemaker.core.helper.session_helper import Session
        from sagemaker.core.resources import ModelPackageGroup, Pipeline
        from sagemaker.mlops.workflow.pipeline import Pipeline as Workflow
        execution = Workflow(name="told-dev", sagemaker_session=Session(default_bucket="{BUCKET}")).start()
        execution.wait(delay=1, max_attempts=60)
        print("status", execution.describe()["PipelineExecutionStatus"])
        print("pipeline", Pipeline.get("told-dev").pipeline_status)
        print("group", ModelPackageGroup.get("told-dev").model_package_group_status)
    """

    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | dict(told.environment),
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert re.findall(r"^(?:status|pipeline|group) \w+$", result.stdout, re.MULTILINE) == [
        "status Succeeded",
        "pipeline Active",
        "group Completed",
    ]


def test_a_push_that_changes_only_deployment_and_texts_trains_nothing_anew(repository, aws):
    first = started(repository.pipeline("start", "--watch").stdout)
    with (repository.folder / "deployment" / "dev.yaml").open("a") as stage_file:
        stage_file.write("# a remark\n")
    (repository.folder / "docs").mkdir()
    (repository.folder / "docs" / "notes.md").write_text("Notes\n")
    repository.commit("Only deployment and texts")

    second = repository.pipeline("start", "--watch")

    assert second.returncode == 0, second.stdout + second.stderr
    done = steps(aws, started(second.stdout))
    assert {name for name, step in done.items() if "CacheHitResult" in step} == {"Preprocess", "Train"}
    newest = versions(aws, "told-dev")[-1]
    assert newest["CustomerMetadataProperties"]["git.commit"] == repository.git("rev-parse", "HEAD")
    assert newest["MetadataProperties"]["GeneratedBy"] != first


def test_a_feature_branch_registers_in_the_feature_group_through_its_own_pipeline(repository, aws):
    repository.git("checkout", "-q", "-b", "feature-Better Trees/2".replace(" ", "-"))

    result = repository.pipeline("start", "--watch")

    assert result.returncode == 0, result.stdout + result.stderr
    name = re.search(r"^pipeline (\S+), version", result.stdout, re.MULTILINE)
    assert name
    assert re.fullmatch(r"told-feature-better-trees-2-[0-9a-f]{6}", name[1])
    assert len(versions(aws, "told-feature")) == 1


SMALL = "x,diagnosis\n" + "".join(f"{number},{'yes' if number % 2 else 'no'}\n" for number in range(200))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param("", "only empty objects there", marks=pytest.mark.slow),
        pytest.param("x,diagnosis\n", "there is a header but no row", marks=pytest.mark.slow),
        (SMALL.replace(",no", ",yes"), r"the target 'diagnosis' has one class only \('yes'\)"),
    ],
    ids=["empty", "no row", "one class only"],
)
def test_unusable_data_is_named_and_nothing_is_registered(repository, aws, data, said):
    key = f"told/bad/{abs(hash(data))}.csv"
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=data.encode())
    repository.settings(data__uri=f"s3://{BUCKET}/{key}")
    before = len(versions(aws, "told-dev"))

    result = repository.pipeline("start", "--watch")

    assert result.returncode in (1, 2)
    assert re.search(said, result.stdout + result.stderr)
    assert len(versions(aws, "told-dev")) == before


@pytest.mark.slow
def test_a_role_that_is_not_there_is_named_though_only_aws_knows(repository, aws):
    """To those who may pass any role; to others IAM says first that they may not pass this one."""
    repository.environment |= aws.environment
    repository.settings(aws__role="arn:aws:iam::123456789012:role/no-such-role")

    result = repository.pipeline("start")

    assert result.returncode == 2
    assert "Could not assume role arn:aws:iam::123456789012:role/no-such-role." in result.stderr


@pytest.mark.slow
def test_a_step_that_is_killed_is_shown_with_its_reason_and_its_last_log_lines(repository):
    code = 'import os\nprint("about to end", flush=True)\nos.kill(os.getpid(), 9)\n'
    (repository.folder / "steps" / "train.py").write_text(code)
    repository.commit("A step that is killed")

    result = repository.pipeline("start", "--watch")

    assert result.returncode == 1
    assert "  | about to end" in result.stdout
    assert re.search("Train failed: .*ended by signal 9.*exit code: 137", result.stdout)


@pytest.mark.slow
def test_a_step_that_runs_out_of_time_is_stopped_and_said_so(repository):
    (repository.folder / "steps" / "train.py").write_text("import time\ntime.sleep(3600)\n")
    repository.settings(train__max_runtime_seconds=1)
    repository.commit("A slow step")

    result = repository.pipeline("start", "--watch")

    assert result.returncode == 1
    assert "MaxRuntime" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("problem_type", ["multiclass_classification", "regression"])
def test_the_story_holds_for_the_other_problem_types(aws, storyteller, problem_type):
    project = problem_type.split("_")[0]

    storyteller(project, problem_type).train()

    assert len(versions(aws, f"{project}-dev")) == 1


@pytest.mark.slow
def test_a_deleted_project_leaves_its_data_and_nothing_else(aws, storyteller):
    story = storyteller("gone")
    for command in ("sample-data", "upload-data", "upsert"):
        story.pipeline(command)
    kinds = {one.partition(": ")[0] for one in story.left()}
    assert kinds == {
        "cloudformation describe_stacks",
        "codebuild list_projects",
        "codecommit list_repositories",
        "codepipeline list_pipelines",
        "events list_rules",
        "iam list_policies",
        "iam list_roles",
        "logs describe_log_groups",
        "sagemaker list_model_package_groups",
        "sagemaker list_pipelines",
        "sagemaker list_projects",
        "servicecatalog search_provisioned_products",
    }, "there is something to be left"

    story.delete()

    assert story.left() == []
    kept = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="gone/")["Contents"]
    assert {item["Key"].split("/")[1] for item in kept} == {"data", "dev"}
    assert remove_data(aws, "gone", BUCKET) >= len(kept)
    assert remove_data(aws, "gone", BUCKET) == 0


# Loopback and nothing else; what runs in it can reach nobody but itself.
WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def can_leave_the_network() -> bool:
    try:
        return subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not can_leave_the_network(), reason="needs network namespaces (Linux, unshare and ip)")
@pytest.mark.timeout(900)  # the whole story
def test_the_demo_needs_no_network_ends_well_and_says_how_to_go_on():
    result = subprocess.run(
        [*WITHOUT_NETWORK, sys.executable, "-m", "tests.story.demo"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "execution Succeeded" in result.stdout
    assert "PendingManualApproval" in result.stdout
    for stage in ("feature", "dev", "prod"):
        assert re.search(rf"demo-{stage} answers [1-9]\d* test rows: AUC 0\.9\d+, as in the evaluation", result.stdout)
    assert "prod/1 is dev/1, copied: the same model, nothing was trained" in result.stdout
    assert re.search(r"prod/2 failed [1-9][\d,]* of [1-9][\d,]* requests in its canary", result.stdout)
    assert "nothing is left of it but the ledger's history" in result.stdout
    assert "To go on in it yourself: make demo KEEP=1" in result.stdout
    assert re.search(r"IAM was asked [\d,]+ times and denied 0$", result.stdout, re.MULTILINE)
    kept = CHECKOUT / "build" / "demo"
    told = json.loads((kept / "timeline.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in told] == [*STEPS, "delete"]
    assert (kept / "demo" / "README.md").exists()
    assert {file.name for file in (kept / "reports").iterdir()} == {"feature.html", "dev-1.html", "dev-2.html"}
    for name in ("story.html", "story.txt", "timeline.svg"):
        assert "A bad version" in (kept / name).read_text(encoding="utf-8").replace("\xa0", " ").replace("&#160;", " ")
    in_full = (kept / "permissions.txt").read_text(encoding="utf-8")
    for name in ("user demo-data-scientist", "role demo-pipeline-dev", "role modelyard-deploy-us-east-1"):
        assert re.search(rf"^ {name} +[1-9]\d* +[1-9]\d* +\d+ +0 *$", result.stdout, re.MULTILINE)
        assert re.search(rf"^{name}: [1-9]\d* of [1-9]\d* granted actions used, 0 denied$", in_full, re.MULTILINE)


def test_a_data_scientist_looks_at_every_stage(repository):
    for stage in ("feature", "dev", "prod"):
        for command in ("versions", "status"):
            looked = repository.pipeline(command, "--stage", stage)
            assert looked.returncode == 0, looked.stdout + looked.stderr


def test_a_data_scientist_stops_an_execution_and_with_it_the_job_that_runs(repository, told, aws):
    sagemaker = aws.client("sagemaker", credentials=told.environment)
    assert repository.pipeline("start", "--watch").returncode == 0  # the tests before left definitions of their own
    # Other depths than any test's: nothing comes from the cache. On a busy machine the job may end before it is seen.
    for depth in ("7", "8", "9", "10"):
        execution = sagemaker.start_pipeline_execution(
            PipelineName=f"{PROJECT}-dev",
            PipelineParameters=[{"Name": "max_depth", "Value": depth}],
            ClientRequestToken=uuid.uuid4().hex,
        )["PipelineExecutionArn"]
        until = time.monotonic() + 60
        while "ProcessingJob" not in (evaluate := steps(aws, execution).get("Evaluate", {})).get("Metadata", {}):
            assert time.monotonic() < until, evaluate
            time.sleep(0.05)
        job = evaluate["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
        with contextlib.suppress(sagemaker.exceptions.ConflictException):
            sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution, ClientRequestToken=uuid.uuid4().hex)
        code = repository.pipeline("watch", execution).returncode
        status = sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"]
        if status == "Stopped":
            break

    assert (code, status) == (3, "Stopped")


@pytest.fixture
def people(aws, request):
    after_the_whole_module(request)
    return reports(aws, f"{PROJECT}-*")


def test_neither_the_data_scientist_nor_the_pipelines_were_denied_anything(people):
    roles = {f"told-{kind}-{stage}" for kind in ("pipeline", "ci") for stage in ("feature", "dev")}
    assert {one.name for one in people} == {
        *roles,
        *("told-ci-prod", "told-ci-start", "told-model", "told-data-scientist"),
        *("told-ci-delivery-dev", "told-ci-delivery-prod", "told-ci-template", "told-ci-retrain"),
    }
    assert denied(people) == []


def test_without_any_one_of_their_permissions_they_would_have_been_denied(people, aws):
    """But for those that these tests do not use, each with its reason."""
    assert unexplained(people) == []
    assert unneeded(people, "project") == []
    proof.keep("permissions_project", counts(aws, people))
