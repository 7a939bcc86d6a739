"""Runs a job: fetch, run, bring away, on every host, and say how it ended."""

from __future__ import annotations

import errno
import logging
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.images import Image
from local_aws.jobs.host import LONGEST_TEXT, Host, JobFailure, data_faults, disk_full_reason, remove_folder
from local_aws.jobs.host_names import loopback_addresses
from local_aws.jobs.log import JobLog
from local_aws.jobs.opt_ml import OptMl
from local_aws.jobs.plan import Output, Plan
from local_aws.jobs.process import Ending
from local_aws.jobs.staging import Transfers, finish, pack, upload_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: "Completed", "Failed" or "Stopped".
        reason: FailureReason, of a failed job.
        out_of_time: it was stopped because it reached MaxRuntimeInSeconds.
        message: what the program left in /opt/ml/output/message.
        host: the number, from 0, of the host that failed.
    """

    status: str
    reason: str | None = None
    out_of_time: bool = False
    message: str | None = None
    host: int = 0


class Run:
    """One job under way.

    Args:
        plans: what runs on each host.
        image: in which environment.
        opt_ml: how it gets /opt/ml.
        work: where its folder is made.
        s3: a client for the job's data.
        service_s3: a client of the service's own, which looks whether the outputs' buckets are there.
        pull: is called before anything else: the image, as the job's role; raises JobFailure.
        transfers: the threads for it.
        logs: where the output of each host goes.
        environment: variables that point AWS clients at this server.
        on_phase: is told "Downloading", "Training" (the programs run) and "Uploading".
    """

    def __init__(
        self,
        plans: list[Plan],
        image: Image,
        opt_ml: OptMl,
        work: Path,
        s3: Any,
        service_s3: Any,
        pull: Callable[[], None],
        transfers: Transfers,
        logs: list[JobLog],
        environment: dict[str, str],
        on_phase: Callable[[str], None],
    ) -> None:
        self._plans, self._image, self._opt_ml, self._logs = plans, image, opt_ml, logs
        self._s3, self._service_s3, self._pull = s3, service_s3, pull
        self._transfers, self._environment, self._on_phase = transfers, environment, on_phase
        self._folder = work / uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._hosts: list[Host] = []
        self._first_to_fail: tuple[int, Ending] | None = None  # a host's number and how it ended: not with success
        self._stop_wanted = threading.Event()
        self._killed = False

    def stop(self) -> None:
        """Stop the job: SIGTERM to its programs, SIGKILL a little later. Safe from any thread, at any time."""
        with self._lock:
            self._stop_wanted.set()
            for host in self._hosts:
                host.stop()

    def kill(self) -> None:
        """End the job at once: the server is going down."""
        with self._lock:
            self._killed = True
            self._stop_wanted.set()
            for host in self._hosts:
                host.kill()

    @property
    def pids(self) -> list[int]:
        """The processes of its programs, while they run."""
        with self._lock:
            return [host.pid for host in self._hosts if host.pid is not None]

    def run(self) -> Outcome:
        """Do all of it. What goes wrong is the outcome, never an exception."""
        try:
            return outcome_of(self._run, lambda: self._killed, self._folder)
        finally:
            for host in self._hosts:
                host.close()
            if not os.environ.get("LOCAL_AWS_KEEP_JOBS"):
                remove_folder(self._folder)

    def _run(self) -> Outcome:
        self._pull()
        self._make_hosts()
        self._on_phase("Downloading")
        self._on_every_host(Host.stage)
        # A stop between this look and a program's start finds the launcher, which then starts nothing.
        if self._stop_wanted.is_set():
            return Outcome("Stopped")
        self._on_phase("Training")
        self._on_every_host(self._run_host)
        if self._killed:
            return Outcome("Stopped")
        self._on_phase("Uploading")
        failed = self._first_to_fail
        self._bring_away([item for item in self._plans[0].outputs if item.always or failed is None])
        if failed is None:
            return Outcome("Completed", message=self._message(0))
        number, ending = failed
        if ending.ended_by in ("stop", "time"):
            return Outcome("Stopped", out_of_time=ending.ended_by == "time", message=self._message(number))
        reason = self._hosts[number].failure_reason(ending)
        return Outcome("Failed", _shortened(reason), message=self._message(number), host=number)

    def _make_hosts(self) -> None:
        how = "folder kept" if os.environ.get("LOCAL_AWS_KEEP_JOBS") else "folder removed at the end"
        addresses = loopback_addresses([plan.host for plan in self._plans])
        for plan, log in zip(self._plans, self._logs, strict=True):
            folder = self._folder / plan.host
            with self._lock:
                host = Host(
                    plan,
                    self._image,
                    self._opt_ml,
                    folder,
                    self._s3,
                    self._service_s3,
                    self._transfers,
                    log,
                    self._environment,
                    addresses,
                    self._stop_wanted,
                )
                self._hosts.append(host)
            others = f"; {plan.host} is {addresses[plan.host]}" if len(self._plans) > 1 else ""
            log.line(f"[local_aws] image {self._image.name}; {self._opt_ml.why}{others}; {folder} ({how})")

    def _on_every_host(self, action: Callable[[Host], None]) -> None:
        """Do something on all hosts at once; raise what the first faulty one raised, after all have ended."""
        with ThreadPoolExecutor(len(self._hosts), thread_name_prefix="host") as threads:
            actions = [threads.submit(action, host) for host in self._hosts]
        for each in actions:
            each.result()

    def _run_host(self, host: Host) -> None:
        """Run one host's program; when it ends other than well, the other hosts wait for it in vain: end them too."""
        try:
            ending = host.run()
        except BaseException:
            self._stop_others(host)
            raise
        if ending.succeeded:
            return
        with self._lock:
            self._first_to_fail = self._first_to_fail or (self._hosts.index(host), ending)
        self._stop_others(host)

    def _stop_others(self, host: Host) -> None:
        for other in self._hosts:
            if other is not host:
                other.stop()

    def _bring_away(self, outputs: list[Output]) -> None:
        transfers: list[Future[Any]] = []
        for item in outputs:
            folders = [host.path(item.folder) for host in self._hosts]
            if item.archive:
                archive = self._folder / item.target.key.rpartition("/")[2]
                if pack(folders, archive):
                    transfers.append(self._transfers.start(upload_file, self._s3, archive, item.target, item.kms_key))
            else:
                transfers += self._transfers.upload_folders(self._s3, folders, item.target, item.kms_key)
        with data_faults("output", None, direction="upload"):
            finish(transfers)

    def _message(self, number: int) -> str | None:
        return self._hosts[number].message()


