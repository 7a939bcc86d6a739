"""InvokeEndpoint through the whole path, against a bare uvicorn application and `mlflow models serve`.

All three serve the same booster (30 columns, 50 trees) with one worker process, loaded by the same tool (load.py) with
eight keep-alive connections, in turn. The endpoint is one that CreateEndpoint made, with the template's own inference
program.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from local_aws import LocalAWS
from tests.bench.account import prepare
from tests.bench.figures import Figure
from tests.bench.load import Load, http_request, put_load
from tests.story.story import CHECKOUT

BUCKET, ROWS, ROUNDS, SECONDS = "bench", 1_000, 5, 2.0
STEPS = CHECKOUT / "{{cookiecutter.project}}" / "steps"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
PROGRAM = ("inference", "request_rows", "answers", "media_types", "transform")
COLUMNS = [f"c{number}" for number in range(30)]
BENCH_PYTHON = CHECKOUT / ".envs" / "bench" / "bin" / "python"
START_TIMEOUT = 120.0  # seconds


def endpoint() -> list[Figure]:
    rows = np.random.default_rng(1).normal(0, 30, (ROWS, len(COLUMNS)))
    lines = [",".join(f"{value:.4f}" for value in row) + "\n" for row in rows]
    one, many = lines[0].encode(), "".join(lines).encode()
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as temporary, contextlib.ExitStack() as cleanup:
        folder = Path(temporary)
        archive, model = _write_model(folder)
        with LocalAWS(clock_speed=100_000) as aws:  # AWS's states take no time
            role = _prepare(aws, archive)
            first = [_first_answer(aws, role, f"bench-{number}", one) for number in range(5)]
            memory = _memory(aws)
        aws = cleanup.enter_context(LocalAWS(clock_speed=60))  # metrics are published each second
        _first_answer(aws, _prepare(aws, archive), "bench-0", one)
        bare = cleanup.enter_context(_bare(model))
        mlflow, mlflow_start = cleanup.enter_context(_mlflow(model, folder))
        ours = aws.server.runtime_port
        header = ",".join(COLUMNS).encode() + b"\n"
        found: dict[str, list[Load]] = {}
        for _ in range(ROUNDS):
            for name, port, request in (
                ("ours", ours, _invocation(one)),
                ("bare", bare, http_request("/", {"Host": "bench"}, one)),
                ("mlflow", mlflow, http_request("/invocations", _mlflow_headers(), header + one)),
                ("ours, many", ours, _invocation(many)),
                ("bare, many", bare, http_request("/", {"Host": "bench"}, many)),
            ):
                load = put_load(port, request, seconds=SECONDS)
                if load.errors:
                    raise RuntimeError(f"{name}: {load.errors} requests failed")
                found.setdefault(name, []).append(load)
    return [*_figures(found), *_other_figures(first, mlflow_start, memory)]


def _figures(found: dict[str, list[Load]]) -> list[Figure]:
    def ratios(name: str, other: str) -> list[float]:
        return [a.rate / b.rate for a, b in zip(found[name], found[other], strict=True)]

    def rates(name: str) -> list[float]:
        return [load.rate for load in found[name]]

    def slow(name: str) -> list[float]:
        return [load.p99 for load in found[name]]

    p99 = [a - b for a, b in zip(slow("ours"), slow("mlflow"), strict=True)]
    bare_share, bare_rows = "InvokeEndpoint against the bare application, one row", "the same, 1,000 rows"
    return [
        Figure(bare_share, ratios("ours", "bare"), "x", at_least=0.35),
        Figure(bare_rows, ratios("ours, many", "bare, many"), "x", at_least=0.5),
        Figure("InvokeEndpoint against mlflow models serve, one row", ratios("ours", "mlflow"), "x", at_least=10),
        Figure("its p99 less mlflow's", p99, "ms", at_most=0),
        Figure("InvokeEndpoint, 8 clients, one row", rates("ours"), "requests/s"),
        Figure("the bare application", rates("bare"), "requests/s"),
        Figure("mlflow models serve", rates("mlflow"), "requests/s"),
        Figure("InvokeEndpoint's p99", slow("ours"), "ms"),
        Figure("mlflow's p99", slow("mlflow"), "ms"),
        Figure("InvokeEndpoint, 8 clients, 1,000 rows", [ROWS * rate for rate in rates("ours, many")], "rows/s"),
        Figure("the bare application", [ROWS * rate for rate in rates("bare, many")], "rows/s"),
    ]


def _other_figures(first: list[float], mlflow_start: float, memory: float) -> list[Figure]:
    return [
        Figure("from CreateEndpoint to the first answer", first, "s", at_most=3),
        Figure("from mlflow's command to its first answer", [mlflow_start], "s"),
        Figure("five endpoints and the data plane (PSS)", [memory], "MiB", at_most=1280),
    ]


def _write_model(folder: Path) -> tuple[Path, Path]:
    """The archive for the endpoint, and the file of the same booster for the others."""
    sys.path.insert(0, str(STEPS))
    from transform import Column

    from tests.steps.serving_models import make_transform, train_booster, write_archive

    transform = make_transform(columns=[Column(name, "number") for name in COLUMNS])
    model = write_archive(folder / "model", transform, train_booster(transform, rounds=50))
    for name in PROGRAM:
        shutil.copy(STEPS / f"{name}.py", model / "code")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as writing:
        writing.add(model, arcname=".")
    return folder / "model.tar.gz", model / "xgboost-model"


def _prepare(aws: LocalAWS, archive: Path) -> str:
    """The model's role, with the archive in S3."""
    role = prepare(aws, BUCKET)
    aws.client("s3").upload_file(str(archive), BUCKET, "model.tar.gz")
    return role


