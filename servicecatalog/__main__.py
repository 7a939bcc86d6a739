"""python -m servicecatalog install | uninstall | build | upload"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from servicecatalog import assets, install, studio, uninstall
from servicecatalog.account import Account
from servicecatalog.errors import InstallError

INTERRUPTED = 130  # as a shell says of Ctrl-C


def main() -> int:
    arguments = _parser().parse_args()
    try:
        commands = {"install": _install, "uninstall": _uninstall, "build": _build, "upload": _upload}
        return commands[arguments.command](arguments)
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
            'Three policies allow what this needs, and no more: docs/install.md, "The administrator\'s policies". Have'
            " them attached by the account's owner, and run it again.",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servicecatalog",
        description="Modelyard's platform in the account and Region of your AWS credentials. See docs/install.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser(
        "install",
        usage="%(prog)s [OPTION VALUE] ...",  # all of them would hide what is wrong with one
        help="install the platform and the product, or bring them up to date",
    )
    for name, text in install.PARAMETERS.items():
        installing.add_argument(
            install.option(name), dest=name, choices=install.ALLOWED.get(name), metavar="VALUE", help=text
        )
    installing.add_argument(
        "--studio-domain",
        default="",
        metavar="VALUE",
        help="a SageMaker domain (d-...) whose Studio shall list the S3 project template",
    )
    installing.add_argument(
        "--revert-drift",
        action="store_true",
        help="make again what was deleted by hand, and take back what was changed by hand (docs/operate.md)",
    )
    removing = commands.add_parser("uninstall", help="remove both; the ledger, its key, buckets and repositories stay")
    removing.add_argument(
        "--force",
        action="store_true",
        help="although it is in use; not while there are projects",
    )
    for command in (installing, removing):
        command.add_argument("--yes", action="store_true", help="do not ask")
    building = commands.add_parser("build", help="write what is uploaded, and manifest.json, which says where to")
    building.add_argument("folder", type=Path)
    building.add_argument("--git-host", default="", choices=install.ALLOWED["GitHost"], help="as the platform has it")
    building.add_argument("--git-owner", default="", help="as the platform has it")
    uploading = commands.add_parser(
        "upload", help="what Terraform does with what build wrote; what is there already is left as it is"
    )
    uploading.add_argument("folder", type=Path)
    what = uploading.add_mutually_exclusive_group(required=True)
    what.add_argument("--code", metavar="BUCKET", help="the functions' archives and the stacks' templates")
    what.add_argument("--templates", metavar="BUCKET", help="the product's template, which Studio does not list yet")
    what.add_argument("--show", metavar="BUCKET", help="let Studio list it, instead of an earlier one")
    uploading.add_argument("--studio", action="store_true", help="with --show: and let Studio's pages read the bucket")
    return parser


def _install(arguments: argparse.Namespace) -> int:
    account = Account.of(_session())
    given = {name: value for name in install.PARAMETERS if (value := getattr(arguments, name)) is not None}
    if repairs := install.repairs(account, _say):
        for line in repairs:
            _say(line)
        if not _agreed(arguments.yes):
            return 1
    plan = install.plan(account, given, _say, arguments.studio_domain)
    for line in plan.lines():
        _say(line)
    if not _agreed(arguments.yes):
        return 1
    # What is taken back shows only when CloudFormation has looked at what is there: it is asked for once more then.
    agreed = (lambda: _agreed(arguments.yes, "That stack stays as it is.")) if arguments.revert_drift else None
    changed = install.carry_out(plan, _say, agreed)
    _say("Installed." if changed else "Nothing to do: the platform is as it should be.")
    for line in install.next_steps(plan.platform.stack.outputs | plan.portfolio.stack.outputs, plan.domain):
        _say(line)
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    account = Account.of(_session())
    _say(f"Account {account.number}, {account.region}, as {account.caller}: the platform is to be removed.")
    if not _agreed(arguments.yes):
        return 1
    given = uninstall.parameters(account)
    _say("Removed." if uninstall.carry_out(account, _say, arguments.force) else "The platform is not installed here.")
    _say("What stays:")
    for line in uninstall.what_stays(account, given):
        _say(f"  {line}")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    made = assets.build(assets.defaults(arguments.git_host, arguments.git_owner))
    assets.write(made, arguments.folder)
    _say(f"{arguments.folder}: version {made.version}, {sum(map(len, made.code_objects.values())) / 1e6:.1f} MB")
    return 0


def _upload(arguments: argparse.Namespace) -> int:
    account = Account.of(_session())
    if arguments.show:
        assets.show(account, arguments.folder, arguments.show)
        if arguments.studio:
            studio.let_read(account, arguments.show)
        return 0
    if arguments.code:
        made = assets.upload(account, arguments.folder, "code", arguments.code)
    else:
        made = assets.upload(account, arguments.folder, "templates", arguments.templates)
    for key in made:
        _say(f"{arguments.code or arguments.templates}/{key} uploaded.")
    return 0


def _session() -> boto3.Session:
    """In the Region that the AWS CLI takes: boto3 looks at AWS_DEFAULT_REGION alone."""
    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None)


def _agreed(yes: bool, otherwise: str = "Nothing was changed.") -> bool:
    """Whether the person at the terminal agrees; without a person, --yes must."""
    if yes:
        return True
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        _say(f"\nNobody answers. {otherwise} Add --yes (make: YES=1).")
        return False
    agreed = answer.strip().lower() in ("y", "yes")
    if not agreed:
        _say(otherwise)
    return agreed


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
