"""The definition language's expressions and conditions, and the small rules beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from local_aws.sagemaker.cache import cache_key, parse_duration
from local_aws.sagemaker.definition import Parameter, RetryPolicy
from local_aws.sagemaker.expressions import (
    ExpressionError,
    condition_faults,
    evaluate,
    follow,
    holds,
    parse_path,
    path_text,
    references,
)
from tests.local_aws.pipeline_fakes import compare, get, join, json_get

PARAMETERS = {"Text": "a", "Count": 3, "Ratio": 0.5, "Flag": True}
DESCRIPTION = {
    "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m.tar.gz"},
    "Outputs": [{"OutputName": "x", "Uri": "s3://x"}],
}
REPORT = {"auc": {"value": 0.9, "low": None}, "folds": [{"f": 1}, {"f": 2}], "a.b": "dotted", "name": "n"}


class FixedValues:
    """What the references of these tests stand for."""

    def parameter(self, name: str) -> Any:
        return PARAMETERS[name]

    def execution_variable(self, name: str) -> str:
        return f"<{name}>"

    def step_property(self, step: str, path: str) -> Any:
        return follow(DESCRIPTION, parse_path(path), f"step '{step}'", by_element_name=True)

    def property_file(self, step: str, name: str) -> Any:
        assert (step, name) == ("Evaluate", "Report")
        return REPORT

    def json_object(self, s3_uri: str) -> Any:
        assert s3_uri == "s3://b/a/r.json"
        return REPORT


VALUES = FixedValues()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (get("Parameters.Text"), "a"),
        (get("Parameters.Count"), 3),
        (get("Parameters.Ratio"), 0.5),
        (get("Parameters.Flag"), True),
        (get("Execution.PipelineExecutionId"), "<PipelineExecutionId>"),
        (get("Steps.Train.ModelArtifacts.S3ModelArtifacts"), "s3://b/m.tar.gz"),
        (get("Steps.Prepare.Outputs['x'].Uri"), "s3://x"),
        (get("Steps.Prepare.Outputs[0].Uri"), "s3://x"),
        (join("/", "s3://b", get("Execution.PipelineName"), "x"), "s3://b/<PipelineName>/x"),
        (join("", get("Parameters.Count")), "3"),
        (join(" ", 1, 0.5, True, False, "t", get("Parameters.Flag")), "1 0.5 true false t true"),
        (join("-", join("+", "a", "b"), "c"), "a+b-c"),
        (json_get("auc.value"), 0.9),
        (json_get("$.auc.value"), 0.9),
        (json_get("folds[1].f"), 2),
        (json_get("['a.b']"), "dotted"),
        (json_get('auc["value"]'), 0.9),
        (join("", json_get("auc.value")), "0.9"),
        ({"Std:JsonGet": {"S3Uri": "s3://b/a/r.json", "Path": "name"}}, "n"),
        ({"Std:JsonGet": {"S3Uri": join("/", "s3://b", get("Parameters.Text"), "r.json"), "Path": "name"}}, "n"),
        ({"A": [{"B": get("Parameters.Text")}, "literal"]}, {"A": [{"B": "a"}, "literal"]}),
    ],
)
def test_an_expression_stands_for_its_value(expression: Any, value: Any) -> None:
    assert evaluate(expression, VALUES) == value


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        (get("Params.Text"), "'Parameters.<name>'"),
        (get("Steps.Train"), "'Steps.<step>.<property path>'"),
        ({"Get": 3}, "is not a reference"),
        (get("Steps.Evaluate.PropertyFiles.Report"), "read it with Std:JsonGet"),
        ({"Std:Join": {"Values": "ab"}}, "Std:Join needs"),
        ({"Std:Join": {"On": 1, "Values": ["a"]}}, "On must be a string"),
        (join("", ["nested"]), "neither a primitive value nor an expression"),
        ({"Std:Join": {"On": "", "Values": [], "More": 1}}, "Std:Join needs"),
        ({"Std:JsonGet": {"Path": "a"}}, "Std:JsonGet needs"),
        ({"Std:JsonGet": {"PropertyFile": "Report", "Path": "a"}}, "Std:JsonGet needs"),
        ({"Std:JsonGet": {"PropertyFile": get("Steps.Evaluate.Report"), "Path": "a"}}, "Std:JsonGet needs"),
        ({"Std:JsonGet": {"S3Uri": 5, "Path": "a"}}, "Std:JsonGet needs"),
        (json_get("auc[*]"), "not understood from '[*]' on"),
        (json_get("auc..value"), "not understood from '..value' on"),
        (json_get(""), "not understood"),
    ],
)
def test_a_badly_formed_expression_is_told_from_its_references(expression: Any, fault: str) -> None:
    with pytest.raises(ExpressionError) as error:
        list(references(expression))
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        (
            json_get("auc.f1"),
            "property file 'Report' of step 'Evaluate' has nothing at 'auc.f1'; it has value, low there",
        ),
        (json_get("auc.low"), "nothing at 'auc.low'"),
        (json_get("folds[2]"), "nothing at 'folds[2]'; there is a list of 2"),
        (json_get("folds['f']"), "nothing at 'folds.f'"),
        (json_get("name.x"), "nothing at 'name.x'; there is 'n'"),
        (get("Steps.Prepare.Outputs['y'].Uri"), "step 'Prepare' has nothing at 'Outputs.y'"),
        (join("", json_get("auc")), "is not a primitive value"),
    ],
)
def test_a_missing_value_is_told_with_its_place(expression: Any, fault: str) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(expression, VALUES)
    assert fault in str(error.value)


def test_references_are_found_at_every_depth() -> None:
    value = {"A": [join("/", get("Steps.P.X"), json_get("auc.value")), {"B": get("Parameters.Text")}], "C": "Get"}
    assert [reference.text for reference in references(value)] == [
        "Steps.P.X",
        "Steps.Evaluate.PropertyFiles.Report",
        "Parameters.Text",
    ]


@pytest.mark.parametrize("path", ["a", "a.b[0]['c d'].e", "['a.b'][3]", "a-b.c_d"])
def test_a_path_read_and_written_is_the_same(path: str) -> None:
    assert path_text(parse_path(path)) == path


AUC = json_get("auc.value")  # 0.9


@pytest.mark.parametrize(
    ("condition", "holds_"),
    [
        (compare("Equals", AUC, 0.9), True),
        (compare("Equals", get("Parameters.Text"), "a"), True),
        (compare("Equals", get("Parameters.Text"), "b"), False),
        (compare("Equals", get("Parameters.Flag"), True), True),
        (compare("Equals", get("Parameters.Count"), 3.0), True),
        (compare("GreaterThan", AUC, 0.9), False),
        (compare("GreaterThan", AUC, get("Parameters.Ratio")), True),
        (compare("GreaterThanOrEqualTo", AUC, 0.9), True),
        (compare("GreaterThanOrEqualTo", AUC, 0.91), False),
        (compare("LessThan", AUC, 0.9), False),
        (compare("LessThan", AUC, 1), True),
        (compare("LessThanOrEqualTo", AUC, 0.9), True),
        (compare("LessThanOrEqualTo", AUC, 0.89), False),
        (compare("LessThan", "2026-01-01", "2026-02-01"), True),
        ({"Type": "In", "QueryValue": get("Parameters.Text"), "Values": ["b", "a"]}, True),
        ({"Type": "In", "QueryValue": get("Parameters.Count"), "Values": [1, get("Parameters.Count")]}, True),
        ({"Type": "In", "QueryValue": get("Parameters.Text"), "Values": ["b"]}, False),
        ({"Type": "Not", "Condition": compare("Equals", AUC, 0.9)}, False),
        ({"Type": "Not", "Condition": {"Type": "Not", "Condition": compare("Equals", AUC, 0.9)}}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", AUC, 1), compare("Equals", AUC, 0.9)]}, True),
        ({"Type": "Or", "Conditions": [compare("Equals", AUC, 1), compare("Equals", AUC, 2)]}, False),
    ],
)
def test_a_condition_holds_or_does_not(condition: dict[str, Any], holds_: bool) -> None:
    assert list(condition_faults(condition)) == []
    assert holds(condition, VALUES) is holds_


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (compare("Equals", AUC, "0.9"), "0.9 and '0.9' cannot be compared (Equals): they are of different types"),
        (compare("Equals", get("Parameters.Flag"), 1), "different types"),
        (compare("GreaterThan", "a", 1), "different types"),
        (compare("LessThan", True, False), "have no order"),
        (compare("Equals", json_get("auc"), json_get("auc")), "cannot be compared"),
        (compare("Equals", json_get("f1"), 1), "has nothing at 'f1'"),
    ],
)
def test_values_that_cannot_be_compared_are_an_error_and_not_false(condition: dict[str, Any], fault: str) -> None:
    with pytest.raises(ExpressionError) as error:
        holds(condition, VALUES)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (
            {"Type": "NotEquals", "LeftValue": 1, "RightValue": 1},
            "type 'NotEquals' is unknown; the known ones are Equals",
        ),
        ("Equals", "type 'Equals' is unknown"),
        ({"Type": "Equals", "LeftValue": 1}, "condition Equals lacks RightValue"),
        (compare("Equals", 1, 1) | {"Expression": 1}, "unknown property 'Expression'"),
        (compare("Equals", [1], 1), "[1] is neither a primitive value nor an expression"),
        (compare("Equals", None, 1), "None is neither"),
        ({"Type": "In", "QueryValue": 1, "Values": []}, "Values must be a list with at least one element"),
        ({"Type": "In", "QueryValue": 1, "Values": "a"}, "Values must be a list"),
        ({"Type": "In", "QueryValue": 1, "Values": [{}]}, "{} is neither"),
        ({"Type": "Or", "Conditions": []}, "Conditions must be a list with at least one element"),
        ({"Type": "Or", "Conditions": [{"Type": "X"}]}, "type 'X' is unknown"),
        ({"Type": "Not", "Condition": {"Type": "X"}}, "type 'X' is unknown"),
    ],
)
def test_a_badly_formed_condition_is_told(condition: Any, fault: str) -> None:
    faults = list(condition_faults(condition))
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("P30D", timedelta(days=30)),
        ("30d", timedelta(days=30)),
        ("5y", timedelta(days=5 * 365)),
        ("P2M", timedelta(days=60)),
        ("P1W", timedelta(weeks=1)),
        ("T16m", timedelta(minutes=16)),
        ("PT1H", timedelta(hours=1)),
        ("PT20S", timedelta(seconds=20)),
        ("30dT5h", timedelta(days=30, hours=5)),
    ],
)
def test_durations_are_read_as_iso_8601_and_as_aws_writes_them(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "P", "PT", "30", "1h", "P1H", "-P1D", "P1D ", "forever", "P9999999Y"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an ISO 8601 duration|is longer than"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("step_type", "change", "same"),
    [
        ("Processing", {"AppSpecification": {"ImageUri": "other"}}, False),
        ("Processing", {"Environment": {"A": "2"}}, False),
        ("Processing", {"ProcessingInputs": [{"InputName": "other"}]}, False),
        ("Processing", {"ProcessingOutputConfig": {"Outputs": []}}, True),
        ("Processing", {"ProcessingResources": {"ClusterConfig": {}}}, True),
        ("Processing", {"RoleArn": "other"}, True),
        ("Processing", {"Tags": []}, True),
        ("Training", {"AlgorithmSpecification": {"TrainingImage": "other"}}, False),
        ("Training", {"HyperParameters": {"eta": "2"}}, False),
        ("Training", {"InputDataConfig": [{"ChannelName": "other"}]}, False),
        ("Training", {"CheckpointConfig": {"S3Uri": "s3://c"}}, False),
        ("Training", {"Environment": {"A": "2"}}, False),
        ("Training", {"ResourceConfig": {"InstanceType": "other"}}, True),
        ("Training", {"OutputDataConfig": {"S3OutputPath": "s3://other"}}, True),
        ("Training", {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}, True),
    ],
)
def test_the_cache_key_changes_with_awss_key_attributes_only(
    step_type: str, change: dict[str, Any], same: bool
) -> None:
    arguments = {"Environment": {"A": "1"}, "RoleArn": "role", "HyperParameters": {"eta": "1"}}
    assert (cache_key(step_type, arguments) == cache_key(step_type, arguments | change)) is same


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("String", "3", "3"),
        ("Integer", "-3", -3),
        ("Float", "3", 3.0),
        ("Float", "1e-3", 0.001),
        ("Boolean", "True", True),
        ("Boolean", "false", False),
    ],
)
def test_a_parameter_is_converted_by_its_type(kind: str, text: str, value: Any) -> None:
    parsed = Parameter("P", kind).parse(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [("Integer", "3.0"), ("Integer", "x"), ("Float", "nan"), ("Float", "inf"), ("Boolean", "1"), ("String", "")],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_parameters_name(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="Parameter 'P': the value"):
        Parameter("P", kind).parse(text)


def test_a_retry_waits_longer_each_time_until_its_attempts_or_its_time_are_used_up() -> None:
    counted = RetryPolicy(frozenset({"Step.THROTTLING"}), interval=2, backoff=3.0, attempts=2)
    assert [counted.delay(retries, elapsed=1e9) for retries in range(3)] == [2.0, 6.0, None]
    timed = RetryPolicy(frozenset({"Step.THROTTLING"}), attempts=None, expire_minutes=1)
    assert [timed.delay(30, elapsed) for elapsed in (59.0, 60.0)] == [864_000.0, None]
