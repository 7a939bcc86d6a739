"""Training jobs that really run: script mode as the XGBoost image does it, channels, models, metrics, stops."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local_aws.images import Images
from local_aws.jobs import host_names
from local_aws.jobs.contract import script_mode
from local_aws.jobs.host import missing_requirements
from local_aws.jobs.staging import unpack
from tests.local_aws.job_requests import IMAGE, tar_gz
from tests.local_aws.test_processing_jobs import refusal

# Script mode


def test_a_script_trains_on_its_channels_and_its_model_is_uploaded_as_an_archive(either_way):
    train = either_way.put("train/part-1.csv", "1,2\n")
    either_way.put("train/part-2.csv", "3,4\n")
    script = """
        import argparse, os, pathlib
        parser = argparse.ArgumentParser()
        parser.add_argument("--eta", type=float)
        parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
        arguments = parser.parse_args()
        rows = [path.read_text() for path in sorted(pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir())]
        model = pathlib.Path(arguments.model_dir)
        (model / "code").mkdir()
        (model / "code" / "inference.py").write_text("import helper")
        (model / "xgboost-model").write_text(f"{arguments.eta} {rows}")
        pathlib.Path("/opt/ml/output/data/report.txt").write_text("fine")
        print(pathlib.Path.cwd().name, __import__("helper").NAME)
    """

    ended = either_way.train(
        {"train.py": script, "helper.py": "NAME = 'helper'"},
        channels={"train": train.removesuffix("/part-1.csv")},
        HyperParameters={"eta": "0.3"},
    )

    name = ended["TrainingJobName"]
    assert ended["TrainingJobStatus"] == "Completed", ended
    assert ended["ModelArtifacts"]["S3ModelArtifacts"] == either_way.uri(f"models/{name}/output/model.tar.gz")
    assert either_way.unpacked(f"models/{name}/output/model.tar.gz") == {
        "code/inference.py": b"import helper",
        "xgboost-model": b"0.3 ['1,2\\n', '3,4\\n']",
    }
    assert either_way.unpacked(f"models/{name}/output/output.tar.gz") == {"report.txt": b"fine"}
    assert either_way.printed("Training", name) == ["code helper"]


def test_the_configuration_files_and_variables_are_the_toolkit_s(either_way):
    script = """
        import json, os, shutil
        shutil.copytree("/opt/ml/input/config", "/opt/ml/model/config")
        json.dump(dict(os.environ), open("/opt/ml/model/environment.json", "w"))
    """
    ended = either_way.train(
        {"train.py": script},
        channels={"train": either_way.put("x/x.csv", "1\n"), "validation": either_way.uri("x/x.csv")},
        HyperParameters={"eta": "0.3", "objective": "binary:logistic", "weights": "[1, 2]", "name": '"quoted"'},
        Environment={"COLOUR": "blue", "OUT": "/opt/ml/model"},
    )

    name = ended["TrainingJobName"]
    assert ended["TrainingJobStatus"] == "Completed", ended
    files = {path: json.loads(data) for path, data in either_way.unpacked(f"models/{name}/output/model.tar.gz").items()}
    assert files["config/hyperparameters.json"] == ended["HyperParameters"]
    channel = {
        "ContentType": "text/csv",
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert files["config/inputdataconfig.json"] == {"train": channel, "validation": channel}
    resources = files["config/resourceconfig.json"]
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    assert (resources["current_instance_type"], resources["network_interface_name"]) == ("ml.m5.xlarge", "eth0")

    variables = files["environment.json"]
    namespace = either_way.aws._options["opt_ml"] == "namespace"
    ml = variables["SM_MODEL_DIR"].removesuffix("/model")
    assert (ml == "/opt/ml") == namespace
    paths = {name: value.removeprefix(ml) for name, value in variables.items() if value.startswith(ml)}
    assert paths == {
        "OUT": "/model",
        "PYTHONPATH": "/code" if namespace else f"/code:{Path(host_names.__file__).parent}",
        "SM_MODEL_DIR": "/model",
        "SM_OUTPUT_DIR": "/output",
        "SM_OUTPUT_DATA_DIR": "/output/data",
        "SM_OUTPUT_INTERMEDIATE_DIR": "/output/intermediate",
        "SM_INPUT_DIR": "/input",
        "SM_INPUT_CONFIG_DIR": "/input/config",
        "SM_CHANNEL_TRAIN": "/input/data/train",
        "SM_CHANNEL_VALIDATION": "/input/data/validation",
    }
    assert json.loads(variables["SM_HPS"]) == {
        "eta": 0.3,
        "objective": "binary:logistic",
        "weights": [1, 2],
        "name": "quoted",
    }
    assert (variables["SM_HP_ETA"], variables["SM_HP_WEIGHTS"], variables["SM_HP_NAME"]) == ("0.3", "[1,2]", "quoted")
    assert json.loads(variables["SM_CHANNELS"]) == ["train", "validation"]
    assert json.loads(variables["SM_HOSTS"]) == ["algo-1"]
    assert (variables["SM_CURRENT_HOST"], variables["SM_NUM_GPUS"]) == ("algo-1", "0")
    assert variables["SM_USER_ENTRY_POINT"] == "train.py"
    assert variables["TRAINING_JOB_NAME"] == name
    assert variables["TRAINING_JOB_ARN"] == ended["TrainingJobArn"]
    assert variables["COLOUR"] == "blue"
    assert "/opt/ml" not in variables["SM_TRAINING_ENV"] or namespace


def test_a_script_starts_in_opt_ml_code(either_way):
    ended = either_way.train(
        {"train.py": "import os; print(os.path.samefile('/opt/ml/code', os.getcwd()), os.getcwd())"}
    )

    (line,) = either_way.printed("Training", ended["TrainingJobName"])
    assert re.fullmatch(r"True (/\S+/ml/code|/opt/ml/code)", line)
    log = either_way.printed("Training", ended["TrainingJobName"], with_ours=True)
    assert ("mount namespace" in log[0]) == (line == "True /opt/ml/code")


def test_hyperparameters_become_arguments_in_the_order_of_their_names():
    mode = script_mode(
        {
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "s3://bucket/code.tar.gz",
            "sagemaker_region": "us-east-1",
            "max_depth": "4",
            "eta": "0.3",
            "v": "1",
            "verbose": "true",
            "nothing": "null",
            "text": "a b",
        }
    )

    assert mode.command[:2] == ["python3", "train.py"]
    assert list(zip(mode.command[2::2], mode.command[3::2], strict=True)) == [
        ("--eta", "0.3"),
        ("--max_depth", "4"),
        ("--nothing", ""),
        ("--text", "a b"),
        ("-v", "1"),
        ("--verbose", "True"),
    ]


def test_a_shell_script_can_be_the_program(workshop):
    code = {"run.sh": 'echo "$@" > $SM_MODEL_DIR/arguments'}
    ended = workshop.train(code, HyperParameters={"sagemaker_program": "run.sh", "eta": "0.3"})

    name = ended["TrainingJobName"]
    assert workshop.unpacked(f"models/{name}/output/model.tar.gz") == {"arguments": b"--eta 0.3\n"}


def test_a_real_xgboost_model_is_trained(workshop):
    rows = "".join(f"{int(x % 7 > 3)},{x % 7},{x % 3}\n" for x in range(200))
    script = """
        import os, xgboost
        data = xgboost.DMatrix(os.environ["SM_CHANNEL_TRAIN"] + "/train.csv?format=csv&label_column=0")
        booster = xgboost.train({"objective": "binary:logistic", "eval_metric": "auc"}, data, 5, [(data, "train")])
        booster.save_model(os.environ["SM_MODEL_DIR"] + "/xgboost-model")
    """
    definitions = [{"Name": "train:auc", "Regex": r"\[\d+\]\ttrain-auc:([0-9.]+)"}]

    ended = workshop.train(
        {"train.py": script},
        channels={"train": workshop.put("xgboost/train.csv", rows)},
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": definitions,
        },
    )

    assert ended["TrainingJobStatus"] == "Completed", ended
    (metric,) = ended["FinalMetricDataList"]
    assert (metric["MetricName"], round(metric["Value"], 3)) == ("train:auc", 1.0)
    assert list(workshop.unpacked(f"models/{ended['TrainingJobName']}/output/model.tar.gz")) == ["xgboost-model"]


def test_an_entrypoint_of_its_own_runs_as_the_sdk_s_source_code_does(either_way):
    """ModelTrainer(source_code=...): code and drivers are channels, the entrypoint is a shell line."""
    name = either_way.name()
    drivers = either_way.put(
        f"{name}/sm_drivers/sm_train.sh",
        "#!/bin/bash\nset -e\ncd /opt/ml/input/data/code\npython3 /opt/ml/input/data/sm_drivers/driver.py\n",
    )
    either_way.put(f"{name}/sm_drivers/driver.py", "import runpy; runpy.run_path('/opt/ml/input/data/code/train.py')")
    code = either_way.put(f"{name}/code/train.py", "open('/opt/ml/model/m', 'w').write('model')")
    line = "chmod +x /opt/ml/input/data/sm_drivers/sm_train.sh && /opt/ml/input/data/sm_drivers/sm_train.sh"
    specification = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["/bin/bash"],
        "ContainerArguments": ["-c", line],
    }
    request = either_way.training_request(
        {},
        channels={"code": code.removesuffix("/train.py"), "sm_drivers": drivers.removesuffix("/sm_train.sh")},
        AlgorithmSpecification=specification,
    )
    request["HyperParameters"] = {"eta": "0.3"}

    either_way.sagemaker.create_training_job(**request)
    ended = either_way.ended("Training", request["TrainingJobName"])

    assert ended["TrainingJobStatus"] == "Completed", ended
    key = f"models/{request['TrainingJobName']}/output/model.tar.gz"
    assert either_way.unpacked(key) == {"m": b"model"}


# Descriptions


def test_a_description_has_the_request_its_defaults_and_every_transition(workshop):
    request = workshop.training_request(
        {"train.py": "print('auc=0.7;'); print('auc=nan?'); print('auc=0.8;')"},
        channels={"train": workshop.put("d/d.csv", "1\n")},
        Tags=[{"Key": "team", "Value": "churn"}],
        VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    )
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        {"Name": "auc", "Regex": "auc=(.*);"},
        {"Name": "never", "Regex": "never=(.*);"},
    ]

    arn = workshop.sagemaker.create_training_job(**request)["TrainingJobArn"]
    ended = workshop.ended("Training", request["TrainingJobName"])

    assert arn == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{request['TrainingJobName']}"
    assert workshop.sagemaker.list_tags(ResourceArn=arn)["Tags"] == request["Tags"]
    for name in ("HyperParameters", "RoleArn", "ResourceConfig", "VpcConfig", "AlgorithmSpecification"):
        assert ended[name] == request[name]
    assert ended["InputDataConfig"][0]["CompressionType"] == "None"
    assert ended["OutputDataConfig"] == {
        "KmsKeyId": "",
        "S3OutputPath": workshop.uri("models"),
        "CompressionType": "GZIP",
    }
    assert not ended["EnableManagedSpotTraining"]
    transitions = ended["SecondaryStatusTransitions"]
    assert [entry["Status"] for entry in transitions] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert all(before["EndTime"] <= after["StartTime"] for before, after in pairwise(transitions))
    assert ended["SecondaryStatus"] == "Completed"
    assert ended["CreationTime"] <= ended["TrainingStartTime"] <= ended["TrainingEndTime"]
    assert ended["BillableTimeInSeconds"] == ended["TrainingTimeInSeconds"] == 1
    (metric,) = ended["FinalMetricDataList"]
    assert (metric["MetricName"], round(metric["Value"], 3)) == ("auc", 0.8)


def test_training_jobs_are_listed_with_their_secondary_status(workshop):
    name = workshop.train({"train.py": ""})["TrainingJobName"]

    (summary,) = workshop.sagemaker.list_training_jobs(NameContains=name, StatusEquals="Completed")[
        "TrainingJobSummaries"
    ]

    assert summary["TrainingJobName"] == name
    assert summary["SecondaryStatus"] == "Completed"
    assert "FailureReason" not in summary


def test_a_script_that_saves_no_model_uploads_none(workshop):
    name = workshop.train({"train.py": ""})["TrainingJobName"]

    assert workshop.keys(f"models/{name}/") == []


# How it ends


def test_a_script_that_raises_fails_the_job_in_the_toolkit_s_words(workshop):
    script = "open('/opt/ml/model/half', 'w').write('x')\nraise ValueError('one class only')"
    ended = workshop.train({"train.py": script}, HyperParameters={"eta": "0.3"})

    assert ended["TrainingJobStatus"] == ended["SecondaryStatus"] == "Failed"
    assert ended["FailureReason"] == (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: one class only"\n'
        'Command "python3 train.py --eta 0.3", exit code: 1'
    )
    assert workshop.printed("Training", ended["TrainingJobName"])[-1] == "ValueError: one class only"
    statuses = [entry["Status"] for entry in ended["SecondaryStatusTransitions"]]
    assert statuses[-2:] == ["Uploading", "Failed"]


def test_a_failure_file_is_the_reason(workshop):
    script = "import sys\nopen('/opt/ml/output/failure', 'w').write('no rows')\nsys.exit(2)"

    ended = workshop.train({"train.py": script})

    assert ended["FailureReason"] == "AlgorithmError: no rows, exit code: 2"


SAVES_WHEN_ASKED_TO_END = """
    import signal, sys, time
    def end(*_):
        open("/opt/ml/model/so-far", "w").write("3 rounds")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_job_over_its_time_is_stopped_and_keeps_the_model_it_saved_in_its_grace(workshop):
    ended = workshop.train({"train.py": SAVES_WHEN_ASKED_TO_END}, StoppingCondition={"MaxRuntimeInSeconds": 1})

    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    key = f"models/{ended['TrainingJobName']}/output/model.tar.gz"
    assert workshop.unpacked(key) == {"so-far": b"3 rounds"}


