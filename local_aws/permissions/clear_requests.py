"""Requests that say one thing only, so that what IAM is asked about is what is done. Pure functions.

A request can name its operation in several places: in `X-Amz-Target`, as `Action` in the query string and in a form, by
its path. Each service goes by one of them. Who is asked about by another one could have anything done that somebody is
not allowed by naming there what they are; so could who names a resource twice. Clients of AWS do neither.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import parse_qs

from botocore.model import OperationModel

from local_aws.api_calls import services_signed_as
from local_aws.request_checks import service_model

# What names the operation, and where its members are: the path; a form or the query string; X-Amz-Target and JSON.
Way = Literal["path", "form", "target"]
Parameters = Mapping[str, Any]
Headers = Mapping[str, str]
FORM = "application/x-www-form-urlencoded"
# Sub-resource of a bucket or an object -> HTTP method -> action
SubResources = Mapping[str, Mapping[str, str]]


class UnclearRequest(Exception):
    """A request that names its operation not at all, or more than once."""


def named_operation(
    ways: tuple[Way, ...], service: str, method: str, path: str, headers: Headers, body: bytes, parameters: Parameters
) -> tuple[str, Way]:
    """The operation that a request names, and which of a service's ways it goes. Paths are read elsewhere.

    Args:
        service: as its requests are signed, such as "monitoring".
        headers: names in lower case.
        parameters: lists of values, of the query string and, unless they are there, of a form.

    Raises:
        UnclearRequest: it names none, or several.
    """
    prefix, dot, target = headers.get("x-amz-target", "").rpartition(".")
    in_path = path.rpartition("/operation/")[2] if len(ways) > 1 and "/operation/" in path else ""
    if ways == ("target",) or (dot and "target" in ways):
        if not target:
            raise UnclearRequest("The request names no operation: X-Amz-Target is missing.")
        if len(ways) > 1 and (in_path not in ("", target) or prefix not in _target_prefixes(service)):
            raise UnclearRequest(f"X-Amz-Target {prefix}.{target} is unknown, or the path names another operation.")
        return target, "target"
    if dot:
        raise UnclearRequest("The request has an X-Amz-Target, by which this service does not go.")
    as_json = bool(in_path) and not headers.get("content-type", "").startswith(FORM)
    form = {} if as_json else _form(headers, body, method)
    for name, values in form.items():
        if len(values) > 1 or parameters.get(name, values) != values:
            raise UnclearRequest(f"The request says more than once what {name} is.")
    actions = {*parameters.get("Action", []), *form.get("Action", []), *([in_path] if in_path else [])}
    if len(actions) != 1 or "" in actions:
        raise UnclearRequest(f"The request names {len(actions)} operations; it must be one.")
    return str(actions.pop()), "target" if as_json else "form"


def _form(headers: Headers, body: bytes, method: str) -> dict[str, list[str]]:
    if not body:
        return {}
    if method != "POST" or not headers.get("content-type", "").startswith(FORM):
        raise UnclearRequest(f"A body is sent by POST, as {FORM}.")
    return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)


@functools.cache
def _target_prefixes(service: str) -> frozenset[str]:
    models = [service_model(name) for name in services_signed_as(service)]
    return frozenset(str(model.metadata["targetPrefix"]) for model in models if "targetPrefix" in model.metadata)


def s3_path(method: str, path: str, parameters: Parameters, bucket: SubResources, object_: SubResources) -> str:
    """A path of the same depth as a request's to S3, in which every part has a letter.

    Args:
        bucket, object_: the sub-resources of each, such as {"tagging": {"PUT": "PutBucketTagging"}}.

    Raises:
        UnclearRequest: it is about several sub-resources, or about one that there is not.
    """
    name, _, key = path.removeprefix("/").partition("/")
    if not name and key:
        raise UnclearRequest("The path names no bucket before the key.")
    named = [each for each in parameters if each in bucket or each in object_]
    known = object_ if key else bucket
    if len(named) > 1 or any(method not in known.get(each, {}) for each in named):
        raise UnclearRequest(f"Conflicting query string parameters: {', '.join(named)} for {method}.")
    return f"/{name}/key" if key else f"/{name}"


def what_is_asked(
    way: Way, service: str, operation: str, body: bytes, parameters: Parameters
) -> tuple[bytes, dict[str, Any]]:
    """Body and parameters with nothing in them but members that the operation has, each where the service reads it.

    Those of S3, and of an operation that botocore does not know, stay as they are.
    """
    model = None if service == "s3" else _model(service, operation)
    if model is None:
        return body, dict(parameters)
    in_body, in_query = _members(model)
    if way == "form":
        heads = in_body | {"Action", "Version"}
        return b"", {name: value for name, value in parameters.items() if name.partition(".")[0] in heads}
    kept = {name: value for name, value in _json(body).items() if name in in_body}
    asked = {name: value for name, value in parameters.items() if name in in_query} if way == "path" else {}
    return json.dumps(kept).encode(), asked


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # the service refuses it
        return {}
    return content if isinstance(content, dict) else {}


def _model(service: str, operation: str) -> OperationModel | None:
    for name in services_signed_as(service):
        if operation in service_model(name).operation_names:
            return service_model(name).operation_model(operation)
    return None


@functools.cache
def _members(model: OperationModel) -> tuple[frozenset[str], frozenset[str]]:
    """The members that are read in the body, and those in the query string, by their names there."""
    shape = model.input_shape
    found: dict[str, set[str]] = {"": set(), "querystring": set()}
    for name, member in shape.members.items() if shape else ():
        found.setdefault(member.serialization.get("location", ""), set()).update(_names(name, member.serialization))
    return frozenset(found[""]), frozenset(found["querystring"])


def _names(name: str, serialization: Mapping[str, Any]) -> Iterable[str]:
    return {name, serialization.get("name", name)}
