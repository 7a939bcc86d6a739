"""Promotion, swap and promote-challenger by those who may: the CI role of prod, and a data scientist, under IAM."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.records import Entry
from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.story.people import data_scientist
from tests.story.platform import REAL_TIME
from tests.story.platform import Project as Stage
from tests.story.ways import CLOCK_SPEED, Installed

pytestmark = pytest.mark.slow

NAME = "pair"
STAGES = ("champion", "challenger")


@dataclass
class Pair:
    """A project with champion and challenger, its clone with prod checked out, and who works on it."""

    installed: Installed
    clone: Git

    def stage(self, name: str) -> Stage:
        return Stage(self.installed.aws, NAME, name, self.installed.parameter("/modelyard/artifact-bucket"))

    def train(self, name: str) -> str:
        """A version of dev that was trained from what prod has now, and approved; its ARN."""
        dev = self.stage("dev")
        tree = self.clone("rev-parse", "HEAD^{tree}").strip()
        arn = dev.register(name, git__tree=tree)
        metadata = dev.package(arn)["CustomerMetadataProperties"]
        key = metadata["deployment.prefix"].partition(f"{dev.bucket}/")[2]
        for stage in STAGES:
            self.installed.aws.client("s3").put_object(Bucket=dev.bucket, Key=f"{key}{stage}.yaml", Body=REAL_TIME)
        hashes = {f"deployment.sha256.{stage}": metadata["deployment.sha256.dev"] for stage in STAGES}
        dev.sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=hashes)
        dev.approve(arn)
        return arn

    def pipeline(self, who: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        return self.installed.run(who, self.clone.folder, "python", "-m", "pipeline", *words)

    def ci(self, name: str) -> dict[str, str]:
        return self.installed.ci(NAME, name)

    def person(self, *words: str) -> str:
        """A command of the data scientist's, which succeeds."""
        done = self.pipeline(self.installed.environment(NAME), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def counts(self) -> list[int]:
        """How many versions champion and challenger have."""
        sagemaker = self.installed.aws.client("sagemaker")
        groups = [sagemaker.list_model_packages(ModelPackageGroupName=f"{NAME}-{stage}") for stage in STAGES]
        return [len(group["ModelPackageSummaryList"]) for group in groups]

    def promote(self, name: str) -> str:
        """Trains and promotes, as CI does with a push to prod; the version of dev."""
        arn = self.train(name)
        done = self.pipeline(self.ci("prod"), "promote")
        assert done.returncode == 0, done.stdout + done.stderr
        return arn


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with LocalAWS(enforce_iam=True, clock_speed=CLOCK_SPEED) as aws:
        installed = Installed(aws, "codecommit").install()
        installed.create(NAME, Scenario="advanced")
        installed.person(NAME).admit()
        clone = installed.clone(NAME, Path(tmp_path_factory.mktemp("pair")) / NAME)
        clone("checkout", "--quiet", "prod")
        # what train() makes of these files answers no endpoint tests, and is promoted where there are none
        clone("rm", "--quiet", "tests/endpoint/cases.yaml")
        clone("commit", "--quiet", "--message", "No endpoint tests")
        yield Pair(installed, clone)


def test_what_was_approved_on_dev_is_promoted_exchanged_and_recorded(pair: Pair) -> None:
    first = pair.promote("first")
    copies = [pair.stage(stage).package(first.replace("-dev/", f"-{stage}/")) for stage in STAGES]
    for copy in copies:
        assert copy["ModelApprovalStatus"] == "PendingManualApproval"
        assert copy["CustomerMetadataProperties"]["promoted.from"] == first
        assert copy["CustomerMetadataProperties"]["promoted.commit"] == pair.clone("rev-parse", "HEAD").strip()
        assert copy["CreatedBy"]["IamIdentity"]["Arn"].split("/")[1] == f"{NAME}-ci-prod"
    for stage in STAGES:
        pair.person("approve", "1", "--stage", stage, "--watch")
        pair.stage(stage).serves("first")

    pair.clone("commit", "--quiet", "--allow-empty", "--message", "The same files")
    (pair.clone.folder / "more.txt").write_text("more\n")
    pair.clone("add", "more.txt")
    pair.clone("commit", "--quiet", "--message", "More")
    pair.promote("second")
    pair.person("approve", "2", "--stage", "challenger", "--watch")
    pair.stage("challenger").serves("second")

    refused = pair.pipeline(pair.ci("prod"), "swap", "--yes")
    assert (refused.returncode, "CI and pipelines never approve" in refused.stderr) == (2, True), refused.stderr
    # what it left waiting for approval is what the data scientist then approves
    assert pair.counts() == [3, 3]
    said = pair.person("swap", "--yes", "--reason", "right more often")
    assert "champion serves pair-champion/1 (commit 0a1b2c3d), and will serve a copy of pair-challenger/2" in said
    pair.stage("champion").serves("second")
    pair.stage("challenger").serves("first")
    assert pair.counts() == [3, 3]
    newest = [entries_of(pair, stage)[0] for stage in STAGES]
    assert [entry.why for entry in newest] == [
        "swap champion/1 challenger/2: champion serves what was pair-challenger/2; right more often",
        "swap champion/1 challenger/2: challenger serves what was pair-champion/1; right more often",
    ]
    assert {entry.by.partition(":user/")[2] for entry in newest} == {data_scientist(NAME)}
    assert "both are done already" in pair.person("swap", "--champion", "1", "--challenger", "2", "--yes")

    pair.person("promote-challenger", "--yes")
    pair.stage("champion").serves("first")
    pair.stage("challenger").serves("first")
    assert entries_of(pair, "champion")[0].why == (
        "promote-challenger challenger/3 champion/3: champion serves what was pair-challenger/3"
    )


def entries_of(pair: Pair, stage: str) -> list[Entry]:
    """The newest first."""
    ledger = Ledger(pair.installed.aws.client("dynamodb"), pair.installed.parameter("/modelyard/ledger-table"))
    return list(ledger.entries(f"{NAME}-{stage}"))


@pytest.mark.parametrize("name", ["feature", "dev"])
def test_other_branches_roles_promote_nothing(pair: Pair, name: str) -> None:
    pair.clone("commit", "--quiet", "--allow-empty", "--message", f"For {name}")
    (pair.clone.folder / "more.txt").write_text(name)
    pair.clone("commit", "--quiet", "--all", "--message", name)
    pair.train(name)
    before = pair.counts()
    refused = pair.pipeline(pair.ci(name), "promote")
    assert refused.returncode == 2
    assert "not authorized to perform" in refused.stderr
    assert "A push to prod promotes, with the role of CI" in refused.stderr
    assert pair.counts() == before


def test_cis_role_for_prod_approves_nothing(pair: Pair) -> None:
    pair.train("third")
    assert pair.pipeline(pair.ci("prod"), "promote").returncode == 0
    newest = pair.counts()[0]
    refused = pair.pipeline(pair.ci("prod"), "approve", str(newest), "--stage", "champion")
    assert refused.returncode == 2
    assert "explicit deny" in refused.stderr
    assert "A policy forbids it, whatever others allow: CI and pipelines never approve" in refused.stderr
