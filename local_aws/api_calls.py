"""AWS API calls as they are on the wire: which call a request is, what it asks, what was answered, how errors look.

Everything is read from botocore's service models, so that it holds for every service alike. Pure functions.
https://smithy.io/2.0/aws/protocols/index.html
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import botocore.session
from botocore.awsrequest import HeadersDict
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.parsers import create_parser

from local_aws.request_checks import service_model

# Services whose requests are signed with a name that is not boto3's, or that several share.
SIGNED_AS = {
    "dynamodb": ("dynamodb", "dynamodbstreams"),
    "monitoring": ("cloudwatch",),
    "s3": ("s3", "s3control"),
    "sagemaker": ("sagemaker", "sagemaker-runtime"),
    "states": ("stepfunctions",),
    "tagging": ("resourcegroupstaggingapi",),
}
CBOR = "smithy-rpc-v2-cbor"
NOT_KEPT = "(not kept)"
# Beside what the models themselves mark as sensitive. Which of a stack's parameters are not to be echoed, its template
# alone says.
SECRETS = frozenset(
    {"SecretString", "SecretBinary", "SecretAccessKey", "SessionToken", "ParameterValue", "Plaintext", "Password"}
)

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class HttpRequest:
    """
    Args:
        path: as it was sent, quoted.
        headers: names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, scope: Mapping[str, Any], body: bytes) -> HttpRequest:
        """The request of an ASGI scope."""
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            query.setdefault(name, []).append(value)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(scope["method"], scope["raw_path"].decode("latin-1"), query, headers, body)


class WatchedCall(Protocol):
    """One call of a service, AWS's or another's (local_aws.git.github_calls), as faults and the recorder see it."""

    @property
    def service(self) -> str: ...

    @property
    def operation_name(self) -> str: ...

    @property
    def region(self) -> str: ...

    @property
    def access_key(self) -> str:
        """Whose it is signed with; empty when it is not signed as AWS's are."""
        ...

    @property
    def name(self) -> str: ...

    def parsed_request(self, request: HttpRequest) -> Any:
        """The parameters as JSON, without secrets."""
        ...

    def parsed_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """What was answered as JSON, without secrets."""
        ...

    def error_answer(self, code: str, message: str, status: int) -> Answer:
        """An error as the service would send it."""
        ...

    def throttling(self, code: str | None = None) -> tuple[str, str, int]:
        """Code, message and HTTP status by which the service says that there were too many calls.

        Args:
            code: the one that is wanted, or None for the service's own.
        """
        ...

    def failing(self) -> tuple[str, str, int]:
        """Code, message and HTTP status of a fault of the service's own."""
        ...


@dataclass(frozen=True)
class ApiCall:
    """One call of one of AWS's operations (a WatchedCall).

    Args:
        service: boto3's name, such as "sagemaker".
        protocol: botocore's name of what the request speaks: "json", "query", "rest-json", "rest-xml" or CBOR.
        labels: the parts of the path that are parameters, by member.
    """

    service: str
    operation: OperationModel
    protocol: str
    region: str
    access_key: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def operation_name(self) -> str:
        return self.operation.name

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation.name}"

    def parsed_request(self, request: HttpRequest) -> Any:
        return parsed_request(self, request)

    def parsed_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        return parsed_answer(self, status, headers, body)

    def error_answer(self, code: str, message: str, status: int) -> Answer:
        return error_answer(self, code, message, status)

    def throttling(self, code: str | None = None) -> tuple[str, str, int]:
        own, status = throttling(self.service, self.operation)
        return code or own, "Rate exceeded", status

    def failing(self) -> tuple[str, str, int]:
        return "InternalFailure", "The request failed: a fault on demand of local_aws.", 500


def known_service(name: str) -> bool:
    """Whether botocore has a service of this name."""
    return name in _available_services()


def services_signed_as(name: str) -> tuple[str, ...]:
    """boto3's names of the services whose requests are signed for this one."""
    return SIGNED_AS.get(name) or ((name,) if known_service(name) else ())


@functools.cache
def _available_services() -> frozenset[str]:
    return frozenset(botocore.session.Session().get_available_services())


# Which call a request is


