"""What is uploaded: the template as Git tracks it, product.yaml with an installation's defaults, the manifest."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from servicecatalog import assets, product, template_archive
from servicecatalog.assets import Assets
from servicecatalog.errors import InstallError
from servicecatalog.template_archive import EXECUTABLE, LINK, PLAIN
from tests.servicecatalog import template

PRODUCT = """\
Description: GitOwner in a text
Parameters:
  GitHost:
    Type: String
    # A comment
    Default: codecommit
    AllowedValues: [codecommit, github]

  GitOwner:
    Type: String
    Description: "Default: none"
    Default: none
  WithoutDefault:
    Type: String
Resources:
  GitOwner:
    Default: not a parameter
"""


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A template of five files beside what is not the template's, without a repository."""
    folder = tmp_path / "checkout"
    project = folder / "{{cookiecutter.project}}"
    (folder / "hooks").mkdir(parents=True)
    (project / "__pycache__").mkdir(parents=True)
    (folder / ".gitattributes").write_text("* text=auto eol=lf\n")
    (folder / "cookiecutter.json").write_text("{}")
    (folder / "hooks" / "pre_gen_project.py").write_text("pass\n")
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o755)
    (project / "link").symlink_to("run")
    (project / "__pycache__" / "a.pyc").write_bytes(b"of this machine")
    (folder / ".gitignore").write_text("__pycache__/\n")
    (folder / "README.md").write_text("not the template's")
    return folder


# --- the template archive


@pytest.mark.parametrize("tracked", [True, False])
def test_it_holds_what_git_tracks_or_would(checkout: Path, tracked: bool) -> None:
    if tracked:
        git(checkout, "init", "--quiet")
        git(checkout, "add", "--all")
        (checkout / "hooks" / "not-tracked.py").write_text("")
    found = {file.path: (file.mode, file.contents) for file in template_archive.files(checkout)}
    assert found == {
        ".gitattributes": (PLAIN, b"* text=auto eol=lf\n"),
        "cookiecutter.json": (PLAIN, b"{}"),
        "hooks/pre_gen_project.py": (PLAIN, b"pass\n"),
        "{{cookiecutter.project}}/link": (LINK, b"run"),
        "{{cookiecutter.project}}/run": (EXECUTABLE, b"#!/bin/sh\n"),
    }


def test_its_bytes_depend_on_contents_alone(checkout: Path) -> None:
    before = template_archive.build(checkout)
    for path in checkout.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.touch()
    assert template_archive.build(checkout) == before
    (checkout / "hooks" / "pre_gen_project.py").write_text("pass \n")
    assert template_archive.build(checkout) != before


def test_kinds_of_files_survive_unpacking(checkout: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(template_archive.build(checkout)))
    modes = {entry.filename.rpartition("/")[2]: entry.external_attr >> 16 for entry in archive.infolist()}
    names = (".gitattributes", "cookiecutter.json", "pre_gen_project.py")
    assert modes == {**dict.fromkeys(names, PLAIN), "link": LINK, "run": EXECUTABLE}


def test_a_tracked_file_that_is_gone_is_named_with_the_way_back(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    (checkout / "hooks" / "pre_gen_project.py").unlink()
    with pytest.raises(InstallError, match=r"hooks/pre_gen_project\.py .* git checkout --"):
        template_archive.build(checkout)


def test_what_is_no_checkout_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="run this from a checkout"):
        template_archive.build(tmp_path)


def test_without_git_it_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    with pytest.raises(InstallError, match="git is missing"):
        template_archive.build(checkout)


@pytest.mark.parametrize(
    ("changelog", "release"),
    [("# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-11-21)\n\n## 1.1.0\n", "1.2.0"), ("## Unreleased\n", "0")],
)
def test_the_release_is_the_newest_of_the_changelog(tmp_path: Path, changelog: str, release: str) -> None:
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    assert template_archive.release(tmp_path) == release


# --- product.yaml


def test_a_default_is_written_and_nothing_else_changes() -> None:
    changed = product.filled(PRODUCT, {"GitHost": "github", "GitOwner": "acme"})
    expected = PRODUCT.replace("    Default: codecommit", '    Default: "github"')
    assert changed == expected.replace("    Default: none", '    Default: "acme"')
    assert yaml.safe_load(changed)["Resources"] == yaml.safe_load(PRODUCT)["Resources"]


@pytest.mark.parametrize("parameter", ["WithoutDefault", "Missing"])
def test_a_parameter_without_its_one_default_is_refused(parameter: str) -> None:
    with pytest.raises(InstallError, match=f"parameter {parameter} must be there once, with one line"):
        product.with_default(PRODUCT, parameter, "x")


@pytest.mark.parametrize("value", ['a"b', "a\nb", "a: b", "{{resolve}}"])
def test_a_value_that_would_say_something_else_in_yaml_is_refused(value: str) -> None:
    with pytest.raises(InstallError, match="strange characters"):
        product.with_default(PRODUCT, "GitOwner", value)


def test_our_product_takes_the_installers_defaults() -> None:
    defaults = {"GitHost": "github", "GitOwner": "acme", "TemplateVersion": "1.2.0-0123456789ab"}
    filled = product.filled(product.TEMPLATE.read_text(), defaults)
    parameters = template.load_text(filled)["Parameters"]
    assert {name: parameters[name]["Default"] for name in defaults} == defaults


# --- all of them


def small_archives(patch: pytest.MonkeyPatch, content: bytes) -> None:
    """Not by what builds them: an archive that was built is kept, and `make demo` would install this one."""
    for name in ("functions", "seed"):
        patch.setattr(f"servicecatalog.archive.{name}", lambda: content)


@pytest.fixture(scope="module")
def made() -> Assets:
    """With small archives of functions: test_archive.py has the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        small_archives(patch, b"functions")
        return assets.build(assets.defaults("github", "acme"))


def test_the_version_names_template_and_product(made: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    small_archives(monkeypatch, b"other functions")
    assert assets.build(assets.defaults("github", "acme")).version == made.version
    assert assets.build(assets.defaults("codecommit")).version == assets.build().version != made.version
    monkeypatch.setattr("servicecatalog.template_archive.build", lambda: b"another template")
    assert assets.build(assets.defaults("github", "acme")).version != made.version


def test_the_product_makes_projects_of_its_own_version(made: Assets) -> None:
    parameters = template.load_text(made.product.decode())["Parameters"]
    assert parameters["TemplateVersion"]["Default"] == made.version
    assert made.product_key == f"projects/modelyard-{made.version}.yaml"
    assert made.template_key == f"modelyard/template/{made.version}.zip"


def test_the_manifest_says_where_each_file_goes_and_what_the_stacks_are_told(made: Assets, tmp_path: Path) -> None:
    assets.write(made, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {key: (tmp_path / name).read_bytes() for name, key in manifest["code"].items()} == made.code_objects
    assert manifest["templates"] == {"product.yaml": made.product_key}
    assert (tmp_path / "product.yaml").read_bytes() == made.product
    assert manifest["parameters"] == {
        "platform": {"CodeKey": made.functions_key, "SeedCodeKey": made.seed_key},
        "portfolio": {"TemplateVersion": made.version, "ProductKey": made.product_key},
    }
