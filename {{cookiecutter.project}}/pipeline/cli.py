"""python -m pipeline: see `python -m pipeline --help`, and the README for what each command is for."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError
from rich.console import Console

from pipeline import (
    InputError,
    aws,
    ci,
    ci_systems,
    endpoint,
    endpoint_suite,
    endpoint_test,
    execution,
    pair,
    parameters,
    plan,
    project,
    promotion,
    registry,
    remote,
    sample_data,
    stage_schema,
    starting,
    terminal,
)
from pipeline.aws import GROUPS, SIGN_IN, advice, is_denied, is_signed_out
from pipeline.lineage import current_branch
from pipeline.names import Names, default_project_id, group_name, names_of, stage_of
from pipeline.settings import ROOT, Settings, load_settings
from pipeline.stage_file import load_stage_files

# What the product can be told on the command line, by its parameters' names.
PRODUCT_OPTIONS = {
    "GitOwner": "git_owner",
    "Repository": "repository",
    "OnDelete": "on_delete",
    "DataBuckets": "data_buckets",
    "KmsKeyArns": "kms_key_arns",
}
OK, EXECUTION_FAILED, BAD_INPUT, EXECUTION_STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = """exit codes:
  0    done; with --watch or watch: the execution succeeded
  1    the execution, the deployment, an endpoint test, or something that ci check checks, failed
  2    bad input, or a call to AWS failed; an execution whose ARN was printed before goes on
  3    the execution was stopped
  130  interrupted (Ctrl-C); an execution that was started goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except ClientError as error:
        print(f"error: AWS refused {error.operation_name}: {error.response['Error']['Message']}", file=sys.stderr)
        _advise(options, error)
    except NoCredentialsError:
        print("error: there are no AWS credentials here: sign in as for the AWS CLI (README.md)", file=sys.stderr)
    except (BotoCoreError, Boto3Error) as error:
        print(f"error: calling AWS failed: {error}", file=sys.stderr)
        _advise(options, error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return BAD_INPUT


def _advise(options: argparse.Namespace, error: Exception) -> None:
    """Whom to ask for what, when a permission is missing; what else there is to do."""
    if is_signed_out(error):
        print(SIGN_IN, file=sys.stderr)
    elif isinstance(error, EndpointConnectionError):
        region = load_settings().aws.region
        print(f"Check the network, and that there is a Region {region} (settings.yaml: aws.region)", file=sys.stderr)
    elif is_denied(error):
        settings = load_settings()
        command = GROUPS if getattr(options, "groups_only", False) else options.name
        print(advice(command, settings.project, settings.aws.region, str(error)), file=sys.stderr)


def check(options: argparse.Namespace) -> int:
    settings, stage_files = load_settings(), load_stage_files()
    stages = ", ".join(sorted(stage_files.contents))
    print(f"settings.yaml is right ({settings.problem_type}, project {settings.project})")
    print(f"deployment/ is right (stages {stages})")
    suite = endpoint_test.load_suite(settings)
    if suite is not None:
        print(f"tests/endpoint/ is right ({endpoint_test.counted(suite.cases)})")
    for text in (*stage_files.warnings, *endpoint_test.warnings(settings, suite)):
        print(f"warning: {text}", file=sys.stderr)
    return OK


def schema(options: argparse.Namespace) -> int:
    of_file = {"stage": stage_schema.json_schema, "cases": endpoint_suite.json_schema}[options.of]
    print(json.dumps(of_file(), indent=2))
    return OK


def definition(options: argparse.Namespace) -> int:
    settings = load_settings()
    names = _names(settings, options.branch)
    role_arn = aws.resolve_role(aws.session(settings), settings.aws.role_of(names.stage))
    compiled, _ = starting.compile_branch(settings, names, endpoint_test.stage_files(settings), role_arn)
    print(json.dumps(json.loads(compiled), indent=2))
    return OK


def register_project(options: argparse.Namespace) -> int:
    if options.groups_only:
        return _register_groups(options)
    if options.automatic_approval:
        raise InputError(
            "--automatic-approval goes with --groups-only: the platform makes groups without that tag, and an "
            "administrator of the account adds it (deployment/README.md, approval)"
        )
    settings, stages = load_settings(), load_stage_files().contents
    host = options.git_host or project.git_host()
    connection = aws.session(settings)
    platform = project.find_platform(connection)
    chosen = {name: getattr(options, option) for name, option in PRODUCT_OPTIONS.items()}
    given = {name: value for name, value in chosen.items() if value is not None}
    asked = project.product_parameters(settings, stages, host, given)
    found = _made_project(connection, settings, platform, asked)
    stack = project.stack_of(connection, found, asked)
    made, content = project.outputs(stack), project.values(stack).get(project.INITIAL_CONTENT, "")
    differing = project.differences(stack, asked)
    if content == "empty":
        if not project.is_of_this_repository(found, made["CloneUrl"]):
            raise _taken(found)
        project.check_changeable(found, differing, empty=True)
        remote.check()
        project.check_committed(first=True)
        remote.connect(made["CloneUrl"], host)
        _push(host, made["RepositoryUrl"])
    elif not remote.leads_to(made["CloneUrl"]):
        raise InputError(
            f"the name {found.name} is taken: there is a project with a repository already, which is not this one's "
            f"{remote.REMOTE}: clone it ({made['CloneCommand']}), or generate this one again with another name"
        )
    else:
        project.check_changeable(found, differing, empty=False)
    if content == "empty" or differing:
        if content != "empty":
            project.check_committed(first=False)
        wanted = project.kept(stack) | asked
        project.update(connection, found, platform, wanted, "pushed" if content == "empty" else content)
        _succeeded(connection, project.wait(connection, found.name, print))
        for name, (before, after) in differing.items():
            print(f"changed: {name}: {before or 'none'} -> {after or 'none'}")
        made = project.outputs(project.stack_of(connection, found, asked))
    for name in ("RepositoryUrl", "Groups"):
        print(f"{name}: {made[name]}")
    print(f"project {found.name} ({found.id}) is registered; next: an administrator gives you the policies that it has")
    print("  (README.md, Permissions), and you send the data: python -m pipeline upload-data")
    return OK


def _made_project(
    connection: boto3.Session, settings: Settings, platform: project.Platform, parameters: dict[str, str]
) -> project.Project:
    """The project in AWS: the one that is there, or a new one. Raises InputError with AWS's reasons when it fails."""
    found = project.describe(connection, settings.project)
    if found is not None and (found.status == "Pending" or found.status.endswith("InProgress")):
        found = project.wait(connection, settings.project, print)
    if found is not None and found.status == "UpdateFailed":
        return found  # it was rolled back to what it was before: updating it again is how it goes on
    if found is not None and found.status != "CreateFailed":
        return _succeeded(connection, found)
    if found is not None and not project.is_of_this_repository(found, None):
        raise _taken(found)
    # What would stop it later is said before anything is made.
    project.check_host(parameters["GitHost"], platform)
    remote.check()
    remote.check_unused()
    remote.check_sign_in(parameters["GitHost"])
    project.check_committed(first=True)
    project.check_bucket(connection, settings, platform, lambda text: print(f"warning: {text}", file=sys.stderr))
    if found is not None:
        print(f"an earlier attempt failed and is removed:\n  {project.reason(connection, found)}")
        project.delete(connection, settings.project)
        found = project.wait(connection, settings.project, print)
    if found is None:
        made = project.create(connection, settings, platform, parameters)
        found = project.wait(connection, settings.project, print, made=made)
    return _succeeded(connection, found)


def _taken(found: project.Project) -> InputError:
    """For a project of this name that was made for another repository."""
    return InputError(
        f"the name {found.name} is taken: {found.by} made a project of that name for another repository, and it is "
        f"{found.status}. Nothing was pushed. Generate this one again with another name; or where the project is an "
        f"attempt of yours, go on in the folder from which you made it, or delete it, and run register-project again:"
        f"\n  aws sagemaker delete-project --project-name {found.name}"
    )


def _push(host: str, url: str) -> None:
    """Raises InputError, with who gives access where the host may have refused it."""
    try:
        remote.push()
    except InputError as error:
        giver = {
            "github": f"an owner of the organization, or an administrator of the repository, lets you write to {url}",
            "codecommit": "an administrator of the AWS account gives you modelyard-project-creator-<region>",
        }[host]
        raise InputError(
            f"{error}. Where it says 'not found', '403' or 'denied', you have no access: {giver}"
        ) from None


def _succeeded(connection: boto3.Session, found: project.Project | None) -> project.Project:
    """Raises InputError for a project that is gone or failed."""
    if found is None:
        raise InputError("the project is gone: somebody deleted it meanwhile; run register-project again")
    if found.status in project.FAILED:
        remedy = "put that right, then "
        if found.status == "DeleteFailed":
            remedy += f"delete it again (aws sagemaker delete-project --project-name {found.name}), then "
        raise InputError(
            f"project {found.name} is {found.status}:\n  {project.reason(connection, found)}\n"
            f"{remedy}run register-project again"
        )
    return found


def _register_groups(options: argparse.Namespace) -> int:
    settings, stage_files = load_settings(), load_stage_files()
    project_id = default_project_id(settings.project)
    stages = sorted(stage_files.contents)
    for stage in options.automatic_approval:
        _known_stage(stage, stages, "--automatic-approval")
        if stage in stage_schema.SERVING_STAGES:
            print(f"warning: whatever is registered for {stage} may now serve users, seen by nobody", file=sys.stderr)
    made = registry.register_project(
        aws.session(settings), settings.project, project_id, settings.description, stages, options.automatic_approval
    )
    for name, new in made.items():
        print(f"model package group {name}: {'created' if new else 'was there'}")
    return OK


def upsert(options: argparse.Namespace) -> int:
    settings = load_settings()
    starting.upsert(aws.session(settings), settings, _names(settings, options.branch))
    return OK


def start(options: argparse.Namespace) -> int:
    settings = load_settings()
    names = _names(settings, options.branch)
    values = parameters.parse(settings, options.parameter)
    arn = starting.start(aws.session(settings), settings, names, values, execution.BY_A_PERSON)
    print(f"started {arn}")
    return _watch(settings, aws.session(settings), arn) if options.watch else OK


def watch(options: argparse.Namespace) -> int:
    settings = load_settings()
    arn = options.execution
    if arn is None:
        arn = execution.newest_execution(aws.session(settings), _names(settings, options.branch).pipeline)
    return _watch(settings, aws.session(settings), arn)


def run_ci(options: argparse.Namespace) -> int:
    return ci.run_steps(options.step, ci.Job(ci_systems.find_system(), _watch))


def versions(options: argparse.Namespace) -> int:
    settings = load_settings()
    stage = _stage(options)
    found = registry.versions(aws.session(settings), group_name(settings.project, stage), options.limit)
    if options.json:
        print(json.dumps(found, indent=2))
    elif found:
        terminal.print_versions(terminal.console(), found)
    else:
        print(f"no version is registered in {group_name(settings.project, stage)} yet")
    return OK


def get_report(options: argparse.Namespace) -> int:
    settings = load_settings()
    connection = aws.session(settings)
    if options.version is not None:
        group = group_name(settings.project, _stage(options))
        uri = registry.report_uri(connection, group, options.version)
        name = f"{group}-{options.version}"
    else:
        arn = execution.newest_execution(connection, _names(settings, options.branch).pipeline)
        uri = execution.report_uri(connection, arn, settings.project, settings.aws.bucket)
        name = arn.rpartition("/")[2]
    path = options.output or ROOT / "build" / f"report-{name}.html"
    aws.download(connection, uri, path)
    print(path)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return OK


def approve(options: argparse.Namespace) -> int:
    settings, stage, connection = _deciding(options)
    group = group_name(settings.project, stage)
    before = registry.describe_version(connection, group, options.version)
    arn = registry.set_approval(connection, before, "Approved", options.reason)
    print(f"Approved: {arn}")
    if not options.watch:
        return OK
    out = terminal.console()
    with _ctrl_c() as interrupt:
        ended = endpoint.watch_approved(
            connection, before, endpoint.endpoint_name(settings.project, stage), _printing(out), interrupt.wait
        )
    if ended is None:
        print("no longer watching; the deployment goes on: python -m pipeline status", file=sys.stderr)
        return INTERRUPTED
    which = "the deployment" if ended["number"] is None else f"deployment {ended['number']}"
    out.print(f"{which} {ended['status']}", markup=False)
    if ended["status"] == "succeeded":
        return OK
    if ended["description"]:
        out.print(ended["description"], style="red", markup=False)
    return EXECUTION_FAILED


def reject(options: argparse.Namespace) -> int:
    settings, stage, connection = _deciding(options)
    group = group_name(settings.project, stage)
    before = registry.describe_version(connection, group, options.version)
    arn = registry.set_approval(connection, before, "Rejected", options.reason)
    print(f"Rejected: {arn}")
    if not options.watch:
        return OK
    name = endpoint.endpoint_name(settings.project, stage)
    with _ctrl_c() as interrupt:
        gone = endpoint.watch_rejected(connection, arn, name, _printing(terminal.console()), interrupt.wait)
    if not gone:
        print("no longer watching; the endpoint goes on changing: python -m pipeline status", file=sys.stderr)
    return OK if gone else INTERRUPTED


def promote(options: argparse.Namespace) -> int:
    settings = load_settings()
    if (branch := current_branch(options.branch)) != "prod":
        raise InputError(f"{branch!r} is not promoted: merge it into prod, which is, and promote there")
    return promotion.promote_branch(settings, aws.session(settings))


def swap(options: argparse.Namespace) -> int:
    champion, challenger = options.champion, options.challenger
    if (champion is None) != (challenger is None):
        raise InputError("--champion and --challenger go together: name both versions that serve, or neither")
    named = None if champion is None else (champion, challenger)
    settings, stages = load_settings(), load_stage_files().contents
    return pair.swap(settings.project, aws.session(settings), stages, named, options.reason, _asking(options))


def promote_challenger(options: argparse.Namespace) -> int:
    settings, stages = load_settings(), load_stage_files().contents
    return pair.promote_challenger(settings.project, aws.session(settings), stages, options.reason, _asking(options))


def _asking(options: argparse.Namespace) -> Callable[[], None]:
    """What raises InputError when nobody says yes."""

    def ask() -> None:
        if options.yes:
            return
        if not sys.stdin.isatty():
            raise InputError("nobody is there to ask: say --yes if this is meant; nothing was done")
        if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            raise InputError("nothing was done")

    return ask


def _deciding(options: argparse.Namespace) -> tuple[Settings, str, boto3.Session]:
    settings = load_settings()
    stage = _stage(options)
    connection = aws.session(settings)
    if options.watch:
        plan.function_arn(connection)  # without the platform nothing would ever happen
    return settings, stage, connection


def _printing(out: Console) -> Callable[[dict[str, Any]], None]:
    return lambda found: terminal.print_endpoint(out, found)


def show_plan(options: argparse.Namespace) -> int:
    settings, stage_files = load_settings(), load_stage_files()
    stage = _stage(options)
    connection = aws.session(settings)
    group = group_name(settings.project, stage)
    if options.version is None:
        found = plan.ask(connection, settings.project, stage, None, stage_files.contents[stage].decode("utf-8"))
    else:
        package = registry.describe_version(connection, group, options.version)
        found = plan.ask(connection, settings.project, stage, package["ModelPackageArn"], None)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        terminal.print_plan(terminal.console(), found)
    return BAD_INPUT if found["refused"] else OK


def status(options: argparse.Namespace) -> int:
    settings, stage = load_settings(), _stage(options)
    connection = aws.session(settings)
    found = endpoint.read(connection, endpoint.endpoint_name(settings.project, stage))
    if options.json:
        print(json.dumps(found, indent=2))
        return OK
    terminal.print_endpoint(terminal.console(), found)
    if found["status"] == endpoint.NONE and (how := endpoint.how_it_comes_back(connection, settings.project, stage)):
        print(how)
    return OK


def test_endpoint(options: argparse.Namespace) -> int:
    settings = load_settings()
    suite = endpoint_test.load_suite(settings)
    if suite is None:
        raise InputError("tests/endpoint/ holds no case: write one there (README.md), or restore cases.yaml")
    connection = aws.session(settings)
    # only where it is needed: an endpoint that is named may be asked from any branch
    stage = None if options.endpoint and options.version is None else _stage(options)
    package = None
    if options.version is not None:
        package = registry.describe_version(connection, group_name(settings.project, str(stage)), options.version)
    name = options.endpoint or endpoint.endpoint_name(settings.project, str(stage))
    target = endpoint_test.find_target(
        connection,
        name,
        package,
        lambda: None if options.endpoint else endpoint.how_it_comes_back(connection, settings.project, str(stage)),
    )
    left_out = suite.load.seconds if options.no_load and suite.load is not None else 0.0
    if options.no_load:
        suite = suite.model_copy(update={"load": None})
    if target.evaluated is None and suite.needs_evaluated_rows:
        print(f"warning: there are no evaluated rows of {target.version}: {target.why}", file=sys.stderr)
    results = endpoint_test.run(connection, suite, target)
    if warning := endpoint_test.too_long(results.seconds + left_out):
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps({"endpoint": name, "version": target.version, **results.as_json()}, indent=2))
    else:
        terminal.print_endpoint_tests(terminal.console(), name, target.version, results)
    return OK if results.passed else EXECUTION_FAILED


