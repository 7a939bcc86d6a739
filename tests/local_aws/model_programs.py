"""Model archives that tests serve: programs of a few lines, so that a container is there in a moment."""

from __future__ import annotations

import io
import tarfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_aws import LocalAWS
from local_aws.hosting import Container, ContainerFailure, ContainerSpec
from local_aws.images import Images
from local_aws.jobs.opt_ml import choose
from local_aws.loopback import Loopback
from local_aws.store import Scope

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
BUCKET = "models"
SCRIPT_MODE = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}

# Answers `<name>:<body>`; a body that begins with "!" is a command.
NAMED = """
    import os, sys, time
    import flask

    def model_fn(model_dir):
        print("loading from", model_dir, flush=True)
        return open(model_dir + "/name").read()

    def transform_fn(model, body, content_type, accept):
        text = body if isinstance(body, str) else body.decode()
        if text.startswith("!exit"):
            os._exit(3)
        if text.startswith("!sleep"):
            time.sleep(float(text.split()[1]))
        if text.startswith("!raise"):
            raise RuntimeError("as was asked")
        if text.startswith("!status"):
            return flask.Response("so be it", status=int(text.split()[1]), mimetype="text/plain")
        if text.startswith("!attributes"):
            given = flask.request.headers["X-Amzn-SageMaker-Custom-Attributes"]
            return flask.Response("", headers={"X-Amzn-SageMaker-Custom-Attributes": given + "!"})
        if text.startswith("!environment"):
            return "\\n".join(f"{name}={value}" for name, value in sorted(os.environ.items())), "text/plain"
        if text.startswith("!fill"):
            return "x" * int(text.split()[1]), "text/plain"
        return f"{model}:{text}", accept
"""


def archive(files: dict[str, str | bytes]) -> bytes:
    """A .tar.gz of files by their path."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as writing:
        for path, content in files.items():
            data = textwrap.dedent(content).encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(data)
            writing.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def named(name: str) -> bytes:
    """The archive of a model that answers with its name."""
    return archive({"name": name.encode(), "code/inference.py": NAMED})


def spec(url: str, **environment: str) -> ContainerSpec:
    return ContainerSpec(IMAGE, url, SCRIPT_MODE | environment)


class Log:
    """What a container printed."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def tail(self) -> list[str]:
        return self.text.splitlines()[-20:]

    def write(self, data: bytes) -> None:
        self.text += data.decode()

    def line(self, text: str) -> None:
        self.text += text + "\n"


class Kitchen:
    """Containers, started one after the other, all ended by `close`; their models lie in a bucket of their own."""

    def __init__(self, aws: LocalAWS, folder: Path, bucket: str) -> None:
        self._folder, self._aws, self._bucket = folder, aws, bucket
        self._loopback = Loopback(aws.endpoint, aws.server.runtime_endpoint)
        self._s3 = aws.client("s3")
        self._s3.create_bucket(Bucket=self._bucket)
        self._opt_ml = choose("auto")
        self.started: list[Container] = []

    def container(self, data: bytes | None, environment: dict[str, str] | None = None) -> Container:
        number = str(len(self.started))
        url = f"s3://{self._bucket}/{number}.tar.gz" if data is not None else None
        if data is not None:
            self._s3.put_object(Bucket=self._bucket, Key=f"{number}.tar.gz", Body=data)
        scope = Scope(self._aws.server.account, self._aws.server.region)
        spec = ContainerSpec(IMAGE, url, environment or {})
        made = Container(spec, scope, self._loopback, Images(), self._folder / number, self._opt_ml, Log())
        self.started.append(made)
        return made

    def start(self, data: bytes | None, environment: dict[str, str] | None = None) -> Container:
        made = self.container(data, environment)
        made.start()
        return made

    def failure(self, data: bytes) -> str:
        with pytest.raises(ContainerFailure) as raised:
            self.start(data)
        return str(raised.value)

    def close(self) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(Container.kill, self.started))
        for made in self.started:
            made.remove()
