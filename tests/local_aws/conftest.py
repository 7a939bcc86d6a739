"""What the tests of both kinds of jobs run on."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import tests.steps.conftest  # noqa: F401 (the modules that archives have in them can then be imported)
from local_aws import LocalAWS
from tests.local_aws.job_requests import Workshop


@pytest.fixture(scope="module")
def workshop(aws: LocalAWS) -> Workshop:
    return Workshop(aws)


@pytest.fixture(scope="module", params=["namespace", "rewrite"])
def either_way(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """A server that gives jobs /opt/ml by a namespace, and one that rewrites paths."""
    if request.param == "namespace" and sys.platform != "linux":
        pytest.skip("mount namespaces are Linux's")
    with LocalAWS(opt_ml=request.param) as aws:
        yield Workshop(aws)
