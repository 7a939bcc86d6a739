"""An archive of the template's in a container of the image: what transform_fn answers reaches the caller as it is."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import inference
import pytest

from local_aws import LocalAWS
from local_aws.hosting import Container
from tests.local_aws.model_programs import SCRIPT_MODE, Kitchen
from tests.steps.serving_models import make_transform, train_booster, write_archive
from tests.story.story import CHECKOUT

STEPS = CHECKOUT / "{{cookiecutter.project}}" / "steps"
PROGRAM = ("inference", "request_rows", "answers", "media_types", "transform")
ROW = b"42,Ulm,true,2026-11-20T08:30:00Z,A,31/12/2025,\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transform = make_transform()
    return write_archive(tmp_path_factory.mktemp("served") / "model", transform, train_booster(transform))


@pytest.fixture(scope="module")
def container(aws: LocalAWS, folder: Path) -> Iterator[Container]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as writing:
        writing.add(folder, arcname=".")
        for name in PROGRAM:
            writing.add(STEPS / f"{name}.py", arcname=f"code/{name}.py")
    with tempfile.TemporaryDirectory(prefix="kitchen-") as work:
        kitchen = Kitchen(aws, Path(work), "template-models")
        yield kitchen.start(stream.getvalue(), SCRIPT_MODE)
        kitchen.close()


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "application/json; contributions=true"])
def test_the_container_answers_as_transform_fn_does_here(container, folder, accept):
    expected, kind = inference.transform_fn(inference.model_fn(str(folder)), ROW * 3, "text/csv", accept)

    status, headers, body = container.invoke(ROW * 3, "text/csv", accept, {}, 30.0)
    assert (status, headers["content-type"]) == (200, kind)
    assert body.decode() == expected


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "row", "column"),
    [
        (ROW + ROW.replace(b"42", b"old"), "text/csv", "text/csv", 400, 2, "age"),
        (ROW, "image/png", "text/csv", 415, None, None),
        (ROW, "text/csv", "image/png", 406, None, None),
    ],
)
def test_a_request_that_cannot_be_answered_keeps_its_status_and_its_reason(
    container, body, content_type, accept, status, row, column
):
    found, headers, said = container.invoke(body, content_type, accept, {}, 30.0)

    assert (found, headers["content-type"]) == (status, "application/json")
    answer = json.loads(said)
    assert (answer["row"], answer["column"]) == (row, column)
    assert answer["error"]
