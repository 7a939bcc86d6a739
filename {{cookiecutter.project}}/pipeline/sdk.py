"""The SageMaker Python SDK, prepared so that compiling a definition calls nobody and prints nothing of its own.

Import this module before any `sagemaker` module. It takes some seconds: only what compiles a definition does so.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Importing sagemaker.mlops makes a client and fails without some Region; sessions get the settings' own one below.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
# Without this the SDK asks IAM to simulate the role's policies whenever a job or pipeline is described.
os.environ["SAGEMAKER_VALIDATE_ROLE"] = "false"

_handlers, _level = list(logging.root.handlers), logging.root.level

import boto3  # noqa: E402
from sagemaker.core.telemetry import telemetry_logging  # noqa: E402
from sagemaker.core.workflow.pipeline_context import PipelineSession  # noqa: E402
from sagemaker.mlops.workflow.pipeline import Pipeline  # noqa: E402, F401  imported here for what it does to logging

# The import calls logging.basicConfig: take that back, and leave warnings and errors of the SDK.
logging.root.handlers[:] = _handlers
logging.root.setLevel(_level)
for _name in ("sagemaker", "sagemaker.core", "sagemaker.mlops", "sagemaker.serve", "sagemaker.train", "botocore"):
    logging.getLogger(_name).setLevel(logging.ERROR)

# Said at every step; that no job is started is the point of a PipelineSession.
warnings.filterwarnings("ignore", message="Running within a PipelineSession")

# Every SDK call reports itself to AWS by an HTTP request in a thread: a compile would need a network. The official
# switch (TelemetryOptOut in a config file) makes the SDK validate that file at each call: 8 s instead of 1 s.
telemetry_logging._send_telemetry_request = lambda *arguments, **options: None


@contextmanager
def no_credentials() -> Iterator[None]:
    """While compiling, the SDK finds placeholders for credentials.

    Some of its classes make AWS clients that they never use; without credentials in the environment, each of them
    would look for some at the instance metadata service, over the network.
    """
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "unused"
    try:
        yield
    finally:
        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        os.environ.update(before)


class CompilingSession(PipelineSession):
    """A PipelineSession that makes step arguments without calling AWS: the bucket is the settings' own."""

    def __init__(self, region: str, bucket: str) -> None:
        self._settings_bucket = bucket
        super().__init__(boto_session=boto3.Session(region_name=region), default_bucket=bucket)

    def default_bucket(self) -> str:
        return self._settings_bucket
