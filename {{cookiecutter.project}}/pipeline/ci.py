"""What CI runs, whatever the system: `python -m pipeline ci STEP ...`. The CI files only call it (README.md, CI).

A step is a function of the job; the first that fails ends the job. What a system tells, and where it shows something,
is in ci_systems.py. By hand the same steps do the same: `ci check` before a push says what CI will say.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import boto3
from botocore.exceptions import ClientError
from rich.console import Console

from pipeline import (
    InputError,
    endpoint_test,
    execution,
    names,
    plan,
    promotion,
    remote,
    retraining,
    starting,
    terminal,
)
from pipeline.aws import advice, is_denied, is_missing
from pipeline.ci_systems import NoCredentials, Run, System, fenced, without_secrets
from pipeline.lineage import read_lineage
from pipeline.settings import ROOT, Settings, load_settings
from pipeline.stage_file import StageFiles, load_stage_files

TOOLS = ("ruff check .", "pytest")
OUTPUT = ROOT / "build" / "ci"
# Compiling needs the ARN of a role, and sends it nowhere: this is no account.
STAND_IN = "arn:aws:iam::000000000000:role/"
STOPPING_TAKES = 900.0  # seconds that are given to executions to stop: their jobs get two minutes to end by themselves
PLAN_SAYS = (
    "What approving the newest version of the stage would do, with the stage file as it is here. "
    "Nothing is done before somebody approves a version."
)
CONSOLES = {"aws": "console.aws.amazon.com", "aws-cn": "console.amazonaws.cn"}


@dataclass
class Job:
    """What the steps share. Everything is asked for once, by the step that needs it first.

    watch: follows an execution to its end and returns the command's exit code (cli.py).
    """

    system: System
    watch: Callable[[Settings, boto3.Session, str], int]

    @cached_property
    def run(self) -> Run:
        return self.system.run()

    @cached_property
    def settings(self) -> Settings:
        return load_settings()

    @cached_property
    def session(self) -> boto3.Session:
        return self.system.session(self.settings.aws.region)

    def head(self, branch: str) -> str | None:
        """The commit that the branch has at the remote now, None when it is not there."""
        return remote.head(branch, self.system.git_environment())


def run_steps(steps: Iterable[str], job: Job) -> int:
    """Runs the steps in this order; returns the exit code of the first that fails, else 0."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # into a log, which is no terminal, errors would come before the lines that led to them
        sys.stdout.reconfigure(line_buffering=True)
    for step in steps:
        if code := STEPS[step](job):
            return code
    return 0


