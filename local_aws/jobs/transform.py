"""Runs a transform job: containers that are asked for the records of every input object, and the answers as objects.

Developer guide, "Batch transform for inference with Amazon SageMaker AI" and "Custom inference code with batch
transform".
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from local_aws.hosting import ContainerFailure
from local_aws.jobs.host import JobFailure, data_faults, nothing_found, remove_folder
from local_aws.jobs.log import JobLog
from local_aws.jobs.records import BadRecord, Processing, assembled, batches, manifest_objects, split_lines
from local_aws.jobs.runner import Outcome, outcome_of
from local_aws.jobs.staging import CHUNK, S3Location, list_objects, relative_path, s3_location, upload_file

MEGABYTE = 1024 * 1024
DEFAULT_PAYLOAD_MB = 6
MOST_PAYLOAD_MB = 100  # of all requests that are sent at once
WATCH_INTERVAL = 0.05  # seconds
CLIENT_FAULT = "ClientError: See job logs for more information"
MODEL_FAULT = "AlgorithmError: See job logs for more information"


class ModelContainer(Protocol):
    """What a container must be able to do (hosting.Container)."""

    @property
    def pid(self) -> int | None: ...

    def start(self) -> None: ...

    def invoke(
        self, body: bytes, content_type: str | None, accept: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, dict[str, str], bytes]: ...

    def get(self, path: str, timeout: float) -> tuple[int, dict[str, str], bytes]: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def remove(self) -> None: ...


class InputObject(NamedTuple):
    bucket: str
    key: str
    path: str  # below the input's prefix


@dataclass(frozen=True)
class Settings:
    """How an instance is asked; from the request, else from the container, else AWS's defaults.

    Args:
        concurrency: how many requests are sent at once.
        payload_mb: how large a request may be; 0 for no limit.
        single: whether a request holds one record.
    """

    concurrency: int
    payload_mb: int
    single: bool

    def __str__(self) -> str:
        strategy = "SINGLE_RECORD" if self.single else "MULTI_RECORD"
        return f"MaxConcurrentTransforms={self.concurrency}, MaxPayloadInMB={self.payload_mb}, BatchStrategy={strategy}"


@dataclass(frozen=True)
class TransformPlan:
    """What a transform job is to do.

    Args:
        source: a prefix, or a manifest.
        manifest: whether it is one.
        content_type, accept: of the requests.
        lines: whether records are lines (SplitType Line), else whole objects.
        assemble_lines: whether a line feed is written after each answer (AssembleWith Line).
        processing: DataProcessing, when there is any.
        output: the prefix of what is written.
        kms_key: that it is encrypted with.
        instances: how many containers at most; never more than objects.
        concurrency, payload_mb, strategy: of the request, None where it says nothing.
        timeout: of one invocation, in seconds.
        retries: of an invocation that was not answered, or with a server's error.
    """

    source: S3Location
    manifest: bool
    content_type: str | None
    accept: str | None
    lines: bool
    assemble_lines: bool
    processing: Processing | None
    output: S3Location
    kms_key: str | None
    instances: int
    concurrency: int | None
    payload_mb: int | None
    strategy: str | None
    timeout: float
    retries: int


class _Refused(Exception):
    """The container did not answer a request well; `reason` is what the job fails with."""

    def __init__(self, reason: str, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.reason, self.lines = reason, lines


class TransformRun:
    """One transform job under way; used as `runner.Run` is.

    Args:
        plan: what it is to do.
        folder: for its files and those of its containers; made here, removed at the end.
        s3: a client for its data.
        service_s3: a client of the service's own, which looks whether the output's bucket is there.
        make_container: of an instance, given its number, its folder and its log.
        logs: of the containers, by instance.
        data_logs: of what AWS says about the data, by instance.
        on_phase: is told "Downloading" and "Training" (records are sent).
    """

    def __init__(
        self,
        plan: TransformPlan,
        folder: Path,
        s3: Any,
        service_s3: Any,
        make_container: Callable[[int, Path, JobLog], ModelContainer],
        logs: list[JobLog],
        data_logs: list[JobLog],
        on_phase: Callable[[str], None],
    ) -> None:
        self._plan, self._folder, self._s3, self._service_s3 = plan, folder, s3, service_s3
        self._make_container, self._logs, self._data_logs = make_container, logs, data_logs
        self._on_phase = on_phase
        self._stop_wanted = threading.Event()
        self._killed = False
        self._containers: list[ModelContainer] = []
        self._lock = threading.Lock()
        self._faults: list[str] = []  # what the job fails with, of each object that could not be transformed

    def stop(self) -> None:
        """Stop the job: send nothing more and end the containers. Returns at once."""
        self._stop_wanted.set()

    def kill(self) -> None:
        """The server is going down."""
        self._killed = True
        self._stop_wanted.set()

    @property
    def pids(self) -> list[int]:
        """The processes of its containers, while they run."""
        with self._lock:
            return [pid for container in self._containers if (pid := container.pid) is not None]

    def run(self) -> Outcome:
        """Do all of it. What goes wrong is the outcome, never an exception."""
        try:
            return outcome_of(self._run, lambda: self._killed, self._folder)
        finally:
            remove_folder(self._folder)

    def _run(self) -> Outcome:
        self._on_phase("Downloading")
        self._folder.mkdir(parents=True)
        with data_faults("input", self._plan.source):
            objects = self._list()
        if not objects:
            raise JobFailure(f"ClientError: {nothing_found(self._plan.source)}")
        with data_faults("output", self._plan.output, direction="upload"):
            self._service_s3.list_objects_v2(Bucket=self._plan.output.bucket, MaxKeys=1)
        count = min(self._plan.instances, len(objects))
        with ThreadPoolExecutor(count, thread_name_prefix="transform") as threads:
            instances = [threads.submit(self._instance, number, objects[number::count]) for number in range(count)]
            self._watch(instances)
        if self._stop_wanted.is_set():  # what the instances say then is that their containers are gone
            return Outcome("Stopped")
        for instance in instances:
            instance.result()
        if self._faults:
            return Outcome("Failed", CLIENT_FAULT if CLIENT_FAULT in self._faults else self._faults[0])
        return Outcome("Completed")

    def _watch(self, instances: list[Future[None]]) -> None:
        """Wait for the instances; when the job is to stop, or one of them failed, end all containers."""
        while wait(instances, timeout=WATCH_INTERVAL).not_done:
            failed = any(each.done() and each.exception() for each in instances)
            if self._stop_wanted.is_set() or failed:
                with self._lock:
                    containers = list(self._containers)
                for container in containers:
                    container.kill() if self._killed else container.stop()

    def _list(self) -> list[InputObject]:
        source = self._plan.source
        if self._plan.manifest:
            with contextlib.closing(self._s3.get_object(Bucket=source.bucket, Key=source.key)["Body"]) as body:
                text = body.read()
            try:
                named = manifest_objects(text)
                prefix = s3_location(named.prefix)
            except ValueError as error:
                raise JobFailure(f"ClientError: manifest {source}: {error}.") from error
            return [InputObject(prefix.bucket, prefix.key + path, path.lstrip("/")) for path in named.paths]
        objects = list_objects(self._s3, source)
        return [InputObject(source.bucket, each.key, relative_path(source.key, each.key)) for each in objects]

    def _instance(self, number: int, objects: list[InputObject]) -> None:
        """One instance: its container from start to end, and its share of the objects."""
        container = self._make_container(number, self._folder / f"c{number}", self._logs[number])
        with self._lock:
            self._containers.append(container)
        try:
            if self._stop_wanted.is_set():
                return
            try:
                container.start()
            except ContainerFailure as failure:
                raise JobFailure(f"ClientError: {failure}") from failure
            settings = settings_of(self._plan, _parameters(container, self._plan.timeout))
            self._say(number, str(settings))
            self._on_phase("Training")
            with (
                ThreadPoolExecutor(settings.concurrency, thread_name_prefix="invoke") as invoking,
                ThreadPoolExecutor(settings.concurrency, thread_name_prefix="transform-object") as threads,
            ):
                transforms = [
                    threads.submit(self._transform, number, index, each, container, settings, invoking)
                    for index, each in enumerate(objects)
                ]
            for transform in transforms:
                transform.result()
        finally:
            container.stop()
            container.remove()

    def _transform(
        self,
        number: int,
        index: int,
        source: InputObject,
        container: ModelContainer,
        settings: Settings,
        invoking: ThreadPoolExecutor,
    ) -> None:
        """Transform one object. Others are not kept from it by its faults, as on AWS; it then has no output."""
        if self._stop_wanted.is_set():
            return
        fetched, written = self._folder / f"{number}-{index}.in", self._folder / f"{number}-{index}.out"
        try:
            with data_faults("input", S3Location(source.bucket, source.key)):
                self._download(source, fetched)
            with fetched.open("rb") as reading, written.open("wb") as writing:
                answers = self._answers(reading, container, settings, invoking)
                writing.writelines(assembled(answers, self._plan.assemble_lines))
            output = self._plan.output / f"{source.path}.out"
            with data_faults("output", output, direction="upload"):
                upload_file(self._s3, written, output, self._plan.kms_key)
        except (JobFailure, BadRecord, _Refused) as fault:
            self._note(number, source, fault)
        finally:
            fetched.unlink(missing_ok=True)
            written.unlink(missing_ok=True)

    def _note(self, number: int, source: InputObject, fault: Exception) -> None:
        if self._stop_wanted.is_set():
            return
        reason, lines = CLIENT_FAULT, [str(fault)]
        if isinstance(fault, _Refused):
            reason, lines = fault.reason, fault.lines
        for line in lines:
            self._say(number, f"{source.bucket}/{source.key}: {line}")
        with self._lock:
            self._faults.append(reason)

    def _download(self, source: InputObject, target: Path) -> None:
        answer = self._s3.get_object(Bucket=source.bucket, Key=source.key)
        with contextlib.closing(answer["Body"]) as body, target.open("wb") as stream:
            for chunk in body.iter_chunks(CHUNK):
                stream.write(chunk)

    def _answers(
        self, stream: Any, container: ModelContainer, settings: Settings, invoking: ThreadPoolExecutor
    ) -> Iterator[bytes]:
        """What is written for each request that an object's records make, in their order."""
        plan = self._plan
        records: Iterable[bytes] = split_lines(stream) if plan.lines else [stream.read()]
        largest = settings.payload_mb * MEGABYTE or None
        under_way: deque[Future[bytes]] = deque()
        try:
            for batch in batches(records, largest, settings.single or not plan.lines):
                if len(under_way) >= settings.concurrency:  # answers wait for their turn in memory
                    yield under_way.popleft().result()
                under_way.append(invoking.submit(self._ask, container, batch))
            while under_way:
                yield under_way.popleft().result()
        finally:
            wait(under_way)

    def _ask(self, container: ModelContainer, records: list[bytes]) -> bytes:
        """The answer to one request, as it is to be written."""
        processing = self._plan.processing
        body = processing.request(records) if processing else b"".join(records)
        answer = self._invoke(container, body)
        return processing.answer(records, answer) if processing else answer

    def _invoke(self, container: ModelContainer, body: bytes) -> bytes:
        plan, left = self._plan, self._plan.retries
        while True:
            try:
                status, _, answer = container.invoke(body, plan.content_type, plan.accept, {}, plan.timeout)
            except OSError as error:
                status, answer, said = 0, b"", [f"Unable to get response from algorithm ({error!r})"]
            else:
                if status < HTTPStatus.MULTIPLE_CHOICES:
                    return answer
                client = status < HTTPStatus.INTERNAL_SERVER_ERROR
                text = answer.decode("utf-8", "replace").splitlines()
                said = [f"{'ClientError' if client else 'AlgorithmError'}: {status}", "", "Message:", *text]
            if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Refused(CLIENT_FAULT, said)
            if left == 0 or self._stop_wanted.is_set():
                raise _Refused(MODEL_FAULT, said)
            left -= 1

    def _say(self, number: int, text: str) -> None:
        """A line in an instance's data log, in AWS's form."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        self._data_logs[number].line(f"{time}:[sagemaker logs]: {text}")


def settings_of(plan: TransformPlan, parameters: dict[str, Any]) -> Settings:
    """How an instance is asked.

    Args:
        parameters: what the container answers to GET /execution-parameters; what is none of them counts as absent.
    """
    concurrency = plan.concurrency or _whole(parameters, "MaxConcurrentTransforms", 1, least=1)
    payload = plan.payload_mb
    if payload is None:
        payload = _whole(parameters, "MaxPayloadInMB", DEFAULT_PAYLOAD_MB, least=0)
    strategy = plan.strategy or str(parameters.get("BatchStrategy", "MULTI_RECORD"))
    single = strategy.replace("_", "").lower() == "singlerecord"
    # More at once than the machine has cores would only make each slower.
    return Settings(min(concurrency, os.cpu_count() or 1), payload, single)


def _parameters(container: ModelContainer, timeout: float) -> dict[str, Any]:
    """The container's execution parameters; it need not have any."""
    try:
        status, _, body = container.get("/execution-parameters", timeout)
        found = json.loads(body) if status == HTTPStatus.OK else None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(parameters: dict[str, Any], name: str, default: int, least: int) -> int:
    value = parameters.get(name, default)
    return value if type(value) is int and value >= least else default
