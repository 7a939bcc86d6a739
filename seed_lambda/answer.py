"""The answer to a custom resource's request, as CloudFormation takes it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from seed_lambda.addresses import is_private
from seed_lambda.context import Context
from seed_lambda.request import Request

LARGEST = 4096  # bytes of the whole body
_SECONDS = 10  # for one try
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries, the last one again and again
_AGAIN = (408, 429)  # of the refusals, those that another try may get around; a 5xx too


class NotDelivered(Exception):
    """CloudFormation did not take the answer; the function fails, so that Lambda calls it again."""


@dataclass(frozen=True)
class Answer:
    """What the request came to.

    Args:
        status: SUCCESS or FAILED.
        physical_id: the resource's PhysicalResourceId; another one than before would let CloudFormation replace it.
        reason: for people, in the stack's events; cut where the body would be too large.
        data: what Fn::GetAtt finds.
    """

    status: Literal["SUCCESS", "FAILED"]
    physical_id: str
    reason: str = ""
    data: Mapping[str, str] = field(default_factory=dict)

    def body(self, request: Request) -> bytes:
        """The JSON that is put, at most 4,096 bytes.

        Raises:
            ValueError: the data alone is larger.
        """
        whole = self._encoded(request, self.reason)
        if len(whole) <= LARGEST:
            return whole
        low, high = 0, len(self.reason)  # characters that are kept: bytes grow with them
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._encoded(request, self.reason[:middle] + _CUT)) <= LARGEST:
                low = middle
            else:
                high = middle - 1
        cut = self._encoded(request, self.reason[:low] + _CUT)
        if len(cut) > LARGEST:
            raise ValueError(f"the answer's data has more than {LARGEST} bytes")
        return cut

    def _encoded(self, request: Request, reason: str) -> bytes:
        body = {
            "Status": self.status,
            "PhysicalResourceId": self.physical_id,
            "StackId": request.stack_id,
            "RequestId": request.request_id,
            "LogicalResourceId": request.logical_id,
            "NoEcho": False,
            "Data": dict(self.data),
        }
        if reason or self.status == "FAILED":
            body["Reason"] = reason or "no reason was given"
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")


_CUT = " ..."


def send(context: Context, answer: Answer, seconds: float) -> None:
    """Put the answer where CloudFormation waits for it; the address is a credential and is never shown.

    Args:
        seconds: how long to try, from now.

    Raises:
        NotDelivered: it was not taken.
    """
    body = answer.body(context.request)
    until = context.monotonic() + seconds
    tries = 0
    while True:
        fault = _put(context.request.response_url, body)
        if fault is None:
            context.log("answered", status=answer.status, reason=answer.reason or None)
            return
        pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
        if fault.final or context.monotonic() + pause >= until:
            raise NotDelivered(f"CloudFormation did not take the answer: {context.log.clean(fault.text)}")
        context.log("the answer was not taken: trying again", level="WARNING", fault=fault.text)
        context.wait(pause)
        tries += 1


@dataclass(frozen=True)
class _Fault:
    text: str
    final: bool


def _put(url: str, body: bytes) -> _Fault | None:
    if not is_private(url):
        return _Fault("its address is no HTTPS address", final=True)
    # the signed address covers an empty content type
    request = urllib.request.Request(url, data=body, method="PUT", headers={"content-type": ""})  # noqa: S310  checked
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310  checked
            status = response.status
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    except (OSError, http.client.HTTPException) as error:
        return _Fault(f"{type(error).__name__}: {getattr(error, 'reason', None) or 'no connection'}", final=False)
    if 200 <= status < 300:
        return None
    return _Fault(f"HTTP status {status}", final=status < 500 and status not in _AGAIN)
