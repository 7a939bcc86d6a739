"""python -m local_aws start | status | stop | builds | permissions | git-credential | studio"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import sys
import time
from pathlib import Path

from local_aws import control

IDLE_MINUTES = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local_aws",
        description="The AWS API calls that Modelyard makes, answered on this machine.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser(
        "start",
        help="start a server in the background and print the variables that point AWS clients at it",
        description='Start a server in the background. In a shell: eval "$(python -m local_aws start)"',
    )
    start.add_argument(
        "--port", type=int, default=control.DEFAULT_PORT, help="0 takes a free one (default %(default)s)"
    )
    start.add_argument("--account", default=control.DEFAULT_ACCOUNT, help="12 digits (default %(default)s)")
    start.add_argument("--region", default=control.DEFAULT_REGION, help="default %(default)s")
    start.add_argument("--state", type=Path, help="a folder whose contents survive a restart (default: nothing does)")
    start.add_argument(
        "--opt-ml",
        choices=("auto", "namespace", "rewrite"),
        default="auto",
        help="how jobs get /opt/ml: a mount namespace, or rewritten paths (default: what the system allows)",
    )
    start.add_argument(
        "--clock-speed",
        type=float,
        default=1.0,
        help="how many of AWS's seconds pass in one second here: bakes, schedules, alarm periods (default %(default)g)",
    )
    start.add_argument(
        "--enforce-iam",
        action="store_true",
        help="ask IAM before anything is done, as AWS does (default: everybody may do everything)",
    )
    start.add_argument(
        "--no-builds",
        action="store_true",
        help="record the builds that pushes start, and do not run them (default: they run in the background)",
    )
    start.add_argument(
        "--idle-minutes",
        type=float,
        default=IDLE_MINUTES,
        help="stop by itself after so long without a request, job or build; 0: never (default %(default)g)",
    )
    status = commands.add_parser("status", help="list the running servers; exit code 1 when there are none")
    stop = commands.add_parser("stop", help="stop a server, and keep its state when it has a state folder")
    for command in (status, stop):
        command.add_argument("--port", type=int, help="the server on this port only")
    builds = commands.add_parser(
        "builds",
        help="what pushes have started: CodeBuild's builds and GitHub's jobs, and their logs",
        description="List the builds that a server has run, of CodeBuild and of GitHub Actions, the newest last; "
        "with --follow print what one prints, until it is over (exit code 1 when it has not succeeded).",
    )
    builds.add_argument("--port", type=int, help="the server on this port (default: the one that runs)")
    builds.add_argument(
        "--follow",
        nargs="?",
        const="",
        metavar="ID",
        help="print the log of this build (the beginning of its id is enough) as it comes; of the newest without one",
    )
    permissions = commands.add_parser(
        "permissions",
        help="what each user and role was allowed and denied, and what it is granted and never uses",
        description="Of a server with --enforce-iam: what each user's and role's policies grant, used and never used, "
        "and what was denied.",
    )
    permissions.add_argument("--port", type=int, help="the server on this port (default: the one that runs)")
    permissions.add_argument("--role", metavar="NAME", help="of this role or user alone; * stands for any characters")
    permissions.add_argument(
        "--compact",
        action="store_true",
        help="one table: how many actions each was granted, used and never used, and what was denied",
    )
    permissions.add_argument("--json", type=Path, metavar="FILE", help="write it all to this file as well")
    permissions.add_argument(
        "--fail-on",
        type=_fail_on,
        default=(),
        metavar="unused,denied",
        help="exit code 1 when a granted action was never used, when something was denied (default: neither)",
    )
    permissions.add_argument("--clear", action="store_true", help="forget the decisions so far, and count from now on")
    git_credential = commands.add_parser(
        "git-credential",
        help="git's credential helper for CodeCommit: signs with the AWS_* variables",
        description="Git's credential helper for CodeCommit; git runs it. "
        "git -c credential.useHttpPath=true -c credential.helper='!python -m local_aws git-credential' clone ...",
    )
    git_credential.add_argument("operation", help="what git asks for: get, store or erase; the last two do nothing")
    studio = commands.add_parser(
        "studio",
        help="SageMaker Studio's form for a new project, as whoever the AWS_* variables say",
        description="SageMaker Studio's form for a new project, in this terminal, as whoever the AWS_* variables say.",
    )
    _studio_arguments(studio)
    arguments = parser.parse_args()
    run = {
        "start": _start,
        "status": _status,
        "stop": _stop,
        "builds": _builds,
        "permissions": _permissions,
        "git-credential": _git_credential,
        "studio": _studio,
    }[arguments.command]
    try:
        return run(arguments)
    except control.StartError as error:
        print(error, file=sys.stderr)
        return 1


def _studio_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="studio", metavar="list | create | delete")
    listing = commands.add_parser("list", help="the templates that you may make projects from")
    create = commands.add_parser("create", help="make a project without questions")
    delete = commands.add_parser("delete", help="delete a project")
    create.add_argument("--template", required=True, metavar="NAME", help="one of those that list shows")
    create.add_argument("--name", required=True, help="the project's")
    create.add_argument("--description", default="")
    create.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the template; may be given several times. Those left out have their defaults",
    )
    create.add_argument("--route", choices=("servicecatalog", "s3"), help="when both have a template of that name")
    for command in (parser, listing, create):
        command.add_argument(
            "--domain",
            metavar="ID",
            help="the Studio domain, whose S3 folder is looked into (default: all) and which projects are tagged with"
            " (default: the only one)",
        )
    for command in (parser, create):
        command.add_argument(
            "--role",
            metavar="ARN",
            help="S3 templates: the role that CloudFormation acts as (default: what Parameter Store has as"
            " /modelyard/launch-role; the form asks)",
        )
    delete.add_argument("name", help="the project's")


def _start(arguments: argparse.Namespace) -> int:
    if not (len(arguments.account) == 12 and arguments.account.isdigit()):
        raise control.StartError(f"--account {arguments.account}: an AWS account is 12 digits, such as 123456789012.")
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d+", arguments.region):
        raise control.StartError(f"--region {arguments.region}: an AWS Region has a name such as us-east-1.")
    if not arguments.idle_minutes >= 0:
        raise control.StartError(f"--idle-minutes {arguments.idle_minutes:g}: give minutes, or 0 for never.")
    if not 0 < arguments.clock_speed < float("inf"):
        raise control.StartError(f"--clock-speed {arguments.clock_speed:g}: give a positive number; 1 is real time.")
    server = control.start(
        arguments.port,
        account=arguments.account,
        region=arguments.region,
        state=arguments.state,
        opt_ml=arguments.opt_ml,
        clock_speed=arguments.clock_speed,
        enforce_iam=arguments.enforce_iam,
        builds=not arguments.no_builds,
        idle_minutes=arguments.idle_minutes or None,
    )
    print(server.shell_commands)
    print(f"local_aws runs on {server.endpoint} (process {server.pid}, log {server.log}).", file=sys.stderr)
    print(f"Stop it with: python -m local_aws stop --port {server.port}", file=sys.stderr)
    return 0


def _chosen(arguments: argparse.Namespace) -> list[control.Server]:
    return [server for server in control.running() if arguments.port in (None, server.port)]


def _status(arguments: argparse.Namespace) -> int:
    servers = _chosen(arguments)
    for server in servers:
        state = f"state in {server.state}" if server.state else "nothing survives its end"
        print(f"{server.endpoint}  process {server.pid}  account {server.account}  {server.region}  {state}")
    if not servers:
        print("No local_aws runs." if arguments.port is None else f"No local_aws runs on port {arguments.port}.")
    return 0 if servers else 1


def _stop(arguments: argparse.Namespace) -> int:
    servers = _chosen(arguments)
    if not servers:
        print("No local_aws runs." if arguments.port is None else f"No local_aws runs on port {arguments.port}.")
        return 0
    server = _the_only_one(servers, arguments.port)
    control.stop(server)
    print(f"Stopped {server.endpoint}.")
    return 0


def _builds(arguments: argparse.Namespace) -> int:
    from local_aws.builds import watching

    server = _the_only_one(_chosen(arguments), arguments.port)

    def look() -> list[watching.Build]:
        found: list[watching.Build] = server.settings("builds")["builds"]
        return found

    if arguments.follow is None:
        lines = list(watching.listed(look(), time.time()))
        print("\n".join(lines) or f"{server.endpoint} has run no builds.")
        return 0
    try:
        return watching.follow(look, arguments.follow or None, sys.stdout)
    except watching.NoSuchBuild as error:
        raise control.StartError(str(error)) from None
    except KeyboardInterrupt:  # whoever watches has seen enough
        return 130
    except OSError as error:
        raise control.StartError(f"{server.endpoint} does not answer any more: {error}") from None


def _fail_on(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= {"unused", "denied"}:
        raise argparse.ArgumentTypeError(f"{text!r}: write unused, denied, or unused,denied")
    return chosen


def _permissions(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from local_aws import ministack_host
    from local_aws.permissions import report
    from local_aws.permissions.identities import read_identities

    server = _the_only_one(_chosen(arguments), arguments.port)
    settings = server.settings("permissions")
    if not settings["enforced"]:
        raise control.StartError(f"{server.endpoint} enforces no IAM: start one with --enforce-iam.")
    if arguments.clear:
        server.configure("permissions", {"clear": True})
        print(f"{server.endpoint} has forgotten {len(settings['decisions'])} decisions.")
        return 0
    identities, decisions = read_identities(server.client("iam")), report.counted(settings)
    reports = [
        one
        for one in report.report(identities, decisions, ministack_host.policies_allow)
        if fnmatch.fnmatchcase(one.name, arguments.role or "*")
    ]
    if arguments.role and not reports:
        raise control.StartError(f"--role {arguments.role}: there is no such user or role in account {server.account}.")
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else report.PIPED_WIDTH)
    (report.render_compact if arguments.compact else report.render)(reports, console)
    if arguments.json:
        try:
            arguments.json.write_text(json.dumps([one.as_json() for one in reports], indent=1) + "\n")
        except OSError as error:
            raise control.StartError(f"--json {arguments.json} cannot be written: {error.strerror}.") from None
    unused = any(not use.count for one in reports for use in one.actions)
    denied = any(one.denied for one in reports)
    return int(("unused" in arguments.fail_on and unused) or ("denied" in arguments.fail_on and denied))


def _git_credential(arguments: argparse.Namespace) -> int:
    from local_aws.git import credentials

    return credentials.main(arguments.operation)


def _studio(arguments: argparse.Namespace) -> int:
    from local_aws.studio.command import run

    return run(arguments)


def _the_only_one(servers: list[control.Server], port: int | None) -> control.Server:
    if not servers:
        raise control.StartError("No local_aws runs." if port is None else f"No local_aws runs on port {port}.")
    if len(servers) > 1:
        ports = ", ".join(str(server.port) for server in servers)
        raise control.StartError(f"Several run (ports {ports}); say which one with --port.")
    return servers[0]


if __name__ == "__main__":
    sys.exit(main())
