"""How many of a thing an account may have, and that one more is refused in AWS's words."""

from __future__ import annotations

import pytest

from local_aws.calls import Call, ServiceError
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.local_aws.endpoint_fakes import FakeEvents


def test_one_more_than_the_quota_is_refused_with_the_figures():
    quotas = Quotas()
    quotas.configure({"projects": 2})
    quotas.check_count("projects", 1)

    with pytest.raises(ServiceError, match="'Total number of projects allowed' is 2 projects, with current") as error:
        quotas.check_count("projects", 2)

    assert error.value.code == "ResourceLimitExceeded"


def test_a_group_beyond_the_quota_is_refused_and_an_existing_one_is_still_told_as_such():
    store, quotas = Store(), Quotas()
    registry = Registry(store, Tags(store), FakeEvents(), quotas)  # type: ignore[arg-type]
    quotas.configure({"model_package_groups": 1})
    call = Call(Scope("123456789012", "us-east-1"), "AKIA")
    create = registry.operations()["CreateModelPackageGroup"]
    create(call, {"ModelPackageGroupName": "churn-dev"})

    for name, code in (("churn-prod", "ResourceLimitExceeded"), ("churn-dev", "ValidationException")):
        with pytest.raises(ServiceError) as error:
            create(call, {"ModelPackageGroupName": name})
        assert error.value.code == code


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"colours": 3}, "there is no quota colours"), ({"projects": 0}, "positive whole"), ({"projects": True}, "whole")],
)
def test_a_quota_that_cannot_be_is_refused_and_changes_nothing(settings, said):
    quotas = Quotas()

    with pytest.raises(ValueError, match=said):
        quotas.configure(settings)

    assert quotas.settings()["projects"] == 500
