"""The AWS CLI commands of docs/install.md install the platform, as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servicecatalog.conftest import ROOT, Administrator

PAGE = ROOT / "docs" / "install.md"


def commands(*titles: str) -> str:
    """The shell blocks of sections, in their order."""
    sections = {section.split("\n", 1)[0]: section for section in PAGE.read_text().split("\n## ")}
    return "\n".join(
        block for title in titles for block in re.findall(r"```bash\n(.*?)```", sections[title], re.DOTALL)
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout and may be written to."""
    for name in (".envs", "servicecatalog"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def shell(administrator: Administrator, checkout: Path, script: str) -> str:
    """Run a script as a person would from the checkout, ending at the first command that fails."""
    path = f"{Path(sys.executable).parent}:{administrator.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=administrator.environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_pages_commands_install_what_the_command_line_installs(
    administrator: Administrator, checkout: Path
) -> None:
    printed = shell(administrator, checkout, commands("Install with the AWS CLI", "A chat"))
    assert "modelyard-deny-approval" in printed
    # The page's last commands named one parameter; the others kept their values.
    assert administrator.stack is not None
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in administrator.stack["Parameters"]}
    manifest = json.loads((checkout / "build/modelyard/manifest.json").read_text())
    assert values["CodeKey"] == manifest["code"]["functions.zip"]
    assert administrator.settings.webhook_secret_arn == values["WebhookSecretArn"] != ""
    assert "Nothing to do" in administrator.run("install", "--yes").stdout

    shell(administrator, checkout, commands("Uninstall"))
    assert administrator.status in ("none", "DELETE_COMPLETE")


def test_the_page_names_every_option_of_the_command(administrator: Administrator) -> None:
    options = set(re.findall(r"^  (--[a-z-]+) [A-Z_]+", administrator.run("install", "--help").stdout, re.MULTILINE))
    assert options
    assert options == set(re.findall(r"^\| `(--[a-z-]+)` \|", PAGE.read_text(), re.MULTILINE))
