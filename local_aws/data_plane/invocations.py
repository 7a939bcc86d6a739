"""InvokeEndpoint's requests and errors as AWS words them; pure functions.

Sources: InvokeEndpoint (SageMaker Runtime API reference) for statuses, headers and limits; the messages are those that
AWS's clients print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

LARGEST_BODY = 6 * 1024**2  # bytes (the API's model)
LARGEST_SERVERLESS_BODY = 4 * 1024**2  # bytes ("Invoke a serverless endpoint")
MODEL_TIMEOUT = 60.0  # seconds that a container has for an answer
TARGET = re.compile(r"/endpoints/([^/?]*)/(invocations|async-invocations|invocations-response-stream)(?:\?.*)?")
OPERATIONS = {
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}
ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 .*?Credential=([^/, ]+)/\d{8}/([a-z0-9-]+)/[a-z-]+/aws4_request")
ACCOUNT = re.compile(r"\d{12}")
PREFIX = "x-amzn-sagemaker-"
# Of features that no endpoint here has; AWS refuses them for such endpoints as well.
UNSUPPORTED = {
    "target-model": "TargetModel is for multi-model endpoints",
    "target-container-hostname": "TargetContainerHostname is for multi-container endpoints with direct invocation",
    "enable-explanations": "EnableExplanations is for endpoints with an explainer",
    "inference-component": "InferenceComponentName is for endpoints with inference components",
    "session-id": "SessionId is for stateful models",
    "prefix-aware-id": "PrefixAwareId is for prefix-aware routing",
}


class Refusal(Exception):
    """The client gets this error.

    Args:
        code: AWS's name of the error.
        status: of HTTP.
        members: of the error's structure besides Message.
    """

    def __init__(self, code: str, status: int, message: str, **members: str | int) -> None:
        super().__init__(message)
        self.code, self.status, self.members = code, status, members

    def answer(self) -> tuple[dict[str, str], bytes]:
        """Headers and body."""
        said = {"Message": str(self), "message": str(self), **self.members}
        return {"x-amzn-ErrorType": self.code, "Content-Type": "application/json"}, json.dumps(said).encode()


class Asked(NamedTuple):
    """A request of InvokeEndpoint.

    Args:
        account, region: the caller's.
        endpoint: its name.
        variant: TargetVariant.
        inference_id, custom_attributes, content_type, accept: as given, or None.
    """

    account: str
    region: str
    endpoint: str
    variant: str | None
    inference_id: str | None
    custom_attributes: str | None
    content_type: str | None
    accept: str | None


def credential(headers: dict[str, str]) -> tuple[str, str]:
    """Access key and Region of the caller; the signature itself is not verified.

    Raises:
        Refusal: there is none.
    """
    given = headers.get("authorization")
    if given is None:
        raise Refusal("MissingAuthenticationTokenException", 403, "Missing Authentication Token")
    match = CREDENTIAL.match(given)
    if match is None:
        text = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' of AWS4-HMAC-SHA256."
        raise Refusal("IncompleteSignatureException", 403, text)
    return match[1], match[2]


def read_request(method: str, target: str, headers: dict[str, str], account_of: Callable[[str], str]) -> Asked:
    """What is asked for, but for the body.

    Args:
        account_of: the account of an access key.

    Raises:
        Refusal: it is not InvokeEndpoint, or not as the API takes it.
    """
    match = TARGET.fullmatch(target)
    if match is None or method != "POST":
        raise Refusal("UnknownOperationException", 404, f"SageMaker Runtime has no operation {method} {target[:200]}.")
    key, region = credential(headers)
    if match[2] != "invocations":
        raise Refusal(
            "NotImplementedException",
            501,
            f"local_aws does not build sagemaker-runtime:{OPERATIONS[match[2]]}. It answers InvokeEndpoint.",
        )
    name = unquote(match[1])
    if not ENDPOINT_NAME.fullmatch(name):
        raise Refusal(
            "ValidationError",
            400,
            f"1 validation error detected: Value '{name}' at 'endpointName' failed to satisfy constraint: Member must"
            " satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9])*",
        )
    for header, reason in UNSUPPORTED.items():
        if headers.get(PREFIX + header):
            raise Refusal("ValidationError", 400, f"{reason}; endpoint {name} is none of them. Leave it out.")
    attributes = headers.get(PREFIX + "custom-attributes")
    if attributes is not None and len(attributes) > 1024:
        text = "Value at 'customAttributes' failed to satisfy constraint: Member must have length less than or equal to"
        raise Refusal("ValidationError", 400, f"1 validation error detected: {text} 1024")
    inference_id = headers.get(PREFIX + "inference-id")
    if inference_id is not None and not 1 <= len(inference_id) <= 64:
        text = "Value at 'inferenceId' failed to satisfy constraint: Member must have length between 1 and 64"
        raise Refusal("ValidationError", 400, f"1 validation error detected: {text}")
    return Asked(
        key if ACCOUNT.fullmatch(key) else account_of(key),
        region,
        name,
        headers.get(PREFIX + "target-variant"),
        inference_id,
        attributes,
        headers.get("content-type"),
        headers.get("accept"),
    )


def too_large(limit: int) -> Refusal:
    return Refusal(
        "ValidationError",
        400,
        "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than"
        f" or equal to {limit}",
    )


def not_found(endpoint: str, account: str) -> Refusal:
    """AWS says the same of an endpoint that is not in service yet."""
    return Refusal("ValidationError", 400, f"Endpoint {endpoint} of account {account} not found.")


def variant_not_found(variant: str, endpoint: str) -> Refusal:
    return Refusal("ValidationError", 400, f"Variant {variant} not found for Endpoint {endpoint}.")


def throttled() -> Refusal:
    return Refusal("ThrottlingException", 429, "Rate exceeded")


def unavailable(endpoint: str) -> Refusal:
    text = f"No container of endpoint {endpoint} is running. Please check its CloudWatch logs, and try again."
    return Refusal("ServiceUnavailable", 503, text)


def model_error(asked: Asked, status: int, body: bytes) -> Refusal:
    """The container's own error, passed on."""
    kind = "client" if 400 <= status < 500 else "server"
    said = body.decode("utf-8", "replace")
    return _model_error(asked, status, said, f'Received {kind} error ({status}) from primary with message "{said}"')


def model_timeout(asked: Asked) -> Refusal:
    said = (
        "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for"
        " each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    return _model_error(asked, 0, said, f'Received server error (0) from primary with message "{said}"')


def connection_lost(asked: Asked) -> Refusal:
    said = "The container closed the connection before it had answered."
    return _model_error(asked, 0, said, f'Received server error (0) from primary with message "{said}"')


def answer_too_large(asked: Asked, status: int) -> Refusal:
    said = "could not load the entire response body"
    return _model_error(asked, status, said, f"Received status ({status}) from primary and {said}")


def _model_error(asked: Asked, status: int, said: str, text: str) -> Refusal:
    group = f"/aws/sagemaker/Endpoints/{asked.endpoint}"
    console = f"https://{asked.region}.console.aws.amazon.com/cloudwatch/home?region={asked.region}"
    return Refusal(
        "ModelError",
        424,
        f"{text}. See {console}#logEventViewer:group={group} in account {asked.account} for more information.",
        OriginalStatusCode=status,
        OriginalMessage=said,
        LogStreamArn=f"arn:aws:logs:{asked.region}:{asked.account}:log-group:{group}",
    )
