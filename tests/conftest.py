"""One running server for the whole session; tests keep apart by the names that they choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_aws import LocalAWS


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


# Folders whose files take longest: begun first, so that at the end no worker is left alone with one of them.
LONGEST_FIRST = (
    "story",
    "lifecycle_lambdas",
    "docs",
    "template",
    "servicecatalog",
    "seed_lambda",
    "steps",
    "local_aws",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)
