"""One host of a job: its folder, its data, its program."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from local_aws.images import Image
from local_aws.jobs.contract import CODE_FOLDER
from local_aws.jobs.host_names import hosts_file, python_environment
from local_aws.jobs.log import JobLog
from local_aws.jobs.opt_ml import OptMl
from local_aws.jobs.plan import WORKING_FOLDER, Input, Plan
from local_aws.jobs.process import Ending, JobProcess, Namespace
from local_aws.jobs.staging import S3Location, S3Object, Transfers, finish, list_objects, s3_location, unpack

LONGEST_TEXT = 1024  # characters of what a program says about its end: FailureReason, ExitMessage
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DISK_FULL = "No space left on device"


class JobFailure(Exception):
    """The job has failed; the text is its FailureReason."""


class Host:
    """A host under way.

    Args:
        plan, image: what runs, and in which environment.
        opt_ml: how it gets /opt/ml.
        folder: its own; made here.
        s3: a client for the job's data.
        service_s3: a client of the service's own, which looks whether the outputs' buckets are there.
        transfers: the threads for it.
        log: where its output goes.
        environment: variables that point AWS clients at this server.
        addresses: of every host of the job, by name.
        stop_wanted: set when the job is to end.
    """

    def __init__(
        self,
        plan: Plan,
        image: Image,
        opt_ml: OptMl,
        folder: Path,
        s3: Any,
        service_s3: Any,
        transfers: Transfers,
        log: JobLog,
        environment: dict[str, str],
        addresses: dict[str, str],
        stop_wanted: threading.Event,
    ) -> None:
        self._plan, self._image, self._opt_ml, self._folder = plan, image, opt_ml, folder
        self._s3, self._service_s3, self._transfers, self._log = s3, service_s3, transfers, log
        self._environment, self._addresses, self._stop_wanted = environment, addresses, stop_wanted
        self._ml = folder / "ml"
        self._ml.mkdir(parents=True)
        self._process = JobProcess()

    @property
    def pid(self) -> int | None:
        """Its program's process, while it runs."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM to its program, SIGKILL a little later. Safe from any thread, at any time."""
        self._process.stop()

    def kill(self) -> None:
        """End its program at once."""
        self._process.kill()

    def close(self) -> None:
        self._process.close()

    def run(self) -> Ending:
        """Run the program to its end."""
        plan = self._plan
        hosts = self._folder / "hosts"
        hosts.write_text(hosts_file(self._addresses))
        return self._process.run(
            argv=[self._text(part) for part in plan.command],
            environment=self._whole_environment(),
            folder=self._working_folder(),
            namespace=Namespace(self._ml, hosts) if self._opt_ml.namespace else None,
            seconds=plan.seconds,
            on_output=self._log.write,
        )

    def path(self, path: str) -> Path:
        """Where a path below /opt/ml lies on this machine."""
        return Path(self._opt_ml.path(path, self._ml))

    def _text(self, text: str) -> str:
        return self._opt_ml.text(text, self._ml)

    def _working_folder(self) -> Path:
        """Where the program starts, as the program itself sees it."""
        if self._plan.working_folder == WORKING_FOLDER:
            return self._folder / "work"
        if self._opt_ml.namespace:
            return Path(self._plan.working_folder)
        return self.path(self._plan.working_folder)

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
        wanted = {name: self._text(value) for name, value in self._plan.environment.items()}
        whole = own | self._environment | wanted
        return whole if self._opt_ml.namespace else python_environment(self._addresses, whole)

    def stage(self) -> None:
        """Fetch everything into place; the outputs' buckets are looked at now, before a long run is for nothing.

        Raises:
            JobFailure: the data is not there, or not what it must be.
        """
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
                self.path(folder).mkdir(parents=True, exist_ok=True)
            for path, content in plan.files.items():
                target = self.path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(json.dumps(self._opt_ml.value(content, self._ml)))
            for item in plan.inputs:
                with data_faults(f"input {item.name!r}", item.source):
                    objects = item.objects if item.objects is not None else listings[item.folder].result()
                    transfers += self._start_fetching(item, objects)
            for location, check in checks.items():
                with data_faults("output", location, direction="upload"):
                    check.result()
            if code is not None:
                self._unpack_code(*code)
        finally:
            # Whatever went wrong: nothing may still write into the folder when it is removed.
            wait([*transfers, *(code[2] if code else [])])
        with data_faults("input", None):
            finish(transfers)
        for item in plan.inputs:
            self._opt_ml.code(self.path(item.folder), self._ml)

    def _check_bucket(self, bucket: str) -> None:
        # Not HeadBucket: its answer has no body, and so no error code.
        self._service_s3.list_objects_v2(Bucket=bucket, MaxKeys=1)

    def _start_fetching(self, item: Input, objects: list[S3Object]) -> list[Future[None]]:
        if not objects and not item.may_be_empty:
            raise JobFailure(f"ClientError: {nothing_found(item.source)}")
        return self._transfers.download(
            self._s3, item.source, item.share(objects), self.path(item.folder), self._stop_wanted
        )

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
        with data_faults("sagemaker_submit_directory", source):
            finish(transfers)
        if self._stop_wanted.is_set():  # it may not be whole
            return
        folder = self.path(CODE_FOLDER)
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

    def message(self) -> str | None:
        """What the program left in /opt/ml/output/message."""
        return self._read("output/message")

    def failure_reason(self, ending: Ending) -> str:
        """FailureReason of this host's program, which failed."""
        full = disk_full_reason(self._folder) if any(DISK_FULL in line for line in self._log.tail) else None
        return failure_reason(ending, self._failure_text(ending), full)

    def _read(self, name: str) -> str | None:
        path = self._ml / name
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(4 * LONGEST_TEXT).decode("utf-8", "replace").strip()[:LONGEST_TEXT] or None

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


def disk_full_reason(folder: Path) -> str:
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
def data_faults(what: str, location: S3Location | None, direction: str = "download") -> Any:
    """Say in AWS's form what S3 did not do, as a JobFailure."""
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
