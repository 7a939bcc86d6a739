"""boto3's clients over a service that is simulated in memory: their methods and paginators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore import xform_name

from local_aws.request_checks import service_model

Request = dict[str, Any]
Answer = dict[str, Any]


class Client:
    """A boto3 client's methods and paginators.

    Args:
        call: answers (service, operation by AWS's name, request).
        service: boto3's name.
    """

    def __init__(self, call: Callable[[str, str, Request], Answer], service: str) -> None:
        self._call, self._service = call, service
        self._operations = operations(service)

    def __getattr__(self, method: str) -> Callable[..., Answer]:
        return lambda **request: self._call(self._service, self._operations[method], request)

    def get_paginator(self, method: str) -> Paginator:
        return Paginator(getattr(self, method))


@cache
def operations(service: str) -> dict[str, str]:
    """AWS's names by boto3's."""
    return {xform_name(name): name for name in service_model(service).operation_names}


@dataclass
class Paginator:
    """All of it is one page."""

    call: Callable[..., Answer]

    def paginate(self, **request: Any) -> Iterator[Answer]:
        yield self.call(**{name: value for name, value in request.items() if name != "PaginationConfig"})