def test_a_stopped_job_keeps_the_model_it_saved_in_its_grace(workshop):
    request = workshop.training_request({"train.py": SAVES_WHEN_ASKED_TO_END})
    name = request["TrainingJobName"]
    workshop.sagemaker.create_training_job(**request)
    workshop.wait_for_line("Training", name, "ready")

    workshop.sagemaker.stop_training_job(TrainingJobName=name)
    ended = workshop.ended("Training", name)

    assert (ended["TrainingJobStatus"], ended["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [entry["Status"] for entry in ended["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]
    assert workshop.unpacked(f"models/{name}/output/model.tar.gz") == {"so-far": b"3 rounds"}


def test_checkpoints_are_there_before_and_saved_after(workshop):
    script = """
        import pathlib
        folder = pathlib.Path("/opt/ml/checkpoints")
        done = [path.name for path in folder.iterdir()]
        (folder / f"round-{len(done) + 1}").write_text("x")
        print(sorted(done))
    """
    prefix = workshop.name()
    workshop.put(f"{prefix}-of-another-job/round-1", "x")
    spot = {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
        "CheckpointConfig": {"S3Uri": workshop.uri(prefix)},
    }

    jobs = [workshop.train({"train.py": script}, **spot) for _ in range(2)]

    assert [job["TrainingJobStatus"] for job in jobs] == ["Completed", "Completed"]
    assert [workshop.printed("Training", job["TrainingJobName"]) for job in jobs] == [["[]"], ["['round-1']"]]
    assert workshop.keys(f"{prefix}/") == [f"{prefix}/round-1", f"{prefix}/round-2"]
    assert jobs[0]["CheckpointConfig"] == {"S3Uri": workshop.uri(prefix)}


# The code archive


def test_a_program_that_is_not_in_the_archive_is_named_with_what_is(workshop):
    ended = workshop.train({"main.py": "", "helper.py": ""})

    assert ended["TrainingJobStatus"] == "Failed"
    assert "sagemaker_program 'train.py' is not in s3://" in ended["FailureReason"]
    assert "which holds helper.py, main.py." in ended["FailureReason"]


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"no archive", "cannot be unpacked"),
        (tar_gz({"train.py": "x" * 100_000})[:-20], "cannot be unpacked"),
        (tar_gz({"../train.py": ""}), "member '../train.py' leads out of the archive"),
        (tar_gz({"/tmp/train.py": ""}), "member '/tmp/train.py' leads out of the archive"),
        (None, "Data download failed: sagemaker_submit_directory (s3://"),
    ],
    ids=["not an archive", "cut off", "above", "absolute", "not there"],  # a gzip's own bytes hold the time
)
def test_a_broken_hostile_or_missing_archive_fails_the_job(workshop, archive, said):
    request = workshop.training_request({"train.py": ""})
    key = f"{request['TrainingJobName']}/sourcedir.tar.gz"
    if archive is None:
        workshop.s3.delete_object(Bucket=workshop.bucket, Key=key)
    else:
        workshop.put(key, archive)

    workshop.sagemaker.create_training_job(**request)
    ended = workshop.ended("Training", request["TrainingJobName"])

    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith("ClientError: ")
    assert said in ended["FailureReason"]


