import time

import boto3
import pytest
from botocore.exceptions import ClientError


def test_the_price_list_refuses_by_name_and_at_once(aws):
    pricing = boto3.client(
        "pricing",
        endpoint_url=aws.endpoint,
        region_name="us-east-1",
        aws_access_key_id=aws.server.account,
        aws_secret_access_key="local",
    )

    began = time.monotonic()
    with pytest.raises(ClientError, match="local_aws knows no prices"):
        pricing.get_products(ServiceCode="AmazonSageMaker")

    assert time.monotonic() - began < 5  # not tried again
