"""IAM, asked at the door of our own services: after a request was checked, before anything is looked for or done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_aws.calls import ServiceError
from local_aws.permissions import autoscaling, codecommit, codepipeline, sagemaker, servicecatalog
from local_aws.permissions.permissions import Denied, Permissions
from local_aws.permissions.questions import Ask, Known, Question, nothing_in_particular
from local_aws.store import Scope, Store

# By botocore's name of the service, then by operation.
QUESTIONS: dict[str, dict[str, Ask]] = {
    "sagemaker": sagemaker.TABLE,
    "application-autoscaling": autoscaling.TABLE,
    "codecommit": codecommit.TABLE,
    "codepipeline": codepipeline.TABLE,
    "pricing": {"GetProducts": nothing_in_particular},
    "servicecatalog": servicecatalog.TABLE,
}


def questions(service: str, operation: str, request: dict[str, Any], known: Known) -> list[Question]:
    """What a request asks IAM.

    Args:
        request: that its service's model allows.

    Raises:
        KeyError: of this operation nobody has said what it asks.
    """
    return QUESTIONS[service][operation](f"{service}:{operation}", request, known)


class Authorization:
    """Args:
    permissions: IAM, and whether it is asked.
    store: of our services: their resources' tags.
    kms_key: the ARN of the KMS key that an id, an alias or an ARN stands for.
    identity_of: ARNs of the user or role that an access key is of, and of its session (ministack_host.identity_of).
    """

    def __init__(
        self,
        permissions: Permissions,
        store: Store,
        kms_key: Callable[[Scope, str], str],
        identity_of: Callable[[str], tuple[str, str] | None] = lambda _access_key: None,
    ) -> None:
        self._permissions, self._store, self._kms_key = permissions, store, kms_key
        self._identity_of = identity_of

    def check(self, scope: Scope, access_key: str, service: str, operation: str, request: dict[str, Any]) -> None:
        """Ask everything that a request asks.

        Raises:
            ServiceError: AccessDeniedException, with AWS's message: the caller may not, or it is not known here what
                the operation asks; MissingAuthenticationTokenException, UnrecognizedClientException: there is no such
                caller.
        """
        if not self._permissions.enforced:
            return
        if not access_key:
            raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
        known = Known(self._store, scope, self._kms_key, self._identity_of(access_key))
        if operation not in QUESTIONS.get(service, {}):
            raise ServiceError(
                "AccessDeniedException",
                f"{service}:{operation} is denied to everybody while IAM is enforced: local_aws does not know what it"
                " has to ask. Add it to local_aws/permissions.",
            )
        for asked in questions(service, operation, request, known):
            try:
                self._permissions.check(
                    scope, access_key, asked.action, asked.resource, asked.context, because=asked.because
                )
            except Denied as denied:
                raise ServiceError("AccessDeniedException", str(denied)) from denied
            except PermissionError as error:
                raise ServiceError("UnrecognizedClientException", str(error)) from error
