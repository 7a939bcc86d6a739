"""What a measurement needs of an account, where IAM is not enforced: a bucket, and a role that SageMaker may assume."""

from __future__ import annotations

import json

from local_aws import LocalAWS

PROJECT = "bench"
ROLE = f"{PROJECT}-pipeline-dev"


def prepare(aws: LocalAWS, bucket: str) -> str:
    """Make both. Returns the role's ARN."""
    aws.client("s3").create_bucket(Bucket=bucket)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    answer = aws.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)
    return str(answer["Role"]["Arn"])