def check(job: Job) -> int:
    """Lint, tests, settings, stage files, endpoint tests, definition, plan. All run; what failed is said last."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # It takes seconds, and so does what runs meanwhile, in processes of its own.
    threading.Thread(target=_import_sdk, daemon=True).start()
    failed: list[str] = []
    try:
        failed += [f"{tool}: {fault}" for tool in TOOLS if (fault := _tool_fault(job, tool))]
        files = _faults(job, (("settings.yaml", _check_settings), ("deployment/", _check_stage_files)))
        files += [] if files else _faults(job, (("tests/endpoint/", _check_endpoint_tests),))
        failed += files
        if not files:
            failed += _faults(job, (("definition", _write_definition), ("plan", _write_plan)))
    finally:
        for text in failed:
            job.system.fault(text)
    return 1 if failed else 0


def _import_sdk() -> None:
    with suppress(Exception):  # whoever needs it imports it again, and is told
        importlib.import_module("pipeline.definition")


def _faults(job: Job, parts: Iterable[tuple[str, Callable[[Job], None]]]) -> list[str]:
    """Runs the parts, each below its title; returns what was wrong."""
    found = []
    for title, part in parts:
        try:
            with job.system.section(title):
                part(job)
        except InputError as error:
            found.append(str(error) if str(error).startswith(title) else f"{title}: {error}")
    return found


def _tool_fault(job: Job, tool: str) -> str | None:
    """Runs a program of this environment; returns what was wrong. It is given no credentials, since it needs none."""
    name, *arguments = tool.split()
    # this environment's own first, which need not be the active one
    folders = (str(Path(sys.executable).parent), job.system.environment.get("PATH", os.defpath))
    program = shutil.which(name, path=os.pathsep.join(folders))
    if program is None:
        return f'{name} is not installed: pip install ".[dev]"'
    with job.system.section(tool):
        environment = without_secrets(job.system.environment)
        code = subprocess.run([program, *arguments], cwd=ROOT, env=environment, check=False).returncode
    return f"exit code {code}" if code else None


def _check_settings(job: Job) -> None:
    print(f"settings.yaml is right ({job.settings.problem_type}, project {job.settings.project})")


def _check_stage_files(job: Job) -> None:
    stage_files = load_stage_files()
    print(f"deployment/ is right (stages {', '.join(sorted(stage_files.contents))})")
    for text in stage_files.warnings:
        print(f"warning: {text}")


def _check_endpoint_tests(job: Job) -> None:
    suite = endpoint_test.load_suite(job.settings)
    if suite is not None:
        print(f"tests/endpoint/ is right ({endpoint_test.counted(suite.cases)})")
    for text in endpoint_test.warnings(job.settings, suite):
        print(f"warning: {text}")


def _write_definition(job: Job) -> None:
    branch = compiled_for(job.run)
    found = names.names_of(job.settings.project, branch)
    role = job.settings.aws.role_of(found.stage)
    role_arn = role if role.startswith("arn:") else f"{STAND_IN}{role}"
    compiled, _ = starting.compile_branch(job.settings, found, endpoint_test.stage_files(job.settings), role_arn)
    path = OUTPUT / "definition.json"
    path.write_text(json.dumps(json.loads(compiled), indent=2) + "\n", encoding="utf-8")
    print(f"the pipeline of {branch} compiles: {path.relative_to(ROOT)}")


def compiled_for(run: Run) -> str:
    """The branch whose pipeline is compiled: the run's, else the one that it would be merged into, else dev."""
    return next((one for one in (run.branch, run.target) if one and names.trains(one)), "dev")


def _write_plan(job: Job) -> None:
    path = OUTPUT / "plan.md"
    path.unlink(missing_ok=True)
    try:
        text = _plan(job)
    except NoCredentials as error:
        text = None
        print(f"no plan: {error}")
    except ClientError as error:
        if not (job.system.by_hand and is_denied(error)):
            raise
        text = None
        print(f"no plan: {error}\n{advice('plan', job.settings.project, job.settings.aws.region, str(error))}")
    if text is None:
        return
    markdown = f"### Plan of `{job.settings.project}`\n\n{fenced(text)}\n\n{PLAN_SAYS}\n"
    path.write_text(markdown, encoding="utf-8")
    print(text)
    print(f"{path.relative_to(ROOT)} holds it")
    job.system.publish(job.run, markdown)


def _plan(job: Job) -> str | None:
    """What approving would do in every stage that the run is about; None, having said why, when there is none."""
    stage_files = load_stage_files()
    stages = planned_stages(job.run, stage_files)
    if not stages:
        print(f"no plan: nothing that is merged into {job.run.target or job.run.branch} is deployed")
        return None
    connection = job.session
    try:
        plan.function_arn(connection)
    except InputError as error:
        print(f"no plan: {error}")
        return None
    text = io.StringIO()
    out = Console(file=text, highlight=False, emoji=False, soft_wrap=True, color_system=None)
    for stage in stages:
        stage_file = stage_files.contents[stage].decode("utf-8")
        terminal.print_plan(out, plan.ask(connection, job.settings.project, stage, None, stage_file))
    return text.getvalue()


def planned_stages(run: Run, stage_files: StageFiles) -> list[str]:
    """The stages that serve what the branch, or the one that it would be merged into, brings. Sorted."""
    branch = run.target or run.branch
    if names.trains(branch):
        stages = [names.stage_of(branch)]
    else:
        stages = ["prod", "champion", "challenger"] if branch == "prod" else []
    return sorted(stage for stage in stages if stage in stage_files.contents)


