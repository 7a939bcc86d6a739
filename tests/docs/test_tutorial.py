"""The tutorial, typed from its first line to its last: from a checkout to an answer, and everything gone again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.commands import Shell, follow
from tests.docs.pages import CHECKOUT, TUTORIAL, blocks


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A newcomer's, in the checkout; what it started ends with it."""
    # pytest's own folders have longer paths than a container's socket may have
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        opened = Shell.open(CHECKOUT, Path(folder, "home"))
        yield opened
        opened.folder = CHECKOUT
        opened.run("python -m local_aws stop")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_newcomer_gets_from_a_checkout_to_an_answer(shell: Shell) -> None:
    left_out = follow(blocks(TUTORIAL), shell)

    (install,) = [block for block in blocks(TUTORIAL) if block.text == "make install\n"]
    assert left_out == [install.place], "the environment that runs this test was made by it"
    code, said = shell.run("python -m local_aws status")
    assert (code, said) == (1, "No local_aws runs.\n")
