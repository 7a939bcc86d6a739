"""What the containers of the XGBoost image do with a model: the image's default handler, and its script mode."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from local_aws import LocalAWS
from local_aws.hosting import Container, ContainerFailure
from local_aws.hosting import container as container_module
from tests.local_aws.model_programs import SCRIPT_MODE, Kitchen, archive

pytestmark = pytest.mark.slow  # make test has fifteen minutes

BUCKET = "image-models"
ROWS = np.array([[0.2, 3.0, -1.0], [5.0, -2.0, 0.5]])
CSV_ROWS = b"0.2,3.0,-1.0\n5.0,-2.0,0.5\n"


@pytest.fixture(scope="module")
def kitchen(aws: LocalAWS) -> Iterator[Kitchen]:
    with tempfile.TemporaryDirectory(prefix="kitchen-") as folder:
        kitchen = Kitchen(aws, Path(folder), BUCKET)
        yield kitchen
        kitchen.close()


def train(objective: str, seed: int = 0, **parameters: Any) -> xgboost.Booster:
    random = np.random.default_rng(seed)
    features = random.normal(0, 3, (300, 3))
    labels = (features[:, 0] > 0).astype(float) if "multi" not in objective else random.integers(0, 3, 300)
    settings = {"objective": objective, "max_depth": 3, "nthread": 1, "seed": seed, **parameters}
    return xgboost.train(settings, xgboost.DMatrix(features, labels), 5)


BINARY = train("binary:logistic")
SCORES = BINARY.predict(xgboost.DMatrix(ROWS)).tolist()


def ask(container: Container, body: bytes, content_type: str | None, accept: str | None = None) -> tuple[int, str, str]:
    status, headers, answer = container.invoke(body, content_type, accept, {}, 30.0)
    return status, headers.get("content-type", "").partition(";")[0], answer.decode()


@pytest.fixture(scope="module")
def default(kitchen: Kitchen) -> Container:
    data = archive({"xgboost-model": bytes(BINARY.save_raw("ubj")), ".hidden": b"x", "code/inference.py": b"x"})
    return kitchen.start(data)


def csv_lines(values: list[Any]) -> str:
    return "".join(f"{value}\n" for value in values)


def libsvm(rows: np.ndarray) -> bytes:
    return "\n".join(" ".join(f"{column}:{value}" for column, value in enumerate(row)) for row in rows).encode()


def recordio(rows: np.ndarray) -> bytes:
    """Each row as a record with a dense tensor of 32-bit floats."""
    records = []
    for row in rows:
        numbers = row.astype("<f4").tobytes()
        tensor = b"\x0a" + bytes([len(numbers)]) + numbers
        value = b"\x12" + bytes([len(tensor)]) + tensor
        entry = b"\x0a\x06values" + b"\x12" + bytes([len(value)]) + value
        record = b"\x0a" + bytes([len(entry)]) + entry
        records.append(struct.pack("<II", 0xCED7230A, len(record)) + record + b"\0" * (-len(record) % 4))
    return b"".join(records)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", CSV_ROWS),
        ("text/csv; charset=utf-8", CSV_ROWS),
        ("csv", CSV_ROWS),
        (None, CSV_ROWS),
        ("text/libsvm", libsvm(ROWS)),
        ("text/x-libsvm", libsvm(ROWS)),
        ("libsvm", libsvm(ROWS)),
        ("application/x-recordio-protobuf", recordio(ROWS)),
    ],
    ids=["csv", "csv with a charset", "csv, short", "nothing said", "libsvm", "x-libsvm", "libsvm, short", "recordio"],
)
def test_the_default_handler_reads_what_the_image_reads(default, content_type, body):
    assert ask(default, body, content_type) == (200, "text/csv", csv_lines(SCORES))


@pytest.mark.parametrize(
    ("content_type", "accept", "body", "status"),
    [
        ("application/json", None, b"[[1,2,3]]", 415),
        ("application/x-parquet", None, b"PAR1", 415),
        ("text/csv", None, b"a,b,c", 415),
        ("application/x-recordio-protobuf", None, b"123456789", 415),
        ("text/csv", "image/png", CSV_ROWS, 406),
        ("text/csv", "application/jsonlines", CSV_ROWS, 500),
        ("text/csv", None, b"", 204),
        ("text/csv", None, b"1,2", 200),  # a wrong number of columns is accepted
    ],
)
def test_the_default_handler_answers_with_the_image_s_statuses(default, content_type, accept, body, status):
    assert ask(default, body, content_type, accept)[0] == status


def test_the_default_handler_answers_json(default):
    status, kind, body = ask(default, CSV_ROWS, "text/csv", "application/json")

    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"predictions": [{"score": score} for score in SCORES]}


def test_the_default_handler_says_how_it_is_to_be_used_by_transform_jobs(default):
    status, headers, body = default.get("/execution-parameters", 10.0)

    assert (status, headers["content-type"]) == (200, "application/json")
    said = json.loads(body)
    assert said.pop("MaxConcurrentTransforms") >= 1
    assert said == {"BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


def test_a_further_file_in_the_archive_s_root_fails_every_request_but_not_the_ping(kitchen):
    data = archive({"xgboost-model": bytes(BINARY.save_raw("ubj")), "metadata.json": "{}"})
    container = kitchen.start(data)

    status, _, body = ask(container, CSV_ROWS, "text/csv")
    assert status == 500
    assert body.startswith("Unable to load model: Model ")
    assert "metadata.json cannot be loaded" in body


def test_several_models_are_an_ensemble_unless_it_is_switched_off(kitchen):
    other = train("binary:logistic", seed=1, max_depth=1)
    data = archive({"a": bytes(BINARY.save_raw("ubj")), "b": pickle.dumps(other)})
    means = np.mean([SCORES, other.predict(xgboost.DMatrix(ROWS))], axis=0)

    found = ask(kitchen.start(data), CSV_ROWS, "text/csv")[2]
    assert np.allclose([float(line) for line in found.split()], means, atol=1e-6)
    first = ask(kitchen.start(data, {"SAGEMAKER_INFERENCE_ENSEMBLE": "false"}), CSV_ROWS, "text/csv")[2]
    assert first == csv_lines(SCORES)


def test_the_output_is_selectable(kitchen):
    data = archive({"xgboost-model": bytes(BINARY.save_raw("ubj"))})
    container = kitchen.start(
        data, {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label, probability,labels,predicted_score"}
    )

    rows = [json.loads(line) for line in ask(container, CSV_ROWS, "text/csv", "application/jsonlines")[2].splitlines()]
    assert [row["predicted_label"] for row in rows] == [int(score > 0.5) for score in SCORES]
    assert [row["probability"] for row in rows] == SCORES
    assert [row["labels"] for row in rows] == [[0, 1]] * 2
    assert all(np.isnan(row["predicted_score"]) for row in rows)
    csv = ask(container, CSV_ROWS, "text/csv", "text/csv")[2]
    assert csv.splitlines()[0] == f'{int(SCORES[0] > 0.5)},{SCORES[0]},"[0, 1]",nan'


def test_the_output_of_several_classes_is_selectable(kitchen):
    booster = train("multi:softprob", num_class=3)
    data = archive({"xgboost-model": bytes(booster.save_raw("ubj"))})
    container = kitchen.start(data, {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label,probability,probabilities,labels"})

    said = json.loads(ask(container, CSV_ROWS, "text/csv", "application/json")[2])["predictions"]
    for row, found in zip(said, booster.predict(xgboost.DMatrix(ROWS)), strict=True):
        assert row["predicted_label"] == int(found.argmax())
        assert row["probability"] == pytest.approx(float(found.max()))
        assert row["probabilities"] == pytest.approx(found.tolist())
        assert row["labels"] == [0, 1, 2]


BOOSTER_PROGRAM = """
    import xgboost

    def model_fn(model_dir):
        booster = xgboost.Booster()
        booster.load_model(model_dir + "/xgboost-model")
        return booster
