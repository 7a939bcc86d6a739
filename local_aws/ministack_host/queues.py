"""Queues: times that pass as the clock says, and messages that a function handles.

Touches: how `sqs` hides, delays and hands out messages, and how `lambda_svc` polls.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import time
from collections.abc import Callable
from typing import Any

from local_aws.clock import Clock

HELD_WHILE_HANDLED = 1800.0  # seconds; longer than any function may run
WAKE_GAP = 0.002  # seconds between two looks of the event source mappings; MiniStack's 0.05 would be half of our figure
HELD = "local_aws_visible_at"  # of a message that a function handles: when it would be visible again


def keep_queue_times(clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
    """Let visibility timeouts and delays of queues pass as the clock says, and mappings to functions lose nothing.

    A message that a function handles stays invisible until the function has ended, however fast the clock: what the
    function does takes real time. MiniStack's poller changes queues in a thread of its own, so that a message sent at
    that moment could be lost; here it does so on the event loop, as everything else.
    """
    import ministack.services.lambda_svc as lambdas
    from ministack.services import sqs

    collect, run_batch = sqs._collect_msgs, lambdas._run_sqs_batch
    change, change_several, send = sqs._act_change_visibility, sqs._act_change_visibility_batch, sqs._act_send_message

    def collect_with_clock(queue: dict[str, Any], most: int, seconds: float) -> Any:
        return collect(queue, most, clock.seconds(seconds))

    def send_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = send(request, url)
        for message in sqs._get_q(request.get("QueueUrl", url))["messages"][-1:]:
            if message["visible_at"] > message["sent_at"] and message["receive_count"] == 0:
                delay = clock.seconds(message["visible_at"] - message["sent_at"])
                message["visible_at"] = message["sent_at"] + delay
                wake_in(delay)
        return answer

    def change_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = change(request, url)
        hide(request.get("QueueUrl", url), {request["ReceiptHandle"]: request.get("VisibilityTimeout", 30)})
        return answer

    def change_several_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = change_several(request, url)
        timeouts = {entry.get("ReceiptHandle"): entry.get("VisibilityTimeout", 30) for entry in request["Entries"]}
        hide(request.get("QueueUrl", url), timeouts)
        return answer

    def hide(url: str, timeouts: dict[str, Any]) -> None:
        for message in sqs._get_q(url)["messages"]:
            if message["receipt_handle"] in timeouts:
                delay = clock.seconds(int(timeouts[message["receipt_handle"]]))
                message["visible_at"] = time.time() + delay
                wake_in(delay)

    def run_held(mapping: Any, record: Any, event: Any, batch: list[dict[str, Any]], url: str, name: str) -> None:
        ends = [message["visible_at"] for message in batch]
        held = time.time() + HELD_WHILE_HANDLED
        for message, end in zip(batch, ends, strict=True):
            message["visible_at"], message[HELD] = held, end
        try:
            run_batch(mapping, record, event, batch, url, name)
        finally:
            for message, end in zip(batch, ends, strict=True):
                message.pop(HELD, None)
                if message["visible_at"] == held:  # else the function itself has changed it
                    message["visible_at"] = end
                    wake_in(end - time.time())

    def wake_in(seconds: float) -> None:
        def after() -> None:
            loop.call_later(max(0.0, seconds), lambdas._esm_wake.set)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            loop.call_soon_threadsafe(after)

    def on_loop(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            done: concurrent.futures.Future[Any] = concurrent.futures.Future()

            def run() -> None:
                try:
                    done.set_result(function(*arguments))
                except Exception as error:  # noqa: BLE001  # it is raised where the answer is waited for
                    done.set_exception(error)

            loop.call_soon_threadsafe(run, context=contextvars.copy_context())
            return done.result()

        return call

    sqs._collect_msgs = collect_with_clock
    sqs._receive_messages_for_esm = on_loop(sqs._receive_messages_for_esm)
    sqs._delete_messages_for_esm = on_loop(sqs._delete_messages_for_esm)
    lambdas._run_sqs_batch = run_held
    lambdas._ESM_IDLE_WAKE_GAP_SECONDS = WAKE_GAP
    lambdas._ESM_BACKOFF_SECONDS = clock.seconds(lambdas._ESM_BACKOFF_SECONDS)
    sqs._act_send_message = send_with_clock  # SendMessageBatch calls it
    sqs._HANDLERS["SendMessage"] = send_with_clock
    sqs._HANDLERS["ChangeMessageVisibility"] = change_with_clock
    sqs._HANDLERS["ChangeMessageVisibilityBatch"] = change_several_with_clock
