"""The story that `make demo` tells on this machine and `make story-aws` in an AWS account: the same commands, typed by
a data scientist, from cookiecutter to a registered model.

The story knows nothing of local_aws: where it plays is decided by the environment variables it is given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

CHECKOUT = Path(__file__).resolve().parents[2]


class ChapterFailed(Exception):
    """A command of the story failed; the message names it and its exit code."""


@dataclass
class Story:
    """One telling.

    Attributes:
        project: the name of the project that is created.
        region, bucket, role: where it plays; bucket and role are there already.
        environment: the AWS variables for every command (credentials, and AWS_ENDPOINT_URL where it is not AWS itself).
        folder: where the repository is generated; `folder/project` must not exist yet.
        problem_type: one of the template's.
    """

    project: str
    region: str
    bucket: str
    role: str
    environment: Mapping[str, str]
    folder: Path
    problem_type: str = "binary_classification"
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    timings: list[tuple[str, float]] = field(default_factory=list)

    @property
    def repository(self) -> Path:
        return self.folder / self.project

    def tell(self) -> None:
        """Everything in its order.

        Raises:
            ChapterFailed: at the first command that fails.
        """
        with self.chapter("A repository is generated from the template"):
            self.generate()
            self.run("git", "--no-pager", "log", "--oneline", "--decorate", "--all")
        with self.chapter("Sample data is written and sent to the artifact bucket"):
            self.pipeline("sample-data")
            self.pipeline("upload-data")
        with self.chapter("The project is registered: one model package group a stage"):
            self.pipeline("register-project")
        with self.chapter("The pipeline of branch dev runs: process, train, evaluate, gate, register"):
            self.pipeline("start", "--watch")
        with self.chapter("The model is in the registry, waiting for a person to approve it"):
            self.pipeline("versions")
        with self.chapter("How good it is stands on one page, which needs no network to be read"):
            self.pipeline("report")

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        self.console.print()
        self.console.rule(f"[bold]{len(self.timings) + 1}. {title}", align="left", style="cyan")
        started = time.monotonic()
        yield
        self.timings.append((title, time.monotonic() - started))

    def generate(self) -> None:
        answers = {
            "project": self.project,
            "description": "The story of Modelyard",
            "problem_type": self.problem_type,
            "region": self.region,
            "artifact_bucket": self.bucket,
            "pipeline_role": self.role,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run(
            *("cookiecutter", str(CHECKOUT), "--no-input", "--output-dir", str(self.folder)),
            *(f"{name}={value}" for name, value in answers.items()),
            folder=self.folder,
        )

    def pipeline(self, *arguments: str) -> None:
        """A command of the generated repository."""
        self.run("python", "-m", "pipeline", *arguments)

    def run(self, *command: str, folder: Path | None = None) -> None:
        """Run a command where a user would: in the repository, with this environment's programs first on the PATH."""
        self.console.print(f"$ {_as_typed(command)}", style="dim", markup=False)
        programs = str(Path(sys.executable).parent)
        environment = os.environ | dict(self.environment)
        environment["PATH"] = os.pathsep.join([programs, environment.get("PATH", "")])
        result = subprocess.run(command, cwd=folder or self.repository, env=environment, check=False)
        if result.returncode != 0:
            raise ChapterFailed(f"`{_as_typed(command)}` ended with exit code {result.returncode}.")


def _as_typed(command: Sequence[str]) -> str:
    """The command as a reader would type it, this machine's paths shortened."""
    words = [word.replace(str(CHECKOUT), "modelyard") for word in command]
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def fresh_folder(folder: Path) -> Path:
    """The folder, empty: an earlier telling is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
