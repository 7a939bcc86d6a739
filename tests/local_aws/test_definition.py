"""What a definition may say, and how a wrong one is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.sagemaker.definition import Definition, Step
from local_aws.sagemaker.definition_reader import DefinitionError, parse_definition
from local_aws.sagemaker.schedule import SUCCEEDED, startable
from tests.local_aws.pipeline_fakes import (
    compare,
    condition,
    definition,
    fail,
    get,
    join,
    json_get,
    processing,
    register,
    training,
)

REPORT = [{"PropertyFileName": "Report", "OutputName": "report", "FilePath": "report.json"}]
EVALUATE = processing("Evaluate", {"report": "s3://b/report"}, PropertyFiles=REPORT)
COUNT = {"Name": "Count", "Type": "Integer", "DefaultValue": 3}
RATIO = {"Name": "Ratio", "Type": "Float", "DefaultValue": 0.5}
GATE = compare("Equals", 1, 1)


def parse(document: Any) -> Definition:
    return parse_definition(json.dumps(document))


def test_what_the_sdk_writes_is_understood() -> None:
    """sdk_definition.json is a definition compiled by the SageMaker Python SDK 3.27.0."""
    read = parse(SDK_DEFINITION)
    assert {name: parameter.default for name, parameter in read.parameters.items()} == {
        "InstanceType": "ml.m5.large",
        "MinAuc": 0.7,
        "Rounds": 10,
    }
    assert {step.name: (step.type, set(step.needs), step.branch) for step in read.steps.values()} == {
        "Prepare": ("Processing", set(), None),
        "Train": ("Training", {"Prepare"}, None),
        "Evaluate": ("Processing", {"Train"}, None),
        "Gate": ("Condition", {"Evaluate"}, None),
        "Register": ("RegisterModel", {"Train", "Evaluate"}, ("Gate", "True")),
        "TooBad": ("Fail", {"Evaluate"}, ("Gate", "False")),
    }
    assert read.steps["Prepare"].expire_after == timedelta(days=30)
    assert read.steps["Prepare"].retry_policies[0].attempts == 3


def test_a_step_needs_what_it_depends_on_and_what_it_refers_to_and_no_step_of_its_branches() -> None:
    read = parse(
        definition(
            EVALUATE,
            training("Train"),
            condition(
                "Outer",
                compare("LessThan", json_get("rmse"), 1),
                then=[condition("Inner", GATE, then=[fail("Deep", join("", get("Steps.Train.TrainingJobArn")))])],
                DependsOn=[{"Step": "Train", "Trigger": "Completed"}],
            ),
        )
    )
    assert read.steps["Outer"].needs == {"Evaluate", "Train"}
    assert read.steps["Inner"].needs == set()
    assert read.steps["Deep"].needs == {"Train"}
    assert read.steps["Deep"].branch == ("Inner", "True")


def test_an_expression_may_stand_for_a_value_of_its_type() -> None:
    step = processing(
        "P",
        {"o": join("/", "s3://b", get("Execution.PipelineExecutionId"))},
        Environment={"COUNT": join("", get("Parameters.Count")), "METRIC": json_get("x")},
        StoppingCondition={"MaxRuntimeInSeconds": get("Parameters.Count")},
    )
    assert parse(definition(EVALUATE, step, parameters=[COUNT])).steps["P"].needs == {"Evaluate"}


def with_environment(value: Any) -> dict[str, Any]:
    return definition(EVALUATE, processing("P", Environment={"A": value}), parameters=[COUNT, RATIO])


def with_policy(**policy: Any) -> dict[str, Any]:
    return definition(processing("P", RetryPolicies=[{"ExceptionType": ["Step.THROTTLING"]} | policy]))


def with_parameter(**parameter: Any) -> dict[str, Any]:
    return definition(EVALUATE, parameters=[{"Name": "P", "Type": "String"} | parameter])


WITHOUT_ROLE = processing("P")
del WITHOUT_ROLE["Arguments"]["RoleArn"]

REFUSED: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    (definition(EVALUATE, Version="2019-01-01"), "Version must be '2020-12-01', not '2019-01-01'"),
    (definition(EVALUATE, Stages=[]), "The definition: unknown property 'Stages'"),
    (definition(EVALUATE, MlflowConfig={"MlflowResourceArn": "x"}), "MlflowConfig is not supported by local_aws"),
    (definition(), "Steps must be a list with at least one step"),
    (definition(*[processing(f"S{number}") for number in range(51)]), "there are 51; at most 50"),
    (definition({"Type": "Processing"}), "has no Name"),
    (
        definition(EVALUATE | {"Type": "Lambda"}),
        "Step 'Evaluate': local_aws does not run steps of type 'Lambda';"
        " it runs Processing, Training, Tuning, RegisterModel, Condition, Fail",
    ),
    (definition(EVALUATE) | {"Steps": {"a": 1}}, "The definition: Steps must be a list"),
    (definition(EVALUATE) | {"Parameters": "a"}, "The definition: Parameters must be a list"),
    (definition(EVALUATE, EVALUATE), "Step 'Evaluate': the name is used twice"),
    (definition(EVALUATE, condition("C", GATE, then=[EVALUATE])), "Step 'Evaluate': the name is used twice"),
    (definition(processing("a b")), "Step 'a b': a name has 1 to 64"),
    (definition(processing("P", DisplayName=3)), "Step 'P': DisplayName must be a string"),
    (definition(processing("P", Retry=1)), "Step 'P': unknown property 'Retry'"),
    (definition(register("R", CacheConfig={"Enabled": True})), "Step 'R': unknown property 'CacheConfig'"),
    (definition(fail("F") | {"RetryPolicies": []}), "Step 'F': unknown property 'RetryPolicies'"),
    # what a step depends on
    (definition(processing("P", DependsOn=["Q"])), "Step 'P': depends on step 'Q', which is not in the definition"),
    (definition(processing("P", DependsOn="Q")), "Step 'P': DependsOn must be a list"),
    (
        definition(EVALUATE, processing("P", DependsOn=[{"Step": "Evaluate", "Trigger": "Failed"}])),
        "Step 'P': DependsOn with Trigger 'Failed' is not supported by local_aws",
    ),
    (definition(processing("P", DependsOn=[3])), "Step 'P': DependsOn: 3 is not the name of a step"),
    (definition(processing("P", DependsOn=["P"])), "in a circle: P -> P"),
    (
        definition(processing("P", DependsOn=["Q"]), processing("Q", DependsOn=["P"])),
        "Steps depend on each other in a circle:",
    ),
    (
        definition(condition("C", compare("Equals", get("Steps.P.ExitMessage"), ""), then=[processing("P")])),
        "Steps depend on each other in a circle:",
    ),
    # references
    (
        with_environment(get("Steps.Q.ProcessingJobArn")),
        "Step 'P': depends on step 'Q', which is not in the definition",
    ),
    (
        with_environment(get("Parameters.Q")),
        "'Parameters.Q': there is no such parameter; the definition's parameters are",
    ),
    (with_environment(get("Execution.Q")), "'Execution.Q': there is no such variable; there are StartDateTime"),
    (
        with_environment(get("Execution.TrainingJobName")),
        "'Execution.TrainingJobName' has a value in the arguments of a Training step only",
    ),
    (
        with_environment(get("Evaluate.ProcessingJobArn")),
        "Step 'P': {'Get': 'Evaluate.ProcessingJobArn'} is not a reference",
    ),
    (with_environment(get("Steps.Evaluate.Nothing")), "DescribeProcessingJob's response has nothing at 'Nothing'"),
    (
        with_environment(get("Steps.Evaluate.ProcessingOutputConfig.Outputs['o'].S3Output.S3Uri")),
        "step 'Evaluate' has no output 'o'; its outputs are report",
    ),
    (with_environment(json_get("auc", file="Other")), "step 'Evaluate' has no such PropertyFile; it has: Report"),
    (with_environment(json_get("auc[*]")), "not understood"),
    (
        definition(condition("C", GATE), processing("P", Environment={"A": get("Steps.C.Name")})),
        "'Steps.C.Name': a Condition step has the property Outcome only",
    ),
    (
        definition(fail("F"), processing("P", Environment={"A": get("Steps.F.Name")})),
        "'Steps.F.Name': a Fail step has no properties",
    ),
    # types
    (
        with_environment(get("Parameters.Count")),
        "Step 'P': Cannot assign property reference [Parameters.Count] to argument of type [String] at 'environment.A'"
        " (use .to_string(), or Std:Join)",
    ),
    (
        definition(
            processing("P", StoppingCondition={"MaxRuntimeInSeconds": get("Parameters.Ratio")}), parameters=[RATIO]
        ),
        "Cannot assign property reference [Parameters.Ratio] to argument of type [Integer]",
    ),
    (
        definition(EVALUATE, processing("P", ProcessingInputs=get("Steps.Evaluate.ProcessingJobArn"))),
        "to argument of type [List] at 'processingInputs'",
    ),
    # arguments
    (
        definition(WITHOUT_ROLE),
        "Step 'P': Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
    ),
    (definition(processing("P") | {"Arguments": []}), "Step 'P': Arguments must be an object"),
    (definition({"Name": "P", "Type": "Processing"}), "Step 'P': Value null at"),
    (
        definition(processing("P", ProcessingJobName="mine")),
        "Step 'P': ProcessingJobName: the execution names its jobs",
    ),
    (definition(processing("P", RoleArn=3)), "Step 'P': 'roleArn' must be a string, not int"),
    (
        definition(training("T", ResourceConfig={"InstanceType": "ml.none", "VolumeSizeInGB": 1})),
        "Step 'T': Value 'ml.none' at 'resourceConfig.instanceType' failed to satisfy constraint",
    ),
    (definition(register("R", ModelApprovalStatus="Yes")), "Step 'R': Value 'Yes' at 'modelApprovalStatus'"),
    (
        definition({"Name": "R", "Type": "RegisterModel", "Arguments": {"Group": "g"}}),
        "Step 'R': Unknown member 'group'",
    ),
    (definition(fail("F") | {"Arguments": {"Message": "x"}}), "Step 'F': Arguments: unknown property 'Message'"),
    (definition(fail("F", ["x"])), "Step 'F': ErrorMessage must be a string or an expression"),
    (definition(condition("C")), "Step 'C': Conditions must be a list with at least one condition"),
    (definition(condition("C", compare("Is", 1, 1))), "Step 'C': condition type 'Is' is unknown"),
    (
        definition(condition("C", GATE) | {"Arguments": {"Conditions": [GATE], "Then": []}}),
        "Step 'C': Arguments: unknown property 'Then'",
    ),
    (
        definition(condition("C", GATE) | {"Arguments": {"Conditions": [GATE], "IfSteps": {"a": 1}}}),
        "Step 'C': IfSteps must be a list",
    ),
    (definition(condition("C", GATE, otherwise=[{"Name": "x", "Type": "Y"}])), "does not run steps of type 'Y'"),
    (
        definition(processing("P", ProcessingOutputConfig={"Outputs": 1})),
        "'processingOutputConfig.outputs' must be a list",
    ),
    (definition({"Name": "P", "Type": ["Fail"]}), "Step 'P': local_aws does not run steps of type ['Fail']"),
    # property files
    (
        definition(processing("P", {"o": "s3://b"}, PropertyFiles=REPORT)),
        "Step 'P': PropertyFile 'Report': the step has no output 'report'; its outputs are o",
    ),
    (definition(EVALUATE | {"PropertyFiles": REPORT * 2}), "PropertyFile 'Report': the name is used twice"),
    (
        definition(EVALUATE | {"PropertyFiles": [{"OutputName": "report"}]}),
        "PropertyFiles must be a list of objects with",
    ),
    (definition(training("T", PropertyFiles=REPORT)), "Step 'T': unknown property 'PropertyFiles'"),
    # caching
    (definition(processing("P", CacheConfig={"ExpireAfter": "P1D"})), "CacheConfig needs Enabled, true or false"),
    (
        definition(processing("P", CacheConfig={"Enabled": True, "ExpireAfter": "soon"})),
        "Step 'P': CacheConfig: ExpireAfter: 'soon' is not an ISO 8601 duration",
    ),
    (definition(processing("P", CacheConfig={"Enabled": True, "Key": 1})), "CacheConfig: unknown property 'Key'"),
    # retries
    (with_policy(ExceptionType=["Timeout"]), "RetryPolicies[0]: ExceptionType must be a list of Step.SERVICE_FAULT"),
    (with_policy(MaxAttempts=21), "MaxAttempts must be a whole number from 0 to 20, not 21"),
    (with_policy(MaxAttempts=1.5), "MaxAttempts must be a whole number"),
    (with_policy(IntervalSeconds=43201), "IntervalSeconds must be a number from 0 to 43200"),
    (with_policy(BackoffRate=-1), "BackoffRate must be a number from 0"),
    (with_policy(ExpireAfterMin=14401), "ExpireAfterMin must be a whole number from 0 to 14400"),
    (with_policy(MaxAttempts=1, ExpireAfterMin=1), "give either MaxAttempts or ExpireAfterMin, not both"),
    (with_policy(Attempts=1), "RetryPolicies[0]: unknown property 'Attempts'"),
    (definition(processing("P", RetryPolicies=["x"])), "Step 'P': RetryPolicies[0] must be an object"),
    (definition(processing("P", RetryPolicies={})), "Step 'P': RetryPolicies must be a list"),
    # parameters
    (definition(EVALUATE, parameters=[COUNT, COUNT]), "Parameter 'Count': the name is used twice"),
    (definition(EVALUATE, parameters=[COUNT | {"Name": f"P{n}"} for n in range(201)]), "there are 201; at most 200"),
    (definition(EVALUATE, parameters=[{"Type": "String"}]), "has no Name"),
    (with_parameter(Name="a b"), "Parameter 'a b': a name has 1 to 256"),
    (with_parameter(Type="Date"), "Parameter 'P': Type must be one of String, Integer, Float, Boolean, not 'Date'"),
    (with_parameter(DefaultValue=3), "Parameter 'P': the DefaultValue 3 is not of the parameter's type String"),
    (with_parameter(Type="Integer", DefaultValue=0.5), "the DefaultValue 0.5 is not of the parameter's type Integer"),
    (with_parameter(Type="Integer", DefaultValue=True), "the DefaultValue True is not of the parameter's type Integer"),
    (with_parameter(Type="Boolean", DefaultValue="true"), "'true' is not of the parameter's type Boolean"),
    (with_parameter(DefaultValue="c", EnumValues=["a", "b"]), "'c' is not one of the EnumValues ['a', 'b']"),
    (with_parameter(EnumValues=[]), "EnumValues must be a list of values of type String"),
    (with_parameter(Default="x"), "Parameter 'P': unknown property 'Default'"),
    # experiment
    (
        definition(EVALUATE, PipelineExperimentConfig={"ExperimentName": get("Steps.Evaluate.ExitMessage")}),
        "PipelineExperimentConfig: 'Steps.Evaluate.ExitMessage' has no value when an execution starts",
    ),
    (definition(EVALUATE, PipelineExperimentConfig={"Name": "x"}), "PipelineExperimentConfig: Unknown member 'name'"),
]


@pytest.mark.parametrize(("document", "fault"), REFUSED, ids=[fault[:60] for _, fault in REFUSED])
def test_a_wrong_definition_is_refused_with_the_step_and_the_fault(document: Any, fault: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse(document)
    assert fault in str(error.value)
    assert str(error.value).startswith("Unable to parse pipeline definition. ")


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(DefinitionError, match="It is not JSON"):
        parse_definition("{'Version': 1}")


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON document."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [path, *(inner for key, item in items for inner in paths(item, (*path, key)))]


SDK_DEFINITION = json.loads(Path(__file__).with_name("sdk_definition.json").read_text())
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["Fail", "Steps.a.b"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["Get", "Std:Join", "Std:JsonGet", "Type", "Name", "Path"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@given(st.sampled_from(paths(SDK_DEFINITION)[1:]), ANY_JSON)
def test_whatever_stands_in_a_definition_is_understood_or_refused(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(SDK_DEFINITION))
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with contextlib.suppress(DefinitionError):
        assert parse(document).steps


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(DefinitionError) as error:
        parse(definition(processing("P", DependsOn=["Q"]), condition("C"), Version="1"))
    assert len(error.value.faults) == 3


@pytest.mark.parametrize(
    ("given_values", "fault"),
    [
        (
            [("Other", "1")],
            "Parameter 'Other' is not in the pipeline definition; its parameters are: Count, Size, Needed.",
        ),
        ([("Needed", "x"), ("Needed", "y")], "Parameter 'Needed' is given more than once."),
        (
            [("Needed", "x"), ("Count", "many")],
            "Parameter 'Count': the value 'many' is not of the parameter's type Integer.",
        ),
        ([("Needed", "x"), ("Size", "c")], "Parameter 'Size': the value 'c' is not one of its EnumValues: a, b."),
        ([], "Parameters without default need a value: Needed."),
    ],
)
def test_values_for_parameters_are_checked(given_values: list[tuple[str, str]], fault: str) -> None:
    size = {"Name": "Size", "Type": "String", "DefaultValue": "a", "EnumValues": ["a", "b"]}
    read = parse(definition(EVALUATE, parameters=[COUNT, size, {"Name": "Needed", "Type": "String"}]))
    with pytest.raises(ValueError) as error:
        read.parameter_values([{"Name": name, "Value": value} for name, value in given_values])
    assert str(error.value) == fault


@st.composite
def definitions(draw: st.DrawFn) -> tuple[Definition, Mapping[str, str]]:
    """A random acyclic definition in a random order, and the outcomes that its Condition steps will have."""
    count = draw(st.integers(1, 12))
    steps: dict[str, Step] = {}
    outcomes: dict[str, str] = {}
    for number in range(count):
        earlier = list(steps)
        needs = draw(st.frozensets(st.sampled_from(earlier), max_size=3)) if earlier else frozenset()
        gates = [name for name in earlier if steps[name].type == "Condition"]
        gate = draw(st.none() | st.sampled_from(gates)) if gates else None
        branch = (gate, draw(st.sampled_from(["True", "False"]))) if gate else None
        kind = draw(st.sampled_from(["Processing", "Condition"]))
        name = f"S{number}"
        steps[name] = Step(name, kind, {}, needs, branch)
        outcomes[name] = draw(st.sampled_from(["True", "False"])) if kind == "Condition" else SUCCEEDED
    order = draw(st.permutations(list(steps)))
    return Definition({}, {name: steps[name] for name in order}), outcomes


@given(definitions(), st.randoms())
def test_every_step_runs_after_what_it_needs_and_only_in_the_branch_taken(
    case: tuple[Definition, Mapping[str, str]], random: Any
) -> None:
    pipeline, results = case
    outcomes: dict[str, str] = {}
    started: list[str] = []
    running: list[str] = []
    while (ready := startable(pipeline, outcomes, started)) or running:
        for name in ready:
            step = pipeline.steps[name]
            assert step.needs <= set(outcomes)
            assert step.branch is None or outcomes[step.branch[0]] == step.branch[1]
        started += ready
        running += ready
        ended = running.pop(random.randrange(len(running)))
        outcomes[ended] = results[ended]
    assert len(started) == len(set(started))

    def runs(name: str) -> bool:
        step = pipeline.steps[name]
        in_branch = step.branch is None or (runs(step.branch[0]) and results[step.branch[0]] == step.branch[1])
        return in_branch and all(runs(need) for need in step.needs)

    assert set(started) == {name for name in pipeline.steps if runs(name)}
