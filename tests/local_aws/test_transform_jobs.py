"""Transform jobs that really run a model's container: what is asked, what is written, what goes wrong."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import inference
import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.jobs.staging import unpack
from tests.local_aws.job_requests import Workshop
from tests.local_aws.model_archives import ECHO, make_model
from tests.local_aws.test_processing_jobs import alive, refusal
from tests.steps.archives import BINARY
from tests.steps.trained import mixed, save, train

pytestmark = pytest.mark.slow  # make test has fifteen minutes

GROUP = "/aws/sagemaker/TransformJobs"


# Says its process, too.
WITH_PROCESS = ECHO.replace('print("model loaded")', "print(os.getpid(), flush=True)")


@pytest.fixture(scope="module")
def echo(workshop: Workshop) -> str:
    return make_model(workshop)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return mixed(BINARY, rows=400)[0]


@pytest.fixture(scope="module")
def archive(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz as training leaves it."""
    _, columns, classes = mixed(BINARY, rows=400)
    folder = tmp_path_factory.mktemp("archive")
    return save(folder / "model.tar.gz", *train(BINARY, table, columns, classes), folder)


@pytest.fixture(scope="module")
def churn(workshop: Workshop, archive: Path) -> str:
    return make_model(workshop, archive.read_bytes())


def transform_request(workshop: Workshop, model: str, uri: str, **members: Any) -> dict[str, Any]:
    """A job that reads lines of CSV below an address.

    Args:
        members: of the request, replacing ours; those of TransformInput and TransformOutput are added to ours.
    """
    name = workshop.name()
    source = {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
        "ContentType": "text/csv",
        "SplitType": "Line",
    }
    output = {"S3OutputPath": workshop.uri(f"{name}/out"), "Accept": "text/csv", "AssembleWith": "Line"}
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **members,
        "TransformInput": source | members.get("TransformInput", {}),
        "TransformOutput": output | members.get("TransformOutput", {}),
    }


def transform(workshop: Workshop, *arguments: Any, **members: Any) -> dict[str, Any]:
    """Run a job to its end; its description."""
    request = transform_request(workshop, *arguments, **members)
    workshop.sagemaker.create_transform_job(**request)
    return workshop.ended("Transform", request["TransformJobName"])


def outputs(workshop: Workshop, job: dict[str, Any]) -> dict[str, str]:
    """What a job has written, by the path below its S3OutputPath."""
    prefix = f"{job['TransformJobName']}/out/"
    return {key.removeprefix(prefix): workshop.get(key).decode() for key in workshop.keys(prefix)}


def data_log(workshop: Workshop, job: dict[str, Any]) -> list[str]:
    """What AWS says about a job's data, without the times."""
    return [
        line.partition(":[sagemaker logs]: ")[2]
        for stream, lines in streams(workshop, job).items()
        if stream.endswith("/data-log")
        for line in lines
    ]


def streams(workshop: Workshop, job: dict[str, Any]) -> dict[str, list[str]]:
    found = workshop.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job['TransformJobName']}/")
    names = [each["logStreamName"] for each in found["logStreams"]]
    return {
        name: [
            event["message"]
            for event in workshop.logs.get_log_events(logGroupName=GROUP, logStreamName=name, startFromHead=True)[
                "events"
            ]
        ]
        for name in names
    }


# Predictions


def test_predictions_are_those_of_the_archive_itself_beside_the_columns_that_were_kept(
    workshop, table, archive, churn, tmp_path
):
    rows = table.drop(columns="y")
    rows.insert(0, "id", [f"id-{number}" for number in range(len(rows))])
    name = workshop.name()
    workshop.put(f"{name}/2026/a.csv", rows[:300].to_csv(index=False, header=False))
    workshop.put(f"{name}/b.csv", rows[300:].to_csv(index=False, header=False))

    job = transform(
        workshop,
        churn,
        workshop.uri(f"{name}/"),
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )

    assert job["TransformJobStatus"] == "Completed", job
    written = outputs(workshop, job)
    assert sorted(written) == ["2026/a.csv.out", "b.csv.out"]
    lines = "".join(written[key] for key in sorted(written)).splitlines()
    found = dict(line.split(",") for line in lines)
    assert list(found) == list(rows["id"])
    body = rows.drop(columns="id").to_csv(index=False, header=False)
    unpack(archive, tmp_path)
    answer, _ = inference.transform_fn(inference.model_fn(str(tmp_path)), body, "text/csv", "text/csv")
    expected = [line.split(",")[-1] for line in answer.splitlines()]
    np.testing.assert_allclose(
        [float(value) for value in found.values()], [float(each) for each in expected], rtol=1e-6
    )


