"""ClientRequestToken and ClientToken: the same call sent twice does its work once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.store import Store


class ClientTokens:
    """What was answered to each token."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers = store.table("client-tokens")

    def once(
        self,
        call: Call,
        operation: str,
        request: Request,
        do: Callable[[], Response],
        member: str = "ClientRequestToken",
    ) -> Response:
        """The answer of `do`, or the earlier answer to the same token.

        Args:
            member: of the request, with the token; a request without one is always done.
            do: the change itself. It runs under the store's lock, so it must not wait for anything.

        Raises:
            ServiceError: ConflictException, when the token came with another request before.
        """
        token = request.get(member)
        if token is None:
            with self._store.lock:
                return do()
        fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        key = f"{operation}/{token}"
        with self._store.lock:
            earlier = self._answers.get(call.scope, key)
            if earlier is None:
                response = do()
                self._answers.put(call.scope, key, {"request": fingerprint, "response": response})
                return response
            if earlier["request"] != fingerprint:
                raise ServiceError(
                    "ConflictException",
                    f"{member} '{token}' was used for another {operation} request; use a new one.",
                )
            return earlier["response"]
