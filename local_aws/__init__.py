"""The AWS API calls that Modelyard makes, answered on this machine: no account, no Docker, no network.

MiniStack hosts the generic services; the SageMaker service beside it is this package's own. See `docs/local-aws.md`.

    from local_aws import LocalAWS

    with LocalAWS() as aws:
        aws.client("s3").create_bucket(Bucket="artifacts")
"""

from local_aws.control import LocalAWS

__all__ = ["LocalAWS"]