def link_archive(path, target: str, kind: bytes):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("real.py")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link.py")
        link.type, link.linkname = kind, target
        archive.addfile(link)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_inside_an_archive_become_copies_and_links_out_of_it_are_refused(tmp_path, kind):
    unpack(link_archive(tmp_path / "inside.tar.gz", "real.py", kind), tmp_path / "inside")
    assert (tmp_path / "inside" / "link.py").read_text() == "x"
    assert not (tmp_path / "inside" / "link.py").is_symlink()

    for target in ("/etc/passwd", "../../etc/passwd"):
        with pytest.raises(tarfile.TarError, match=r"link\.py' is a link to what is not in the archive"):
            unpack(link_archive(tmp_path / "out.tar.gz", target, kind), tmp_path / "out")


def test_a_device_in_an_archive_is_refused(tmp_path):
    with pytest.raises(tarfile.TarError, match="is no file, no folder and no link"):
        unpack(link_archive(tmp_path / "device.tar.gz", "", tarfile.CHRTYPE), tmp_path / "out")


def test_requirements_that_the_image_has_are_fine_and_others_fail_the_job_by_name(workshop):
    fine = workshop.train({"train.py": "", "requirements.txt": "# ours\npandas==2.2.3\nscikit_learn>=1.8  # ML\n\n"})
    missing = workshop.train({"train.py": "", "requirements.txt": "lightgbm>=4\npandas>=3\n-e .\n"})

    assert fine["TrainingJobStatus"] == "Completed", fine
    assert missing["TrainingJobStatus"] == "Failed"
    assert (
        "asks for 'lightgbm>=4', which is not there; 'pandas>=3', where 2.2.3 is there;"
        " '-e .', which is no plain name and version." in missing["FailureReason"]
    )
    assert "local_aws/images/sagemaker-xgboost-3.2-0/requirements.txt" in missing["FailureReason"]