def _first_answer(aws: LocalAWS, role: str, name: str, body: bytes) -> float:
    """Seconds from CreateEndpoint to the first answer."""
    sagemaker, runtime = aws.client("sagemaker"), aws.client("sagemaker-runtime")
    environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz", "Environment": environment}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    started = time.monotonic()
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    while True:
        try:
            runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="text/csv")
        except runtime.exceptions.ValidationError:  # it is not in service yet
            status = sagemaker.describe_endpoint(EndpointName=name)
            if status["EndpointStatus"] == "Failed":
                raise RuntimeError(status["FailureReason"]) from None
            time.sleep(0.01)
        else:
            return time.monotonic() - started


def _memory(aws: LocalAWS) -> float:
    """MiB of everything that the server has started: containers, what watches them, the data plane."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    ours = {aws.server.pid}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    total = 0
    for pid in ours - {aws.server.pid}:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert found is not None
        total += int(found[1])
    return total / 1024


def _invocation(body: bytes) -> bytes:
    scope = "20261121/us-east-1/sagemaker/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential=123456789012/{scope}, SignedHeaders=host, Signature=0"
    headers = {"Host": "bench", "Content-Type": "text/csv", "Accept": "text/csv", "Authorization": signed}
    return http_request("/endpoints/bench-0/invocations", headers, body)


def _mlflow_headers() -> dict[str, str]:
    return {"Host": "127.0.0.1", "Content-Type": "text/csv"}


@contextlib.contextmanager
def _bare(model: Path) -> Iterator[int]:
    port = _free_port()
    command = [str(BENCH_PYTHON), "-m", "uvicorn", "bare_app:app", f"--port={port}", "--no-access-log"]
    command += ["--log-level=warning", "--lifespan=off", f"--app-dir={Path(__file__).parent}"]
    environment = dict(os.environ) | {"MODEL": str(model), "OMP_WAIT_POLICY": "PASSIVE"}
    with _running(command, environment):
        row = ",".join("0" for _ in COLUMNS).encode()
        _wait_for(f"http://127.0.0.1:{port}/", row)
        yield port


@contextlib.contextmanager
def _mlflow(model: Path, folder: Path) -> Iterator[tuple[int, float]]:
    """Its port, and the seconds from its start to its first answer."""
    import mlflow.xgboost
    import pandas as pd
    import xgboost

    booster = xgboost.Booster(model_file=str(model))
    rows = pd.DataFrame(np.zeros((2, len(COLUMNS))), columns=COLUMNS)
    signature = mlflow.models.infer_signature(rows, np.zeros(2, dtype=np.float32))
    mlflow.xgboost.save_model(booster, str(folder / "mlflow"), signature=signature, pip_requirements=["xgboost"])
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder / "mlflow")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = dict(os.environ) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["MLFLOW_TRACKING_URI"] = f"file://{folder}/mlruns"
    started = time.monotonic()
    with _running(command, environment):
        body = (",".join(COLUMNS) + "\n" + ",".join("0" for _ in COLUMNS)).encode()
        _wait_for(f"http://127.0.0.1:{port}/invocations", body)
        yield port, time.monotonic() - started


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A server, ended with everything that it started."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _wait_for(url: str, body: bytes) -> None:
    """Until the server answers; raises what it answers should that be an error."""
    deadline = time.monotonic() + START_TIMEOUT
    request = urllib.request.Request(url, body, {"Content-Type": "text/csv"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
            return
        except urllib.error.HTTPError:
            raise
        except OSError:  # nobody listens yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