"""


def script(program: str) -> bytes:
    return archive({"xgboost-model": bytes(BINARY.save_raw("ubj")), "code/inference.py": program})


@pytest.fixture(scope="module")
def script_mode(kitchen: Kitchen) -> Container:
    return kitchen.start(script(BOOSTER_PROGRAM), SCRIPT_MODE)


def test_a_program_with_model_fn_alone_gets_the_defaults_of_script_mode(script_mode):
    status, kind, body = ask(script_mode, CSV_ROWS, "text/csv")  # JSON is what is answered unless asked otherwise
    assert (status, kind, json.loads(body)) == (200, "application/json", SCORES)
    assert ask(script_mode, CSV_ROWS, "text/csv", "text/csv") == (200, "text/csv", csv_lines(SCORES))
    assert ask(script_mode, libsvm(ROWS), "text/libsvm", "text/csv") == (200, "text/csv", csv_lines(SCORES))


def test_the_defaults_of_script_mode_refuse_in_json_what_they_cannot_write(script_mode):
    status, kind, body = ask(script_mode, CSV_ROWS, "text/csv", "image/png")

    assert (status, kind) == (406, "application/json")
    assert json.loads(body)["error-message"] == 'Content type "image/png" is not supported by this framework.'


def test_input_fn_predict_fn_and_output_fn_take_each_other_s_results(kitchen):
    program = (
        BOOSTER_PROGRAM
        + """
    def input_fn(body, content_type):
        return [type(body).__name__, content_type]

    def predict_fn(data, model):
        return [*data, type(model).__name__]

    def output_fn(prediction, accept):
        return " ".join([*prediction, accept]), "text/plain"
