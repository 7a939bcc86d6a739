"""python -m servicecatalog install | uninstall | build"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from servicecatalog import archive, install, uninstall
from servicecatalog.account import Account
from servicecatalog.errors import InstallError

INTERRUPTED = 130  # as a shell says of Ctrl-C


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return {"install": _install, "uninstall": _uninstall, "build": _build}[arguments.command](arguments)
    except InstallError as error:
        print(f"Error: {error}", file=sys.stderr)
        _advise(error)
    except (BotoCoreError, ClientError) as error:
        print(f"AWS refused: {error}", file=sys.stderr)
        _advise(error)
    except KeyboardInterrupt:
        print(
            "\nInterrupted. CloudFormation goes on with what it has begun; the same command takes it up.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 1


def _advise(error: Exception) -> None:
    """Which policies there are for this, when a call or a stack's resource lacked a permission."""
    if "AccessDenied" in str(error) or "is not authorized to perform" in str(error):
        print(
            'Two policies allow what this needs, and no more: docs/install.md, "The administrator\'s policies". Have'
            " them attached by the account's owner, and run it again.",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servicecatalog",
        description="Modelyard's platform in the account and Region of your AWS credentials. See docs/install.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install the platform, or bring it up to date")
    for name, text in install.PARAMETERS.items():
        installing.add_argument(_option(name), dest=name, help=text)
    removing = commands.add_parser("uninstall", help="remove the platform; the ledger, its key and the bucket stay")
    removing.add_argument("--force", action="store_true", help="although endpoints serve, or others use its policies")
    for command in (installing, removing):
        command.add_argument("--yes", action="store_true", help="do not ask")
    building = commands.add_parser("build", help="write the functions' archive, and print the key to upload it under")
    building.add_argument("file", type=Path)
    return parser


def _install(arguments: argparse.Namespace) -> int:
    account = Account.of(boto3.Session())
    given = {name: value for name in install.PARAMETERS if (value := getattr(arguments, name)) is not None}
    plan = install.plan(account, given, _say)
    for line in plan.lines():
        _say(line)
    if not _agreed(arguments.yes):
        return 1
    _say("Installed." if install.carry_out(plan, _say) else "Nothing to do: the platform is as it should be.")
    for line in install.next_steps(plan.stack.outputs):
        _say(line)
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    account = Account.of(boto3.Session())
    _say(f"Account {account.number}, {account.region}, as {account.caller}: the platform is to be removed.")
    if not _agreed(arguments.yes):
        return 1
    _say("Removed." if uninstall.carry_out(account, _say, arguments.force) else "The platform is not installed here.")
    _say("What stays:")
    for line in uninstall.what_stays(account):
        _say(f"  {line}")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    contents = archive.build()
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    arguments.file.write_bytes(contents)
    _say(archive.key(contents))
    return 0


def _agreed(yes: bool) -> bool:
    """Whether the person at the terminal agrees; without a person, --yes must."""
    if yes:
        return True
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        _say("Nobody answers; add --yes (make: YES=1).")
        return False
    return answer.strip().lower() in ("y", "yes")


def _option(parameter: str) -> str:
    """ArtifactBuckets: --artifact-buckets."""
    return "--" + re.sub(r"(?<!^)(?=[A-Z])", "-", parameter).lower()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
