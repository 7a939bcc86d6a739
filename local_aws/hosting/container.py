"""One model container: a process in the image's environment that answers /ping and /invocations on a Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import ServiceError
from local_aws.images import Image, Images
from local_aws.jobs.host import SYSTEM_PATH, missing_requirements, remove_folder
from local_aws.jobs.host_names import hosts_file
from local_aws.jobs.opt_ml import OptMl
from local_aws.jobs.process import Ending, JobProcess, Namespace
from local_aws.jobs.staging import CHUNK, S3Location, s3_location, unpack
from local_aws.loopback import Loopback
from local_aws.permissions.containers import ContainerDenied, ask_for_container
from local_aws.store import Scope

ML = "/opt/ml"
MODEL_FOLDER = f"{ML}/model"
CODE_FOLDER = f"{ML}/code"
SERVER = Path(__file__).parent / "in_image" / "serve.py"
# Real seconds: they limit work that this machine does, which the clock does not make faster. AWS waits 3 minutes for a
# serverless container; a real-time variant's ContainerStartupHealthCheckTimeoutInSeconds is 60 to 3600.
HEALTH_CHECK_TIMEOUT = 180.0
# Of an unpacked archive. AWS's limit is the instance's volume; a small file can claim to hold terabytes.
LARGEST_MODEL = 20 * 1024**3  # bytes
LONGEST_SOCKET_PATH = 100  # bytes; sun_path has 108 on Linux, 104 on macOS
FOREVER = 10.0**9  # seconds
UTILIZATION = "/aws/sagemaker/Endpoints"  # the namespace of what endpoints' containers use


@dataclass(frozen=True)
class ContainerSpec:
    """What CreateModel says of a container.

    Args:
        image: its registry address.
        model_data_url: s3://.../model.tar.gz, or None.
        environment: as in CreateModel, a model package's own variables merged in.
        network_isolation: the container gets no credentials and, where it has a namespace of its own, no network.
        role: ARN of the model's execution role, as which everything is done for the container and by it.
        vpc: the model's VpcConfig.
    """

    image: str
    model_data_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    network_isolation: bool = False
    role: str | None = None
    vpc: dict[str, Any] | None = None


class ContainerFailure(Exception):
    """The container does not run; the text is a FailureReason in AWS's manner, and what the log said last."""


class Log(Protocol):
    """Where a container's output goes (jobs.log.JobLog)."""

    @property
    def tail(self) -> object: ...

    def write(self, data: bytes) -> None: ...

    def line(self, text: str) -> None: ...


class Container:
    """One process.

    Args:
        spec: what it holds.
        scope: whose it is: S3 is read, and the program's AWS clients call, in this account and Region.
        loopback: clients for S3.
        images: the environments that stand for images.
        folder: its own; made here, removed by `remove`.
        opt_ml: how it gets /opt/ml.
        log: where its output goes.
        name: what messages call it.
        memory_mb: how much memory its program may have, of a serverless endpoint's.
        startup_seconds: how long its process has until GET /ping is answered.
        metrics: the namespace of what it uses.
        on_exit: is called, from a thread, when the process has ended without `stop`.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        scope: Scope,
        loopback: Loopback,
        images: Images,
        folder: Path,
        opt_ml: OptMl,
        log: Log,
        *,
        name: str = "The primary container",
        memory_mb: int | None = None,
        startup_seconds: float = HEALTH_CHECK_TIMEOUT,
        metrics: str = UTILIZATION,
        on_exit: Callable[[Ending], None] = lambda ending: None,
    ) -> None:
        self._spec, self._scope, self._loopback, self._images = spec, scope, loopback, images
        self._folder, self._opt_ml, self._log, self._name = folder, opt_ml, log, name
        self._memory_mb, self._startup_seconds, self._on_exit = memory_mb, startup_seconds, on_exit
        self._metrics = metrics
        self._ml = folder / "ml"
        self.socket = str(folder / "socket")
        self._lock = threading.Lock()
        self._process: JobProcess | None = None
        self._thread: threading.Thread | None = None
        self._ending: Ending | None = None
        self._ended = threading.Event()
        self._stopped = False  # for good
        self._end_expected = False
        self._staged = False

    def start(self) -> None:
        """Fetch and unpack the model, start the process, wait until GET /ping is answered with 200.

        May be called again after the process has ended: the model is then there already.

        Raises:
            ContainerFailure: the image is unknown, the model's role may not pull it or fetch the model data, which may
                also not be there, or /ping is not answered well.
        """
        try:
            image = self._images.find(self._spec.image)
        except ServiceError as error:
            raise ContainerFailure(error.message) from error
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            raise ContainerFailure(
                f"The path of the container's socket is too long for this system: {self.socket}."
                " Set TMPDIR to a shorter path before starting local_aws."
            )
        if not self._staged:
            spec = self._spec
            try:
                ask_for_container(self._loopback, self._scope, spec.role, spec.image, self._metrics, spec.vpc)
            except ContainerDenied as denied:
                raise ContainerFailure(str(denied)) from denied
            self._stage(image)
            self._staged = True
        for left in (self.socket, self._pid_file):  # by the process before
            Path(left).unlink(missing_ok=True)
        self._start_process(image)
        self._wait_until_healthy()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and not self._ended.is_set()

    @property
    def pid(self) -> int | None:
        """The process that answers, while it runs."""
        try:
            return int(Path(self._pid_file).read_text()) if self.alive else None
        except (OSError, ValueError):  # not written yet
            return None

    def invoke(
        self, body: bytes, content_type: str | None, accept: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, dict[str, str], bytes]:
        """POST /invocations: the answer's status, headers (names in lower case) and body.

        Args:
            headers: further ones, such as X-Amzn-SageMaker-Custom-Attributes.
            timeout: in seconds.

        Raises:
            OSError: no answer, in time or at all (TimeoutError, ConnectionError).
        """
        own = {"Content-Type": content_type, "Accept": accept}
        given = {name: value for name, value in own.items() if value is not None}
        return self._request("POST", "/invocations", body, given | headers, timeout)

    def get(self, path: str, timeout: float) -> tuple[int, dict[str, str], bytes]:
        """GET a path such as /execution-parameters; as `invoke`."""
        return self._request("GET", path, None, {}, timeout)

    def pause(self) -> None:
        """End the process (SIGTERM, SIGKILL a little later); `start` may start another one."""
        self._end(JobProcess.stop)

    def stop(self) -> None:
        """End the process for good: also one that is about to start."""
        self._stopped = True
        self._end(JobProcess.stop)

    def kill(self) -> None:
        """As `stop`, at once."""
        self._stopped = True
        self._end(JobProcess.kill)

    def remove(self) -> None:
        """Remove its folder; call it after `stop`."""
        remove_folder(self._folder)

    def _end(self, way: Callable[[JobProcess], None]) -> None:
        with self._lock:
            self._end_expected = True
            process, thread = self._process, self._thread
        if process is not None:
            way(process)
        if thread is not None:
            thread.join()

    @property
    def _pid_file(self) -> str:
        return self.socket + ".pid"

    def _stage(self, image: Image) -> None:
        remove_folder(self._folder)
        for name in ("home", "tmp", "work", "ml/model"):
            (self._folder / name).mkdir(parents=True)
        if self._spec.model_data_url:
            self._fetch_archive("model data", self._spec.model_data_url, self._ml / "model")
        submitted = self._spec.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        if submitted.startswith("s3://"):
            self._fetch_archive("SAGEMAKER_SUBMIT_DIRECTORY", submitted, self._ml / "code")
        for requirements in (self._ml / "model" / "code", self._ml / "code"):
            self._check_requirements(requirements / "requirements.txt", image)
        self._opt_ml.code(self._ml, self._ml)
        (self._folder / "hosts").write_text(hosts_file({}))

    def _fetch_archive(self, what: str, url: str, folder: Path) -> None:
        archive = self._folder / "archive.tar.gz"
        try:
            self._download(s3_location(url), archive)
        except (ClientError, BotoCoreError, ValueError) as error:
            reason = str(error)
            if isinstance(error, ClientError):
                fault = error.response["Error"]
                reason = f"{fault.get('Code')}: {fault.get('Message')}"
            raise ContainerFailure(
                f'Failed to download {what} for {self._name[0].lower()}{self._name[1:]} from URL: "{url}".'
                " Please ensure that there is an object located at the URL and that the role passed to CreateModel has"
                f" permissions to download the object. ({reason})"
            ) from error
        try:
            unpack(archive, folder, LARGEST_MODEL)
        except (tarfile.TarError, OSError, ValueError) as error:  # the last two: names that no file can have
            raise ContainerFailure(
                f'Failed to extract {what} archive for {self._name[0].lower()}{self._name[1:]} from URL: "{url}".'
                f" Please ensure that the object located at the URL is a valid tar.gz archive. ({error})"
            ) from error
        finally:
            archive.unlink(missing_ok=True)

    def _download(self, source: S3Location, target: Path) -> None:
        s3 = self._loopback.client("s3", self._scope, self._spec.role)
        answer = s3.get_object(Bucket=source.bucket, Key=source.key)
        with contextlib.closing(answer["Body"]) as body, target.open("wb") as stream:
            for chunk in body.iter_chunks(CHUNK):
                stream.write(chunk)

    def _check_requirements(self, path: Path, image: Image) -> None:
        if path.is_file() and (missing := missing_requirements(path.read_text(), image.packages)):
            raise ContainerFailure(
                f"requirements.txt of the model asks for {'; '.join(missing)}. local_aws installs nothing into a"
                f" container. Drop these lines, or add them to local_aws/images/{image.name}/requirements.txt and make"
                " the environment again."
            )

    def _start_process(self, image: Image) -> None:
        limit = ["--memory-mb", str(self._memory_mb)] if self._memory_mb else []
        argv = ["python3", "-B", str(SERVER), "--socket", self.socket, "--model", self._path(MODEL_FOLDER), *limit]
        process = JobProcess()
        self._ended.clear()
        self._ending = None
        with self._lock:
            self._end_expected = False
            if self._stopped:
                process.close()
                raise ContainerFailure(f"{self._name} was stopped before it had started.")
            self._process = process
            self._thread = threading.Thread(
                target=self._run, args=(process, argv, self._environment(image)), name="container", daemon=True
            )
            self._thread.start()

    def _run(self, process: JobProcess, argv: list[str], environment: dict[str, str]) -> None:
        hosts, network = self._folder / "hosts", not self._spec.network_isolation
        namespace = Namespace(self._ml, hosts, network) if self._opt_ml.namespace else None
        try:
            self._ending = process.run(
                argv, environment, self._folder / "work", namespace, FOREVER, on_output=self._log.write
            )
        finally:
            self._ended.set()
        if not self._end_expected:
            self._on_exit(self._ending)

    def _environment(self, image: Image) -> dict[str, str]:
        """All that the program sees: what the image sets, what AWS sets, what the model's author set."""
        own = {
            "PATH": f"{image.programs}:{SYSTEM_PATH}",
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            # The containers of all endpoints share this machine's cores; threads that spin while they wait take them.
            "OMP_WAIT_POLICY": "PASSIVE",
            "OPENBLAS_NUM_THREADS": "1",
            "SM_MODEL_DIR": self._path(MODEL_FOLDER),
            "SAGEMAKER_BIND_TO_PORT": "8080",
            "SAGEMAKER_INTERNAL_IMAGE_URI": self._spec.image,
        }
        wanted = {name: self._opt_ml.text(value, self._ml) for name, value in self._spec.environment.items()}
        if wanted.get("SAGEMAKER_SUBMIT_DIRECTORY", "").startswith("s3://"):
            wanted["SAGEMAKER_SUBMIT_DIRECTORY"] = self._path(CODE_FOLDER)
        clients = {} if self._spec.network_isolation else self._loopback.environment(self._scope, self._spec.role)
        return own | clients | wanted

    def _path(self, path: str) -> str:
        """A path below /opt/ml as the program sees it."""
        return path if self._opt_ml.namespace else self._opt_ml.path(path, self._ml)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + self._startup_seconds
        fault = f"no answer within {self._startup_seconds:g} s"
        while time.monotonic() < deadline:
            if self._ended.wait(0.01):
                raise self._not_healthy(self._how_it_ended())
            if not Path(self.socket).exists():
                continue
            try:
                status, _, _ = self.get("/ping", deadline - time.monotonic())
            except (OSError, http.client.HTTPException):  # the process has ended, which is seen next, or time is over
                continue
            if status == http.HTTPStatus.OK:
                return
            fault = f"GET /ping was answered with {status}"
            break
        self._end(JobProcess.kill)
        raise self._not_healthy(fault)

    def _not_healthy(self, fault: str) -> ContainerFailure:
        said = [line for line in list(self._log.tail)[-5:] if not line.startswith("[local_aws]")]  # type: ignore[call-overload]
        last = f" Its last lines: {' | '.join(said)}" if said else ""
        return ContainerFailure(
            f"{self._name} did not pass the ping health check. Please check CloudWatch logs for this endpoint."
            f" ({fault}.{last})"
        )

    def _how_it_ended(self) -> str:
        ending = self._ending
        if ending is None:
            return "its process could not be watched"
        if ending.error:
            return ending.error
        if ending.signal is not None:
            return f"its process was ended by signal {ending.signal}"
        return f"its process ended with exit code {ending.exit_code}"

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(_UnixConnection(self.socket, max(timeout, 0.001))) as connection:
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except http.client.HTTPException as error:
                raise ConnectionError(f"{method} {path} was not answered in HTTP: {error!r}") from error
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
