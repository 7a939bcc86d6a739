"""Which subject the CI roles trust: GitHub's own word for it, and never anything but the repository's two forms."""

from __future__ import annotations

from typing import Any

import pytest

from seed_lambda.hosts.github import oidc_subject

REPOSITORY = {"name": "churn", "id": 7, "owner": {"login": "acme", "id": 3}}
PLAIN, WITH_IDS = "repo:acme/churn", "repo:acme@3/churn@7"


@pytest.mark.parametrize(
    ("said", "new_have_ids", "subject"),
    [
        ({"use_immutable_subject": True, "sub_claim_prefix": WITH_IDS}, False, WITH_IDS),
        ({"use_immutable_subject": False, "sub_claim_prefix": WITH_IDS}, False, WITH_IDS),
        ({"use_immutable_subject": True, "sub_claim_prefix": PLAIN}, True, PLAIN),
        ({"use_immutable_subject": False}, True, PLAIN),
        ({"use_immutable_subject": True}, False, WITH_IDS),
        ({}, True, WITH_IDS),
        ({}, False, PLAIN),
        ({"sub_claim_prefix": "repo:*"}, False, PLAIN),
        ({"sub_claim_prefix": "repo:acme/another", "use_immutable_subject": True}, False, WITH_IDS),
    ],
)
def test_the_subject_is_the_repositorys_own(said: dict[str, Any], new_have_ids: bool, subject: str) -> None:
    assert oidc_subject(REPOSITORY, said, new_have_ids) == subject
