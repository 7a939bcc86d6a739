"""Which images jobs can run in, and what is said about those they cannot."""

from __future__ import annotations

import subprocess

import pytest
from sagemaker.core import image_uris

from local_aws.calls import ServiceError
from local_aws.images import Images
from tests.local_aws.job_requests import IMAGE


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "ap-southeast-2", "cn-north-1", "us-gov-west-1"])
def test_the_image_of_every_region_is_known(region):
    uri = image_uris.retrieve("xgboost", region, "3.2-0")

    assert Images().find(uri).name == "sagemaker-xgboost-3.2-0"


def test_the_environment_has_the_image_s_own_pins():
    image = Images().find(IMAGE)
    program = (
        "import boto3, numpy, pandas, sklearn, xgboost;"
        "print(*(module.__version__ for module in (boto3, numpy, pandas, sklearn, xgboost)))"
    )
    printed = subprocess.run(
        [str(image.programs / "python3"), "-c", program], capture_output=True, text=True, check=True, env={}
    ).stdout

    assert printed.split() == ["1.38.0", "2.1.0", "2.2.3", "1.8.0", "3.2.0"]


@pytest.mark.parametrize(
    "uri",
    [
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost@sha256:0123",
        "sagemaker-xgboost:3.2-0",
        "../../sagemaker-xgboost-3.2-0",
    ],
)
def test_an_unknown_image_is_refused_by_name_with_those_known_and_how_to_add_one(uri):
    with pytest.raises(ServiceError) as refusal:
        Images().find(uri)

    assert refusal.value.code == "ValidationException"
    assert repr(uri) in refusal.value.message
    assert "It knows sagemaker-xgboost-3.2-0." in refusal.value.message
    assert "docs/local-aws.md" in refusal.value.message


def test_a_missing_environment_is_refused_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(ServiceError, match=r"has no environment at .* Run `make install`"):
        Images(tmp_path).find(IMAGE)


def test_an_image_is_added_by_a_folder_with_its_pins(tmp_path):
    (tmp_path / "known" / "churn-scoring-2").mkdir(parents=True)
    (tmp_path / "known" / "churn-scoring-2" / "requirements.txt").write_text("numpy==2.1.0\n")
    (tmp_path / "environments" / "churn-scoring-2" / "bin").mkdir(parents=True)
    (tmp_path / "environments" / "churn-scoring-2" / "bin" / "python3").touch()
    images = Images(tmp_path / "environments", tmp_path / "known")

    found = images.find("123456789012.dkr.ecr.eu-west-1.amazonaws.com/churn/scoring:2")

    assert found.name == "churn-scoring-2"


def test_the_folder_of_the_environments_can_be_named_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_IMAGES", str(tmp_path))

    with pytest.raises(ServiceError, match=str(tmp_path)):
        Images().find(IMAGE)
