"""`make demo`: the story on this machine. No AWS account, no Docker, no network."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS, control
from local_aws.ministack_host import policies_allow
from local_aws.permissions import report
from local_aws.permissions.identities import read_identities
from tests.story.people import prepare
from tests.story.story import CHECKOUT, ChapterFailed, Story, fresh_folder

PROJECT, BUCKET = "demo", "demo-artifacts"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KEPT_MINUTES = 60
CLOCK_SPEED = 60.0  # a minute of SageMaker's takes a second: creating instances, baking, alarms


def show_permissions(server: control.Server, console: Console) -> None:
    """A few lines for each user and role of the story."""
    identities = read_identities(server.client("iam"))
    decisions = report.counted(server.settings("permissions"))
    report.render_compact(report.report(identities, decisions, policies_allow), console)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", default=os.environ.get("KEEP") == "1", help="let local_aws run on"
    )
    keep = parser.parse_args().keep or os.environ.get("KEEP") == "1"
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    folder = fresh_folder(CHECKOUT / "build" / "demo")
    try:
        with contextlib.ExitStack() as ending:
            if keep:
                server = control.start(0, idle_minutes=KEPT_MINUTES, clock_speed=CLOCK_SPEED, enforce_iam=True)
            else:
                server = ending.enter_context(LocalAWS(clock_speed=CLOCK_SPEED, enforce_iam=True)).server
            console.print(f"local_aws answers AWS calls on {server.endpoint} ({time.monotonic() - started:.1f} s).")
            people = prepare(server, PROJECT, BUCKET)
            story = Story(
                *(PROJECT, server.region, BUCKET, people.role),
                *(people.data_scientist, people.administrator, folder, people.admit),
                console=console,
            )
            story.train()
            story.deploy()
            with story.chapter("IAM was enforced: what each of them was granted, used and denied"):
                show_permissions(server, console)
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
    keys = [f"{name}={shlex.quote(people.data_scientist[name])}" for name in KEYS]
    console.print(f"export {' '.join(keys)}   # the data scientist's", markup=False)
    console.print(f'export PATH="{Path(sys.executable).parent}:$PATH"\ncd {repository}', markup=False)
    console.print("python -m pipeline start --watch --parameter max_depth=6   # Preprocess comes from the cache")
    console.print("python -m pipeline start --watch --parameter MinimumAuc=0.9999   # a gate that no model passes")
    console.print("python -m pipeline report --open   # and why it did not")
    console.print("python -m pipeline approve 2 --watch   # the canary to its end; python -m pipeline status")
    console.print(f"python -m local_aws stop --port {server.port}   # in the checkout, at the end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
