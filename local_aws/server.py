"""The server process: MiniStack's application with our own services mounted, on one loopback port.

InvokeEndpoint has a port of its own, on which a process of its own answers (local_aws.hosting).

Started by `local_aws.control`, which reads one line from its standard output when it is ready (or has failed):
{"port": ..., "runtime_port": ...} or {"error": "..."}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import functools
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from local_aws import ministack_host
from local_aws.durability import Durability, SavedAnswers
from local_aws.environment import OWN_USER_AGENT
from local_aws.scratch import scratch_folder
from local_aws.store import Scope, Store

NOBODYS_USE = (OWN_USER_AGENT.encode(), b"exec-env/AWS_Lambda_")  # in a request's User-Agent

logger = logging.getLogger("local_aws")


class CannotStart(Exception):
    """Why the server did not start, for the person who started it."""


def main() -> int:
    arguments = _arguments()
    ready = _take_standard_output(arguments.log)
    try:
        with contextlib.ExitStack() as cleanup:
            listener = cleanup.enter_context(_listen(arguments.port))
            runtime_listener = cleanup.enter_context(_listen(arguments.runtime_port))
            state = _lock_state(arguments.state, cleanup) if arguments.state else None
            scratch = cleanup.enter_context(scratch_folder("scratch"))
            asyncio.run(_serve(arguments, listener, runtime_listener, state, scratch, ready))
    except CannotStart as error:
        _tell(ready, {"error": str(error)})
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_aws.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--runtime-port", type=int, default=0, help="InvokeEndpoint's; 0 takes a free one")
    parser.add_argument("--account", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--opt-ml", choices=("auto", "namespace", "rewrite"), default="auto")
    parser.add_argument("--clock-speed", type=float, default=1.0, help="AWS's seconds in one second here")
    parser.add_argument("--enforce-iam", action="store_true", help="ask IAM before anything is done")
    parser.add_argument("--builds", action="store_true", help="run the builds that pushes start, not only record them")
    parser.add_argument("--idle-minutes", type=float, help="stop after so long without a request, job or build")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input is closed")
    return parser.parse_args()


def _take_standard_output(log: Path) -> IO[str]:
    """Keep the pipe to whoever started us for the one ready line; everything else printed goes to the log."""
    ready = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with log.open("a") as stream:
        os.dup2(stream.fileno(), sys.stdout.fileno())
        os.dup2(stream.fileno(), sys.stderr.fileno())
    return ready


def _tell(ready: IO[str], message: dict[str, Any]) -> None:
    # Whoever started us may be gone already; the server then runs on, or ends, as it would anyway.
    with contextlib.suppress(BrokenPipeError), ready:
        ready.write(json.dumps(message) + "\n")


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OverflowError as error:
        listener.close()
        raise CannotStart(f"Port {port} is none: ports are 1 to 65535, and --port 0 takes a free one.") from error
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} is taken by another program. Stop it (if it is local_aws: python -m local_aws stop"
                f" --port {port}), or choose another port with --port; --port 0 takes a free one."
            ) from error
        raise CannotStart(f"Port {port} cannot be opened on 127.0.0.1: {error.strerror}. Choose another.") from error
    listener.listen(1024)
    return listener


def _lock_state(state: Path, cleanup: contextlib.ExitStack) -> Path:
    """Make the state folder and keep it to ourselves: two servers would overwrite each other's state."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = cleanup.enter_context((state / "lock").open("w"))
    except OSError as error:
        raise CannotStart(f"State folder {state} cannot be used: {error.strerror}. Choose another.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotStart(f"State folder {state} is in use by another local_aws. Stop it or choose another.") from error
    return state


def _open_store(path: Path | None) -> Store:
    try:
        return Store(path)
    except (sqlite3.DatabaseError, ValueError) as error:
        raise CannotStart(
            f"State file {path} cannot be read: {error}. Bring it back from a copy, or start with another state folder."
        ) from error


async def _serve(
    arguments: argparse.Namespace,
    listener: socket.socket,
    runtime_listener: socket.socket,
    state: Path | None,
    scratch: Path,
    ready: IO[str],
) -> None:
    port, runtime_port = listener.getsockname()[1], runtime_listener.getsockname()[1]
    data = state / "s3" if state else scratch / "s3"
    ministack_host.configure(
        port, arguments.account, arguments.region, data, state / "ministack" if state else None, arguments.enforce_iam
    )

    # Imported now: MiniStack reads its environment when it is imported.
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    from local_aws.alarms import Alarms
    from local_aws.api_calls import find_call
    from local_aws.autoscaling.service import AutoScaling
    from local_aws.body_limit import BodyLimit
    from local_aws.builds.build_events import SOURCE as CODEBUILD
    from local_aws.builds.codebuild import CodeBuild
    from local_aws.builds.credentials import BuildCredentials, CredentialsDoor
    from local_aws.builds.machine import Machine
    from local_aws.builds.runner import Runner
    from local_aws.builds.workspace import Toolbox
    from local_aws.clock import Clock
    from local_aws.codepipeline.service import CodePipeline
    from local_aws.control_calls import ControlCalls
    from local_aws.events import DictionaryOutbox, Events, Outbox, StoreOutbox
    from local_aws.faults import Faults
    from local_aws.functions import Functions
    from local_aws.git.codecommit import CodeCommit
    from local_aws.git.codecommit_host import CodeCommitHost
    from local_aws.git.codecommit_state import State as CodeCommitState
    from local_aws.git.github import GitHub, GitHubDoor
    from local_aws.git.github_calls import PREFIX as GITHUB
    from local_aws.git.github_calls import find_git_call, find_rest_call
    from local_aws.git.repositories import Repositories
    from local_aws.git.smart_http import GitDoor, GitHost
    from local_aws.hosting import Hosting
    from local_aws.images import Images
    from local_aws.invocations import AsynchronousInvocations
    from local_aws.loopback import Loopback
    from local_aws.permissions import DecisionLog, Permissions
    from local_aws.permissions.authorization import Authorization
    from local_aws.permissions.invocation import permits
    from local_aws.pricing import Pricing
    from local_aws.processes import Processes
    from local_aws.recorder import Recorder
    from local_aws.runtimes import Runtimes
    from local_aws.sagemaker.service import SageMaker
    from local_aws.schedules import Schedules
    from local_aws.servicecatalog.service import ServiceCatalog
    from local_aws.watched_calls import WatchedCalls

    decisions = DecisionLog()
    permissions = Permissions(arguments.enforce_iam, ministack_host.enforce_iam(decisions), decisions)
    if arguments.enforce_iam:
        ministack_host.correct_questions()
    store = _open_store(state / "local_aws.sqlite" if state else None)
    authorization = Authorization(permissions, store, ministack_host.kms_key_arn, ministack_host.identity_of)
    loopback = Loopback(
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{runtime_port}",
        permissions,
        ministack_host.role_credentials,
        ministack_host.credential_of,
    )
    loop = asyncio.get_running_loop()
    # Operations run in these threads, and some of them call others through the server itself (a scalable target's
    # endpoint is described): with the few threads that asyncio has by default they could wait for each other for ever.
    loop.set_default_executor(ThreadPoolExecutor(64, thread_name_prefix="operation"))
    durability = Durability(state / "ministack.sqlite") if state else None
    if durability is not None:
        ministack_host.keep_state(durability, data)
    kept = durability.dictionary if durability is not None else _dictionary
    clock = Clock(arguments.clock_speed, kept("local_aws/clock"))
    outboxes: dict[str, Outbox] = {
        "aws.sagemaker": StoreOutbox(store),
        "aws.codecommit": StoreOutbox(store),
        "aws.codepipeline": StoreOutbox(store),
        CODEBUILD: StoreOutbox(store),
        "aws.cloudwatch": DictionaryOutbox(kept("local_aws/events")),
    }

    def put_event(scope: Scope, entry: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(_put_event(durability, scope, entry), loop).result()

    events = Events(put_event, outboxes, waits=True)
    try:
        hosting = Hosting(
            loopback,
            Images(),
            scratch / "hosting",
            arguments.opt_ml,
            clock,
            ministack_host.account_of,
            runtime_listener,
            permits(authorization, ministack_host.credential_of) if arguments.enforce_iam else None,
        )
        sagemaker = SageMaker(
            store,
            loopback,
            Images(),
            scratch / "jobs",
            arguments.opt_ml,
            clock=clock,
            events=events,
            hosting=hosting,
            authorization=authorization,
        )
    except RuntimeError as error:  # jobs cannot have /opt/ml in the way that was asked for
        raise CannotStart(str(error)) from error
    sagemaker.resume()
    autoscaling = AutoScaling(store, loopback, clock, authorization)
    catalog = ServiceCatalog(store, loopback, ministack_host.identity_of, ministack_host.role_trusts, authorization)
    repositories = Repositories((state or scratch) / "git")
    codecommit_state = CodeCommitState(store, repositories, events)
    git_hosts: list[GitHost] = [
        CodeCommitHost(
            codecommit_state,
            Scope(arguments.account, arguments.region),
            authorization,
            account_of=ministack_host.account_of,
            caller_of=ministack_host.caller_of,
            credential_of=ministack_host.credential_of if arguments.enforce_iam else None,
        )
    ]
    codecommit = CodeCommit(codecommit_state, loopback.endpoint, authorization)
    machine = Machine(
        runner := Runner(arguments.builds),
        Toolbox(scratch / "builds" / "bin"),
        loopback.endpoint,
        loopback.runtime_endpoint,
        scratch / "builds",
        (state or scratch) / "build-logs",
    )
    github = GitHub(store, repositories, loopback.endpoint, machine)
    git_hosts.append(github)
    codepipeline = CodePipeline(store, loopback, ministack_host.role_trusts, clock, events, authorization)
    for service in (sagemaker, autoscaling, catalog, codecommit, codepipeline, Pricing(authorization)):
        ministack_host.mount(service.service, service.target_prefix, service.handle)

    functions = Functions(Runtimes(), scratch / "functions", loopback.environment, ministack_host.role_credentials)
    asynchronous = AsynchronousInvocations(loopback, clock, kept("local_aws/invocations"))
    find_invocation = ministack_host.run_functions(functions, asynchronous)
    ministack_host.keep_queue_times(clock, loop)
    ministack_host.join_in_conditions()
    ministack_host.resolve_stored_parameters()
    ministack_host.complete_resources()
    build_credentials = BuildCredentials(loopback.endpoint, ministack_host.role_credentials)
    codebuild = CodeBuild(
        store,
        loopback,
        events,
        machine,
        build_credentials,
        find_project=ministack_host.find_build_project,
        trusts=ministack_host.role_trusts,
        role_credentials=ministack_host.role_credentials,
    )
    codebuild.resume()
    github.resume()
    ministack_host.run_builds(codebuild)
    ministack_host.take_web_identities(github.oidc.verify)
    ministack_host.offer_catalog(permissions, loopback, catalog.provisioning)
    ministack_host.offer_pipelines(codepipeline, loopback)
    ministack_host.authorize_stacks(permissions)
    ministack_host.revert_drift()
    custom_resources = ministack_host.run_custom_resources(clock, loopback.endpoint)
    forwarded = ministack_host.Forwarded(permissions, loop)
    forwarded.take_over()
    cloudwatch = ministack_host.AlarmsOfMiniStack(loop, clock, forwarded)
    alarms = Alarms(cloudwatch, clock, events)
    cloudwatch.tell_changes(alarms.tell)
    schedule_source = ministack_host.SchedulesOfMiniStack(loopback, loop, forwarded)
    schedule_source.take_over()
    schedules = Schedules(schedule_source, clock, kept("local_aws/schedules"))

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if arguments.with_parent:
        threading.Thread(target=_wait_for_parent, args=(loop, stopping), daemon=True, name="parent").start()
    application = ministack_host.application()
    if durability is not None:
        application = SavedAnswers(application, durability)
    faults, recorder = Faults(), Recorder()
    processes = Processes(functions.processes, hosting.processes, sagemaker.jobs.processes, runner.processes)
    watch = functools.partial(
        WatchedCalls,
        faults=faults,
        recorder=recorder,
        caller_of=ministack_host.caller_of,
        account_of=ministack_host.account_of,
        runs_function=functions.runs,
        kill_function=functions.kill,
        key_of_client=functions.key_of_client,
    )
    watched = watch(GitHubDoor(application, github), finders=(find_call, find_rest_call))
    control_calls = ControlCalls(watched)
    control_calls.add("clock", clock.settings, clock.configure)
    control_calls.add("events", events.settings, events.configure)
    control_calls.add("permissions", permissions.settings, permissions.configure)
    control_calls.add("faults", faults.settings, faults.configure)
    control_calls.add("recorder", recorder.settings, recorder.configure)
    control_calls.add("processes", processes.settings, processes.configure)
    control_calls.add("quotas", sagemaker.quotas.settings, sagemaker.quotas.configure)
    control_calls.add("github", github.settings, github.configure)
    control_calls.add("builds", runner.settings, runner.configure)

    def on_ready() -> None:
        # Not before MiniStack has loaded its rules, functions and schedules.
        events.resume()
        asynchronous.resume(find_invocation)
        alarms.start()
        schedules.start()
        catalog.resume()
        codepipeline.resume()
        sagemaker.resume_projects()
        _tell(ready, {"port": port, "runtime_port": runtime_port})

    git_door = GitDoor(BodyLimit(CredentialsDoor(control_calls, build_credentials)), git_hosts, scratch)
    activity = _Activity(watch(git_door, finders=(find_git_call,), below=GITHUB), on_ready)
    sweep = asyncio.create_task(durability.sweep()) if durability is not None else None
    idle = None
    if arguments.idle_minutes:
        seconds = arguments.idle_minutes * 60
        idle = asyncio.create_task(_stop_when_idle(activity, (sagemaker, runner), hosting, seconds, stopping))

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # hypercorn closes it
    config.graceful_timeout = 1
    config.keep_alive_timeout = 75
    config.accesslog = None
    threading.Thread(target=_warm, args=(loopback, arguments), daemon=True, name="warm-up").start()
    autoscaling.start()

    async def stopped() -> None:
        await stopping.wait()
        # While S3 still answers: what fails afterwards fails because the server goes, and is told so.
        await asyncio.to_thread(hosting.flush)
        await asyncio.to_thread(github.stop)
        runner.kill()
        sagemaker.kill()
        catalog.kill()
        codepipeline.kill()
        autoscaling.kill()
        custom_resources.stop()
        # Before the state is saved: messages that functions were handling are then visible again.
        asynchronous.stop()
        await asyncio.to_thread(functions.stop)

    try:
        await serve(activity, config, shutdown_trigger=stopped)
    finally:
        if idle is not None:
            idle.cancel()
        await asyncio.to_thread(autoscaling.stop)
        await asyncio.to_thread(schedules.stop)
        await asyncio.to_thread(alarms.stop)
        await asyncio.to_thread(hosting.stop)
        await asyncio.to_thread(runner.join)
        await asyncio.to_thread(sagemaker.stop)
        await asyncio.to_thread(catalog.stop)
        await asyncio.to_thread(codepipeline.stop)
        await asyncio.to_thread(events.stop)
        if durability is not None and sweep is not None:
            sweep.cancel()
            durability.write_everything()
            durability.close()
        store.close()


def _dictionary(_name: str) -> dict[str, Any]:
    """What nothing is remembered in beyond the server's end."""
    return {}


async def _put_event(durability: Durability | None, scope: Scope, entry: dict[str, Any]) -> None:
    """Give EventBridge an event; what came of it is then kept."""
    if durability is None:
        ministack_host.put_event(scope, entry)
        return
    with durability.recorded() as touched:
        ministack_host.put_event(scope, entry)
        await durability.saved(touched)


class _Activity:
    """The application, watched: when it is ready, and when the last request was."""

    def __init__(self, application: Any, on_ready: Any) -> None:
        self._application = application
        self._on_ready = on_ready
        self.last_request = time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # What the server asks itself, such as to publish metrics, is nobody's use of it; nor is what functions ask:
        # schedules invoke some of them each minute.
        agent = next((value for name, value in scope.get("headers", ()) if name == b"user-agent"), b"")
        if not any(own in agent for own in NOBODYS_USE):
            self.last_request = time.monotonic()
        if scope["type"] == "lifespan":
            await self._application(scope, receive, self._watch_start(send))
        else:
            await self._application(scope, receive, send)

    def _watch_start(self, send: Any) -> Any:
        async def watched(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._on_ready()

        return watched


async def _stop_when_idle(
    activity: _Activity, workers: tuple[Any, ...], hosting: Any, seconds: float, stopping: asyncio.Event
) -> None:
    while not stopping.is_set():
        left = max(activity.last_request, hosting.last_request) + seconds - time.monotonic()
        if any(worker.busy for worker in workers):
            left = max(left, 10.0)
        if left <= 0:
            logger.warning("Stopping: no request for %g minutes.", seconds / 60)
            stopping.set()
        else:
            await asyncio.sleep(left)


def _wait_for_parent(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    loop.call_soon_threadsafe(stopping.set)


def _warm(loopback: Any, arguments: argparse.Namespace) -> None:
    """Load what the first job would otherwise wait for: service models and clients (0.5 s)."""
    from local_aws.request_checks import service_model

    service_model("sagemaker").operation_model("CreateTrainingJob")
    scope = Scope(arguments.account, arguments.region)
    for service in ("s3", "logs", "iam"):
        loopback.client(service, scope)


if __name__ == "__main__":
    sys.exit(main())
