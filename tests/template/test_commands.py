"""The generated repository's commands, each step of the way, against local_aws; and what they say when input is bad."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.template.conftest import Template, git, run

BUCKET, ROLE = "churn-artifacts", "pipeline-role"


@dataclass
class Project:
    """A generated repository and the account that it works in."""

    repository: Path
    aws: LocalAWS

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.repository, "-m", "pipeline", *arguments, **self.aws.environment)

    def change(self, name: str, old: str, new: str) -> None:
        path = self.repository / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def versions(self) -> list[dict[str, Any]]:
        listed = self.pipeline("versions", "--json")
        assert listed.returncode == 0, listed.stderr
        return json.loads(listed.stdout)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        server.client("s3").create_bucket(Bucket=BUCKET)
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        server.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy)
        yield server


@pytest.fixture(scope="module")
def project(template: Template, aws: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is registered, its sample data sent."""
    folder = tmp_path_factory.mktemp("commands")
    repository = template.generate(
        folder, project="churn", problem_type="regression", artifact_bucket=BUCKET, pipeline_role=ROLE
    )
    made = Project(repository, aws)
    made.change("settings.yaml", "num_round: 300", "num_round: 30")
    git(repository, "commit", "--quiet", "--all", "--message", "Fewer rounds")
    for command in (["sample-data"], ["upload-data"], ["register-project", "--groups-only"]):
        done = made.pipeline(*command)
        assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def trained(project: Project) -> subprocess.CompletedProcess[str]:
    return project.pipeline("start", "--watch")


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Project:
    """A clone of the project, in the same account, that a test may change."""
    git(tmp_path, "clone", "--quiet", str(project.repository), "churn")
    return Project(tmp_path / "churn", project.aws)


def test_registering_the_project_again_changes_nothing(project: Project) -> None:
    again = project.pipeline("register-project", "--groups-only")
    assert again.returncode == 0, again.stderr
    assert [line.rpartition(": ")[2] for line in again.stdout.splitlines()] == ["was there"] * 3
    sagemaker = project.aws.client("sagemaker")
    arn = sagemaker.describe_model_package_group(ModelPackageGroupName="churn-dev")["ModelPackageGroupArn"]
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags.keys() == {
        "sagemaker:project-name",
        "sagemaker:project-id",
        "modelyard:project",
        "modelyard:stage",
    }
    assert (tags["modelyard:project"], tags["modelyard:stage"]) == ("churn", "dev")


def test_every_step_is_watched_to_the_end(trained: subprocess.CompletedProcess[str]) -> None:
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert re.findall(r"^([A-Z]\w+) +Succeeded", trained.stdout, re.MULTILINE) == [
        "Preprocess",
        "Train",
        "Evaluate",
        "CheckQuality",
        "Register",
    ]
    assert re.search(r"^Train +Succeeded +\d+\.\d s$", trained.stdout, re.MULTILINE)
    assert "execution Succeeded" in trained.stdout
    assert trained.stderr == ""


