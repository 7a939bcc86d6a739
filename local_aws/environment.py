"""The variables by which AWS's own clients find a local_aws server."""

from __future__ import annotations

# In the User-Agent of requests that the server makes of itself.
OWN_USER_AGENT = "local_aws-loopback"

# Variables that would lead a client elsewhere although AWS_ENDPOINT_URL is set.
MISLEADING_VARIABLES = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


def client_environment(endpoint: str, runtime_endpoint: str, account: str, region: str) -> dict[str, str]:
    """What points any AWS client at the server; InvokeEndpoint is answered at an address of its own.

    MiniStack reads the account from the access key: a key of 12 digits is the account.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": runtime_endpoint,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
