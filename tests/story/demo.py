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
from tests.story import chapters, timeline
from tests.story.people import DATA_SCIENTISTS, data_scientist, prepare
from tests.story.story import CHECKOUT, ChapterFailed, Story, fresh_folder

PROJECT = "demo"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KEPT_MINUTES = 60
CLOCK_SPEED = 60.0  # a minute of SageMaker's takes a second: creating instances, baking, alarms
PERMISSIONS = "permissions"
TOLD = (*chapters.TRAINING, *chapters.SERVING)
STEPS = (*(chapter.name for chapter in TOLD), PERMISSIONS)
PICTURE = CHECKOUT / "docs" / "demo.svg"


def show_permissions(server: control.Server, file: Path, story: Story) -> None:
    """A line for each user and role of the story; action by action in the file."""
    decisions = report.counted(server.settings("permissions"))
    reports = report.report(read_identities(server.client("iam")), decisions, policies_allow)
    denied = sum(count for decision, count in decisions.items() if not decision.allowed)
    report.render_compact(reports, story.console)
    with file.open("w", encoding="utf-8") as opened:
        report.render(reports, Console(file=opened, width=report.PIPED_WIDTH, highlight=False, emoji=False))
    story.console.print(
        f"Action by action, and on what: {os.path.relpath(file)}. What this story never used, tests use,"
    )
    story.console.print("or servicecatalog/unused_permissions.yaml says why it is granted.")
    story.note(f"IAM was asked {sum(decisions.values()):,} times and denied {denied:,}")


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
    parser.add_argument("--keep", action="store_true", help="let local_aws run on (KEEP=1)")
    parser.add_argument("--step", metavar="CHAPTER", help=f"stop after it and let local_aws run on (STEP=): {STEPS}")
    parser.add_argument("--picture", action="store_true", help=f"write {os.path.relpath(PICTURE)} at the end")
    options = parser.parse_args()
    step = options.step or os.environ.get("STEP") or None
    if step is not None and step not in STEPS:
        parser.error(f"there is no chapter {step!r} to stop after; there are {', '.join(STEPS)}")
    keep = options.keep or os.environ.get("KEEP") == "1" or step is not None
    # A log has no width of its own: the time line gets the picture's.
    width = None if sys.stdout.isatty() else timeline.WIDTH
    console = Console(highlight=False, emoji=False, soft_wrap=True, record=True, width=width)
    started = time.monotonic()
    folder = fresh_folder(CHECKOUT / "build" / "demo")
    story = None
    try:
        with contextlib.ExitStack() as ending:
            if keep:
                server = control.start(
                    0, idle_minutes=KEPT_MINUTES, clock_speed=CLOCK_SPEED, enforce_iam=True, builds=True
                )
            else:
                server = ending.enter_context(LocalAWS(clock_speed=CLOCK_SPEED, enforce_iam=True, builds=True)).server
            console.print(f"local_aws answers AWS calls on {server.endpoint} ({time.monotonic() - started:.1f} s).")
            console.print(
                "IAM is enforced. Two people act: an administrator, and a data scientist without any right yet."
            )
            story = the_story(server, PROJECT, folder, console)
            story.began = started
            chapters_told = len(TOLD) + (1 if keep else 2)
            chapters.tell(story, TOLD, step, of=chapters_told)
            if step in (None, PERMISSIONS):
                title = "What each of them was granted, used and denied"
                with story.chapter(PERMISSIONS, title, f"{len(story.told) + 1}/{chapters_told}"):
                    show_permissions(server, folder / "permissions.txt", story)
            if not keep:
                chapters.tell(story, [chapters.DELETE], of=chapters_told)
    except (ChapterFailed, control.StartError) as error:
        console.print("\n[bold red]The demo stopped:[/]", end=" ")
        console.print(str(error), markup=False)
        if keep and story is not None:
            console.print("local_aws runs on: python -m local_aws status", markup=False)
        return 1
    except KeyboardInterrupt:
        ended = "local_aws has ended, and with it all that ran in it."
        console.print(f"\nStopped by you; {'local_aws runs on: python -m local_aws stop' if keep else ended}")
        return 130
    console.print()
    console.rule("[bold]Done", align="left", style="cyan")
    console.print(timeline.time_line(story.told))
    files = timeline.keep(story.told, console, folder)
    if options.picture:
        timeline.picture(story.told, PICTURE)
    console.print(f"\n{os.path.relpath(folder)} has the reports, the repository and the story: {_names(files)}.")
    if keep:
        _how_to_go_on(server, story, console)
    else:
        console.print(f"The repository is {os.path.relpath(story.repository)}; its README says what is in it.")
        console.print("To go on in it yourself: make demo KEEP=1, or make demo STEP=feature, which stops after that.")
    return 0


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)


def _how_to_go_on(server: control.Server, story: Story, console: Console) -> None:
    """What somebody types who goes on where the story stopped."""
    told = {one.name for one in story.told}
    repository = os.path.relpath(story.repository)
    console.print(f"local_aws runs on until nobody calls it for {KEPT_MINUTES} minutes. To go on in this shell:\n")
    console.print(server.shell_commands, markup=False)
    console.print(f"export {_variables(story.environment, server)}   # the data scientist's", markup=False)
    console.print(f'export PATH="{Path(sys.executable).parent}:$PATH"', markup=False)
    if "create" in told:
        console.print(f"cd {repository}")
        console.print("git commit --allow-empty -m again && git push   # CI checks it, and it is trained")
        console.print(f"(cd {os.path.relpath(CHECKOUT, story.repository)} && python -m local_aws builds --follow)")
        console.print("python -m pipeline watch; python -m pipeline versions; python -m pipeline report --open")
        console.print("python -m pipeline start --watch --parameter MinimumAuc=0.9999   # a gate that no model passes")
        console.print(f"cd {os.path.relpath(CHECKOUT, story.repository)}   # back in the checkout")
    console.print(f"export {_keys(story.administrator)}   # the administrator's", markup=False)
    if "serve" in told:
        console.print(
            f"python -m lifecycle_lambdas show {story.endpoint('feature')}   # who approved, what was deployed"
        )
    console.print(f"python -m local_aws permissions --compact --port {server.port}   # who used what by now")
    if "create" in told:
        arn = f"arn:aws:iam::{server.account}:policy/modelyard-{PROJECT}"
        console.print("for WHO in reader developer approver; do   # a policy in use cannot be deleted", markup=False)
        console.print(
            f"  aws iam detach-user-policy --user-name {data_scientist(PROJECT)} --policy-arn {arn}-$WHO; done"
        )
        console.print(f"python -m local_aws studio delete {PROJECT}   # the project, and all that it owned")
    console.print(f"python -m local_aws stop --port {server.port}   # at the end")


def _variables(environment: Mapping[str, str], server: control.Server) -> str:
    """The keys, and by what git signs in with them."""
    git = {name: environment[name] for name in server.git_environment}
    return " ".join([_keys(environment), *(f"{name}={shlex.quote(value)}" for name, value in git.items())])


def _keys(variables: Mapping[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(variables[name])}" for name in KEYS)


if __name__ == "__main__":
    sys.exit(main())