def write_sample_data(options: argparse.Namespace) -> int:
    print(sample_data.write_sample(load_settings().problem_type))
    return OK


def upload_data(options: argparse.Namespace) -> int:
    settings = load_settings()
    path = options.path or sample_data.sample_path(settings.problem_type)
    connection = aws.session(settings)
    if aws.split_uri(settings.data.uri)[0] == settings.aws.bucket:
        aws.check_bucket(connection, settings.aws.bucket)
    if options.path is None and path.is_file() and aws.sample_is_there(connection, path, settings.data.uri):
        print(f"{settings.data.uri} holds the sample already: nothing is sent")
        return OK
    for uri in aws.upload_data(connection, path, settings.data.uri):
        print(uri)
    return OK


def _stage(options: argparse.Namespace) -> str:
    """The stage asked for, else the branch's."""
    stages = sorted(load_stage_files().contents)
    branch = options.stage or current_branch(options.branch)
    if not options.stage and branch == "prod":
        served = ", ".join(stage for stage in stages if stage not in ("dev", "feature"))
        raise InputError(f"for the branch prod, say with --stage which stage is meant ({served})")
    return _known_stage(options.stage or stage_of(branch), stages, "--stage")


def _known_stage(stage: str, stages: list[str], option: str) -> str:
    if stage not in stages:
        raise InputError(f"{option} {stage}: this project has no such stage (there are {', '.join(stages)})")
    return stage


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _reason(text: str) -> str:
    # SageMaker API reference, UpdateModelPackage: ApprovalDescription
    if not 1 <= len(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{len(text)} characters: write 1 to 1024")
    return text


def _names(settings: Settings, branch: str | None) -> Names:
    return names_of(settings.project, current_branch(branch))


class _Interrupt:
    """Whether Ctrl-C was pressed. As an exception it could strike inside a finalizer, where Python drops it."""

    pressed = False

    def wait(self, seconds: float) -> bool:
        """Lets the seconds pass, or fewer when Ctrl-C is pressed; returns whether it was."""
        until = time.monotonic() + seconds
        while not self.pressed and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.pressed


@contextmanager
def _ctrl_c() -> Iterator[_Interrupt]:
    interrupt = _Interrupt()

    def press(*_: object) -> None:
        interrupt.pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(settings: Settings, connection: boto3.Session, arn: str) -> int:
    out = terminal.console()
    failed: list[execution.Step] = []
    evaluated: list[execution.Step] = []

    def on_change(step: execution.Step) -> None:
        terminal.print_step(out, step)
        if step.status == "Failed":
            failed.append(step)
        elif (step.name, step.status) == ("Evaluate", "Succeeded"):
            evaluated.append(step)

    with _ctrl_c() as interrupt:
        ended = execution.watch(connection, arn, on_change, interrupt.wait)
    if ended is None:
        print(
            f"\nno longer watching; the execution goes on. To stop it:\n  aws sagemaker stop-pipeline-execution "
            f"--region {settings.aws.region} --pipeline-execution-arn {arn}",
            file=sys.stderr,
        )
        return INTERRUPTED
    for step in failed:
        for line in execution.last_log_lines(connection, step):
            out.print(f"  | {line}", markup=False)
        out.print(f"{step.name} failed: {step.reason}", style="red", markup=False)
    if evaluated:
        uri = execution.report_uri(connection, arn, settings.project, settings.aws.bucket)
        out.print(f"report {uri} (python -m pipeline report)", markup=False)
    status = ended["PipelineExecutionStatus"]
    out.print(f"execution {status}: {arn}", style=terminal.STYLES.get(status, ""), markup=False)
    if not failed and ended.get("FailureReason"):
        out.print(ended["FailureReason"], style="red", markup=False)
    return {"Succeeded": OK, "Failed": EXECUTION_FAILED, "Stopped": EXECUTION_STOPPED}[status]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Train, evaluate and register this repository's model on Amazon SageMaker.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str, branch: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function, name=name)
        if branch:
            command.add_argument("--branch", help="act for this branch (default: the one checked out, or the CI's)")
        return command

    add("check", check, "check settings.yaml, deployment/ and tests/endpoint/; calls nobody")
    add("sample-data", write_sample_data, "write the sample data set of the problem type to data/")
    upload = add("upload-data", upload_data, "send a file or folder to data.uri")
    upload.add_argument(
        "path",
        nargs="?",
        type=Path,
        help="a file, or a folder whose files are sent, in place of what has their names there (default: the sample "
        "data, where no other data lies there)",
    )
    registering = add(
        "register-project",
        register_project,
        "make the project in AWS (repository, roles, model package groups), and push prod and dev",
    )
    registering.add_argument("--repository", help="another name of the repository than the project's")
    registering.add_argument(
        "--git-host",
        choices=tuple(project.CI_FILES),
        help="where the repository is to be (default: as its CI file says)",
    )
    registering.add_argument(
        "--git-owner", metavar="NAME", help="on GitHub: whose the repository is (default: the platform's organization)"
    )
    registering.add_argument(
        "--on-delete",
        choices=("keep", "delete"),
        help="what becomes of the repository when the project is deleted (default: keep)",
    )
    registering.add_argument(
        "--data-buckets", metavar="NAMES", help="further buckets that data is read from, with commas between"
    )
    registering.add_argument("--kms-key-arns", metavar="ARNS", help="the keys of these buckets, with commas between")
    registering.add_argument(
        "--groups-only",
        action="store_true",
        help="make the model package groups alone; for an account without platform",
    )
    registering.add_argument(
        "--automatic-approval",
        action="append",
        default=[],
        metavar="STAGE",
        help="with --groups-only: with the tag that allows this stage approval: automatic; can be given several times",
    )
    running = add("ci", run_ci, "what CI runs (README.md, CI); by hand it does the same")
    running.add_argument(
        "step",
        nargs="+",
        choices=tuple(ci.STEPS),
        metavar="STEP",
        help="check: lint, tests, settings, stage files, endpoint tests, definition and plan; push: train the branch, "
        "of prod promote; deleted: delete the pipeline of a branch that is gone; template: propose the template's "
        "changes",
    )
    printing = add("schema", schema, "print the JSON Schema of a kind of file, for editors")
    printing.add_argument(
        "of",
        nargs="?",
        choices=("stage", "cases"),
        default="stage",
        help="stage: deployment/stage.schema.json (the default); cases: tests/endpoint/cases.schema.json",
    )
    add("definition", definition, "print the pipeline's definition; calls nobody when aws.role is an ARN", branch=True)
    add("upsert", upsert, "send the code, and create or update the branch's pipeline", branch=True)
    starting = add("start", start, "upsert, then start an execution", branch=True)
    starting.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter for this execution"
    )
    starting.add_argument("--watch", action="store_true", help="watch the execution until it ends")
    watching = add("watch", watch, "watch an execution until it ends; Ctrl-C stops watching alone", branch=True)
    watching.add_argument("execution", nargs="?", metavar="EXECUTION_ARN", help="default: the branch's newest")
    reporting = add("report", get_report, "download the evaluation's report and print where it is", branch=True)
    reporting.add_argument("version", nargs="?", type=_at_least_one, help="default: the branch's newest execution's")
    reporting.add_argument("--stage", help="of the version: of this stage (default: the branch's)")
    reporting.add_argument("--output", type=Path, help="the file to write (default: below build/)")
    reporting.add_argument("--open", action="store_true", help="open it in a browser")
    listing = add(
        "versions", versions, "list the registered versions with their metrics, the newest first", branch=True
    )
    listing.add_argument("--stage", help="of this stage (default: the branch's)")
    listing.add_argument("--limit", type=_at_least_one, default=20, help="how many at most (default: 20)")
    listing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    planning = add("plan", show_plan, "print what an approval would do: calls, changes, costs", branch=True)
    planning.add_argument(
        "version",
        nargs="?",
        type=_at_least_one,
        help="with the stage file that it carries (default: the newest version, with deployment/ as it is here)",
    )
    planning.add_argument("--stage", help="of this stage (default: the branch's)")
    planning.add_argument("--json", action="store_true", help="print JSON instead of text")
    for name, function, text in (
        ("approve", approve, "approve a version: the platform then deploys it to the stage's endpoint"),
        ("reject", reject, "reject a version: what was approved before it serves, or nothing"),
    ):
        deciding = add(name, function, text, branch=True)
        deciding.add_argument("version", type=_at_least_one)
        deciding.add_argument("--stage", help="of this stage (default: the branch's)")
        deciding.add_argument("--watch", action="store_true", help="watch the endpoint until it is so")
        deciding.add_argument("--reason", type=_reason, help="why, at most 1024 characters; the registry keeps it")
    add("promote", promote, "copy the version that was approved on dev for prod's files, for approval there", True)
    swapping = add("swap", swap, "champion and challenger exchange what they serve")
    for stage in pair.STAGES:
        swapping.add_argument(
            f"--{stage}",
            type=_at_least_one,
            metavar="VERSION",
            help=f"what {stage} serves now; with both named, swapping again does nothing (default: what serves)",
        )
    promoting = add("promote-challenger", promote_challenger, "let the champion serve what the challenger serves")
    for deciding in (swapping, promoting):
        deciding.add_argument("--yes", action="store_true", help="do not ask")
        deciding.add_argument("--reason", type=_reason, help="why; the registry and the ledger keep it")
    testing = add("test-endpoint", test_endpoint, "ask an endpoint the cases of tests/endpoint/ as they are here", True)
    testing.add_argument("--stage", help="of this stage (default: the branch's)")
    testing.add_argument("--endpoint", metavar="NAME", help="another endpoint than the stage's")
    testing.add_argument(
        "--version",
        type=_at_least_one,
        help="send the rows of this version's evaluation, and expect its answers (default: the version that serves)",
    )
    testing.add_argument("--no-load", action="store_true", help="ask the cases, and leave out the load")
    testing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    showing = add("status", status, "show what the stage serves with", branch=True)
    showing.add_argument("--stage", help="of this stage (default: the branch's)")
    showing.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser
