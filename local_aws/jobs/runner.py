"""Runs a plan: fetch, run, bring away, and say how it ended."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import logging
import os
import shutil
import stat
import tarfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from local_aws.images import Image
from local_aws.jobs.contract import CODE_FOLDER
from local_aws.jobs.log import JobLog
from local_aws.jobs.opt_ml import OptMl
from local_aws.jobs.plan import WORKING_FOLDER, Input, Output, Plan
from local_aws.jobs.process import Ending, JobProcess
from local_aws.jobs.staging import (
    S3Location,
    S3Object,
    Transfers,
    finish,
    list_objects,
    pack,
    s3_location,
    unpack,
    upload_file,
)

LONGEST_REASON = 1024  # characters of FailureReason and ExitMessage
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DISK_FULL = "No space left on device"

logger = logging.getLogger(__name__)


class JobFailure(Exception):
    """The job has failed; the text is its FailureReason."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: "Completed", "Failed" or "Stopped".
        reason: FailureReason, of a failed job.
        out_of_time: it was stopped because it reached MaxRuntimeInSeconds.
        message: what the program left in /opt/ml/output/message.
    """

    status: str
    reason: str | None = None
    out_of_time: bool = False
    message: str | None = None


class Run:
    """One job under way.

    Args:
        plan, image: what runs, and in which environment.
        opt_ml: how it gets /opt/ml.
        work: where its folder is made.
        s3: a client for the job's data.
        transfers: the threads for it.
        log: where its output goes.
        environment: variables that point AWS clients at this server.
        on_phase: is told "Downloading", "Training" (the program runs) and "Uploading".
    """

    def __init__(
        self,
        plan: Plan,
        image: Image,
        opt_ml: OptMl,
        work: Path,
        s3: Any,
        transfers: Transfers,
        log: JobLog,
        environment: dict[str, str],
        on_phase: Callable[[str], None],
    ) -> None:
        self._plan, self._image, self._opt_ml, self._log = plan, image, opt_ml, log
        self._s3, self._transfers, self._environment, self._on_phase = s3, transfers, environment, on_phase
        self._folder = work / uuid.uuid4().hex[:12]
        self._ml = self._folder / "ml"
        self._lock = threading.Lock()
        self._process: JobProcess | None = None
        self._stop_wanted = threading.Event()
        self._killed = False

    def stop(self) -> None:
        """Stop the job: SIGTERM to its program, SIGKILL a little later. Safe from any thread, at any time."""
        with self._lock:
            self._stop_wanted.set()
            if self._process is not None:
                self._process.stop()

    def kill(self) -> None:
        """End the job at once: the server is going down."""
        with self._lock:
            self._killed = True
            self._stop_wanted.set()
            if self._process is not None:
                self._process.kill()

    def run(self) -> Outcome:
        """Do all of it. What goes wrong is the outcome, never an exception."""
        try:
            return self._run()
        except JobFailure as failure:
            if self._killed:  # S3 answers no more: that is not the job's fault, and no news
                return Outcome("Stopped")
            return Outcome("Failed", _shortened(str(failure)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                return self._unforeseen()
            return Outcome("Failed", _shortened(_disk_full_reason(self._folder)))
        except Exception:  # noqa: BLE001 (a job must end, whatever happens; the reason is in the log)
            return self._unforeseen()
        finally:
            if self._process is not None:
                self._process.close()
            if not os.environ.get("LOCAL_AWS_KEEP_JOBS"):
                remove_folder(self._folder)

    def _unforeseen(self) -> Outcome:
        return Outcome("Stopped") if self._killed else internal_failure()

    def _run(self) -> Outcome:
        self._folder.mkdir(parents=True)
        process = JobProcess()
        with self._lock:
            self._process = process
        how = "folder kept" if os.environ.get("LOCAL_AWS_KEEP_JOBS") else "folder removed at the end"
        self._log.line(f"[local_aws] image {self._image.name}; {self._opt_ml.why}; {self._folder} ({how})")
        self._on_phase("Downloading")
        self._stage()
        # A stop between this look and the program's start finds the launcher, which then starts nothing.
        if self._stop_wanted.is_set():
            return Outcome("Stopped")
        self._on_phase("Training")
        ending = process.run(
            argv=[self._text(part) for part in self._plan.command],
            environment=self._whole_environment(),
            folder=self._working_folder(),
            opt_ml=self._ml if self._opt_ml.namespace else None,
            seconds=self._plan.seconds,
            on_output=self._log.write,
        )
        if self._killed:
            return Outcome("Stopped")
        self._on_phase("Uploading")
        self._bring_away([item for item in self._plan.outputs if item.always or ending.succeeded])
        message = self._read("output/message")
        if ending.succeeded:
            return Outcome("Completed", message=message)
        if ending.ended_by in ("stop", "time"):
            return Outcome("Stopped", out_of_time=ending.ended_by == "time", message=message)
        reason = failure_reason(ending, self._failure_text(ending), self._disk_full())
        return Outcome("Failed", _shortened(reason), message=message)

    def _text(self, text: str) -> str:
        return self._opt_ml.text(text, self._ml)

    def _path(self, path: str) -> Path:
        return Path(self._opt_ml.path(path, self._ml))

    def _working_folder(self) -> Path:
        """Where the program starts, as the program itself sees it."""
        if self._plan.working_folder == WORKING_FOLDER:
            return self._folder / "work"
        if self._opt_ml.namespace:
            return Path(self._plan.working_folder)
        return self._path(self._plan.working_folder)

    def _whole_environment(self) -> dict[str, str]:
        """All that the program sees: nothing of the server's own environment."""
        own = {
            "PATH": f"{self._image.programs}:{SYSTEM_PATH}",
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            # On AWS a job has its machine to itself. Here it shares the cores with the server and with other jobs, and
            # OpenMP's threads that spin while they wait made a training up to three times slower.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        return own | self._environment | {name: self._text(value) for name, value in self._plan.environment.items()}

    def _stage(self) -> None:
        """Fetch everything into place; the outputs' buckets are looked at now, before a long run is for nothing."""
        plan = self._plan
        buckets = {item.target.bucket: item.target for item in plan.outputs}
        checks = {location: self._transfers.start(self._check_bucket, bucket) for bucket, location in buckets.items()}
        listings = {
            item.folder: self._transfers.start(list_objects, self._s3, item.source)
            for item in plan.inputs
            if item.objects is None
        }
        code = self._start_fetching_code() if plan.script else None
        transfers: list[Future[Any]] = []
        try:
            for name in ("home", "tmp", "work"):
                (self._folder / name).mkdir()
            for folder in [*plan.folders, *(item.folder for item in plan.inputs + plan.outputs)]:
                self._path(folder).mkdir(parents=True, exist_ok=True)
            for path, content in plan.files.items():
                target = self._path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(json.dumps(self._opt_ml.value(content, self._ml)))
            for item in plan.inputs:
                with _data_faults(f"input {item.name!r}", item.source):
                    objects = item.objects if item.objects is not None else listings[item.folder].result()
                    transfers += self._start_fetching(item, objects)
            for location, check in checks.items():
                with _data_faults("output", location, direction="upload"):
                    check.result()
            if code is not None:
                self._unpack_code(*code)
        finally:
            # Whatever went wrong: nothing may still write into the folder when it is removed.
            wait([*transfers, *(code[2] if code else [])])
        with _data_faults("input", None):
            finish(transfers)
        for item in plan.inputs:
            self._opt_ml.code(self._path(item.folder), self._ml)

    def _check_bucket(self, bucket: str) -> None:
        # Not HeadBucket: its answer has no body, and so no error code.
        self._s3.list_objects_v2(Bucket=bucket, MaxKeys=1)

    def _start_fetching(self, item: Input, objects: list[S3Object]) -> list[Future[None]]:
        if not objects and not item.may_be_empty:
            raise JobFailure(f"ClientError: {nothing_found(item.source)}")
        return self._transfers.download(self._s3, item.source, objects, self._path(item.folder), self._stop_wanted)

    def _start_fetching_code(self) -> tuple[Path, S3Location, list[Future[None]]]:
        assert self._plan.script is not None
        source = s3_location(self._plan.script.code)
        archive = self._folder / "code" / source.key.rpartition("/")[2]
        objects = [S3Object(source.key, 0)]
        transfers = self._transfers.download(self._s3, source, objects, archive.parent, self._stop_wanted)
        return archive, source, transfers

    def _unpack_code(self, archive: Path, source: S3Location, transfers: list[Future[None]]) -> None:
        script = self._plan.script
        assert script is not None
        with _data_faults("sagemaker_submit_directory", source):
            finish(transfers)
        if self._stop_wanted.is_set():  # it may not be whole
            return
        folder = self._path(CODE_FOLDER)
        try:
            unpack(archive, folder)
        except tarfile.TarError as error:
            raise JobFailure(
                f"ClientError: sagemaker_submit_directory {source} cannot be unpacked: {error}."
                " It must be a .tar.gz whose members stay inside it."
            ) from error
        if not (folder / script.program).is_file():
            found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            raise JobFailure(
                f"ClientError: sagemaker_program {script.program!r} is not in {source}, which holds {found}."
                " Name a script at the archive's root, or pack it again."
            )
        requirements = folder / "requirements.txt"
        if requirements.exists() and (missing := missing_requirements(requirements.read_text(), self._image.packages)):
            raise JobFailure(
                f"ClientError: requirements.txt in {source} asks for {'; '.join(missing)}."
                " local_aws installs nothing during a job. Drop these lines, or add them to"
                f" local_aws/images/{self._image.name}/requirements.txt and make the environment again."
            )
        self._opt_ml.code(folder, self._ml)

    def _bring_away(self, outputs: list[Output]) -> None:
        transfers: list[Future[Any]] = []
        for item in outputs:
            folder = self._path(item.folder)
            if item.archive:
                archive = self._folder / item.target.key.rpartition("/")[2]
                if pack(folder, archive):
                    transfers.append(self._transfers.start(upload_file, self._s3, archive, item.target, item.kms_key))
            else:
                transfers += self._transfers.upload_folder(self._s3, folder, item.target, item.kms_key)
        with _data_faults("output", None, direction="upload"):
            finish(transfers)

    def _read(self, name: str) -> str | None:
        path = self._ml / name
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(4 * LONGEST_REASON).decode("utf-8", "replace").strip()[:LONGEST_REASON] or None

    def _failure_text(self, ending: Ending) -> str:
        """What the program says about its failure, or else the toolkit, or else the last line that it printed."""
        written = self._read("output/failure")
        if written:
            return written
        last = self._log.tail[-1] if self._log.tail else ""
        if last.startswith("[local_aws]"):
            last = ""
        if self._plan.script is None or ending.error or ending.signal:
            return last
        command = " ".join(self._plan.script.command)
        return f'ExecuteUserScriptError:\nExitCode {ending.exit_code}\nErrorMessage "{last}"\nCommand "{command}"'

    def _disk_full(self) -> str | None:
        if any(DISK_FULL in line for line in self._log.tail):
            return _disk_full_reason(self._folder)
        return None


def internal_failure() -> Outcome:
    """The outcome of a job that failed by a fault of local_aws; call it while the exception is handled."""
    reference = uuid.uuid4().hex[:8]
    logger.exception("a job failed unforeseen (reference %s)", reference)
    return Outcome("Failed", f"InternalServerError: local_aws failed; its log has the reason ({reference}).")


def failure_reason(ending: Ending, text: str, disk_full: str | None = None) -> str:
    """FailureReason of a program that failed: AWS's form, "AlgorithmError: <what it says>, exit code: <n>"."""
    if disk_full:
        return f"{disk_full} The program ended with {text or 'no word'}, exit code: {ending.exit_code}"
    if ending.error:
        return f"AlgorithmError: {ending.error}, exit code: 127"
    if ending.signal is not None:
        cause = ": something killed it from outside, most often because memory ran out" if ending.signal == 9 else ""
        said = f" Its last line: {text}" if text else ""
        code = 128 + ending.signal
        return f"AlgorithmError: the program was ended by signal {ending.signal}{cause}.{said}, exit code: {code}"
    return f"AlgorithmError: {text or 'See job logs for more information'}, exit code: {ending.exit_code}"


def _disk_full_reason(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 1_000_000
    return (
        f"ClientError: {DISK_FULL}: {free} MB are free where the jobs' folders lie ({folder.parent})."
        " Make room, or start local_aws with TMPDIR set to a larger disk."
    )


def nothing_found(source: S3Location) -> str:
    """AWS's words for an input without objects, less the advice that only helps on AWS."""
    return (
        f'No S3 objects found under S3 URL "{source}" given in input data source. Please ensure that the bucket exists'
        " in the selected region, that objects exist under that S3 prefix, and that the role has s3:ListBucket"
        f' permissions on bucket "{source.bucket}".'
    )


@contextlib.contextmanager
def _data_faults(what: str, location: S3Location | None, direction: str = "download") -> Any:
    """Say in AWS's form what S3 did not do."""
    where = f" ({location})" if location else ""
    try:
        yield
    except ClientError as error:
        code, text = error.response["Error"].get("Code"), error.response["Error"].get("Message")
        raise JobFailure(f"ClientError: Data {direction} failed: {what}{where}: {code}: {text}") from error
    except (BotoCoreError, ValueError) as error:
        raise JobFailure(f"ClientError: Data {direction} failed: {what}{where}: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        # A name that is too long, a file where a folder must be, a file that its job made unreadable.
        raise JobFailure(f"ClientError: Data {direction} failed: {what}{where}: {error}") from error


def missing_requirements(text: str, packages: list[str]) -> list[str]:
    """What a requirements.txt asks for that is not among the installed packages; each with what is there instead.

    Args:
        packages: the site-packages folders to look in.
    """
    installed = {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions(path=packages)
    }
    missing = []
    for line in text.splitlines():
        wanted = line.partition(" #")[0].strip()
        if not wanted or wanted.startswith("#"):
            continue
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement:
            missing.append(f"{wanted!r}, which is no plain name and version")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            missing.append(f"{wanted!r}, which is not there")
        elif not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{wanted!r}, where {version} is there")
    return missing


def remove_folder(folder: Path) -> None:
    """Remove a job's folder, whatever modes the job gave to what is in it."""

    def make_writable(function: Callable[..., Any], path: str, fault: Any) -> None:
        for target in (Path(path).parent, Path(path)):
            if target.is_relative_to(folder) and target.is_dir() and not target.is_symlink():
                target.chmod(stat.S_IRWXU)
        if Path(path).is_dir() and function is not os.rmdir:
            shutil.rmtree(path)
        else:
            function(path)

    if folder.exists():
        shutil.rmtree(folder, onerror=make_writable)


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 3] + "..."
