"""The pages for a newcomer say nothing that is not there: commands, settings, files, links."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jmespath
import pytest
from cookiecutter.main import cookiecutter

from tests.docs.pages import (
    CHECKOUT,
    DOCS,
    HOW_TO,
    MARKS,
    TUTORIAL,
    Block,
    PageError,
    apply,
    blocks,
    check_output,
    commands,
    typed_lines,
)
from tests.docs.parsers import PROGRAMS, fault, template_module

# What a reader would type where a page leaves it open.
EXAMPLES = {"VERSION": "1", "<version>": "1", "STEP": "check"}
EXPLAINING = [DOCS / "explanation.md", DOCS / "README.md"]
REFERENCE = sorted((DOCS / "reference").glob("*.md"))
RUN = [TUTORIAL, *HOW_TO]
PAGES = [*RUN, *EXPLAINING, *REFERENCE]
REPOSITORY_PAGES = [CHECKOUT / "{{cookiecutter.project}}" / "README.md", CHECKOUT / "README.md", *DOCS.glob("*.md")]
CREATING = DOCS / "create-a-project.md"
TYPED = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "servicecatalog/terraform/README.md")),
    *((CHECKOUT / "{{cookiecutter.project}}").glob("**/*.md")),
    *DOCS.glob("*.md"),
    *HOW_TO,
]
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", re.DOTALL)


def short(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", list(dict.fromkeys([*PAGES, *REPOSITORY_PAGES])), ids=short)
def test_every_command_is_one_that_its_program_takes(page: Path) -> None:
    text = re.sub(r"^```text\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    said = {}
    for program in PROGRAMS:
        for words in commands(text, program):
            arguments = words[len(program.split()) :]
            # a program's name alone is nothing to type, and COMMAND stands for all of them
            if arguments and not {"COMMAND", "|"} & set(arguments):
                said[" ".join(words)] = fault(program, [EXAMPLES.get(word, word) for word in arguments])
    # where a text talks of a command it may leave out what must follow
    assert {command: wrong for command, wrong in said.items() if wrong and "are required" not in wrong} == {}


@pytest.mark.parametrize("page", [*RUN, *EXPLAINING], ids=short)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    model = template_module("pipeline.settings").Settings
    names = "|".join(model.model_fields)
    named = re.findall(rf"`((?:{names})\.[a-z_.]+)(?::[^`]*)?`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not exists(model, name.split("."))] == []


def exists(model: Any, path: list[str]) -> bool:
    """Whether a field of the model, or of the models within it, is called so."""
    field = model.model_fields.get(path[0])
    return field is not None and (len(path) == 1 or any(exists(one, path[1:]) for one in models_in(field.annotation)))


def models_in(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


@pytest.mark.parametrize("page", list(dict.fromkeys([*PAGES, *REPOSITORY_PAGES])), ids=short)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "code", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, heading in _LINK.findall(text):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        assert not heading or heading in headings(found), f"{target}#{heading}"


@cache
def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    named = set(re.findall(r'<a id="([^"]+)">', text))
    return named | {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as the product makes it, but for the names of bucket and project."""
    answers = {"project": "churn", "artifact_bucket": "modelyard-artifacts-123456789012-us-east-1"}
    folder = tmp_path_factory.mktemp("repository")
    return Path(cookiecutter(str(CHECKOUT), no_input=True, extra_context=answers, output_dir=str(folder)))


