"""The front door: one request in, checked against botocore's model, to the operation that answers it."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from pathlib import Path

from local_aws.calls import Call, Operation, ServiceError
from local_aws.images import Images
from local_aws.loopback import Loopback
from local_aws.ministack_host import request_scope
from local_aws.request_checks import check_request, service_model, without_nulls
from local_aws.sagemaker import endpoints
from local_aws.sagemaker.executions import Executions
from local_aws.sagemaker.jobs import Jobs
from local_aws.sagemaker.pipelines import Pipelines
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.tuning import Tuning
from local_aws.store import Store

TARGET_PREFIX = "SageMaker."

logger = logging.getLogger(__name__)


class SageMaker:
    """The service: its parts, and what they share.

    Args:
        store: where every resource is kept.
        loopback: clients for the other services of this server (S3, CloudWatch Logs).
        images: the environments that stand for container images.
        work: a folder for the jobs' own folders.
        opt_ml: how jobs get /opt/ml: "auto", "namespace" or "rewrite".
    """

    def __init__(self, store: Store, loopback: Loopback, images: Images, work: Path, opt_ml: str = "auto") -> None:
        self.store = store
        self.tags = Tags(store)
        self.registry = Registry(store, self.tags)
        self.jobs = Jobs(store, self.tags, loopback, images, work, opt_ml)
        self.tuning = Tuning(store, self.tags, self.jobs)
        self.executions = Executions(store, loopback, self.jobs, self.tuning, self.registry)
        self.pipelines = Pipelines(store, self.tags, loopback, self.executions)
        self.operations: dict[str, Operation] = endpoints.operations()
        for part in (self.tags, self.registry, self.jobs, self.tuning, self.executions, self.pipelines):
            self.operations.update(part.operations())

    def resume(self) -> None:
        """After a restart with state: what was under way when the last process ended is failed, saying so."""
        self.jobs.resume()
        self.tuning.resume()
        self.executions.resume()

    def kill(self) -> None:
        """Start nothing more, and kill every job's processes."""
        self.executions.stop()
        self.tuning.kill()
        self.jobs.kill()

    def stop(self) -> None:
        """The same, and wait for the threads that watch the jobs."""
        self.kill()
        self.jobs.join()
        self.tuning.join()

    @property
    def busy(self) -> bool:
        """Whether any job or execution is under way."""
        return self.jobs.busy or self.tuning.busy or self.executions.busy

    def answer(self, operation_name: str, call: Call, body: bytes) -> dict:
        """Answer one request.

        Raises:
            ServiceError: what the client is to be told.
        """
        model = service_model("sagemaker")
        if operation_name not in model.operation_names:
            raise ServiceError("UnknownOperationException", f"SageMaker has no operation {operation_name!r}.", 404)
        operation = self.operations.get(operation_name)
        if operation is None:
            raise ServiceError(
                "NotImplementedException",
                f"local_aws does not build sagemaker:{operation_name}: nothing of Modelyard's calls it."
                f" It answers {', '.join(sorted(self.operations))}.",
                501,
            )
        try:
            request = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:  # the latter: nested too deeply
            raise ServiceError("SerializationException", f"The request body is not JSON: {error}") from error
        check_request(model.operation_model(operation_name), request)
        return operation(call, without_nulls(request))

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict
    ) -> tuple[int, dict[str, str], bytes]:
        """The handler that MiniStack calls (ministack_host.Handler). Operations run in a thread: they may call S3."""
        operation_name = headers.get("x-amz-target", "").removeprefix(TARGET_PREFIX)
        call = Call(request_scope(), access_key=_access_key(headers))
        answer_headers = {"Content-Type": "application/x-amz-json-1.1"}
        try:
            response = await asyncio.to_thread(self.answer, operation_name, call, body)
            return 200, answer_headers, json.dumps(response).encode()
        except ServiceError as error:
            payload = {"__type": error.code, "Message": error.message, "message": error.message}
            return error.status, answer_headers, json.dumps(payload).encode()
        except Exception:
            reference = uuid.uuid4().hex[:8]
            logger.exception("sagemaker:%s failed (reference %s)", operation_name, reference)
            message = f"local_aws failed in sagemaker:{operation_name}; its log has the reason (reference {reference})."
            payload = {"__type": "InternalFailure", "message": message}
            return 500, answer_headers, json.dumps(payload).encode()


def _access_key(headers: dict[str, str]) -> str:
    """The access key id in a Signature Version 4 Authorization header ("... Credential=KEY/date/region/...")."""
    return headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