def find_call(request: HttpRequest) -> ApiCall | None:
    """The call that a request makes; None of one that is not signed, or that no model knows."""
    credential = request.headers.get("authorization", "").partition("Credential=")[2].partition(",")[0]
    parts = (credential or "".join(request.query.get("X-Amz-Credential", [])[:1])).split("/")
    if len(parts) != 5:
        return None
    access_key, _, region, signed_for, _ = parts
    for service in services_signed_as(signed_for):
        model = service_model(service)
        found = _find_operation(model, request)
        if found is not None:
            name, protocol, labels = found
            return ApiCall(service, model.operation_model(name), protocol, region, access_key, labels)
    return None


def _find_operation(model: ServiceModel, request: HttpRequest) -> tuple[str, str, dict[str, str]] | None:
    prefix, _, name = request.headers.get("x-amz-target", "").rpartition(".")
    if prefix:
        return (name, "json", {}) if prefix == model.metadata.get("targetPrefix") and _has(model, name) else None
    if parts := re.fullmatch(r"/service/([^/]+)/operation/([^/]+)", request.path):
        known = parts[1] == model.metadata.get("targetPrefix") and _has(model, parts[2])
        return (parts[2], CBOR, {}) if known else None
    if model.protocol.startswith("rest-"):
        found = _match_route(model.service_name, request)
        return (found[0], model.protocol, found[1]) if found else None
    name = _form(request).get("Action", "")
    return (name, "query", {}) if _has(model, name) else None


def _has(model: ServiceModel, operation: str) -> bool:
    return operation in model.operation_names


def _form(request: HttpRequest) -> dict[str, str]:
    """The fields of a request of the query protocol."""
    fields = {name: values[0] for name, values in request.query.items()}
    if "x-www-form-urlencoded" in request.headers.get("content-type", ""):
        fields |= dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    return fields


@dataclass(frozen=True)
class _Route:
    operation: str
    method: str
    path: re.Pattern[str]
    labels: tuple[str, ...]
    literals: int  # characters of the path that are no parameter
    query: tuple[tuple[str, str], ...]  # that the URI itself has
    required_query: tuple[str, ...]
    required_headers: tuple[str, ...]
    deprecated: bool

    def matches(self, request: HttpRequest) -> bool:
        return (
            request.method == self.method
            and all(name in request.query and value in ("", request.query[name][0]) for name, value in self.query)
            and all(name in request.query for name in self.required_query)
            and all(name in request.headers for name in self.required_headers)
        )

    @property
    def rank(self) -> tuple[Any, ...]:
        """The most particular route is the smallest."""
        required = len(self.required_query) + len(self.required_headers)
        return (-self.literals, -len(self.query), -required, self.deprecated, self.operation)


def _match_route(service: str, request: HttpRequest) -> tuple[str, dict[str, str]] | None:
    for route in _routes(service):
        match = route.path.fullmatch(request.path)
        if match and route.matches(request):
            return route.operation, dict(zip(route.labels, map(unquote, match.groups()), strict=True))
    return None


@functools.cache
def _routes(service: str) -> list[_Route]:
    model = service_model(service)
    return sorted((_route(model.operation_model(name)) for name in model.operation_names), key=lambda each: each.rank)


def _route(operation: OperationModel) -> _Route:
    path, _, query = operation.http["requestUri"].partition("?")
    pattern, literals, labels = "", 0, []
    for part in re.split(r"(\{[^}]+\})", path.rstrip("/")):
        if part.startswith("{"):
            pattern += "(.+)" if part.endswith("+}") else "([^/]+)"
            labels.append(part.strip("{+}"))
        else:
            pattern += re.escape(part)
            literals += len(part)
    shape = operation.input_shape
    members: Mapping[str, Shape] = shape.members if shape else {}
    by_label = {member.serialization.get("name", name): name for name, member in members.items()}
    required = [(name, members[name]) for name in (shape.required_members if shape else ())]

    def at(location: str) -> tuple[str, ...]:
        found = [
            member.serialization.get("name", name)
            for name, member in required
            if member.serialization.get("location") == location
        ]
        return tuple(name.lower() if location == "header" else name for name in found)

    return _Route(
        operation.name,
        operation.http["method"],
        re.compile(pattern + "/?"),
        tuple(by_label.get(label, label) for label in labels),
        literals,
        tuple(parse_qsl(query, keep_blank_values=True)),
        at("querystring"),
        at("header"),
        operation.deprecated,
    )


