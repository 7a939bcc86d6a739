"""A CloudFormation template read with its intrinsic functions resolved, so that what it says can be looked at.

References become values such as an installation would have, and AWS::NoValue disappears.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Region": "eu-west-1",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": None,
}
# What product.yaml and portfolio.yaml find in SSM parameters, by the names of their parameters.
OF_SSM = {
    "TemplateBucket": "modelyard-templates-111122223333-eu-west-1",
    "SeedFunctionArn": "arn:aws:lambda:eu-west-1:111122223333:function:modelyard-seed",
    "PlatformArtifactBucket": "modelyard-artifacts-111122223333-eu-west-1",
    "PlatformBuildBucket": "modelyard-builds-111122223333-eu-west-1",
    "PlatformKeyArn": "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
    "OidcProviderArn": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com",
    "OidcHost": "token.actions.githubusercontent.com",
    "DenyApprovalPolicyArn": "arn:aws:iam::111122223333:policy/modelyard-deny-approval-eu-west-1",
    "ProjectBoundaryArn": "arn:aws:iam::111122223333:policy/modelyard-project-boundary-eu-west-1",
    "DeliveryBoundaryArn": "arn:aws:iam::111122223333:policy/modelyard-delivery-boundary-eu-west-1",
    "BoundaryArns": "arn:aws:iam::111122223333:policy/modelyard-project-boundary-eu-west-1,"
    "arn:aws:iam::111122223333:policy/modelyard-delivery-boundary-eu-west-1",
}
LISTS = ("CommaDelimitedList", "AWS::SSM::Parameter::Value<List<String>>")
# What a custom resource answers, by its type and attribute.
ANSWERS = {
    "Custom::ModelyardProject": {
        "CloneUrl": "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/churn",
        "RepositoryArn": "arn:aws:codecommit:eu-west-1:111122223333:churn",
        "RepositoryName": "churn",
        "OidcSubject": "repo:acme@1/churn@2",
    },
    "Custom::ModelyardTemplate": {
        "CloneUrl": "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/modelyard-template",
        "Commit": "0123456789abcdef0123456789abcdef01234567",
        "TemplateVersion": "1.2.0-0123456789ab",
    },
}
_GONE = object()


class _Loader(yaml.SafeLoader):
    """Short forms (!Sub) become long ones ({"Fn::Sub": ...})."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


def load(path: Path) -> dict[str, Any]:
    """The template as it is written, with long forms."""
    return load_text(path.read_text())


def load_text(text: str) -> dict[str, Any]:
    return yaml.load(text, _Loader)


