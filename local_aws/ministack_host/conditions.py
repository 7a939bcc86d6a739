"""Conditions of CloudFormation templates that join lists.

Touches: `_evaluate_conditions` in the modules of `cloudformation`.
"""

from __future__ import annotations

from typing import Any

from local_aws.ministack_host.app import before_first_request


def join_in_conditions() -> None:
    """Let a template's conditions join lists, as AWS does; MiniStack takes Fn::Join in one for a text of its own.

    So that !Not [!Equals [!Join ["", !Ref SomeList], ""]] is whether the list has anything in it.
    """

    def prepare() -> None:
        from ministack.services.cloudformation import changesets, engine, handlers, stacks

        evaluate = engine._evaluate_conditions

        def evaluate_joined(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
            return evaluate({**template, "Conditions": _joined_texts(template.get("Conditions", {}), params)}, params)

        for module in (changesets, engine, handlers, stacks):
            module._evaluate_conditions = evaluate_joined

    before_first_request("cloudformation", prepare)


def _joined_texts(condition: Any, params: dict[str, Any]) -> Any:
    """The condition with what Fn::Join makes of parameters and texts in its place."""
    if isinstance(condition, list):
        return [_joined_texts(each, params) for each in condition]
    if not isinstance(condition, dict):
        return condition
    if "Fn::Join" not in condition:
        return {name: _joined_texts(each, params) for name, each in condition.items()}
    separator, items = condition["Fn::Join"]
    texts: list[str] = []
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, dict):
            texts.append(str(item))
        elif (parameter := params[item["Ref"]])["Type"] == "CommaDelimitedList":
            texts += [text.strip() for text in parameter["Value"].split(",")]
        else:
            texts.append(str(parameter["Value"]))
    return str(separator).join(texts)
