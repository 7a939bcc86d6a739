"""The Terraform module: it is valid, and installs, updates and destroys what the command installs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servicecatalog.conftest import ROOT, Administrator

MODULE = ROOT / "servicecatalog" / "terraform"
# A mirror of providers, with registry.terraform.io/hashicorp/aws in it.
PLUGINS = Path(os.environ.get("TF_PLUGINS", "/opt/tf-plugins"))
BUCKETS = ("Artifact", "Build", "Template")  # which destroying leaves
MISSING = next(
    (
        reason
        for there, reason in (
            (shutil.which("terraform"), "terraform is not on the PATH"),
            ((PLUGINS / "registry.terraform.io/hashicorp/aws").is_dir(), f"no AWS provider in {PLUGINS} (TF_PLUGINS)"),
        )
        if not there
    ),
    "",
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

ROOT_MODULE = """
provider "aws" {
  region            = "us-east-1"
  s3_use_path_style = true
}

module "modelyard" {
  source              = "MODULE"
  build_folder        = "BUILD"
  principals          = ["arn:aws:iam:::role/studio-*"]
  parameters          = merge({ LogRetentionDays = var.days }, var.existing)
  studio_s3_templates = true
  destroy_code        = var.destroy_code
}

variable "days" { default = "30" }
variable "destroy_code" { default = true }
variable "existing" {
  type    = map(string)
  default = {}
}

output "version" { value = module.modelyard.version }
output "product" { value = module.modelyard.portfolio["Product"] }
"""


class Terraform:
    """One root module in a folder, without a network."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        settings = folder / "terraformrc"
        settings.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{PLUGINS}" }}\n}}\n')
        self._environment = environment | {"TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1"}

    def run(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def terraform(tmp_path: Path, administrator: Administrator) -> Terraform:
    return Terraform(tmp_path, administrator.environment)


def test_it_is_valid(tmp_path: Path, terraform: Terraform) -> None:
    write_root(tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "manifest.json").write_text("{}")
    terraform.run("init", "-backend=false", "-input=false")
    terraform.run("validate")


def test_it_installs_updates_is_taken_over_and_destroys(
    tmp_path: Path, administrator: Administrator, terraform: Terraform
) -> None:
    administrator.run("build", str(tmp_path / "build"))
    version = json.loads((tmp_path / "build" / "manifest.json").read_text())["version"]
    write_root(tmp_path)
    terraform.run("init", "-input=false")
    terraform.run("apply", "-auto-approve", "-input=false")
    assert administrator.parameters["/modelyard/template/version"] == version
    assert json.loads(terraform.run("output", "-json"))["product"]["value"] == administrator.outputs["Product"]
    assert "No changes" in terraform.run("plan", "-input=false")

    terraform.run("apply", "-auto-approve", "-input=false", "-var", "days=60")
    assert log_days(administrator) == 60
    # The command goes on where Terraform stopped: the same names, and the values that it set.
    administrator.run("install", "--yes", "--alert-email", "team@example.com")
    assert log_days(administrator) == 60

    terraform.run("destroy", "-auto-approve", "-input=false", "-var", "days=60")
    assert administrator.status in ("none", "DELETE_COMPLETE")
    assert [one["Name"] for one in administrator.client("s3").list_buckets()["Buckets"]] == [
        f"modelyard-artifacts-{administrator.account}-us-east-1",
        f"modelyard-builds-{administrator.account}-us-east-1",
        f"modelyard-templates-{administrator.account}-us-east-1",
    ]

    # README: "After destroying"
    kept = {f"Existing{kind}Bucket": f"modelyard-{kind.lower()}s-{administrator.account}-us-east-1" for kind in BUCKETS}
    key = administrator.client("kms").describe_key(KeyId="alias/modelyard")["KeyMetadata"]["Arn"]
    kept |= {"ExistingLedgerTable": "modelyard-ledger", "ExistingKmsKeyArn": key}
    existing = ("-var", f"existing={json.dumps(kept)}")
    logs = administrator.client("logs")
    # A function that ends after its log group was deleted makes it anew here, where IAM is not asked; its role may not.
    for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/modelyard-")["logGroups"]:
        logs.delete_log_group(logGroupName=group["logGroupName"])
    terraform.run("apply", "-auto-approve", "-input=false", *existing)
    assert administrator.settings.ledger_table == "modelyard-ledger"
    assert visible(administrator, kept["ExistingTemplateBucket"]) == {f"projects/modelyard-{version}.yaml": "true"}


def test_another_version_leaves_what_projects_and_a_roll_back_need(
    tmp_path: Path, administrator: Administrator, terraform: Terraform
) -> None:
    bucket = f"modelyard-templates-{administrator.account}-us-east-1"
    code = f"modelyard-platform-{administrator.account}-us-east-1"
    administrator.run("build", str(tmp_path / "build"))
    write_root(tmp_path)
    terraform.run("init", "-input=false")
    keep = ("-auto-approve", "-input=false", "-var", "destroy_code=false")
    terraform.run("apply", *keep)
    first, before = visible(administrator, bucket), keys(administrator, code)
    assert list(first.values()) == ["true"]

    another_version(tmp_path / "build")
    terraform.run("apply", *keep)
    second = visible(administrator, bucket)
    assert second == dict.fromkeys(first, "false") | {next(iter(second.keys() - first.keys())): "true"}
    assert keys(administrator, code) > before
    assert "No changes" in terraform.run("plan", "-input=false", "-var", "destroy_code=false")

    assert "BucketNotEmpty" in terraform.run("destroy", *keep, fails=True)
    assert keys(administrator, code) > before
    assert visible(administrator, bucket) == second


def another_version(build: Path) -> None:
    """What `build` writes when something has changed in the functions, the template and the product."""
    manifest = (build / "manifest.json").read_text()
    version = json.loads(manifest)["version"]
    product = (build / "product.yaml").read_text()
    (build / "product.yaml").write_text(product.replace(version, f"{version}x"))
    changed = json.loads(manifest.replace(version, f"{version}x"))
    changed["code"]["functions.zip"] += ".zip"
    changed["parameters"]["platform"]["CodeKey"] += ".zip"
    (build / "manifest.json").write_text(json.dumps(changed))


def keys(administrator: Administrator, bucket: str) -> set[str]:
    return {one["Key"] for one in administrator.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])}


def visible(administrator: Administrator, bucket: str) -> dict[str, str]:
    """What Studio is told of each of the product's templates, by key."""
    s3 = administrator.client("s3")
    tagged = {key: s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in keys(administrator, bucket)}
    return {key: tags[0]["Value"] for key, tags in tagged.items() if key.startswith("projects/")}


def write_root(folder: Path) -> None:
    text = ROOT_MODULE.replace("MODULE", str(MODULE)).replace("BUILD", str(folder / "build"))
    (folder / "main.tf").write_text(text)


def log_days(administrator: Administrator) -> int:
    groups = administrator.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/modelyard-seed")
    return int(groups["logGroups"][0]["retentionInDays"])
