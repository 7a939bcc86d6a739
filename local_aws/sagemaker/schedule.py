"""Which steps may run: pure, from the definition and from what has succeeded so far."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from local_aws.sagemaker.definition import Definition

SUCCEEDED = "Succeeded"


def startable(definition: Definition, outcomes: Mapping[str, str], started: Collection[str]) -> list[str]:
    """The steps to start now, in the definition's order.

    A step runs after everything it needs has succeeded; a step of a branch also after its Condition step took that
    branch. A step of a branch not taken never runs, nor does a step that needs one.

    Args:
        outcomes: of the steps that succeeded: "True" or "False" of a Condition step, SUCCEEDED of any other.
        started: the steps that were started, whatever became of them.
    """
    return [
        step.name
        for step in definition.steps.values()
        if step.name not in started
        and all(name in outcomes for name in step.needs)
        and (step.branch is None or outcomes.get(step.branch[0]) == step.branch[1])
    ]