def resolved(template: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The template's resources with every intrinsic function replaced by a value.

    Args:
        values: of parameters by name; the others take their defaults.
    """
    defaults = {name: _default(name, parameter) for name, parameter in template["Parameters"].items()}
    lists = {name for name, parameter in template["Parameters"].items() if parameter["Type"] in LISTS}
    parameters = {
        name: [item for item in str(value).split(",") if item] if name in lists else str(value)
        for name, value in (defaults | dict(values)).items()
    }
    return _Resolver(template, parameters).of({"Resources": template["Resources"]})["Resources"]


def _default(name: str, parameter: Mapping[str, Any]) -> Any:
    """Of an SSM parameter the default is its name; what it might hold is a text of ours."""
    if str(parameter["Type"]).startswith("AWS::SSM::Parameter::Value"):
        return OF_SSM.get(name, "of-ssm")
    return parameter.get("Default", "")


class _Resolver:
    def __init__(self, template: dict[str, Any], parameters: dict[str, Any]) -> None:
        self._template = template
        self._parameters = parameters

    def of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self.of, value) if item is not _GONE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), *_ = value.items()
            if name == "Ref":
                return self._ref(argument)
            if name == "Condition" and isinstance(argument, str):
                return self._holds(argument)
            if name.startswith("Fn::"):
                return getattr(self, "_" + name.removeprefix("Fn::").lower())(argument)
        made = {key: self.of(item) for key, item in value.items() if not self._left_out(item)}
        return {key: item for key, item in made.items() if item is not _GONE}

    def _left_out(self, item: Any) -> bool:
        """A resource whose condition does not hold."""
        return isinstance(item, dict) and "Type" in item and "Condition" in item and not self._holds(item["Condition"])

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _GONE
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._parameters:
            return self._parameters[name]
        properties = self._template["Resources"][name].get("Properties", {})
        kind = self._template["Resources"][name]["Type"]
        if kind == "AWS::SNS::Topic":
            return f"arn:aws:sns:eu-west-1:111122223333:{properties['TopicName']}"
        if kind == "AWS::IAM::ManagedPolicy":
            return f"arn:aws:iam::111122223333:policy/{self.of(properties['ManagedPolicyName'])}"
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.eu-west-1.amazonaws.com/111122223333/{properties['QueueName']}"
        names = ("TableName", "FunctionName", "RoleName", "LogGroupName", "BucketName", "Name")
        named = next((key for key in properties if key in names), None)
        return name if named is None else self.of(properties[named])

    def _getatt(self, argument: list[str]) -> str:
        name, attribute = argument
        kind, properties = self._template["Resources"][name]["Type"], self._template["Resources"][name]["Properties"]
        if attribute == "QueueName":
            return str(properties["QueueName"])
        if kind.startswith("Custom::"):
            return ANSWERS[kind][attribute]
        arns = {
            "AWS::SQS::Queue": lambda: f"sqs:eu-west-1:111122223333:{properties['QueueName']}",
            "AWS::S3::Bucket": lambda: f"s3:::{self._ref(name)}",
            "AWS::KMS::Key": lambda: "kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888",
            "AWS::Lambda::Function": lambda: f"lambda:eu-west-1:111122223333:function:{properties['FunctionName']}",
            "AWS::IAM::Role": lambda: f"iam::111122223333:role{properties['Path']}{self.of(properties['RoleName'])}",
            "AWS::Events::Rule": lambda: f"events:eu-west-1:111122223333:rule/{self.of(properties['Name'])}",
            "AWS::Logs::LogGroup": lambda: f"logs:eu-west-1:111122223333:log-group:{self._ref(name)}:*",
            "AWS::CloudWatch::Alarm": lambda: f"cloudwatch:eu-west-1:111122223333:alarm:{properties['AlarmName']}",
            "AWS::CodeBuild::Project": lambda: f"codebuild:eu-west-1:111122223333:project/{self._ref(name)}",
        }
        return f"arn:aws:{arns[kind]()}"

    def _sub(self, argument: Any) -> str:
        text, given = argument if isinstance(argument, list) else (argument, {})
        given = {name: self.of(value) for name, value in given.items()}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in given:
                return str(given[name])
            return self._getatt(name.split(".", 1)) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([^!}]+)\}", value, text)

    def _join(self, argument: list[Any]) -> str:
        return str(argument[0]).join(map(str, self.of(argument[1])))

    def _split(self, argument: list[Any]) -> list[str]:
        return str(self.of(argument[1])).split(argument[0])

    def _select(self, argument: list[Any]) -> Any:
        return self.of(argument[1])[int(argument[0])]

    def _if(self, argument: list[Any]) -> Any:
        return self.of(argument[1] if self._holds(argument[0]) else argument[2])

    def _equals(self, argument: list[Any]) -> bool:
        first, second = self.of(argument)
        return first == second

    def _not(self, argument: list[Any]) -> bool:
        return not self.of(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(self.of(argument))

    def _or(self, argument: list[Any]) -> bool:
        return any(self.of(argument))

    def _holds(self, condition: str) -> bool:
        return bool(self.of(self._template["Conditions"][condition]))


def policies(resources: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What identities may do: policy documents by the name of their resource."""
    found = {}
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        if resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            found[name] = properties["PolicyDocument"]
        for inline in properties.get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            found[f"{name}/{inline['PolicyName']}"] = inline["PolicyDocument"]
    return found


def of_role(resources: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A project's role's policies: its own, those that are resources of their own, and its managed ones."""
    role = resources[name]["Properties"]
    of_types: dict[str, list[dict[str, Any]]] = {"AWS::IAM::Policy": [], "AWS::IAM::ManagedPolicy": []}
    for resource in resources.values():
        of_types.setdefault(resource["Type"], []).append(resource["Properties"])
    inline = [one for one in of_types["AWS::IAM::Policy"] if role["RoleName"] in one["Roles"]]
    names = {arn.rpartition("/")[2] for arn in role.get("ManagedPolicyArns", [])}
    managed = [one for one in of_types["AWS::IAM::ManagedPolicy"] if one["ManagedPolicyName"] in names]
    return [one["PolicyDocument"] for one in (*role["Policies"], *inline, *managed)]