@pytest.mark.parametrize("page", RUN, ids=short)
def test_the_lines_that_a_page_changes_are_there(page: Path, repository: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.kind == "diff":
            names = re.findall(r"^@@ (\S+) @@$", block.text, re.MULTILINE)
            for name in names:
                kept = tmp_path / name
                kept.parent.mkdir(parents=True, exist_ok=True)
                if not kept.exists():
                    kept.write_text((repository / name).read_text(encoding="utf-8"), encoding="utf-8")
            apply(block, tmp_path)


@pytest.mark.parametrize("page", RUN, ids=short)
def test_what_a_page_changes_passes_the_linter_of_ci(page: Path, repository: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(repository, tmp_path / "churn"))
    for block in blocks(page):
        if block.kind == "diff" or block.file:
            apply(block, changed)
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--no-cache", "."]
    done = subprocess.run(ruff, cwd=changed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", RUN, ids=short)
def test_every_block_is_one_that_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.kind in ("bash", "text", "diff") or block.file, f"{block.place}: a block that nobody runs"
    marked = re.findall(r"^\*\*(?:Only|Needs)[^*]*\*\*", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(marked) <= set(MARKS)
    assert len(marked) == sum(bool(block.mark) for block in blocks(page))


@pytest.mark.parametrize("page", TYPED, ids=short)
def test_what_is_typed_can_be_pasted_into_any_shell(page: Path) -> None:
    """zsh, which is macOS's, takes a remark behind a command for arguments, unless `interactive_comments` is set."""
    lines = list(typed_lines(page.read_text(encoding="utf-8")))
    assert [line for line in lines if re.search(r"(^|\s)#", line)] == []


@pytest.mark.parametrize(
    ("answer", "stack"),
    [
        (
            {"TemplateProviderDetails": [{"CfnTemplateProviderDetail": {"StackDetail": {"Name": "SP-churn-p-1"}}}]},
            "SP-churn-p-1",
        ),
        ({"ServiceCatalogProvisionedProductDetails": {"ProvisionedProductId": "pp-1"}}, "SC-123456789012-pp-1"),
    ],
    ids=["S3 template", "Service Catalog"],
)
def test_the_stack_of_a_project_is_found_whichever_way_it_was_made(answer: dict[str, Any], stack: str) -> None:
    """The answers of DescribeProject by the two routes."""
    queries = re.findall(r'describe-project .*--query "(.*)"\)$', CREATING.read_text(encoding="utf-8"), re.MULTILINE)
    assert queries
    for query in queries:
        assert jmespath.search(query.replace("$account", "123456789012"), answer) == stack


def test_the_command_line_begins_with_the_template_that_ci_finds_again() -> None:
    """What is generated from a checkout has its folder in .cruft.json, which CI does not have: a job fails weekly."""
    for page in (CREATING, CHECKOUT / "README.md"):
        made = [line for line in typed_lines(page.read_text(encoding="utf-8")) if re.search(r"\bcookiecutter ", line)]
        assert '"git+$(aws ssm get-parameter --name /modelyard/template/url ' in made[0], page


def test_the_index_names_every_page() -> None:
    linked = {target for target, _ in _LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))}
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert there <= linked


# ---- what reads the pages


def a_block(kind: str, text: str) -> Block:
    return Block(TUTORIAL, 1, kind, text, "")


def test_a_change_is_made_where_its_old_lines_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one: 1\ntwo: 2\n\nthree: 3\n")
    apply(a_block("diff", "@@ a.yaml @@\n one: 1\n-two: 2\n+two: 22\n+and: 2\n@@ a.yaml @@\n-three: 3\n"), tmp_path)
    assert (tmp_path / "a.yaml").read_text() == "one: 1\ntwo: 22\nand: 2\n\n"


@pytest.mark.parametrize("old", ["four: 4", "two: 2"], ids=["not there", "there twice"])
def test_a_change_that_does_not_fit_is_refused(old: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("two: 2\ntwo: 2\n")
    with pytest.raises(PageError, match="not once"):
        apply(a_block("diff", f"@@ a.yaml @@\n-{old}\n"), tmp_path)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    apply(a_block("python", "# steps/new.py\nprint()\n"), tmp_path)
    assert (tmp_path / "steps" / "new.py").read_text() == "# steps/new.py\nprint()\n"


@pytest.mark.parametrize("text", ["second\nfirst", "first\nthird", "fir"])
def test_output_that_was_not_printed_so_is_missed(text: str) -> None:
    check_output(a_block("text", "first...\n...\nsec...nd"), "first line\nother\nsecond\n")
    with pytest.raises(PageError, match="was not printed"):
        check_output(a_block("text", text), "first\nsecond\n")


def test_lines_to_type_are_found_among_data() -> None:
    indented = "a # title\n\n    make x  # why\n\n    key: 1 # data\n    more\n\n"
    text = indented + "```\ncd y\n```\n```yaml\n# file.yaml\n```\n"
    assert list(typed_lines(text)) == ["make x  # why", "cd y"]


def test_commands_are_found_in_blocks_and_in_lines() -> None:
    text = (
        "`python -m x one --two`, then\n\n    python -m x three \\\n      four  # why\n$(python -m x five) python -m xy"
    )
    assert [words[3:] for words in commands(text, "python -m x")] == [["one", "--two"], ["three", "four"], ["five"]]
