"""One running server for the whole session; tests keep apart by the names that they choose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_aws import LocalAWS


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server
