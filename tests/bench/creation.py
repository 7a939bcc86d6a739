"""From ProvisionProduct to a project's branches and groups, and to all of it; and whether others slow it down."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS
from tests.bench.enforcing import silence
from tests.bench.figures import Figure
from tests.story.demo import the_story

ROUNDS = 5
MORE = 20  # projects, between the first creations that are measured and the last
STAGES = ("feature", "dev", "prod")


def creation() -> list[Figure]:
    """The seed function is warm: one project is created before."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, LocalAWS() as aws:
        with silence(), Path(folder, "log").open("w") as log:
            the_story(aws.server, "bench", Path(folder), Console(file=log)).install()
        created = _Creation(aws)
        created.project()
        few = [created.project() for _ in range(ROUNDS)]
        for _ in range(MORE):
            created.project()
        many = [created.project() for _ in range(ROUNDS)]
    slower = [later[0] / sooner[0] for sooner, later in zip(few, many, strict=True)]
    return [
        Figure("from ProvisionProduct to both branches and all groups", [there for there, _ in few], "s", at_most=3),
        Figure("the same to the end of the stack", [whole for _, whole in few], "s"),
        Figure(f"branches and groups with {ROUNDS + MORE} projects more, of that without them", slower, "x"),
    ]


class _Creation:
    def __init__(self, aws: LocalAWS) -> None:
        self._catalog, self._codecommit = aws.client("servicecatalog"), aws.client("codecommit")
        self._sagemaker = aws.client("sagemaker")
        (found,) = self._catalog.search_products_as_admin()["ProductViewDetails"]
        self._product = found["ProductViewSummary"]["ProductId"]
        artifacts = self._catalog.list_provisioning_artifacts(ProductId=self._product)["ProvisioningArtifactDetails"]
        self._artifact = artifacts[-1]["Id"]

    def project(self) -> tuple[float, float]:
        """Create one. Returns the seconds until its branches and groups are there, and until all is."""
        name = f"b{uuid.uuid4().hex[:8]}"
        parameters = {"SageMakerProjectName": name, "SageMakerProjectId": f"p-{name}"}
        began = time.monotonic()
        record = self._catalog.provision_product(
            ProductId=self._product,
            ProvisioningArtifactId=self._artifact,
            ProvisionedProductName=name,
            ProvisionToken=uuid.uuid4().hex,
            ProvisioningParameters=[{"Key": key, "Value": value} for key, value in parameters.items()],
        )["RecordDetail"]["RecordId"]
        _until(lambda: self._there(name), f"{name}'s branches and groups")
        there = time.monotonic() - began
        _until(lambda: self._status(record) != "IN_PROGRESS", f"{name} to be made")
        if (status := self._status(record)) != "SUCCEEDED":
            raise RuntimeError(f"{name} is {status}: {self._catalog.describe_record(Id=record)['RecordDetail']}")
        return there, time.monotonic() - began

    def _there(self, name: str) -> bool:
        try:
            for branch in ("prod", "dev"):
                self._codecommit.get_branch(repositoryName=name, branchName=branch)
            for stage in STAGES:
                self._sagemaker.describe_model_package_group(ModelPackageGroupName=f"{name}-{stage}")
        except (self._codecommit.exceptions.ClientError, self._sagemaker.exceptions.ClientError):
            return False
        return True

    def _status(self, record: str) -> str:
        found: str = self._catalog.describe_record(Id=record)["RecordDetail"]["Status"]
        return "IN_PROGRESS" if found in ("CREATED", "IN_PROGRESS") else found


def _until(is_so: Callable[[], bool], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
