"""The front door of our services: a request, checked against botocore's model, to the operation that answers it."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid

from local_aws.calls import Call, Operation, Request, ServiceError
from local_aws.ministack_host import caller_of, request_scope
from local_aws.permissions.authorization import Authorization
from local_aws.request_checks import check_request, service_model, without_nulls

logger = logging.getLogger(__name__)


class JsonService:
    """A service that speaks AWS's JSON 1.1 protocol.

    Args:
        service: botocore's name for it, which is also the prefix of its IAM actions, such as "sagemaker".
        title: what messages call it, such as "SageMaker".
        target_prefix: of its X-Amz-Target headers, with the dot, such as "SageMaker.".
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(
        self, service: str, title: str, target_prefix: str, authorization: Authorization | None = None
    ) -> None:
        self.service, self.title, self.target_prefix = service, title, target_prefix
        self._authorization = authorization
        self.operations: dict[str, Operation] = {}

    def answer(self, operation_name: str, call: Call, body: bytes) -> dict:
        """Answer one request.

        Raises:
            ServiceError: what the client is to be told.
        """
        model = service_model(self.service)
        if operation_name not in model.operation_names:
            raise ServiceError("UnknownOperationException", f"{self.title} has no operation {operation_name!r}.", 404)
        operation = self.operations.get(operation_name)
        if operation is None:
            raise ServiceError(
                "NotImplementedException",
                f"local_aws does not build {self.service}:{operation_name}: nothing of Modelyard's calls it."
                f" It answers {', '.join(sorted(self.operations))}.",
                501,
            )
        try:
            request = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:  # the latter: nested too deeply
            raise ServiceError("SerializationException", f"The request body is not JSON: {error}") from error
        check_request(model.operation_model(operation_name), request)
        request = without_nulls(request)
        # Before the operation looks for anything: who may not see a resource is not told whether it is there.
        self.authorize(call, operation_name, request)
        return operation(call, request)

    def authorize(self, call: Call, operation_name: str, request: Request) -> None:
        """Ask IAM whether the caller may do this.

        Raises:
            ServiceError: AccessDeniedException and its like, when IAM is enforced.
        """
        if self._authorization is not None:
            self._authorization.check(call.scope, call.access_key, self.service, operation_name, request)

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict
    ) -> tuple[int, dict[str, str], bytes]:
        """The handler that MiniStack calls (ministack_host.Handler). Operations run in a thread: they may call S3."""
        operation_name = headers.get("x-amz-target", "").removeprefix(self.target_prefix)
        access_key = _access_key(headers)
        call = Call(request_scope(), access_key, caller_of(access_key))
        answer_headers = {"Content-Type": "application/x-amz-json-1.1"}
        try:
            response = await asyncio.to_thread(self.answer, operation_name, call, body)
            return 200, answer_headers, json.dumps(response).encode()
        except ServiceError as error:
            payload = {"__type": error.code, "Message": error.message, "message": error.message}
            return error.status, answer_headers, json.dumps(payload).encode()
        except Exception:
            reference = uuid.uuid4().hex[:8]
            action = f"{self.service}:{operation_name}"
            logger.exception("%s failed (reference %s)", action, reference)
            message = f"local_aws failed in {action}; its log has the reason (reference {reference})."
            payload = {"__type": "InternalFailure", "message": message}
            return 500, answer_headers, json.dumps(payload).encode()


def _access_key(headers: dict[str, str]) -> str:
    """The access key id in a Signature Version 4 Authorization header ("... Credential=KEY/date/region/...").

    It is the one whose signature was verified: in another header nobody looks at one.
    """
    scheme, _, signature = headers.get("authorization", "").partition(" ")
    return signature.partition("Credential=")[2].partition("/")[0] if scheme == "AWS4-HMAC-SHA256" else ""