def test_a_requirement_for_another_system_is_not_missed():
    packages = Images().find(IMAGE).packages

    assert missing_requirements('pywin32==300; sys_platform == "win32"', packages) == []


# What is refused before


def test_a_channel_without_objects_is_refused_when_the_job_is_created(workshop):
    for uri in (workshop.uri("nothing/here"), "s3://no-such-bucket/x"):
        request = workshop.training_request({"train.py": ""}, channels={"train": uri})

        code, message = refusal(workshop.sagemaker.create_training_job, **request)

        assert code == "ValidationException"
        assert f"InputDataConfig 'train': No S3 objects found under S3 URL \"{uri}\"" in message


def set_channel(**members):
    return lambda request: request["InputDataConfig"][0].update(members)


def set_source(**members):
    return lambda request: request["InputDataConfig"][0]["DataSource"]["S3DataSource"].update(members)


def set_specification(**members):
    return lambda request: request["AlgorithmSpecification"].update(members)


def set_hyperparameters(**members):
    return lambda request: request["HyperParameters"].update(members)


def set_members(**members):
    return lambda request: request.update(members)


REFUSED = [
    (set_channel(ChannelName=".."), "'..': ChannelName names the channel's folder; choose another."),
    (set_channel(InputMode="FastFile"), "InputMode 'FastFile' is not supported by local_aws; 'File' is."),
    (set_channel(CompressionType="Gzip"), "CompressionType 'Gzip' is not supported"),
    (set_channel(RecordWrapperType="RecordIO"), "RecordWrapperType 'RecordIO' is not supported"),
    (set_channel(ShuffleConfig={"Seed": 1}), "InputDataConfig 'train': ShuffleConfig is not supported"),
    (set_source(S3DataType="ManifestFile"), "S3DataType 'ManifestFile' is not supported"),
    (set_source(S3Uri="s3://no bucket/x"), "bucket names have letters"),
    (set_source(S3Uri="https://bucket.s3.amazonaws.com/x"), "is no S3 address: write s3://bucket/prefix"),
    (set_specification(TrainingInputMode="Pipe"), "TrainingInputMode 'Pipe' is not supported"),
    (
        set_specification(MetricDefinitions=[{"Name": "auc", "Regex": "auc=("}]),
        "MetricDefinitions 'auc': 'auc=(' is no regular expression",
    ),
    (lambda request: request["ResourceConfig"].update(InstanceCount=17), "InstanceCount 17 is not supported"),
    (lambda request: request["HyperParameters"].pop("sagemaker_program"), "HyperParameters have no sagemaker_program"),
    (set_hyperparameters(sagemaker_program="../train.py"), "must be a .py or .sh file inside the archive"),
    (set_hyperparameters(sagemaker_program="train.ipynb"), "must be a .py or .sh file inside the archive"),
    (set_hyperparameters(sagemaker_submit_directory="/opt/ml/code"), "'/opt/ml/code' is no S3 address"),
    (set_hyperparameters(sagemaker_submit_directory="s3://bucket/code"), "is no .tar.gz archive"),
    (set_members(EnableNetworkIsolation=True), "EnableNetworkIsolation True is not supported"),
    (
        set_members(DebugRuleConfigurations=[{"RuleConfigurationName": "r", "RuleEvaluatorImage": "i"}]),
        "DebugRuleConfigurations is not supported by local_aws",
    ),
    (
        lambda request: request["OutputDataConfig"].update(CompressionType="NONE"),
        "OutputDataConfig.CompressionType 'NONE' is not supported",
    ),
    (set_members(EnableManagedSpotTraining=True), "Invalid MaxWaitTimeInSeconds. It must be present"),
    (
        set_members(StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}),
        "It can only be given when EnableManagedSpotTraining is true",
    ),
    (
        set_members(CheckpointConfig={"S3Uri": "s3://bucket/x", "LocalPath": "/checkpoints"}),
        "CheckpointConfig.LocalPath '/checkpoints' must be an absolute path that begins with /opt/ml/",
    ),
    (lambda request: request.pop("StoppingCondition"), "StoppingCondition is missing"),
    (lambda request: request["InputDataConfig"].append(request["InputDataConfig"][0]), "'train' is given twice"),
]


