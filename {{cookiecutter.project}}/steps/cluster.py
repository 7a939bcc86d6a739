"""Several hosts train one model with XGBoost's own collective: each holds a part of the rows, all build the same trees.

SageMaker names the hosts in SM_HOSTS, the same list on each; the first one is where all meet, at PORT. From there on
they speak to one another at ports that the system chooses: in a VPC of yours the job's security group must let its
members reach one another at all TCP ports.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from xgboost import collective
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

PORT = 9091
JOIN_SECONDS = 300  # hosts start one after the other, each once its data is there
# The longest that one host waits for another: all read their rows at the same time, but not equally fast. A host that
# ends is noticed at once, since its connections close; only when it is the first one, the others may wait so long,
# unless SageMaker stops them before, as it does when a host of a job fails.
WAIT_SECONDS = 900


class HostError(RuntimeError):
    """The hosts did not find one another, or one of them ended early."""


@dataclass(frozen=True)
class Hosts:
    """names: all hosts of the job, in an order that is the same on each. current: this one."""

    names: list[str]
    current: str

    @classmethod
    def of_job(cls, environment: Mapping[str, str] = os.environ) -> Hosts:
        """The hosts as SageMaker's variables tell them; without those, this machine alone."""
        names = sorted(json.loads(environment.get("SM_HOSTS", '["localhost"]')))
        return cls(names, environment.get("SM_CURRENT_HOST", names[0]))

    @property
    def number(self) -> int:
        return self.names.index(self.current)

    @property
    def is_first(self) -> bool:
        return self.number == 0

    @property
    def others(self) -> str:
        return ", ".join(name for name in self.names if name != self.current)


@contextmanager
def joined(hosts: Hosts, port: int = PORT, join_seconds: int = JOIN_SECONDS) -> Iterator[None]:
    """Within it, all of XGBoost's work is that of all hosts together; with one host nothing happens.

    Raises HostError when the hosts do not come together, or when one of them ends before the others are done. After
    any failure within it the process must end by `leave`.
    """
    if len(hosts.names) == 1:
        yield
        return
    end = time.monotonic() + join_seconds
    address = find_address(hosts.names[0], join_seconds)
    tracker = None
    try:
        if hosts.is_first:
            tracker = RabitTracker(
                n_workers=len(hosts.names), host_ip=address, port=port, sortby="task", timeout=join_seconds
            )
            tracker.start()
        _enter(address, port, hosts.number, end)
        yield
        collective.finalize()
        if tracker is not None:
            tracker.wait_for(timeout=join_seconds)  # the others may not have left yet
            tracker.free()
    except XGBoostError as error:
        if "/collective/" not in str(error):
            raise
        if collective.is_distributed():
            raise HostError(
                f"{hosts.current} cannot go on, since another host ended early or did not answer for {WAIT_SECONDS} "
                f"seconds ({_reason(error)}): the log of {hosts.others} says why"
            ) from error
        raise HostError(
            f"{hosts.current}: the {len(hosts.names)} hosts did not come together within {join_seconds} seconds at "
            f"{hosts.names[0]}:{port} ({_reason(error)}). The log of {hosts.others} says whether it failed before; "
            "in a VPC, let the members of the job's security group reach one another at all TCP ports"
        ) from error


def leave(code: int) -> NoReturn:
    """Ends the process at once. XGBoost's own leave-taking would wait for hosts that wait for this one in turn; so they
    see its connections close.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _enter(address: str, port: int, number: int, end: float) -> None:
    """Joins the others; a host that is faster than the first one tries again every second until `end`."""
    context = collective.CommunicatorContext(  # finds NCCL, for GPUs
        dmlc_tracker_uri=address,
        dmlc_tracker_port=port,
        dmlc_task_id=f"{number:06d}",  # the ranks follow the sorted texts: the first host has rank 0
        dmlc_retry=1,
        dmlc_timeout=WAIT_SECONDS,
    )
    while True:
        try:
            return collective.init(**context.args)
        except XGBoostError:
            if time.monotonic() >= end:
                raise
            time.sleep(1)


def find_address(host: str, seconds: float) -> str:
    """The host's IPv4 address. Its name may not be known yet when this host is the first to run: waits for it."""
    end = time.monotonic() + seconds
    while True:
        try:
            return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        except socket.gaierror as error:
            if time.monotonic() >= end:
                raise HostError(f"the first host {host!r} has no address after {seconds:g} seconds: {error}") from error
            time.sleep(1)


def _reason(error: XGBoostError) -> str:
    """XGBoost's own last word on what failed, without its place in the code."""
    lines = [line for line in str(error).partition("Stack trace")[0].splitlines() if line.strip()]
    return lines[-1].split("]: ")[-1].strip()
