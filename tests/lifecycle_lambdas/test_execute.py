"""What is said of a call that AWS does not do."""

from __future__ import annotations

from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.execute import Refused


def test_the_cause_is_not_buried_under_all_that_would_be_allowed() -> None:
    call = AwsCall("sagemaker", "create_endpoint_config", {"EndpointConfigName": "churn-dev-8"})
    allowed = ", ".join(f"ml.m{number}.large" for number in range(400))
    fault = "Value 'ml.m5.larg' at 'instanceType' failed to satisfy constraint: Member must satisfy enum value set: "
    refused = Refused(call, "ValidationException", f"{fault}[{allowed}]")
    assert str(refused) == f"create_endpoint_config of churn-dev-8: ValidationException: {fault}[...]"
