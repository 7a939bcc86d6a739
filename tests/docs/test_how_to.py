"""Every how-to page, typed in a clone of a project; and the notebook, which follows what such a page started."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.commands import Shell, follow
from tests.docs.conftest import PROJECT
from tests.docs.pages import CHECKOUT, HOW_TO, Block, blocks

# Pages that change what is there for all clones of a project have one to themselves.
PROJECTS = {"go-from-baseline-to-advanced": "loans"}
NOTEBOOK = CHECKOUT / "{{cookiecutter.project}}" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(page: Path, new_clone: Callable[..., Shell]) -> None:
    left_out = follow(blocks(page), new_clone(PROJECTS.get(page.stem, PROJECT)))
    assert left_out == [block.place for block in blocks(page) if block.mark]


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return list(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])


def test_the_notebook_is_one_that_jupyter_reads(cells: list[dict[str, Any]]) -> None:
    """https://nbformat.readthedocs.io/en/latest/format_description.html"""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook["metadata"]["kernelspec"]) == {"name", "display_name", "language"}
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    for cell in cells:
        common = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == common | ({"execution_count", "outputs"} if cell["cell_type"] == "code" else set())
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_the_notebook_is_stored_without_what_it_once_printed(cells: list[dict[str, Any]]) -> None:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_follows_the_pipeline_to_a_prediction(
    cells: list[dict[str, Any]], new_clone: Callable[..., Shell]
) -> None:
    shell = new_clone()
    run = "names = {}\n" + "".join(
        f"exec(compile({''.join(cell['source'])!r}, {cell['id']!r}, 'exec'), names)\n"
        for cell in cells
        if cell["cell_type"] == "code"
    )
    look = 'print("shown", len(names["Page"](names["report"])._repr_html_()) > 10_000, len(names["about"]))\n'
    (shell.folder / "cells.py").write_text(run + look, encoding="utf-8")

    code, printed = shell.run(
        "git checkout --quiet -b feature-notebook; mkdir -p build; mv cells.py build/\n"
        "PYTHONPATH=. python build/cells.py"
    )

    assert code == 0, printed
    assert re.search(r"^Register +Succeeded", printed, re.MULTILINE)
    assert re.search(r"^Succeeded", printed, re.MULTILINE)
    (answer,) = re.findall(r'^\{"predictions": .*\}$', printed, re.MULTILINE)
    assert len(json.loads(answer)["predictions"]) == 3
    assert re.search(r"^shown True [1-9]", printed, re.MULTILINE)
    assert "churn-feature: none; approve a version first" in printed


def test_a_page_stops_at_the_first_thing_that_is_not_as_it_says(tmp_path: Path) -> None:
    shell = Shell.open(tmp_path, tmp_path / "home")

    def block(kind: str, text: str) -> Block:
        return Block(HOW_TO[0], 1, kind, text, "")

    follow([block("bash", "mkdir new; cd new; WORD=kept\n"), block("bash", "pwd; echo $WORD\n")], shell)
    assert (shell.folder, shell.variables["WORD"]) == (tmp_path / "new", "kept")
    follow([block("bash", "echo 'error: x'; exit 2\n"), block("text", "error: x\n")], shell)
    for wrong in (
        [block("bash", "false; echo on\n")],
        [block("bash", "echo 'error: x'\n"), block("text", "error: x\n")],
        [block("bash", "echo one\n"), block("text", "two\n")],
        [block("yaml", "a: 1\n")],
    ):
        with pytest.raises(AssertionError, match="add-a-feature"):
            follow(wrong, shell)