"""
    )
    container = kitchen.start(script(program), SCRIPT_MODE)

    assert ask(container, b"1", "text/csv") == (200, "text/plain", "str text/csv Booster application/json")
    assert (
        ask(container, b"1", "application/x-parquet", "*/*")[2]
        == "bytes application/x-parquet Booster application/json"
    )


def test_the_code_may_come_from_s3(kitchen, aws):
    aws.client("s3").put_object(Bucket=BUCKET, Key="source.tar.gz", Body=archive({"inference.py": BOOSTER_PROGRAM}))
    data = archive({"xgboost-model": bytes(BINARY.save_raw("ubj"))})
    environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/source.tar.gz"}

    assert ask(kitchen.start(data, environment), CSV_ROWS, "text/csv", "text/csv")[2] == csv_lines(SCORES)


def hostile(**fields: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as writing:
        member = tarfile.TarInfo(fields.pop("name", "member"))
        for name, value in fields.items():
            setattr(member, name, value)
        writing.addfile(member, io.BytesIO(b"\0" * member.size))
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        hostile(name="../outside", size=1),
        hostile(name="/tmp/outside", size=1),
        hostile(name="link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        hostile(name="link", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
        hostile(name="link", type=tarfile.SYMTYPE, linkname="link"),
        hostile(name="device", type=tarfile.CHRTYPE),
        b"\x1f\x8b\x08\x00 damaged",
        b"",
    ],
    ids=["upwards", "absolute", "link out", "hard link out", "link to itself", "device", "damaged", "empty"],
)
def test_a_hostile_archive_is_refused_and_nothing_is_written_outside(kitchen, data):
    reason = kitchen.failure(data)

    assert reason.startswith("Failed to extract model data archive for the primary container from URL: ")
    assert not Path("/tmp/outside").exists()


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused(kitchen, monkeypatch):
    monkeypatch.setattr(container_module, "LARGEST_MODEL", 1_000_000)

    assert "it holds more bytes than are allowed" in kitchen.failure(hostile(name="zeros", size=2_000_000))


def test_a_container_may_be_paused_and_started_again(kitchen):
    container = kitchen.start(None)
    first = container.pid
    container.pause()
    assert not container.alive
    with pytest.raises(OSError):
        container.invoke(b"", "text/csv", None, {}, 5.0)
    container.start()
    assert container.pid != first
    assert ask(container, b"", "text/csv")[0] == 204


def test_a_socket_s_path_that_is_too_long_is_refused_by_name(kitchen):
    container = kitchen.container(None)
    container.socket = f"/tmp/{'x' * 100}/socket"

    with pytest.raises(ContainerFailure, match="path of the container's socket is too long"):
        container.start()
