"""No request's body fills the server's memory.

AWS's services take a few megabytes (S3's objects 5 GiB, which here are read into memory before they are kept).
"""

from __future__ import annotations

import json
from typing import Any

MEBI = 1024**2
# The largest that any service takes: Lambda's archive of 50 MB in base64 (CreateFunction), with room.
LARGEST = 100 * MEBI
LARGEST_OBJECT = 1024 * MEBI  # what is larger is uploaded in parts, as boto3's upload_file does


class BodyLimit:
    """An ASGI application that refuses bodies that are too large, and hands everything else on.

    Args:
        application: what answers all other requests.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        to_s3 = b"/s3/aws4_request" in headers.get(b"authorization", b"")
        limit = LARGEST_OBJECT if to_s3 else LARGEST
        if int(headers.get(b"content-length") or 0) > limit:  # the HTTP server has refused what is no number
            await _refuse(to_s3, limit, send)
            return
        await self._application(scope, _counted(receive, limit), send)


def _counted(receive: Any, limit: int) -> Any:
    """`receive`, which says that the client has gone once a body of unknown length is longer than the limit."""
    received = 0

    async def counted() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= limit else {"type": "http.disconnect"}

    return counted


async def _refuse(to_s3: bool, limit: int, send: Any) -> None:
    message = f"The body is larger than the {limit // MEBI} MiB that local_aws takes; upload large objects in parts."
    if to_s3:
        kind, body = b"application/xml", f"<Error><Code>EntityTooLarge</Code><Message>{message}</Message></Error>"
    else:
        code = "RequestEntityTooLargeException"
        kind, body = b"application/x-amz-json-1.1", json.dumps({"__type": code, "message": message})
    answer_headers = [(b"content-type", kind), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": answer_headers})
    await send({"type": "http.response.body", "body": body.encode()})