def test_by_default_a_request_holds_as_many_lines_as_fit(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a,1\nb,2\n\nc,3")
    job = transform(workshop, echo, uri)
    assert outputs(workshop, job) == {"a.csv.out": "a,3,\nb,3,\nc,3,\n"}
    assert data_log(workshop, job)[0].startswith("MaxConcurrentTransforms=")
    assert data_log(workshop, job)[0].endswith("BatchStrategy=MULTI_RECORD")


def test_single_record_asks_for_each_line_alone_and_answers_keep_their_order(workshop, echo):
    lines = [f"row{number}" for number in range(40)]
    uri = workshop.put(f"{workshop.name()}/a.csv", "\n".join(lines))
    job = transform(workshop, echo, uri, BatchStrategy="SingleRecord", MaxConcurrentTransforms=2)
    assert outputs(workshop, job)["a.csv.out"].splitlines() == [f"{line},1," for line in lines]


def test_no_request_is_larger_than_the_payload_allows(workshop, echo):
    line = "x" * 400_000
    uri = workshop.put(f"{workshop.name()}/a.csv", f"1,{line}\n2,{line}\n3,{line}\n")
    job = transform(workshop, echo, uri, MaxPayloadInMB=1)
    assert outputs(workshop, job)["a.csv.out"] == "1,2,\n2,2,\n3,1,\n"


def test_without_a_split_type_an_object_is_one_request_whose_answer_is_written_as_it_is(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a,1\nb,2\n")
    job = transform(
        workshop,
        echo,
        uri,
        TransformInput={"SplitType": "None"},
        TransformOutput={"AssembleWith": "None"},
        BatchStrategy="SingleRecord",  # as AWS's examples for images have it
    )
    assert outputs(workshop, job) == {"a.csv.out": "a,2,\nb,2,\n"}


def test_json_lines_are_filtered_and_joined(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.jsonl", '{"id": 1, "features": [3]}\n{"id": 2, "features": [4]}\n')
    job = transform(
        workshop,
        echo,
        uri,
        TransformInput={"ContentType": "application/jsonlines"},
        TransformOutput={"Accept": "application/jsonlines"},
        DataProcessing={
            "InputFilter": "$.features",
            "JoinSource": "Input",
            "OutputFilter": "$['id','SageMakerOutput']",
        },
    )
    assert [json.loads(line) for line in outputs(workshop, job)["a.jsonl.out"].splitlines()] == [
        {"id": 1, "SageMakerOutput": {"seen": [3]}},
        {"id": 2, "SageMakerOutput": {"seen": [4]}},
    ]


def test_a_manifest_names_the_objects_and_other_objects_are_left_alone(workshop, echo):
    name = workshop.name()
    for key in ("a.csv", "deep/b.csv", "c.csv"):
        workshop.put(f"{name}/data/{key}", f"{key}\n")
    manifest = [{"prefix": workshop.uri(f"{name}/data/")}, "a.csv", "deep/b.csv"]
    uri = workshop.put(f"{name}/manifest", json.dumps(manifest))
    source = {"DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": uri}}}
    job = transform(workshop, echo, uri, TransformInput=source)
    assert outputs(workshop, job) == {"a.csv.out": "a.csv,1,\n", "deep/b.csv.out": "deep/b.csv,1,\n"}


def test_two_instances_share_the_objects_and_have_logs_of_their_own(workshop, echo):
    name = workshop.name()
    for number in range(3):
        workshop.put(f"{name}/{number}.csv", f"{number}\n")
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    job = transform(workshop, echo, workshop.uri(f"{name}/"), TransformResources=resources)
    assert outputs(workshop, job) == {f"{number}.csv.out": f"{number},1,\n" for number in range(3)}
    assert len([stream for stream in streams(workshop, job) if stream.endswith("/data-log")]) == 2


def test_the_containers_program_sees_the_models_and_the_jobs_variables(workshop):
    names = ("SAGEMAKER_BATCH", "SAGEMAKER_BATCH_STRATEGY", "OWN", "MODELS")
    model = make_model(workshop, OWN="the model's", MODELS="too", TELL=",".join(names))
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    job = transform(workshop, model, uri, BatchStrategy="SingleRecord", Environment={"OWN": "the job's"})
    assert outputs(workshop, job) == {"a.csv.out": "a,1,true,SINGLE_RECORD,the job's,too\n"}


# What a client is told


def test_a_job_is_described_with_the_defaults_and_listed_the_latest_first(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    tags = [{"Key": "modelyard:stage", "Value": "prod"}]
    first = transform(workshop, echo, uri, Tags=tags)
    second = transform(workshop, echo, uri)
    assert first["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert first["TransformInput"]["CompressionType"] == "None"
    assert first["CreationTime"] <= first["TransformStartTime"] <= first["TransformEndTime"]
    assert workshop.sagemaker.list_tags(ResourceArn=first["TransformJobArn"])["Tags"] == tags
    names = [first["TransformJobName"], second["TransformJobName"]]
    listed = workshop.sagemaker.list_transform_jobs(NameContains="job-", StatusEquals="Completed", MaxResults=100)
    found = [each["TransformJobName"] for each in listed["TransformJobSummaries"]]
    assert [name for name in found if name in names] == names[::-1]
    assert listed["TransformJobSummaries"][0]["TransformJobStatus"] == "Completed"


# What goes wrong


def test_an_object_that_the_model_refuses_fails_the_job_and_the_others_have_their_output(workshop, churn):
    name = workshop.name()
    workshop.put(f"{name}/bad.csv", "42,Ulm,2001-03-02,0.5\nold,Ulm,2001-03-02,0.5\n")
    workshop.put(f"{name}/good.csv", "42,Ulm,2001-03-02,0.5\n")

    job = transform(workshop, churn, workshop.uri(f"{name}/"))

    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert list(outputs(workshop, job)) == ["good.csv.out"]
    said = data_log(workshop, job)
    assert f"{workshop.bucket}/{name}/bad.csv: ClientError: 400" in said
    assert any("row 2, column 'age': must be a number, but is 'old'" in line for line in said)


def test_a_program_that_breaks_is_an_algorithm_error_after_the_retries(workshop, echo):
    name = workshop.name()
    uri = workshop.put(f"{name}/a.csv", "broken\n")
    job = transform(workshop, echo, uri, ModelClientConfig={"InvocationsMaxRetries": 1})
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert outputs(workshop, job) == {}
    assert f"{workshop.bucket}/{name}/a.csv: AlgorithmError: 500" in data_log(workshop, job)
    log = "\n".join(
        line for stream, lines in streams(workshop, job).items() for line in lines if "data-log" not in stream
    )
    assert log.count("RuntimeError: this line is broken") == 2


def test_an_answer_that_does_not_come_in_time_fails_the_object(workshop, echo):
    name = workshop.name()
    uri = workshop.put(f"{name}/a.csv", "sleep\n")
    config = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    job = transform(workshop, echo, uri, ModelClientConfig=config)
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert any("Unable to get response from algorithm" in line for line in data_log(workshop, job))


def test_a_record_that_the_filter_does_not_fit_fails_the_object(workshop, echo):
    name = workshop.name()
    uri = workshop.put(f"{name}/a.csv", "a,b\nc\n")
    job = transform(workshop, echo, uri, DataProcessing={"InputFilter": "$[1]"})
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert f"{workshop.bucket}/{name}/a.csv: $[1]: there is no index 1 in an array of 1" in data_log(workshop, job)


def test_a_job_without_input_fails(workshop, echo):
    job = transform(workshop, echo, workshop.uri(f"{workshop.name()}/nothing/"))
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")


def test_a_job_whose_output_has_no_bucket_fails_before_the_model_is_asked(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    job = transform(workshop, echo, uri, TransformOutput={"S3OutputPath": "s3://not-there-at-all/x"})
    assert job["TransformJobStatus"] == "Failed"
    assert "s3://not-there-at-all/x" in job["FailureReason"]
    assert not any("model loaded" in lines for lines in streams(workshop, job).values())


def test_a_container_that_does_not_start_fails_the_job_and_its_log_says_why(workshop):
    model = make_model(workshop, "def model_fn(model_dir):\n    raise ValueError('no such model')\n")
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    job = transform(workshop, model, uri)
    assert job["TransformJobStatus"] == "Failed"
    lines = [line for lines in streams(workshop, job).values() for line in lines]
    assert any("ValueError: no such model" in line for line in lines)


def start_sleeping(workshop: Workshop) -> tuple[str, int]:
    """A job whose model does not answer for a minute: its name, and the container's process."""
    uri = workshop.put(f"{workshop.name()}/a.csv", "sleep\n")
    request = transform_request(workshop, make_model(workshop, WITH_PROCESS), uri)
    workshop.sagemaker.create_transform_job(**request)
    deadline = time.monotonic() + 20
    while True:
        try:
            lines = [line for each in streams(workshop, request).values() for line in each]
        except workshop.logs.exceptions.ResourceNotFoundException:
            lines = []
        if "sleeping" in lines:
            return request["TransformJobName"], int(next(line for line in lines if line.isdigit()))
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)


def test_a_stopped_job_ends_with_its_container(workshop):
    name, process = start_sleeping(workshop)
    workshop.sagemaker.stop_transform_job(TransformJobName=name)
    assert workshop.describe("Transform", name)["TransformJobStatus"] in ("Stopping", "Stopped")
    assert workshop.ended("Transform", name)["TransformJobStatus"] == "Stopped"
    assert workshop.keys(f"{name}/out") == []
    assert not alive(process)
    with pytest.raises(ClientError, match="the transform job is in status Stopped"):
        workshop.sagemaker.stop_transform_job(TransformJobName=name)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ModelName": "not-there"}, r'Could not find model "arn:aws:sagemaker:us-east-1:\d+:model/not-there"'),
        ({"TransformInput": {"SplitType": "RecordIO"}}, "TransformInput.SplitType 'RecordIO' is not supported"),
        ({"TransformInput": {"SplitType": "TFRecord"}}, "TransformInput.SplitType 'TFRecord' is not supported"),
        ({"TransformInput": {"CompressionType": "Gzip"}}, "TransformInput.CompressionType 'Gzip' is not supported"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c"}}, "DataCaptureConfig is not supported"),
        ({"MaxConcurrentTransforms": 20, "MaxPayloadInMB": 6}, "is 120 MB; it must not exceed 100 MB"),
        ({"DataProcessing": {"InputFilter": "$..a"}}, r"DataProcessing.InputFilter: '\$..a' has '..a'"),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "TransformOutput": {"Accept": "application/json"}},
            r"ContentType \(text/csv\) and TransformOutput.Accept \(application/json\) to be the same",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"SplitType": "None"}},
            "DataProcessing of text/csv needs TransformInput.SplitType Line",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"ContentType": "text/plain"}},
            "DataProcessing needs TransformInput.ContentType to be one of text/csv",
        ),
        ({"TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 17}}, "InstanceCount 17 is not"),
        ({"TransformOutput": {"S3OutputPath": "https://bucket/x"}}, "TransformOutput.S3OutputPath: 'https://bucket/x'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(workshop, echo, members, message):
    request = transform_request(workshop, echo, workshop.uri("data/"), **members)
    code, said = refusal(workshop.sagemaker.create_transform_job, **request)
    assert code == "ValidationException"
    assert re.search(message, said), said


def test_a_name_is_taken_for_ever(workshop, echo):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    request = transform_request(workshop, echo, uri)
    workshop.sagemaker.create_transform_job(**request)
    with pytest.raises(ClientError, match="ResourceInUse"):
        workshop.sagemaker.create_transform_job(**request)
    workshop.ended("Transform", request["TransformJobName"])


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_job_that_was_under_way_when_the_server_ended_has_failed_and_its_container_is_gone(tmp_path, way):
    with LocalAWS(state=tmp_path) as aws:
        name, process = start_sleeping(Workshop(aws))
        if way == "kill":
            aws.kill()
    deadline = time.monotonic() + 60
    while alive(process):
        assert time.monotonic() < deadline, "the container outlived its server"
        time.sleep(0.02)
    with LocalAWS(state=tmp_path) as aws:
        job = aws.client("sagemaker").describe_transform_job(TransformJobName=name)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("InternalServerError: local_aws was stopped while the job was under way.")
