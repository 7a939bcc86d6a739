"""`make demo`: the story on this machine. No AWS account, no Docker, no network."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS, control
from local_aws.ministack_host import policies_allow
from local_aws.permissions import report
from local_aws.permissions.identities import read_identities
from tests.story.people import DATA_SCIENTISTS, data_scientist, prepare
from tests.story.story import CHECKOUT, ChapterFailed, Story, fresh_folder

PROJECT = "demo"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KEPT_MINUTES = 60
CLOCK_SPEED = 60.0  # a minute of SageMaker's takes a second: creating instances, baking, alarms


def show_permissions(server: control.Server, file: Path, console: Console) -> None:
    """A line for each user and role of the story; action by action in the file."""
    decisions = report.counted(server.settings("permissions"))
    reports = report.report(read_identities(server.client("iam")), decisions, policies_allow)
    denied = sum(count for decision, count in decisions.items() if not decision.allowed)
    console.print(f"IAM was asked {sum(decisions.values()):,} times and denied {denied:,}. Granted actions:")
    report.render_compact(reports, console)
    with file.open("w", encoding="utf-8") as opened:
        report.render(reports, Console(file=opened, width=report.PIPED_WIDTH, highlight=False, emoji=False))
    console.print(f"Action by action, and on what: {os.path.relpath(file)}. What this story never used, tests use, or")
    console.print("servicecatalog/unused_permissions.yaml says why it is granted.")


def the_story(
    server: control.Server, project: str, folder: Path, console: Console, problem_type: str = "binary_classification"
) -> Story:
    """A story with two people of its own, in an account without Modelyard or with its platform."""
    people = prepare(server, project)
    return Story(
        *(project, server.region, people.data_scientist, people.administrator, folder),
        *(DATA_SCIENTISTS, people.welcome, people.admit, people.release, problem_type),
        console=console,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", default=os.environ.get("KEEP") == "1", help="let local_aws run on"
    )
    keep = parser.parse_args().keep or os.environ.get("KEEP") == "1"
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    started = time.monotonic()
    folder = fresh_folder(CHECKOUT / "build" / "demo")
    try:
        with contextlib.ExitStack() as ending:
            if keep:
                server = control.start(0, idle_minutes=KEPT_MINUTES, clock_speed=CLOCK_SPEED, enforce_iam=True)
            else:
                server = ending.enter_context(LocalAWS(clock_speed=CLOCK_SPEED, enforce_iam=True)).server
            console.print(f"local_aws answers AWS calls on {server.endpoint} ({time.monotonic() - started:.1f} s).")
            console.print(
                "IAM is enforced. Two people act: an administrator, and a data scientist without any right yet."
            )
            story = the_story(server, PROJECT, folder, console)
            story.install()
            story.create()
            story.train()
            story.deploy()
            with story.chapter("IAM was enforced: what each of them was granted, used and denied"):
                show_permissions(server, folder / "permissions.txt", console)
            if not keep:
                story.delete()
    except (ChapterFailed, control.StartError) as error:
        console.print(f"\n[bold red]The demo stopped:[/] {error}")
        return 1
    except KeyboardInterrupt:
        ended = "local_aws has ended, and with it all that ran in it."
        console.print(f"\nStopped by you; {'local_aws runs on: python -m local_aws stop' if keep else ended}")
        return 130
    console.print()
    console.rule("[bold]Done", align="left", style="cyan")
    for title, seconds in story.timings:
        console.print(f"{seconds:6.1f} s  {title}")
    console.print(f"{time.monotonic() - started:6.1f} s  in all\n")
    repository = os.path.relpath(story.repository)
    if not keep:
        console.print(f"The repository is {repository}; its README says what is in it.")
        console.print("To go on in it yourself: make demo KEEP=1, which lets local_aws run on.")
        return 0
    console.print(f"local_aws runs on until nobody calls it for {KEPT_MINUTES} minutes. To go on in this shell:\n")
    console.print(server.shell_commands, markup=False)
    console.print(f"export {_keys(story.environment)}   # the data scientist's", markup=False)
    console.print(f'export PATH="{Path(sys.executable).parent}:$PATH"\ncd {repository}', markup=False)
    console.print("python -m pipeline start --watch --parameter max_depth=6   # Preprocess comes from the cache")
    console.print("python -m pipeline start --watch --parameter MinimumAuc=0.9999   # a gate that no model passes")
    console.print("python -m pipeline report --open   # and why it did not")
    console.print("python -m pipeline approve 2 --watch   # the canary to its end; python -m pipeline status")
    console.print(f"cd {os.path.relpath(CHECKOUT, story.repository)}   # back in the checkout")
    console.print(f"export {_keys(story.administrator)}   # the administrator's", markup=False)
    console.print(f"python -m lifecycle_lambdas show {story.endpoint}   # who approved what, what was deployed")
    console.print(f"python -m local_aws permissions --compact --port {server.port}   # who used what by now")
    arn = f"arn:aws:iam::{server.account}:policy/modelyard-{PROJECT}"
    console.print("for WHO in reader developer approver; do   # a policy in use cannot be deleted", markup=False)
    console.print(f"  aws iam detach-user-policy --user-name {data_scientist(PROJECT)} --policy-arn {arn}-$WHO; done")
    console.print(f"python -m local_aws studio delete {PROJECT}   # the project, and all that it owned")
    console.print(f"python -m local_aws stop --port {server.port}   # at the end")
    return 0


def _keys(variables: Mapping[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(variables[name])}" for name in KEYS)


if __name__ == "__main__":
    sys.exit(main())