# What a request asks, and what was answered


def parsed_request(call: ApiCall, request: HttpRequest) -> Any:
    """The parameters, as boto3 takes them; see `parsed_answer` for blobs, times and secrets."""
    shape = call.operation.input_shape
    if shape is None:
        return {}
    if call.protocol == "query":
        parameters = _from_form(shape, _form(request), "")
    else:
        body = _unchunked(request)
        parameters = _parse(call.protocol, shape, 200, request.headers, body)
        if not body:
            parameters.pop(shape.serialization.get("payload"), None)
        for name, member in shape.members.items():
            given = request.query.get(member.serialization.get("name", name))
            if member.serialization.get("location") == "querystring" and given:
                parameters[name] = list(given) if isinstance(member, ListShape) else _scalar(member, given[0])
        parameters |= {name: _scalar(shape.members[name], text) for name, text in call.labels.items()}
        for name, member in shape.members.items():  # such as x-amz-meta-*: answered even when there are none
            if member.serialization.get("location") == "headers" and not parameters.get(name):
                parameters.pop(name, None)
    return _plain(shape, parameters)


def parsed_answer(call: ApiCall, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """What boto3 answers, without ResponseMetadata, as JSON has it; of an error {"Error": {"Code", "Message"}}.

    Blobs (the bodies of S3's objects among them) are {"length": ..., "sha256": ...}, times are ISO 8601; what the
    service's model marks as sensitive, and `SECRETS`, are NOT_KEPT.
    """
    shape = call.operation.output_shape
    parsed = _parse(call.protocol, shape, status, headers, body)
    return parsed if status >= 301 or shape is None else _plain(shape, parsed)


def _parse(protocol: str, shape: StructureShape | None, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    # botocore parses answers only. What is in body and headers of a request is written alike.
    payload = shape.serialization.get("payload") if shape and status < 301 else None
    stream = payload if shape and payload and shape.members[payload].type_name in ("blob", "string") else None
    response = {"status_code": status, "headers": HeadersDict(headers), "body": b"" if stream else body}
    parsed = create_parser(protocol).parse(response, shape)
    parsed.pop("ResponseMetadata", None)
    if stream is not None:
        parsed[stream] = body
    return parsed


def _unchunked(request: HttpRequest) -> bytes:
    """The body without the chunks' signatures of "aws-chunked"."""
    if "aws-chunked" not in request.headers.get("content-encoding", ""):
        return request.body
    body, rest = b"", request.body
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.partition(b";")[0], 16)
        if size == 0:
            break
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def _from_form(shape: Shape, fields: Mapping[str, str], prefix: str) -> Any:
    """A shape's value from the fields of the query protocol, whose names begin with the prefix."""
    if isinstance(shape, StructureShape):
        found = {}
        for name, member in shape.members.items():
            key = f"{prefix}.{member.serialization.get('name', name)}".lstrip(".")
            key = _list_prefix(member, key)
            if any(field == key or field.startswith(f"{key}.") for field in fields):
                found[name] = _from_form(member, fields, key)
        return found
    if isinstance(shape, ListShape):
        return [_from_form(shape.member, fields, each) for each in _numbered(fields, prefix)]
    if isinstance(shape, MapShape):
        entries = prefix if shape.serialization.get("flattened") else f"{prefix}.entry"
        key, value = (
            each.serialization.get("name", word) for each, word in ((shape.key, "key"), (shape.value, "value"))
        )
        return {
            fields.get(f"{each}.{key}", ""): _from_form(shape.value, fields, f"{each}.{value}")
            for each in _numbered(fields, entries)
        }
    return _scalar(shape, fields.get(prefix, ""))


def _list_prefix(shape: Shape, key: str) -> str:
    """What a list's elements are numbered behind; other shapes' key as it is."""
    if not isinstance(shape, ListShape):
        return key
    name = shape.member.serialization.get("name")
    if not shape.serialization.get("flattened"):
        return f"{key}.{name or 'member'}"
    return ".".join([*key.split(".")[:-1], name]) if name else key


def _numbered(fields: Mapping[str, str], prefix: str) -> list[str]:
    numbers = {
        int(number)
        for name in fields
        if name.startswith(f"{prefix}.") and (number := name[len(prefix) + 1 :].partition(".")[0]).isdigit()
    }
    return [f"{prefix}.{number}" for number in sorted(numbers)]


def _scalar(shape: Shape, text: str) -> Any:
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name in ("float", "double"):
        return float(text)
    if shape.type_name == "boolean":
        return text == "true"
    return base64.b64decode(text) if shape.type_name == "blob" else text


def _plain(shape: Shape, value: Any, name: str = "") -> Any:
    """A parsed value as JSON has it, without blobs and secrets."""
    if value is None:
        return None
    if shape.metadata.get("sensitive") or name in SECRETS:
        return NOT_KEPT
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict) or shape.is_document_type:
            return value
        return {key: _plain(shape.members[key], each, key) for key, each in value.items() if key in shape.members}
    if isinstance(shape, ListShape):
        return [_plain(shape.member, each, name) for each in value]
    if isinstance(shape, MapShape):
        return {key: _plain(shape.value, each, key) for key, each in value.items()}
    if shape.type_name == "blob":
        data = value if isinstance(value, bytes) else str(value).encode()
        return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if hasattr(value, "isoformat") else value


