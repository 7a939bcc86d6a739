"""One endpoint as it is kept, described and told about in events."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from local_aws.calls import Response
from local_aws.events import Events
from local_aws.sagemaker import times
from local_aws.sagemaker.deployments import Deployed, Stage, Variant
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store, Table

CREATING, UPDATING, ROLLING_BACK, IN_SERVICE = "Creating", "Updating", "RollingBack", "InService"
DELETING, FAILED, UPDATE_ROLLBACK_FAILED = "Deleting", "Failed", "UpdateRollbackFailed"
LONGEST_REASON = 1024  # characters of FailureReason

_KEPT = (
    "EndpointName",
    "EndpointArn",
    "EndpointConfigName",
    "EndpointStatus",
    "FailureReason",
    "CreationTime",
    "LastModifiedTime",
    "LastDeploymentConfig",
)


class Closed(Exception):
    """The server is going down: nothing is written any more."""


@dataclass(frozen=True)
class Keeping:
    """What all records share."""

    store: Store
    table: Table
    tags: Tags
    events: Events


class Record:
    """An endpoint's document: what `described` answers, Deployed (what it serves) and Pending (what it changes to).

    Pending has Deployed, StartTime and, by variant, VariantStatus and the instances with traffic on; for a server that
    must go on with the change, also DeploymentConfig, the Stage's status, and once it is rolled back, Fault. A document
    is never changed in place, only replaced.
    """

    def __init__(self, scope: Scope, key: str, keeping: Keeping) -> None:
        self.scope, self.key = scope, key
        self._keeping = keeping
        self._closed = False

    @property
    def document(self) -> Document:
        document = self._keeping.table.get(self.scope, self.key)
        if document is None:
            raise Closed
        return document

    @property
    def name(self) -> str:
        return self.document["EndpointName"]

    @property
    def status(self) -> str:
        return self.document["EndpointStatus"]

    @property
    def deployed(self) -> Deployed | None:
        found = self.document.get("Deployed")
        return None if found is None else Deployed.load(found)

    def close(self) -> None:
        """Write nothing any more; who tries gets Closed."""
        with self._keeping.store.lock:
            self._closed = True

    def change(self, **members: Any) -> None:
        """Replace members of the document (None removes one); a change of EndpointStatus is told as an event.

        Raises:
            Closed: the server is going down, or the endpoint is gone.
        """
        with self._keeping.store.lock:
            if self._closed:
                raise Closed
            before = self.document
            document = {name: value for name, value in (before | members).items() if value is not None}
            document["LastModifiedTime"] = round(time.time(), 3)
            self._keeping.table.put(self.scope, self.key, document)
            if document["EndpointStatus"] != before["EndpointStatus"]:
                self.tell_state()

    def fail(self, reason: str) -> None:
        self.change(EndpointStatus=FAILED, FailureReason=reason[:LONGEST_REASON], Pending=None)

    def begin(self, new: Deployed, status: str, config: Document | None = None, **members: Any) -> None:
        """A change begins.

        Args:
            new: what it leads to.
            config: its DeploymentConfig, None for AWS's default.
        """
        pending = {"Deployed": new.dump(), "StartTime": round(time.time(), 3), "VariantStatus": {}, "On": {}}
        pending |= {} if config is None else {"DeploymentConfig": config}
        self.change(EndpointStatus=status, Pending=pending, FailureReason=None, **members)

    def roll_back(self, fault: str) -> None:
        """The change that is pending is taken back, for a reason that is told when that is done."""
        self.change(EndpointStatus=ROLLING_BACK, Pending=self.document["Pending"] | {"Fault": fault})

    def stage(self, stage: Stage) -> None:
        """The pending deployment has come to a stage; told as an event when the endpoint existed before."""
        now = round(time.time(), 3)
        pending = self.document["Pending"] | {
            "VariantStatus": {
                name: [{"Status": stage.status, "StatusMessage": stage.message(name), "StartTime": now}]
                for name in stage.on
            },
            "On": {name: turned.instances for name, turned in stage.on.items()},
            "Stage": stage.status,
        }
        with self._keeping.store.lock:
            self.change(Pending=pending)
            if self.status != CREATING:
                self._emit("SageMaker Endpoint Deployment State Change")

    def remove(self) -> None:
        """The endpoint is gone."""
        with self._keeping.store.lock:
            if self._closed:
                raise Closed
            self._keeping.tags.forget(self.scope, self.document["EndpointArn"])
            self._keeping.table.delete(self.scope, self.key)

    def tell_state(self) -> None:
        self._emit("SageMaker Endpoint State Change")

    def _emit(self, detail_type: str) -> None:
        document = self.document
        serving = document.get("Deployed") or document.get("Pending", {}).get("Deployed")
        # Guardrails, and so their events, are for real-time endpoints only; whether a serverless one tells of its
        # state AWS's documents do not say.
        serverless = serving is not None and Deployed.load(serving).serverless
        if serverless and ("Deployment" in detail_type or not self._keeping.events.for_serverless()):
            return
        detail = event_detail(document, self._keeping.tags.of(self.scope, document["EndpointArn"]))
        self._keeping.events.emit(self.scope, detail_type, [document["EndpointArn"]], detail)


def described(document: Document) -> Response:
    """What DescribeEndpoint answers."""
    answer = {name: document[name] for name in _KEPT if name in document}
    if "Deployed" in document:
        deployed = Deployed.load(document["Deployed"])
        answer["ProductionVariants"] = [_variant_summary(variant) for variant in deployed.variants]
        if deployed.data_capture is not None:
            answer["DataCaptureConfig"] = _capture_summary(deployed.data_capture)
    if "Pending" in document:
        answer["PendingDeploymentSummary"] = _pending_summary(document["Pending"])
    return answer


def event_detail(document: Document, tags: dict[str, str]) -> dict[str, Any]:
    """The detail of both of an endpoint's events: statuses in UPPER_SNAKE, times in milliseconds, tags as a map.

    Shape: https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html.
    """
    answer = described(document)
    names = ("EndpointName", "EndpointArn", "EndpointConfigName", "FailureReason", "PendingDeploymentSummary")
    detail = {name: answer[name] for name in names if name in answer}
    detail["ProductionVariants"] = answer.get("ProductionVariants", [])
    detail["EndpointStatus"] = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", answer["EndpointStatus"]).upper()
    detail |= {"CreationTime": answer["CreationTime"], "LastModifiedTime": answer["LastModifiedTime"], "Tags": tags}
    return times.in_milliseconds(detail)


def _variant_summary(variant: Variant) -> dict[str, Any]:
    digest = sha256(variant.image.encode()).hexdigest()  # local_aws has no registry to ask for the image's own
    summary: dict[str, Any] = {
        "VariantName": variant.name,
        "DeployedImages": [
            {
                "SpecifiedImage": variant.image,
                "ResolvedImage": f"{variant.image.rpartition(':')[0] or variant.image}@sha256:{digest}",
                "ResolutionTime": variant.resolved,
            }
        ],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.desired_weight,
        "CurrentInstanceCount": variant.count,
    }
    if variant.serverless is None:
        return summary | {"DesiredInstanceCount": variant.desired_count}
    return summary | {
        "CurrentServerlessConfig": variant.serverless,
        "DesiredServerlessConfig": variant.desired_serverless,
    }


def _pending_summary(pending: Document) -> dict[str, Any]:
    deployed = Deployed.load(pending["Deployed"])
    variants = []
    for variant in deployed.variants:
        summary = _variant_summary(variant) | {"VariantStatus": pending["VariantStatus"].get(variant.name, [])}
        if variant.instance_type is not None:
            summary |= {"InstanceType": variant.instance_type}
            summary |= {"CurrentInstanceCount": pending["On"].get(variant.name, 0)}
        variants.append(summary)
    return {
        "EndpointConfigName": deployed.config,
        "ProductionVariants": variants,
        "StartTime": pending["StartTime"],
    }


def _capture_summary(config: Document) -> dict[str, Any]:
    enabled = config.get("EnableCapture", True)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
