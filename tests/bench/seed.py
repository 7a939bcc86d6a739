"""The seed function: its archive's size, its import, and how long a project's repository and groups take."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from local_aws import LocalAWS
from servicecatalog import archive, template_archive
from tests.bench.cold_import import import_ratio, unpack
from tests.bench.figures import Figure
from tests.seed_lambda.platform import Platform

ROUNDS = 10
VERSION = "1.0"


def seed() -> list[Figure]:
    return [*_archive(), *(_creation(host) for host in ("codecommit", "github"))]


def _archive() -> list[Figure]:
    contents = archive.build_seed()
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
        folder = Path(name)
        unpack(contents, folder)
        ratios = [import_ratio(folder, "seed_lambda.handler") for _ in range(ROUNDS)]
    return [
        Figure("archive of the seed function", [len(contents) / 1e6], "MB", at_most=12),
        Figure("cold import of seed, against import boto3", ratios, "x", at_most=2),
    ]


def _creation(host: str) -> Figure:
    """From CreateStack to its end, with the resource of the seed alone; the function is warm."""
    samples = []
    with LocalAWS() as aws:
        platform = Platform(aws, host, template_archive.build(), VERSION)
        platform.announce(platform.publish(VERSION))
        for number in range(ROUNDS + 1):
            started = time.monotonic()
            made = platform.create(f"project-{number}")
            samples.append(time.monotonic() - started)
            if made.status != "CREATE_COMPLETE":
                raise RuntimeError(f"no project was made: {made.reasons}")
    return Figure(f"repository and groups of a project, on {host}", samples[1:], "s", at_most=3)