@pytest.mark.parametrize(("alter", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_done_here_is_refused_by_name(workshop, alter, said):
    request = workshop.training_request({"train.py": ""}, channels={"train": workshop.put("refused/x.csv", "1\n")})
    alter(request)

    code, message = refusal(workshop.sagemaker.create_training_job, **request)

    assert (code, said in message) == ("ValidationException", True), message
    with pytest.raises(ClientError, match="Requested resource not found"):
        workshop.describe("Training", request["TrainingJobName"])


def test_a_name_is_taken_once(workshop):
    request = workshop.training_request({"train.py": ""})
    workshop.sagemaker.create_training_job(**request)

    code, message = refusal(workshop.sagemaker.create_training_job, **request)

    assert code == "ResourceInUse"
    assert "Training job names must be unique within an AWS account and region" in message
    workshop.ended("Training", request["TrainingJobName"])
    # The same name for the other kind of job is another job.
    other = workshop.processing_request("") | {"ProcessingJobName": request["TrainingJobName"]}
    workshop.sagemaker.create_processing_job(**other)
    assert workshop.ended("Processing", request["TrainingJobName"])["ProcessingJobStatus"] == "Completed"


def test_the_aws_cli_sees_the_job(workshop):
    name = workshop.train({"train.py": ""})["TrainingJobName"]

    answer = subprocess.run(
        [
            str(Path(sys.executable).parent / "aws"),
            "sagemaker",
            "describe-training-job",
            "--training-job-name",
            name,
            "--query",
            "TrainingJobStatus",
        ],
        env={"PATH": "/usr/bin:/bin"} | workshop.aws.environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(answer.stdout) == "Completed"
