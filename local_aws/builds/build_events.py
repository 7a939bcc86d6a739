"""What EventBridge is told of CodeBuild's builds. Pure functions.

https://docs.aws.amazon.com/codebuild/latest/userguide/sample-build-notifications.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

SOURCE = "aws.codebuild"
STATE_CHANGE, PHASE_CHANGE = "CodeBuild Build State Change", "CodeBuild Build Phase Change"

Build = dict[str, Any]


def state_change(build: Build) -> dict[str, Any]:
    """The detail of the event that tells of a build's state.

    Args:
        build: as BatchGetBuilds answers it.
    """
    return {
        "build-status": build["buildStatus"],
        "project-name": build["projectName"],
        "build-id": build["arn"],
        "additional-information": _information(build),
        "current-phase": build["currentPhase"],
        "current-phase-context": "[]",
        "version": "1",
    }


def phase_change(build: Build, phase: dict[str, Any]) -> dict[str, Any]:
    """The detail of the event that tells of a phase's end.

    Args:
        phase: one of the build's.
    """
    return {
        "completed-phase": phase["phaseType"],
        "project-name": build["projectName"],
        "build-id": build["arn"],
        "completed-phase-context": _contexts(phase),
        "additional-information": _information(build),
        "completed-phase-status": phase["phaseStatus"],
        "completed-phase-duration-seconds": phase["durationInSeconds"],
        "completed-phase-start": _time(phase["startTime"]),
        "completed-phase-end": _time(phase["endTime"]),
        "version": "1",
    }


def _information(build: Build) -> dict[str, Any]:
    environment = build["environment"]
    return {
        "timeout-in-minutes": build["timeoutInMinutes"],
        "build-complete": build["buildComplete"],
        "build-number": build["buildNumber"],
        "initiator": build["initiator"],
        "build-start-time": _time(build["startTime"]),
        "source-version": build.get("sourceVersion", ""),
        "source": {key: build["source"].get(key) for key in ("type", "location") if build["source"].get(key)},
        "environment": {
            "image": environment.get("image"),
            "privileged-mode": bool(environment.get("privilegedMode")),
            "compute-type": environment.get("computeType"),
            "type": environment.get("type"),
            "environment-variables": environment.get("environmentVariables") or [],
        },
        "logs": {"group-name": build["logs"].get("groupName"), "stream-name": build["logs"].get("streamName")},
        "phases": [_phase(phase) for phase in build["phases"]],
    }


def _phase(phase: dict[str, Any]) -> dict[str, Any]:
    found = {"phase-type": phase["phaseType"], "start-time": _time(phase["startTime"])}
    if "endTime" in phase and "phaseStatus" in phase:
        found |= {
            "phase-context": [_contexts(phase)],
            "end-time": _time(phase["endTime"]),
            "duration-in-seconds": phase["durationInSeconds"],
            "phase-status": phase["phaseStatus"],
        }
    return found


def _contexts(phase: dict[str, Any]) -> str:
    texts = [f"{each['statusCode']}: {each['message']}" for each in phase.get("contexts", [])]
    return f"[{', '.join(texts or [': '])}]"


def _time(seconds: float) -> str:
    """Such as "Sep 1, 2017 4:12:29 PM", which is how these events write times."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime(f"%b {at.day}, %Y {at.hour % 12 or 12}:%M:%S %p")
