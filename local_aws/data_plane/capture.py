"""Records of data capture, as AWS writes them ("Capture data from real-time endpoint"); pure functions."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from local_aws.data_plane.invocations import Asked


class Capture:
    """A DataCaptureConfig."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.enabled = bool(config.get("EnableCapture", False))
        self.share = config["InitialSamplingPercentage"] / 100
        self.destination = config["DestinationS3Uri"]
        self.kms_key = config.get("KmsKeyId")
        modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
        self._input = bool(modes & {"Input", "InputAndOutput"})
        self._output = bool(modes & {"Output", "InputAndOutput"})
        types = config.get("CaptureContentTypeHeader", {})
        self._encodings = {kind.lower(): "CSV" for kind in types.get("CsvContentTypes", [])}
        self._encodings |= {kind.lower(): "JSON" for kind in types.get("JsonContentTypes", [])}

    def record(self, asked: Asked, body: bytes, answer_type: str | None, answer: bytes) -> str:
        """The line that is captured of one request."""
        data = {}
        if self._input:
            data["endpointInput"] = self._part("INPUT", asked.content_type, body)
        if self._output:
            data["endpointOutput"] = self._part("OUTPUT", answer_type, answer)
        event: dict[str, Any] = {"eventId": str(uuid.uuid4())}
        if asked.inference_id is not None:
            event["inferenceId"] = asked.inference_id
        if asked.custom_attributes is not None:
            event["customAttributes"] = [asked.custom_attributes]
        event["inferenceTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return json.dumps({"captureData": data, "eventMetadata": event, "eventVersion": "0"})

    def _part(self, mode: str, content_type: str | None, body: bytes) -> dict[str, str]:
        encoding = self._encodings.get((content_type or "").partition(";")[0].strip().lower(), "BASE64")
        try:
            data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
        except UnicodeDecodeError:
            encoding, data = "BASE64", base64.b64encode(body).decode()
        part = {"observedContentType": content_type} if content_type is not None else {}
        return part | {"mode": mode, "data": data, "encoding": encoding}
