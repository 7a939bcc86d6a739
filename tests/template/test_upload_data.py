"""The sample is for a new project: sent without being named, it never takes the place of anybody's data."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from tests.template.stubbed_account import Account

SAMPLE = b"a,b\n1,2\n"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "diabetes.csv"
    path.write_bytes(SAMPLE)
    return path


def lying_there(account: Account, **sizes: int) -> None:
    """By key, with __ for a dot and ___ for a slash."""
    keys = {name.replace("___", "/").replace("__", "."): size for name, size in sizes.items()}
    contents = [{"Key": key, "Size": size, "ETag": "x"} for key, size in keys.items()]
    account.stub("s3").add_response("list_objects_v2", {"Contents": contents} if contents else {})


def holding(account: Account, key: str, content: bytes) -> None:
    body = StreamingBody(io.BytesIO(content), len(content))
    account.stub("s3").add_response("get_object", {"Body": body}, {"Bucket": "b", "Key": key})


@pytest.mark.parametrize(("uri", "key"), [("s3://b/all.csv", "all__csv"), ("s3://b/data/", "data___diabetes__csv")])
def test_the_very_same_sample_may_lie_there(
    pipeline: SimpleNamespace, account: Account, sample: Path, uri: str, key: str
) -> None:
    lying_there(account)
    assert pipeline.aws.sample_is_there(account, sample, uri) is False
    # beside what S3's console leaves where somebody makes a folder, and what only begins with the same text
    others = {"data___": 0, "data___old___": 0} if uri.endswith("/") else {"all__csv__bak": 5}
    lying_there(account, **others)
    assert pipeline.aws.sample_is_there(account, sample, uri) is False
    lying_there(account, **{key: len(SAMPLE)}, **others)
    holding(account, key.replace("___", "/").replace("__", "."), SAMPLE)
    assert pipeline.aws.sample_is_there(account, sample, uri) is True


@pytest.mark.parametrize(
    ("uri", "there", "content", "named"),
    [
        ("s3://b/all.csv", {"all__csv": 9}, None, "s3://b/all.csv"),
        ("s3://b/all.csv", {"all__csv": 0}, None, "s3://b/all.csv"),
        ("s3://b/all.csv", {"all__csv": 8}, b"a,b\n1,3\n", "s3://b/all.csv"),
        ("s3://b/all.csv", {"all__csv": 8}, "denied", "s3://b/all.csv"),
        ("s3://b/all.csv", {"all__csv___part-0__csv": 8}, None, "s3://b/all.csv/part-0.csv"),
        ("s3://b/data/", {"data___diabetes__csv": 9}, None, "s3://b/data/diabetes.csv"),
        ("s3://b/data/", {"data___own__parquet": 8}, None, "s3://b/data/own.parquet"),
        ("s3://b/data/", {"data___diabetes__csv": 8, "data___own__csv": 8}, SAMPLE, "s3://b/data/own.csv"),
    ],
    ids=["longer", "empty", "other bytes", "unreadable", "files below it", "by its name", "another", "beside it"],
)
def test_whatever_else_lies_there_stays(
    pipeline: SimpleNamespace,
    account: Account,
    sample: Path,
    uri: str,
    there: dict[str, int],
    content: Any,
    named: str,
) -> None:
    lying_there(account, **there)
    if content == "denied":
        account.stub("s3").add_client_error("get_object", "AccessDenied", http_status_code=403)
    elif content is not None:
        holding(account, uri.removeprefix("s3://b/") + ("diabetes.csv" if uri.endswith("/") else ""), content)
    with pytest.raises(pipeline.InputError) as caught:
        pipeline.aws.sample_is_there(account, sample, uri)
    assert str(caught.value).startswith(f"{named} is there already, and is not the sample (diabetes.csv)")
    assert str(caught.value).endswith("To send data of your own, name it: python -m pipeline upload-data PATH")


def test_where_nobody_can_look_nothing_is_sent(pipeline: SimpleNamespace, account: Account, sample: Path) -> None:
    s3 = account.stub("s3")
    s3.add_client_error("list_objects_v2", "NoSuchBucket", http_status_code=404)
    with pytest.raises(pipeline.InputError, match=r"there is no bucket 'b': correct data\.uri"):
        pipeline.aws.sample_is_there(account, sample, "s3://b/all.csv")
    s3.add_client_error("list_objects_v2", "AccessDenied", http_status_code=403)
    with pytest.raises(ClientError, match="AccessDenied"):
        pipeline.aws.sample_is_there(account, sample, "s3://b/all.csv")
    lying_there(account, all__csv=len(SAMPLE))
    s3.add_client_error("get_object", "InternalError", http_status_code=500)
    with pytest.raises(ClientError, match="InternalError"):
        pipeline.aws.sample_is_there(account, sample, "s3://b/all.csv")