def test_the_version_can_be_traced_to_code_data_and_settings(
    project: Project, trained: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    sagemaker, s3 = project.aws.client("sagemaker"), project.aws.client("s3")
    version = project.versions()[-1]
    package = sagemaker.describe_model_package(ModelPackageName=version["arn"])
    metadata = package["CustomerMetadataProperties"]
    assert package["ModelCard"]["ModelCardStatus"] == "Draft"
    card = json.loads(package["ModelCard"]["ModelCardContent"])
    measured = {one["name"]: one["value"] for one in card["evaluation_details"][0]["metric_groups"][0]["metric_data"]}
    assert measured["rmse"] == pytest.approx(float(metadata["metric.rmse"]))
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert metadata["git.commit"] == package["MetadataProperties"]["CommitId"]
    assert metadata["git.commit"] == git(project.repository, "rev-parse", "HEAD")
    assert metadata["git.tree"] == git(project.repository, "rev-parse", "HEAD^{tree}")
    assert metadata["git.branch"] == "dev"
    assert metadata["hyperparameter.num_round"] == "30"
    assert package["MetadataProperties"]["GeneratedBy"] in trained.stdout
    # the data's hash is the one that anybody can compute from the file
    data = project.repository / "data" / "diabetes.csv"
    listed = subprocess.run(["sha256sum", data.name], cwd=data.parent, capture_output=True, check=True).stdout
    hashed = subprocess.run(["sha256sum"], input=listed, capture_output=True, check=True).stdout
    assert metadata["data.sha256"] == hashed.decode().split()[0]
    # metrics are those of the evaluation
    uri = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    evaluation = json.loads(s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read())
    assert float(metadata["metric.rmse"]) == pytest.approx(evaluation["regression_metrics"]["rmse"]["value"])
    assert version["metrics"]["rmse"] == float(metadata["metric.rmse"])
    # so are the baselines, which are of the raw columns
    uri = package["DriftCheckBaselines"]["ModelDataQuality"]["Statistics"]["S3Uri"]
    baseline = json.loads(s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read())
    header = data.read_text().splitlines()[0].split(",")
    assert {feature["name"] for feature in baseline["features"]} == set(header) - {"disease_progression"}
    # the report that the version names is the one that the command brings
    fetched = project.pipeline("report", str(version["version"]), "--output", str(tmp_path / "report.html"))
    assert fetched.returncode == 0, fetched.stderr
    stored = s3.get_object(Bucket=BUCKET, Key=metadata["report"].removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    assert (tmp_path / "report.html").read_bytes() == stored
    # the stage files lie where the version says, with the hashes that it says
    key = metadata["deployment.prefix"].removeprefix(f"s3://{BUCKET}/") + "dev.yaml"
    stored = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert stored == (project.repository / "deployment" / "dev.yaml").read_bytes()


def test_a_model_that_misses_the_gate_is_not_registered_and_the_numbers_are_said(
    project: Project, trained: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    before = len(project.versions())
    failed = project.pipeline("start", "--watch", "--parameter", "MaximumRmse=1")
    assert failed.returncode == 1
    # nothing that Preprocess and Train see has changed
    cached = re.findall(r"^(\w+) +Succeeded, from the cache", failed.stdout, re.MULTILINE)
    assert cached == ["Preprocess", "Train"]
    assert re.search(
        r"^QualityNotMet failed: .*rmse is \d+\.\d+, must be at most 1: FAILED", failed.stdout, re.MULTILINE
    )
    # why it failed can be read in its report
    fetched = project.pipeline("report", "--output", str(tmp_path / "report.html"))
    assert (fetched.returncode, fetched.stdout) == (0, f"{tmp_path / 'report.html'}\n"), fetched.stderr
    assert "must be at most 1: FAILED" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(project.versions()) == before


@pytest.mark.slow
def test_changed_data_at_the_same_address_trains_anew(
    project: Project, copy: Project, trained: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    key = "churn/data/diabetes.csv"
    rows = (project.repository / "data" / "diabetes.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(rows[:-40]) + "\n")
    try:
        assert copy.pipeline("upload-data", str(tmp_path / "fewer.csv")).returncode == 0
        again = copy.pipeline("start", "--watch")
    finally:
        project.aws.client("s3").upload_file(str(project.repository / "data" / "diabetes.csv"), BUCKET, key)
    assert again.returncode == 0, again.stdout
    assert "from the cache" not in again.stdout
    newest = project.versions()[0]
    assert newest["data_sha256"] != project.versions()[-1]["data_sha256"]


def test_the_sample_never_replaces_data_unless_it_is_named(copy: Project, tmp_path: Path) -> None:
    copy.change("settings.yaml", "churn/data/", "churn/data/own/")
    s3, where = copy.aws.client("s3"), {"Bucket": BUCKET, "Key": "churn/data/own/diabetes.csv"}
    missing = copy.pipeline("upload-data")
    assert (missing.returncode, "there is no such file" in missing.stderr) == (2, True)
    assert copy.pipeline("sample-data").returncode == 0
    sent, again = copy.pipeline("upload-data"), copy.pipeline("upload-data")
    uri = f"s3://{BUCKET}/{where['Key']}"
    assert (sent.returncode, sent.stdout) == (0, f"{uri}\n"), sent.stderr
    assert (again.returncode, again.stdout) == (0, f"{uri} holds the sample already: nothing is sent\n"), again.stderr
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    named = copy.pipeline("upload-data", str(tmp_path / "mine.csv"))
    assert (named.returncode, named.stdout) == (0, f"{uri}\n"), named.stderr
    refused = copy.pipeline("upload-data")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {uri} is there already, and is not the sample")
    assert s3.get_object(**where)["Body"].read() == b"a,b\n1,2\n"
    assert copy.pipeline("upload-data", "data/diabetes.csv").returncode == 0
    assert s3.get_object(**where)["ContentLength"] > 1000


def test_a_step_that_raises_shows_its_last_lines(copy: Project, trained: subprocess.CompletedProcess[str]) -> None:
    before = len(copy.versions())
    copy.change("steps/train.py", "    place = place or", '    raise RuntimeError("out of luck")\n    place = place or')
    failed = copy.pipeline("start", "--watch")
    assert failed.returncode == 1
    assert "  | RuntimeError: out of luck" in failed.stdout
    assert re.search(r"^Train failed: .*AlgorithmError", failed.stdout, re.MULTILINE)
    assert len(copy.versions()) == before


def test_data_that_does_not_do_is_explained(copy: Project, trained: subprocess.CompletedProcess[str]) -> None:
    copy.change("settings.yaml", "target: disease_progression", "target: disease")
    failed = copy.pipeline("start", "--watch")
    assert failed.returncode == 1
    assert "the data has no column 'disease' (data.target in settings.yaml); it has: age, " in failed.stdout
    assert "Traceback" not in failed.stdout


def test_interrupting_stops_watching_and_stopping_exits_with_3(
    copy: Project, trained: subprocess.CompletedProcess[str]
) -> None:
    copy.change(
        "steps/train.py", "    place = place or", "    import time\n\n    time.sleep(300)\n    place = place or"
    )
    watching = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "start", "--watch"],
        cwd=copy.repository,
        env={**os.environ, **copy.aws.environment, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout
    for line in watching.stdout:
        if line.startswith("Train "):
            break
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    stop = re.search(r"aws sagemaker stop-pipeline-execution --region (\S+) --pipeline-execution-arn (\S+)", said)
    assert stop, said
    sagemaker = copy.aws.client("sagemaker")
    execution = sagemaker.describe_pipeline_execution(PipelineExecutionArn=stop[2])
    assert execution["PipelineExecutionStatus"] == "Executing"
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=stop[2], ClientRequestToken="x" * 32)
    assert copy.pipeline("watch", stop[2]).returncode == 3


@pytest.mark.slow
def test_two_pushes_at_once_each_run_their_own_code(
    copy: Project, trained: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(copy.repository), "other")
    pushes = [copy, Project(tmp_path / "other", copy.aws)]
    for depth, push in zip((2, 3), pushes, strict=True):
        git(push.repository, "checkout", "--quiet", "-b", "feature-race")
        push.change("settings.yaml", "max_depth: 4", f"max_depth: {depth}")
        git(push.repository, "commit", "--quiet", "--all", "--message", f"Depth {depth}")
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(lambda push: push.pipeline("start", "--watch"), pushes))
    assert [one.returncode for one in done] == [0, 0], [one.stdout + one.stderr for one in done]
    sagemaker = copy.aws.client("sagemaker")
    found = {}
    for version in copy.versions():
        package = sagemaker.describe_model_package(ModelPackageName=version["arn"])
        found[version["commit"]] = package["CustomerMetadataProperties"]["hyperparameter.max_depth"]
    heads = [git(push.repository, "rev-parse", "HEAD") for push in pushes]
    assert [found[head] for head in heads] == ["2", "3"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f'role: "{ROLE}"', 'role: "nobody"', "aws.role: there is no role 'nobody'"),
        (f'bucket: "{BUCKET}"', 'bucket: "not-there"', "aws.bucket 'not-there': there is no such bucket"),
        ("data/diabetes.csv", "data/none.csv", "data/none.csv: there is no object there"),
        (f"uri: s3://{BUCKET}/", "uri: s3://not-there/", "there is no bucket 'not-there'"),
        ('project: "churn"', 'project: "other"', "no model package group other-dev.*register-project"),
        ("threshold: 70", "threshold: -1", "gate.threshold -1 is out of range"),
        ("data:", "data: [", "settings.yaml is not readable YAML"),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_made(copy: Project, old: str, new: str, message: str) -> None:
    copy.change("settings.yaml", old, new)
    if "other-dev" in message:  # reached only with data in place
        copy.aws.client("s3").put_object(Bucket=BUCKET, Key="other/data/diabetes.csv", Body=b"a,b\n1,2\n")
    git(copy.repository, "checkout", "--quiet", "-b", "feature-bad-input")
    done = copy.pipeline("start", "--branch", "dev" if "other-dev" in message else "feature-bad-input")
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    names = [
        pipeline["PipelineName"] for pipeline in copy.aws.client("sagemaker").list_pipelines()["PipelineSummaries"]
    ]
    assert not any("bad-input" in name or name.startswith("other") for name in names)


def test_a_bucket_of_another_account_is_refused(copy: Project) -> None:
    stranger = {"AWS_ACCESS_KEY_ID": "999999999999"}
    done = run(copy.repository, "-m", "pipeline", "start", **{**copy.aws.environment, **stranger})
    assert done.returncode == 2
    assert "error: " in done.stderr


def test_what_was_never_started_cannot_be_watched(copy: Project) -> None:
    done = copy.pipeline("watch", "--branch", "feature-unknown")
    assert done.returncode == 2
    assert "was never started" in done.stderr


def test_data_for_a_bucket_that_is_not_there_is_not_sent(copy: Project) -> None:
    copy.change("settings.yaml", f"uri: s3://{BUCKET}/", "uri: s3://not-there/")
    (copy.repository / "own.csv").write_text("a,b\n1,2\n")
    done = copy.pipeline("upload-data", "own.csv")
    assert done.returncode == 2
    assert "not-there" in done.stderr
    assert "Traceback" not in done.stderr


def test_versions_of_the_branch_prod_need_a_stage(copy: Project) -> None:
    done = copy.pipeline("versions", "--branch", "prod")
    assert (done.returncode, "with --stage which stage is meant (prod)" in done.stderr) == (2, True)
    other = copy.pipeline("versions", "--stage", "champion")
    assert (other.returncode, "no such stage (there are dev, feature, prod)" in other.stderr) == (2, True)
    for limit in ("0", "-3", "all"):
        none = copy.pipeline("versions", "--limit", limit)
        assert (none.returncode, f"{limit!r} is not a whole number of at least 1" in none.stderr) == (2, True)
    empty = copy.pipeline("versions", "--stage", "prod")
    assert (empty.returncode, empty.stdout) == (0, "no version is registered in churn-prod yet\n")


def test_a_version_is_approved_and_rejected_with_reasons(
    copy: Project, trained: subprocess.CompletedProcess[str]
) -> None:
    approved = copy.pipeline("approve", "1", "--stage", "dev", "--reason", "better than before")
    assert approved.returncode == 0, approved.stderr
    assert re.fullmatch(r"Approved: arn:\S+:model-package/churn-dev/1\n", approved.stdout)
    version = copy.versions()[-1]
    assert (version["approval"], version["approval_description"]) == ("Approved", "better than before")
    again = copy.pipeline("approve", "1")
    assert (again.returncode, "is Approved already: nothing has to be done" in again.stderr) == (2, True)
    rejected = copy.pipeline("reject", "1", "--reason", "too slow")
    assert rejected.returncode == 0, rejected.stderr
    assert copy.versions()[-1]["approval"] == "Rejected"
    none = copy.pipeline("approve", "99")
    assert (none.returncode, "churn-dev has no version 99" in none.stderr) == (2, True)
    for reason in ("", "x" * 1025):
        long = copy.pipeline("reject", "1", "--reason", reason)
        assert (long.returncode, "characters: write 1 to 1024" in long.stderr) == (2, True)


def test_without_the_platform_nothing_can_be_planned_or_watched(
    copy: Project, trained: subprocess.CompletedProcess[str]
) -> None:
    for command in (["plan"], ["plan", "1"], ["approve", "1", "--watch"]):
        done = copy.pipeline(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "the platform is not installed in this account and us-east-1" in done.stderr.replace(
            "Modelyard's", "the"
        )
        assert "make install-platform" in done.stderr
    assert copy.versions()[-1]["approval"] != "Approved"


def test_an_endpoint_that_is_not_there_is_no_fault(copy: Project) -> None:
    found = copy.pipeline("status")
    assert (found.returncode, found.stdout) == (0, "there is no endpoint churn-dev, and no schedule\n")
    assert json.loads(copy.pipeline("status", "--stage", "prod", "--json").stdout)["status"] == "none"


def test_checking_says_what_may_not_be_meant(copy: Project) -> None:
    copy.change("deployment/prod.yaml", "instance_count: 2", "instance_count: 1")
    checked = copy.pipeline("check")
    assert checked.returncode == 0
    assert checked.stderr.startswith("warning: deployment/prod.yaml: prod can be on one instance")
    copy.change("deployment/prod.yaml", "kind: real_time", "kind: multi_model")
    refused = copy.pipeline("check")
    assert (refused.returncode, "prod.yaml: kind: multi_model is not built yet" in refused.stderr) == (2, True)


def test_automatic_approval_is_for_groups_that_are_made_with_it(copy: Project) -> None:
    late = copy.pipeline("register-project", "--groups-only", "--automatic-approval", "dev")
    assert (late.returncode, "only a group that is made can be given that" in late.stderr) == (2, True)
    alone = copy.pipeline("register-project", "--automatic-approval", "dev")
    assert (alone.returncode, "--automatic-approval goes with --groups-only" in alone.stderr) == (2, True)
    none = copy.pipeline("register-project", "--groups-only", "--automatic-approval", "champion")
    assert (none.returncode, "--automatic-approval champion: this project has no such stage" in none.stderr) == (
        2,
        True,
    )
    copy.change("settings.yaml", 'project: "churn"', 'project: "automatic"')
    stages = ("--automatic-approval", "feature", "--automatic-approval", "prod")
    made = copy.pipeline("register-project", "--groups-only", *stages)
    assert made.returncode == 0, made.stderr
    assert made.stderr == "warning: whatever is registered for prod may now serve users, seen by nobody\n"
    sagemaker = copy.aws.client("sagemaker")
    for stage, allowed in (("feature", True), ("dev", False), ("prod", True)):
        group = sagemaker.describe_model_package_group(ModelPackageGroupName=f"automatic-{stage}")
        tags = sagemaker.list_tags(ResourceArn=group["ModelPackageGroupArn"])["Tags"]
        assert ({"Key": "modelyard:approval", "Value": "automatic"} in tags) is allowed


def test_registering_needs_a_platform(copy: Project) -> None:
    missing = copy.pipeline("register-project")
    assert missing.returncode == 2
    assert "Modelyard's platform is not installed in account 123456789012, Region us-east-1" in missing.stderr
    assert "register-project --groups-only" in missing.stderr
    (copy.repository / ".gitlab-ci.yml").touch()
    gitlab = copy.pipeline("register-project")
    assert (gitlab.returncode, "on GitLab the platform makes neither" in gitlab.stderr) == (2, True)


def test_without_credentials_a_command_says_what_to_do(copy: Project, tmp_path: Path) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    nobody |= {name: str(tmp_path / "none") for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")}
    done = run(copy.repository, "-m", "pipeline", "versions", **{**copy.aws.environment, **nobody})
    assert (done.returncode, "sign in as for the AWS CLI" in done.stderr) == (2, True)


def test_a_server_that_is_not_there_is_said(copy: Project) -> None:
    done = run(
        copy.repository,
        "-m",
        "pipeline",
        "register-project",
        **{**copy.aws.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
    )
    assert done.returncode == 2
    assert "calling AWS failed" in done.stderr
    assert "that there is a Region us-east-1 (settings.yaml: aws.region)" in done.stderr


def test_an_execution_that_has_ended_can_be_watched_again(
    project: Project, trained: subprocess.CompletedProcess[str]
) -> None:
    arn = re.search(r"^started (\S+)$", trained.stdout, re.MULTILINE)
    assert arn
    again = project.pipeline("watch", arn[1])
    assert again.returncode == 0
    assert again.stdout.count("Succeeded") == 6
    assert "report s3://" in again.stdout


def test_a_report_that_is_not_there_is_said(copy: Project, trained: subprocess.CompletedProcess[str]) -> None:
    none = copy.pipeline("report", "77")
    assert (none.returncode, "churn-dev has no version 77" in none.stderr) == (2, True)
    never = copy.pipeline("report", "--branch", "feature-unknown")
    assert (never.returncode, "was never started" in never.stderr) == (2, True)