# Errors


def error_answer(call: ApiCall, code: str, message: str, status: int) -> Answer:
    """An error as the service would send it, in the request's own protocol.

    S3 answers HEAD requests without a body: clients then see the status as the code, as on AWS.
    """
    metadata = call.operation.service_model.metadata
    side = "Receiver" if status >= 500 else "Sender"
    request_id = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": request_id}
    if call.protocol in ("json", CBOR) and metadata.get("awsQueryCompatible") is not None:
        headers["x-amzn-query-error"] = f"{code};{side}"
    if call.protocol == CBOR:
        headers |= {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        return status, headers, _cbor_map({"__type": code, "message": message})
    if call.protocol in ("json", "rest-json"):
        version = metadata.get("jsonVersion", "1.0")
        kind = "application/json" if call.protocol == "rest-json" else f"application/x-amz-json-{version}"
        headers |= {"Content-Type": kind, "x-amzn-ErrorType": code}
        return status, headers, json.dumps({"__type": code, "message": message, "Message": message}).encode()
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.service == "s3":
        headers |= {"Content-Type": "application/xml", "x-amz-request-id": request_id}
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}<RequestId>{request_id}</RequestId></Error>'
    else:
        headers |= {"Content-Type": "text/xml"}
        space = metadata.get("xmlNamespace", "")
        space = space.get("uri", "") if isinstance(space, dict) else space
        text = (
            f'<ErrorResponse xmlns="{escape(space)}"><Error><Type>{side}</Type>{inner}</Error>'
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return status, headers, text.encode()


def _cbor_map(texts: Mapping[str, str]) -> bytes:
    """RFC 8949: major type 5 (map) of major type 3 (text)."""
    head = bytes([0xA0 | len(texts)])
    return head + b"".join(_cbor_text(part) for item in texts.items() for part in item)


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 | len(data)]) + data
    return b"\x7a" + len(data).to_bytes(4, "big") + data


def throttling(service: str, operation: OperationModel) -> tuple[str, int]:
    """Code and HTTP status by which a service says that there were too many calls.

    The operation's own error of that kind when its model declares one, else what the service is known to answer, else
    its protocol's. Sources: the services' models, and "Common errors" in their API references.
    """
    for shape in operation.error_shapes:
        error = shape.metadata.get("error") or {}
        code = error.get("code", shape.name)
        if code in _DECLARED:
            return code, int(error.get("httpStatusCode", shape.metadata.get("httpStatusCode", 400)))
    if service in _UNDECLARED:
        return _UNDECLARED[service]
    protocol = operation.service_model.protocol
    if protocol == "rest-json":
        return "ThrottlingException", 429
    return ("Throttling", 400) if protocol == "query" else ("ThrottlingException", 400)


# Of an operation that declares several (some of DynamoDB's), the first that its model names.
_DECLARED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestThrottled",
        "ThrottledException",
        "Throttled",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_UNDECLARED = {
    "cloudwatch": ("Throttling", 400),
    "dynamodb": ("ThrottlingException", 400),
    "lambda": ("TooManyRequestsException", 429),
    "s3": ("SlowDown", 503),
    "sqs": ("RequestThrottled", 403),
}