def push(job: Job) -> int:
    """What a push to the branch does: train on dev and feature-*, promote on prod, nothing on any other."""
    run = job.run
    if run.event in ("pull_request", "deleted"):
        raise InputError(
            f"ci push: this job runs for a {run.event.replace('_', ' ')}, which starts nothing: remove push"
        )
    if run.created and run.branch in remote.BRANCHES:
        print(f"{run.branch} has just been made, with the project: this push does nothing, the next one does")
        return 0
    if run.branch == "prod":
        _say_outdated(job)
        return promotion.promote_branch(job.settings, job.session)
    if not names.trains(run.branch):
        print(f"the branch {run.branch} trains nothing: dev and feature-* do, and prod promotes")
        return 0
    return _train(job)


def _say_outdated(job: Job) -> None:
    """Warns where prod has gone on. The job does too: of two merges each may be promoted, and each copy is approved."""
    branch, commit = job.run.branch, read_lineage().commit
    try:
        head = job.head(branch)
    except InputError as error:
        job.system.warning(f"nobody knows whether this is the newest commit of {branch}: {error}")
        return
    if head == commit:
        return
    newest = f"{branch}'s newest commit is {head[:12]}" if head else f"there is no branch {branch} at {remote.REMOTE}"
    which = "another one: older, or not pushed yet" if job.system.by_hand else "an older one"
    warning = f"{newest}, this job promotes {commit[:12]}, {which}. It goes on: the copy waits for its own approval"
    job.system.warning(warning)
    job.system.publish(job.run, f"**Warning**: {warning}")


def _train(job: Job) -> int:
    lineage = read_lineage()
    branch, commit = job.run.branch, lineage.commit
    found = names.names_of(job.settings.project, branch)
    if (head := job.head(branch)) != commit:
        print(f"nothing is started: {outdated(branch, commit, head)}")
        return 0
    # A job that is run again, as when its time was over while it followed, goes on with what was started: another
    # execution would stop an hour's training.
    called = execution.display_name(execution.BY_A_PUSH, lineage)
    arn = under_way(called, execution.running(job.session, found.pipeline))
    began = "this commit is being trained already:" if arn else "started"
    arn = arn or starting.start(job.session, job.settings, found, {}, execution.BY_A_PUSH)
    # the executions before the branch: whatever ran by then, and is not of the head that is read now, is outdated
    running = execution.running(job.session, found.pipeline)
    head = job.head(branch)
    for other in superseded(arn, commit, head, running):
        execution.stop(job.session, other)
        print(f"stopped {other}")
    if head != commit:
        print(f"this execution is stopped: {outdated(branch, commit, head)}")
        # the branch's pipeline may have been deleted before this job made it anew
        return _delete_pipeline(job, found) if head is None and found.stage == "feature" else 0
    print(f"{began} {arn}")
    print(f"  {results_link(arn, job.settings, found)}")
    print(f"  SageMaker Studio shows it below Pipelines; {job.system.tells_the_end}")
    if branch == "dev" and (said := retraining.bring_about(job.session, job.settings, arn)):
        print(said)
    return job.watch(job.settings, job.session, arn) if job.settings.ci.watch else 0


def under_way(called: str, running: Iterable[execution.Running]) -> str | None:
    """The ARN of the execution that an earlier job has started for this very commit; None without one.

    Args:
        called: as a push of the commit calls its execution; one of changed files is called otherwise, and not followed.
        running: the pipeline's executions.
    """
    return next((one.arn for one in running if one.name == called and not one.stopping), None)


def superseded(arn: str, commit: str, head: str | None, running: Iterable[execution.Running]) -> list[str]:
    """The executions that a push stops, by ARN: its own when the branch has gone on meanwhile, else the pushes' before.

    Those that a person or the schedule started are nobody's to stop. Of two pushes of one commit (a push that was told
    twice, to two jobs at once) the execution that began later goes on.

    Args:
        arn: of the push's own execution, or of the one that is under way for its commit.
        commit: that it was started for.
        head: the branch's commit at the remote, None when it is gone; read after `running`, so that no execution of
            a newer push can be among these.
        running: the pipeline's executions.
    """
    if head != commit:
        return [arn]
    own = next((one for one in running if one.arn == arn), None)
    return [
        one.arn
        for one in running
        if one.arn != arn
        and not one.stopping
        and one.name.startswith(f"{execution.BY_A_PUSH}-")
        and (not one.is_push_of(commit) or own is None or (one.started, one.arn) < (own.started, own.arn))
    ]