def outcome_of(work: Callable[[], Outcome], killed: Callable[[], bool], folder: Path) -> Outcome:
    """The outcome of a job's work; what goes wrong with it is the outcome, too.

    Args:
        killed: whether the server is going down: S3 answers no more then, which is not the job's fault, and no news.
        folder: where it writes.
    """
    try:
        return work()
    except JobFailure as failure:
        outcome = Outcome("Failed", _shortened(str(failure)))
    except OSError as error:
        full = error.errno == errno.ENOSPC
        outcome = Outcome("Failed", _shortened(disk_full_reason(folder))) if full else _unforeseen(killed())
    except Exception:  # noqa: BLE001 (a job must end, whatever happens; the reason is in the log)
        outcome = _unforeseen(killed())
    return Outcome("Stopped") if killed() else outcome


def _unforeseen(killed: bool) -> Outcome:
    return Outcome("Stopped") if killed else internal_failure()


def internal_failure() -> Outcome:
    """The outcome of a job that failed by a fault of local_aws; call it while the exception is handled."""
    reference = uuid.uuid4().hex[:8]
    logger.exception("a job failed unforeseen (reference %s)", reference)
    return Outcome("Failed", f"InternalServerError: local_aws failed; its log has the reason ({reference}).")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_TEXT else reason[: LONGEST_TEXT - 3] + "..."