def outdated(branch: str, commit: str, head: str | None) -> str:
    """Why a commit is not trained, for people."""
    if head is None:
        return f"there is no branch {branch} at {remote.REMOTE} (any more)"
    return (
        f"{branch} is at {head[:12]} at {remote.REMOTE}, and this is {commit[:12]}: a newer push supersedes this one "
        "(or, by hand: push this commit first)"
    )


def results_link(arn: str, settings: Settings, found: names.Names) -> str:
    """The console's page of the folder in which the execution's results, and its report, will lie."""
    console = CONSOLES.get(arn.split(":")[1], CONSOLES["aws"])
    prefix = f"{found.folder}/{found.pipeline}/{arn.rpartition('/')[2]}/"
    return f"https://{console}/s3/buckets/{settings.aws.bucket}?region={settings.aws.region}&prefix={prefix}"


def deleted(job: Job) -> int:
    """The branch is gone: its executions are stopped, its pipeline is deleted. Again, or of a branch without: nothing.

    Raises:
        InputError: of dev or prod, whose pipelines go with the project; or the pipeline is another project's.
    """
    branch = job.run.branch
    if branch in remote.BRANCHES:
        raise InputError(f"{branch} is a branch of every project, and its pipeline stays: push {branch} again")
    if not names.trains(branch):
        print(f"the branch {branch} had no pipeline: nothing is to be done")
        return 0
    if job.head(branch) is not None:
        print(f"the branch {branch} is there (again): its pipeline is left alone")
        return 0
    return _delete_pipeline(job, names.names_of(job.settings.project, branch))


def _delete_pipeline(job: Job, found: names.Names) -> int:
    sagemaker = job.session.client("sagemaker")
    try:
        arn = sagemaker.describe_pipeline(PipelineName=found.pipeline)["PipelineArn"]
    except ClientError as error:
        if not is_missing(error):
            raise
        print(f"the branch {found.branch} has no pipeline (any more): nothing is to be done")
        return 0
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    if (tags.get("modelyard:project"), tags.get("modelyard:stage")) != (found.project, found.stage):
        raise InputError(
            f"the pipeline {found.pipeline} does not carry the tags of {found.project}, stage {found.stage}: it is not "
            "deleted; whoever made it looks after it"
        )
    _end_executions(job.session, found.pipeline)
    if job.head(found.branch) is not None:
        print(f"the branch {found.branch} is there again: its pipeline is left alone")
        return 0
    try:
        sagemaker.delete_pipeline(PipelineName=found.pipeline, ClientRequestToken=str(uuid.uuid4()))
    except ClientError as error:
        if not (job.run.event == "push" and is_denied(error)):
            raise
        print(f"the pipeline {found.pipeline} is left to the job of the deleted branch: this one's role deletes none")
        return 0
    print(f"deleted the pipeline {found.pipeline}")
    return 0


def _end_executions(connection: boto3.Session, pipeline: str) -> None:
    """Stops what runs and waits until nothing does: before, SageMaker deletes no pipeline.

    Raises:
        InputError: something still runs after a quarter of an hour.
    """
    waited, seconds = 0.0, 0.5
    asked: set[str] = set()
    while running := execution.running(connection, pipeline):
        for one in running:
            if not one.stopping and one.arn not in asked:
                execution.stop(connection, one.arn)
                print(f"stopped {one.arn} ({one.name})")
                asked.add(one.arn)
        if waited > STOPPING_TAKES:
            raise InputError(
                f"{running[0].arn} has not stopped within {STOPPING_TAKES / 60:g} minutes: the pipeline {pipeline} is "
                "still there; run this job again when the execution has ended"
            )
        time.sleep(seconds)
        waited += seconds
        seconds = min(seconds * 1.5, 10.0)


def template(job: Job) -> int:
    """Brings what changed in the template this repository was made from, as a pull request."""
    from pipeline import template_update

    return template_update.update(job)


STEPS: dict[str, Callable[[Job], int]] = {"check": check, "push": push, "deleted": deleted, "template": template}
