"""When the actions that resource schemas list count, type by type, and what they are asked about.

An action without a rule is always asked: handlers read back what they made, so whatever describes the resource itself
counts. Those with a rule need a property (`given`) or never happen (`never`); each says why. Nobody has compared this
with CloudFormation itself: docs/unverified.md.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from local_aws.permissions.cloudformation import Change, Context, Operation, Rule, TypeRules, each
from local_aws.permissions.identities import as_list
from local_aws.s3_urls import object_address

GLOBAL_TABLES = "only for replicas, which are of AWS::DynamoDB::GlobalTable"


def given(*names: str) -> Rule:
    """Counts when one of the properties is given, and of an update when one is changed."""
    return Rule(f"for {' and '.join(names)}", lambda change: change.concerns(*names))


def never(reason: str) -> Rule:
    return Rule(reason, lambda _change: False)


def on_role(get: Callable[[Change], list[Any]], service: str, *names: str) -> Rule:
    """iam:PassRole of the roles that `get` finds, to the service that will act as them."""

    def roles(change: Change) -> list[str]:
        return [str(role) for role in get(change) if role]

    return Rule(
        f"for roles in {' and '.join(names)}; a deletion passes none",
        lambda change: change.operation != "delete" and bool(roles(change)),
        roles,
        lambda _change, _arn: [{"iam:PassedToService": service}],
    )


def _with(rule: Rule, on: Callable[[Change], list[str]], contexts: Callable[[Change, str], list[Context]]) -> Rule:
    return Rule(rule.reason, rule.when, on, contexts)


def _several(names: tuple[str, ...], rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


# --- IAM


def _role(change: Change) -> list[str]:
    name = change.name("RoleName")
    return [change.arn("iam", f"role{change.properties.get('Path', '/')}{name}", region=False)]


def _policy(change: Change) -> list[str]:
    if change.physical_id.startswith("arn:"):
        return [change.physical_id]
    name = change.name("ManagedPolicyName")
    return [change.arn("iam", f"policy{change.properties.get('Path', '/')}{name}", region=False)]


def _identities(kind: str, name: str) -> Callable[[Change], list[str]]:
    """Of those that the property names now."""
    return lambda change: [change.identity_arn(kind, str(one)) for one in as_list(change.properties.get(name))]


def _identities_gone(kind: str, name: str) -> Callable[[Change], list[str]]:
    """Of those that are not named any more; of a deletion, of all."""

    def gone(change: Change) -> list[str]:
        if change.operation == "delete":
            return _identities(kind, name)(change)
        now = as_list(change.properties.get(name))
        return [change.identity_arn(kind, one) for one in as_list(change.before.get(name)) if one not in now]

    return gone


def _boundary_of(change: Change, arn: str) -> Context:
    boundary = change.look_up("role boundary", arn.rpartition("/")[2])
    return {"iam:PermissionsBoundary": boundary} if boundary else {}


def _attachment(change: Change, arn: str) -> list[Context]:
    return [{"iam:PolicyARN": _policy(change)[0], **_boundary_of(change, arn)}]


def _attached(kind: str, name: str, gone: bool = False) -> Rule:
    find = (_identities_gone if gone else _identities)(kind, name)
    return _with(given(name), find, _attachment)


def _inline(kind: str, name: str, gone: bool = False) -> Rule:
    find = (_identities_gone if gone else _identities)(kind, name)
    reason = f"for {name}" + " that are no longer named" * gone
    return Rule(reason, lambda change: bool(find(change)), find, lambda change, arn: [_boundary_of(change, arn)])


def _own_boundary(change: Change, _arn: str) -> list[Context]:
    boundary = change.properties.get("PermissionsBoundary")
    return [{"iam:PermissionsBoundary": boundary} if boundary else {}]


def _managed(gone: bool) -> Callable[[Change, str], list[Context]]:
    """Of each managed policy of a role that is attached or detached."""

    def contexts(change: Change, arn: str) -> list[Context]:
        now, before = (as_list(state.get("ManagedPolicyArns")) for state in (change.properties, change.before))
        if change.operation != "update":
            policies = now
        else:
            policies = [one for one in before if one not in now] if gone else [one for one in now if one not in before]
        return [{"iam:PolicyARN": policy, **_own_boundary(change, arn)[0]} for policy in policies]

    return contexts


ROLE = TypeRules(
    lambda change: {"iam:role": _role(change)},
    {
        "iam:CreateRole": Rule(contexts=_own_boundary),
        "iam:DeleteRole": Rule(contexts=_own_boundary),
        "iam:PutRolePolicy": Rule("for Policies", given("Policies").when, contexts=_own_boundary),
        "iam:DeleteRolePolicy": Rule("for Policies", given("Policies").when, contexts=_own_boundary),
        "iam:GetRolePolicy": given("Policies"),
        "iam:AttachRolePolicy": Rule("for ManagedPolicyArns", given("ManagedPolicyArns").when, None, _managed(False)),
        "iam:DetachRolePolicy": Rule("for ManagedPolicyArns", given("ManagedPolicyArns").when, None, _managed(True)),
        "iam:UpdateAssumeRolePolicy": given("AssumeRolePolicyDocument"),
        "iam:UpdateRole": given("Description", "MaxSessionDuration"),
        "iam:UpdateRoleDescription": given("Description"),
        "iam:PutRolePermissionsBoundary": Rule(
            "for PermissionsBoundary",
            lambda change: change.concerns("PermissionsBoundary")
            and bool(change.properties.get("PermissionsBoundary")),
            contexts=_own_boundary,
        ),
        "iam:DeleteRolePermissionsBoundary": Rule(
            "for a PermissionsBoundary that goes",
            lambda change: bool(change.before.get("PermissionsBoundary"))
            and not change.properties.get("PermissionsBoundary"),
        ),
    },
)

MANAGED_POLICY = TypeRules(
    lambda change: {"iam:policy": _policy(change)},
    {
        "iam:AttachRolePolicy": _attached("role", "Roles"),
        "iam:AttachUserPolicy": _attached("user", "Users"),
        "iam:AttachGroupPolicy": _attached("group", "Groups"),
        "iam:DetachRolePolicy": _attached("role", "Roles", gone=True),
        "iam:DetachUserPolicy": _attached("user", "Users", gone=True),
        "iam:DetachGroupPolicy": _attached("group", "Groups", gone=True),
        "iam:CreatePolicyVersion": given("PolicyDocument"),
        "iam:DeletePolicyVersion": Rule(
            "of an update for PolicyDocument; a deletion removes the versions before the policy",
            lambda change: change.operation == "delete" or change.concerns("PolicyDocument"),
        ),
    },
)

INLINE_POLICY = TypeRules(
    lambda _change: {},
    {
        f"iam:{verb}{kind.title()}Policy": _inline(kind, name, gone=verb == "Delete")
        for kind, name in (("role", "Roles"), ("user", "Users"), ("group", "Groups"))
        for verb in ("Get", "Put", "Delete")
    },
)

OIDC_PROVIDER = TypeRules(
    lambda change: {
        "iam:oidc-provider": [
            change.physical_id
            or change.arn(
                "iam", f"oidc-provider/{re.sub('^https?://', '', str(change.properties.get('Url', '')))}", region=False
            )
        ]
    },
    {
        "iam:UpdateOpenIDConnectProviderThumbprint": given("ThumbprintList"),
        "iam:AddClientIDToOpenIDConnectProvider": given("ClientIdList"),
        "iam:RemoveClientIDFromOpenIDConnectProvider": given("ClientIdList"),
    },
)

# --- KMS and what uses keys


def _key_arn(change: Change, key: Any) -> list[str]:
    """Of a key as a property names it: by ARN, id or alias."""
    if not key:
        return []
    if str(key).startswith("arn:"):
        return [str(key)]
    return [change.look_up("key", str(key)) or change.arn("kms", f"key/{key}")]


def _by_service(service: str, find: Callable[[Change], Any], *names: str, grants: bool = False) -> Rule:
    """A question about the key of a property, asked by the service for the caller."""

    def contexts(change: Change, _arn: str) -> list[Context]:
        via: dict[str, Any] = {"kms:ViaService": f"{service}.{change.region}.amazonaws.com"}
        return [via | ({"kms:GrantIsForAWSResource": "true"} if grants else {})]

    return Rule(
        f"for a key in {' and '.join(names)}",
        lambda change: bool(find(change)) and change.concerns(*names),
        lambda change: _key_arn(change, find(change)),
        contexts,
    )


KEY = TypeRules(
    lambda change: {"kms:key": [change.arn("kms", f"key/{change.id()}")]},
    {
        "kms:EnableKeyRotation": given("EnableKeyRotation", "RotationPeriodInDays"),
        "kms:DisableKeyRotation": given("EnableKeyRotation"),
        "kms:DisableKey": Rule("for Enabled: false", lambda change: str(change.properties.get("Enabled")) == "False"),
        "kms:EnableKey": given("Enabled"),
        "kms:PutKeyPolicy": given("KeyPolicy"),
        "kms:UpdateKeyDescription": given("Description"),
    },
)


def _dashboard(change: Change) -> list[str]:
    """Dashboards have no Region."""
    return [change.arn("cloudwatch", f"dashboard/{change.name('DashboardName')}", region=False)]


def _alias(change: Change) -> Mapping[str, list[str]]:
    """An alias and its key; of an update, both keys: KMS asks about each of them."""
    keys = [state.get("TargetKeyId") for state in (change.before, change.properties) if state.get("TargetKeyId")]
    alias = str(change.properties.get("AliasName") or change.physical_id)
    return {
        "kms:alias": [change.arn("kms", alias)],
        "kms:key": list(dict.fromkeys(arn for key in keys for arn in _key_arn(change, key))),
    }


def _table_key(change: Change) -> Any:
    return (change.properties.get("SSESpecification") or {}).get("KMSMasterKeyId")


def _insights(change: Change) -> bool:
    indexes = [index for name in ("GlobalSecondaryIndexes",) for index in each(change.properties.get(name))]
    asked = any("ContributorInsightsSpecification" in index for index in indexes)
    return change.concerns("ContributorInsightsSpecification") or (asked and change.concerns("GlobalSecondaryIndexes"))


TABLE = TypeRules(
    lambda change: {
        "dynamodb:table": [change.arn("dynamodb", f"table/{change.name('TableName')}")],
        "dynamodb:stream": [],
        "s3:object": [
            change.arn("s3", f"{source.get('S3Bucket')}/{source.get('S3KeyPrefix', '')}*", region=False, account=False)
            for source in each([(change.properties.get("ImportSourceSpecification") or {}).get("S3BucketSource")])
        ],
    },
    {
        **_several(
            (
                "dynamodb:DescribeImport",
                "dynamodb:ImportTable",
                "s3:GetObject",
                "s3:ListBucket",
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogGroups",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
                "logs:PutRetentionPolicy",
            ),
            given("ImportSourceSpecification"),
        ),
        **_several(
            (
                "dynamodb:CreateTableReplica",
                "dynamodb:AssociateTableReplica",
                "dynamodb:Scan",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
                "dynamodb:PutItem",
                "dynamodb:GetItem",
                "dynamodb:DeleteItem",
                "dynamodb:BatchWriteItem",
                "iam:CreateServiceLinkedRole",
            ),
            never(GLOBAL_TABLES),
        ),
        **_several(
            (
                "dynamodb:EnableKinesisStreamingDestination",
                "dynamodb:DisableKinesisStreamingDestination",
                "dynamodb:UpdateKinesisStreamingDestination",
                "kinesis:DescribeStream",
                "kinesis:PutRecords",
            ),
            given("KinesisStreamSpecification"),
        ),
        "dynamodb:UpdateTimeToLive": given("TimeToLiveSpecification"),
        "dynamodb:UpdateContributorInsights": Rule("for ContributorInsightsSpecification", _insights),
        "dynamodb:UpdateContinuousBackups": given("PointInTimeRecoverySpecification"),
        "dynamodb:PutResourcePolicy": given("ResourcePolicy"),
        "dynamodb:DeleteResourcePolicy": given("ResourcePolicy"),
        "dynamodb:CreateTable": Rule(
            "an update that replaces the table is a creation", lambda change: change.operation == "create"
        ),
        **{
            f"kms:{name}": _by_service("dynamodb", _table_key, "SSESpecification", grants="Grant" in name)
            for name in ("CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "RevokeGrant")
        },
        "kms:ListAliases": Rule(
            "for a key that SSESpecification names by its alias",
            lambda change: "alias/" in str(_table_key(change)) and change.concerns("SSESpecification"),
        ),
    },
)

# --- messages and events


def _topic(change: Change) -> list[str]:
    return [change.physical_id or change.arn("sns", change.name("TopicName"))]


def _roles_of(change: Change, names: tuple[str, ...]) -> list[Any]:
    return [change.properties.get(name) for name in names]


TOPIC = TypeRules(
    lambda change: {"sns:topic": _topic(change)},
    {
        "sns:Subscribe": given("Subscription"),
        "sns:Unsubscribe": given("Subscription"),
        "sns:ListSubscriptionsByTopic": given("Subscription"),
        "sns:PutDataProtectionPolicy": given("DataProtectionPolicy"),
        "sns:GetDataProtectionPolicy": given("DataProtectionPolicy"),
        "iam:GetRole": given("DeliveryStatusLogging"),
        "iam:PassRole": on_role(
            lambda change: [
                one.get(name)
                for one in each(change.properties.get("DeliveryStatusLogging"))
                for name in ("SuccessFeedbackRoleArn", "FailureFeedbackRoleArn")
            ],
            "sns.amazonaws.com",
            "DeliveryStatusLogging",
        ),
    },
)

SUBSCRIPTION = TypeRules(
    lambda change: {"sns:topic": [str(change.properties.get("TopicArn"))]},
    {
        "sns:Subscribe": Rule(
            contexts=lambda change, _arn: [
                {
                    "sns:Protocol": change.properties.get("Protocol"),
                    "sns:Endpoint": change.properties.get("Endpoint"),
                }
            ]
        ),
        "iam:GetRole": given("SubscriptionRoleArn"),
        "iam:PassRole": on_role(
            lambda change: _roles_of(change, ("SubscriptionRoleArn",)), "sns.amazonaws.com", "SubscriptionRoleArn"
        ),
    },
)


def _queue_arn(change: Change, queue: str) -> str:
    """Of a queue by its URL or ARN."""
    return queue if queue.startswith("arn:") else change.arn("sqs", queue.rpartition("/")[2])


def _rule(change: Change) -> Mapping[str, list[str]]:
    bus = str(change.properties.get("EventBusName") or "default").rpartition("/")[2]
    name = change.name("Name")
    if bus == "default":
        return {"events:rule-on-default-event-bus": [change.arn("events", f"rule/{name}")]}
    return {"events:rule-on-custom-event-bus": [change.arn("events", f"rule/{bus}/{name}")]}


RULE = TypeRules(
    _rule,
    {
        "events:PutTargets": Rule(
            "for Targets",
            given("Targets").when,
            contexts=lambda change, _arn: [
                {"events:TargetArn": [target.get("Arn") for target in each(change.properties.get("Targets"))]}
            ],
        ),
        "events:RemoveTargets": given("Targets"),
        "iam:PassRole": on_role(
            lambda change: [
                change.properties.get("RoleArn"),
                *(target.get("RoleArn") for target in each(change.properties.get("Targets"))),
            ],
            "events.amazonaws.com",
            "RoleArn",
            "Targets",
        ),
    },
)

SCHEDULE_GROUP = TypeRules(
    lambda change: {
        "scheduler:schedule-group": [change.arn("scheduler", f"schedule-group/{change.name('Name')}")],
        "scheduler:schedule": [change.arn("scheduler", f"schedule/{change.name('Name')}/*")],
    }
)

# --- Lambda


def _function_arn(change: Change, function: Any) -> str:
    """Of a function by its name or ARN, without a qualifier."""
    text = str(function)
    return ":".join(text.split(":")[:7]) if text.startswith("arn:") else change.arn("lambda", f"function:{text}")


def _code(change: Change) -> list[str]:
    code = change.properties.get("Code") or {}
    if not code.get("S3Bucket"):
        return []
    return [change.arn("s3", f"{code['S3Bucket']}/{code.get('S3Key')}", region=False, account=False)]


def _code_key(change: Change) -> Any:
    return change.properties.get("KmsKeyArn") or (change.properties.get("Code") or {}).get("SourceKMSKeyArn")


FUNCTION = TypeRules(
    lambda change: {
        "lambda:function": [change.arn("lambda", f"function:{change.name('FunctionName')}")],
        "lambda:layerVersion": [str(layer) for layer in as_list(change.properties.get("Layers"))],
        "lambda:code signing config": [str(arn) for arn in as_list(change.properties.get("CodeSigningConfigArn"))],
    },
    {
        "iam:PassRole": on_role(lambda change: _roles_of(change, ("Role",)), "lambda.amazonaws.com", "Role"),
        "s3:GetObject": Rule("for Code in S3", lambda change: bool(_code(change)) and change.concerns("Code"), _code),
        "s3:GetObjectVersion": Rule(
            "for Code with S3ObjectVersion",
            lambda change: bool((change.properties.get("Code") or {}).get("S3ObjectVersion"))
            and change.concerns("Code"),
            _code,
        ),
        "lambda:UpdateFunctionCode": given("Code", "Architectures", "PublishToLatestPublished"),
        "lambda:PutFunctionConcurrency": given("ReservedConcurrentExecutions"),
        "lambda:DeleteFunctionConcurrency": given("ReservedConcurrentExecutions"),
        "lambda:GetLayerVersion": given("Layers"),
        "lambda:PutRuntimeManagementConfig": given("RuntimeManagementConfig"),
        "lambda:PutFunctionRecursionConfig": given("RecursiveLoop"),
        "lambda:PutFunctionScalingConfig": given("FunctionScalingConfig"),
        "lambda:PassCapacityProvider": given("CapacityProviderConfig"),
        "lambda:GetCodeSigningConfig": given("CodeSigningConfigArn"),
        "lambda:PutFunctionCodeSigningConfig": given("CodeSigningConfigArn"),
        "lambda:DeleteFunctionCodeSigningConfig": given("CodeSigningConfigArn"),
        "lambda:PublishVersion": given("PublishToLatestPublished"),
        "elasticfilesystem:DescribeMountTargets": given("FileSystemConfigs"),
        **_several(
            (
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
                "ec2:DescribeNetworkInterfaces",
            ),
            given("VpcConfig"),
        ),
        **{
            f"kms:{name}": _by_service("lambda", _code_key, "KmsKeyArn", "Code", grants=name == "CreateGrant")
            for name in ("CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey")
        },
    },
)


def _of_function(change: Change) -> Mapping[str, list[str]]:
    return {"lambda:function": [_function_arn(change, change.properties.get("FunctionName"))]}


def _principal(change: Change, _arn: str) -> list[Context]:
    return [{"lambda:Principal": change.properties.get("Principal")}]


def _mapped(change: Change, _arn: str) -> list[Context]:
    return [{"lambda:FunctionArn": _function_arn(change, change.properties.get("FunctionName"))}]


EVENT_SOURCE_MAPPING = TypeRules(
    lambda change: {"lambda:eventSourceMapping": [change.arn("lambda", f"event-source-mapping:{change.id()}")]},
    {
        **_several(
            (
                "lambda:CreateEventSourceMapping",
                "lambda:GetEventSourceMapping",
                "lambda:UpdateEventSourceMapping",
                "lambda:DeleteEventSourceMapping",
            ),
            Rule(contexts=_mapped),
        ),
        **{
            f"kms:{name}": _by_service("lambda", lambda change: change.properties.get("KmsKeyArn"), "KmsKeyArn")
            for name in ("Decrypt", "DescribeKey", "GenerateDataKey")
        },
    },
)


def _handler_of_custom_resource(change: Change) -> Mapping[str, list[str]]:
    token = str(change.properties.get("ServiceToken"))
    return {"sns:topic": [token]} if token.split(":")[2:3] == ["sns"] else {"lambda:function": [token]}


OPERATIONS: tuple[Operation, ...] = ("create", "update", "delete")

CUSTOM_RESOURCE = TypeRules(
    _handler_of_custom_resource,
    {
        "lambda:InvokeFunction": Rule(
            "when ServiceToken is a function", lambda change: "lambda:function" in _handler_of_custom_resource(change)
        ),
        "sns:Publish": Rule(
            "when ServiceToken is a topic", lambda change: "sns:topic" in _handler_of_custom_resource(change)
        ),
    },
    dict.fromkeys(OPERATIONS, ("lambda:InvokeFunction", "sns:Publish")),
)

# --- storage, logs, settings

BUCKET_PROPERTIES = {
    "AbacStatus": ("PutBucketAbac",),
    "AccelerateConfiguration": ("PutAccelerateConfiguration",),
    "AccessControl": ("PutBucketAcl", "PutObjectAcl"),
    "AnalyticsConfigurations": ("PutAnalyticsConfiguration",),
    "BucketEncryption": ("PutEncryptionConfiguration",),
    "CorsConfiguration": ("PutBucketCORS",),
    "IntelligentTieringConfigurations": ("PutIntelligentTieringConfiguration",),
    "InventoryConfigurations": ("PutInventoryConfiguration",),
    "LifecycleConfiguration": ("PutLifecycleConfiguration",),
    "LoggingConfiguration": ("PutBucketLogging",),
    "MetadataTableConfiguration": (
        "CreateBucketMetadataTableConfiguration",
        "DeleteBucketMetadataTableConfiguration",
        "GetBucketMetadataTableConfiguration",
        "UpdateBucketMetadataInventoryTableConfiguration",
        "UpdateBucketMetadataJournalTableConfiguration",
    ),
    "MetricsConfigurations": ("PutMetricsConfiguration",),
    "NotificationConfiguration": ("PutBucketNotification",),
    "ObjectLockConfiguration": ("PutBucketObjectLockConfiguration",),
    "OwnershipControls": ("PutBucketOwnershipControls",),
    "PublicAccessBlockConfiguration": ("PutBucketPublicAccessBlock",),
    "ReplicationConfiguration": ("PutReplicationConfiguration",),
    "VersioningConfiguration": ("PutBucketVersioning",),
    "WebsiteConfiguration": ("PutBucketWebsite", "DeleteBucketWebsite"),
}
METADATA_TABLES = (
    "CreateNamespace",
    "CreateTable",
    "CreateTableBucket",
    "GetTable",
    "GetTableMetadataLocation",
    "PutTableBucketPolicy",
    "PutTableEncryption",
    "PutTablePolicy",
    "UpdateTableMetadataLocation",
)


def _bucket(change: Change, name: str) -> str:
    return change.arn("s3", name, region=False, account=False)


BUCKET = TypeRules(
    # Names of buckets are lower case, generated ones too.
    lambda change: {
        "s3:bucket": [_bucket(change, change.name("BucketName").lower())],
        "s3:object": [_bucket(change, f"{change.name('BucketName').lower()}/*")],
    },
    {
        **{f"s3:{action}": given(name) for name, actions in BUCKET_PROPERTIES.items() for action in actions},
        **{f"s3tables:{action}": given("MetadataTableConfiguration") for action in METADATA_TABLES},
        "s3:DeleteObject": never("a deletion removes no objects"),
        "iam:PassRole": on_role(
            lambda change: [(change.properties.get("ReplicationConfiguration") or {}).get("Role")],
            "s3.amazonaws.com",
            "ReplicationConfiguration",
        ),
    },
)

LOG_GROUP = TypeRules(
    lambda change: {
        "logs:log-group": [
            change.arn("logs", f"log-group:{change.properties.get('LogGroupName') or _unnamed_log_group(change)}")
        ]
    },
    {
        "logs:PutRetentionPolicy": Rule(
            "for RetentionInDays",
            lambda change: change.concerns("RetentionInDays") and "RetentionInDays" in change.properties,
        ),
        "logs:DeleteRetentionPolicy": Rule(
            "for RetentionInDays that goes",
            lambda change: change.concerns("RetentionInDays") and "RetentionInDays" not in change.properties,
        ),
        "logs:AssociateKmsKey": Rule(
            "for KmsKeyId", lambda change: change.concerns("KmsKeyId") and bool(change.properties.get("KmsKeyId"))
        ),
        "logs:DisassociateKmsKey": Rule(
            "for KmsKeyId that goes",
            lambda change: change.concerns("KmsKeyId") and not change.properties.get("KmsKeyId"),
        ),
        **_several(
            ("logs:PutDataProtectionPolicy", "logs:DeleteDataProtectionPolicy", "logs:CreateLogDelivery"),
            given("DataProtectionPolicy"),
        ),
        "firehose:TagDeliveryStream": never("IAM is asked by Logs, for a stream in DataProtectionPolicy"),
        **_several(
            ("logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DeleteResourcePolicy"),
            given("ResourcePolicyDocument"),
        ),
        "logs:PutIndexPolicy": given("FieldIndexPolicies"),
        "logs:DeleteIndexPolicy": given("FieldIndexPolicies"),
        "logs:PutBearerTokenAuthentication": given("BearerTokenAuthenticationEnabled"),
        "logs:PutLogGroupDeletionProtection": given("DeletionProtectionEnabled"),
    },
)


def _unnamed_log_group(change: Change) -> str:
    """Log groups have slashes in their names, so the physical id is the name as it is."""
    return change.physical_id or change.name("LogGroupName")


def _parameter(change: Change) -> list[str]:
    name = change.physical_id or change.name("Name")
    return [change.arn("ssm", f"parameter/{name.removeprefix('/')}")]


# --- Service Catalog, SageMaker, CodeBuild, CodePipeline


def _catalog(kind: str, name: str) -> Callable[[Change], Mapping[str, list[str]]]:
    """A portfolio's or product's ARN, by its id."""
    return lambda change: {
        f"servicecatalog:{kind}": [
            change.arn("catalog", f"{kind.lower()}/{change.properties.get(name) or change.id()}")
        ]
    }


def _association(change: Change) -> Mapping[str, list[str]]:
    return {**_catalog("Portfolio", "PortfolioId")(change), **_catalog("Product", "ProductId")(change)}


def _principal_is(kind: str) -> Rule:
    def arn(change: Change) -> str:
        return str(change.properties.get("PrincipalARN"))

    return Rule(
        f"for a {kind} as PrincipalARN", lambda change: f":{kind}/" in arn(change), lambda change: [arn(change)]
    )


PRINCIPAL_ASSOCIATION = TypeRules(
    _catalog("Portfolio", "PortfolioId"),
    {f"iam:Get{kind.title()}": _principal_is(kind) for kind in ("role", "user", "group")},
)


def _launch_role(change: Change) -> list[str]:
    if role := change.properties.get("RoleArn"):
        return [str(role)]
    return [change.identity_arn("role", str(name)) for name in as_list(change.properties.get("LocalRoleName"))]


LAUNCH_ROLE_CONSTRAINT = TypeRules(
    _association,
    {
        "iam:GetRole": Rule("of the launch role", on=_launch_role),
        "iam:PassRole": on_role(_launch_role, "servicecatalog.amazonaws.com", "RoleArn", "LocalRoleName"),
    },
)


def _templates(change: Change) -> list[str]:
    """The objects that provisioning artifacts are read from."""
    urls = [
        str((artifact.get("Info") or {}).get("LoadTemplateFromURL", ""))
        for artifact in each(change.properties.get("ProvisioningArtifactParameters"))
    ]
    found = []
    for url in urls:
        with contextlib.suppress(ValueError):  # Service Catalog says that it is no address
            found.append("/".join(object_address(url)))
    return [change.arn("s3", path, region=False, account=False) for path in found]


PRODUCT = TypeRules(
    _catalog("Product", "Id"),
    {
        **_several(
            (
                "codestar-connections:PassConnection",
                "codestar-connections:UseConnection",
                "codestar-connections:GetConnection",
            ),
            given("SourceConnection"),
        ),
        **_several(
            (
                "servicecatalog:CreateProvisioningArtifact",
                "servicecatalog:UpdateProvisioningArtifact",
                "servicecatalog:DeleteProvisioningArtifact",
            ),
            Rule(
                "of an update, for ProvisioningArtifactParameters; CreateProduct makes the first one",
                lambda change: change.operation == "update" or len(_templates(change)) > 1,
            ),
        ),
        **_several(
            (
                "servicecatalog:ListServiceActionsForProvisioningArtifact",
                "servicecatalog:DisassociateServiceActionFromProvisioningArtifact",
            ),
            never("service actions are no property of a product"),
        ),
        "cloudformation:ValidateTemplate": given("ProvisioningArtifactParameters"),
        "cloudformation:GetTemplate": never("for artifacts that are imported from a stack"),
        "s3:GetObject": Rule(
            "for LoadTemplateFromURL",
            lambda change: change.operation != "delete" and change.concerns("ProvisioningArtifactParameters"),
            _templates,
        ),
    },
)


MODEL_PACKAGE_GROUP = TypeRules(
    lambda change: {
        "sagemaker:model-package-group": [
            change.arn("sagemaker", f"model-package-group/{change.name('ModelPackageGroupName')}")
        ]
    },
    {
        "sagemaker:AddTags": Rule(
            contexts=lambda change, _arn: [
                {"sagemaker:TaggingAction": "CreateModelPackageGroup"} if change.operation == "create" else {}
            ]
        ),
        "sagemaker:PutModelPackageGroupPolicy": given("ModelPackageGroupPolicy"),
        "sagemaker:DeleteModelPackageGroupPolicy": given("ModelPackageGroupPolicy"),
    },
)

PROJECT = TypeRules(
    lambda change: {
        "sagemaker:project": [change.arn("sagemaker", f"project/{change.name('ProjectName')}")],
        "servicecatalog:Product": [
            change.arn("catalog", f"product/{details.get('ProductId')}")
            for details in each([change.properties.get("ServiceCatalogProvisioningDetails")])
        ],
    },
    {
        **_several(
            (
                "servicecatalog:DescribeProduct",
                "servicecatalog:DescribeProvisioningArtifact",
                "servicecatalog:ProvisionProduct",
                "servicecatalog:DescribeProvisionedProduct",
            ),
            given("ServiceCatalogProvisioningDetails"),
        ),
        "servicecatalog:TerminateProvisionedProduct": Rule(
            "of a deletion; a creation that fails is rolled back by deleting",
            lambda change: change.operation == "delete",
        ),
        **_several(
            (
                "cloudformation:DescribeStacks",
                "cloudformation:CreateStack",
                "cloudformation:DeleteStack",
                "iam:PassRole",
                "s3:GetObject",
            ),
            never("only for TemplateProviderDetails, which local_aws does not build"),
        ),
    },
)

CODE_BUILD = TypeRules(
    lambda change: {"codebuild:project": [change.arn("codebuild", f"project/{change.name('Name')}")]},
    {
        "iam:PassRole": on_role(
            lambda change: _roles_of(change, ("ServiceRole",)), "codebuild.amazonaws.com", "ServiceRole"
        )
    },
    {
        "create": ("codebuild:CreateProject", "iam:PassRole"),
        "update": ("codebuild:UpdateProject", "iam:PassRole"),
        "delete": ("codebuild:DeleteProject",),
    },
)

CODE_PIPELINE = TypeRules(
    lambda change: {"codepipeline:pipeline": [change.arn("codepipeline", change.name("Name"))]},
    {
        "iam:GetRole": Rule("of the pipeline's role", on=lambda change: [str(change.properties.get("RoleArn"))]),
        "iam:PassRole": on_role(
            lambda change: _roles_of(change, ("RoleArn",)), "codepipeline.amazonaws.com", "RoleArn"
        ),
        **_several(
            ("codepipeline:DisableStageTransition", "codepipeline:EnableStageTransition"),
            never("for DisableInboundStageTransitions, which local_aws does not build"),
        ),
        "codepipeline:StartPipelineExecution": Rule(
            "for RestartExecutionOnUpdate",
            lambda change: str(change.properties.get("RestartExecutionOnUpdate", "")).lower() == "true",
        ),
        "codestar-connections:PassConnection": never("connections are no source that local_aws builds"),
    },
)

NESTED_STACK = TypeRules(
    lambda change: {
        "cloudformation:stack": [
            change.physical_id or change.arn("cloudformation", f"stack/{change.stack}-{change.logical_id}-*/*")
        ]
    },
    {
        "iam:PassRole": never("a nested stack has the role of its parent"),
        "cloudformation:UpdateTerminationProtection": never("termination protection is the root stack's"),
        "cloudformation:SetStackPolicy": never("a nested stack's policy is no property of it"),
    },
)

NOTHING_CALLED = TypeRules(lambda _change: {}, actions={})

RULES: dict[str, TypeRules] = {
    "AWS::CloudFormation::CustomResource": CUSTOM_RESOURCE,
    "AWS::CloudFormation::Stack": NESTED_STACK,
    "AWS::CloudFormation::WaitCondition": NOTHING_CALLED,
    "AWS::CloudFormation::WaitConditionHandle": NOTHING_CALLED,
    "AWS::CloudWatch::Alarm": TypeRules(
        lambda change: {"cloudwatch:alarm": [change.arn("cloudwatch", f"alarm:{change.name('AlarmName')}")]}
    ),
    "AWS::CloudWatch::Dashboard": TypeRules(
        lambda change: {"cloudwatch:dashboard": _dashboard(change)},
        {
            name: Rule("the reference names alarms alone, and a dashboard has tags by its schema", on=_dashboard)
            for name in ("cloudwatch:TagResource", "cloudwatch:UntagResource", "cloudwatch:ListTagsForResource")
        },
    ),
    "AWS::CodeBuild::Project": CODE_BUILD,
    "AWS::CodePipeline::Pipeline": CODE_PIPELINE,
    "AWS::DynamoDB::Table": TABLE,
    "AWS::Events::Rule": RULE,
    "AWS::IAM::ManagedPolicy": MANAGED_POLICY,
    "AWS::IAM::OIDCProvider": OIDC_PROVIDER,
    "AWS::IAM::Policy": INLINE_POLICY,
    "AWS::IAM::Role": ROLE,
    "AWS::KMS::Alias": TypeRules(
        _alias,
        {
            name: Rule(
                "on the alias and on its key",
                on=lambda change: [arn for arns in _alias(change).values() for arn in arns],
            )
            for name in ("kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias")
        },
    ),
    "AWS::KMS::Key": KEY,
    "AWS::Lambda::EventInvokeConfig": TypeRules(_of_function),
    "AWS::Lambda::EventSourceMapping": EVENT_SOURCE_MAPPING,
    "AWS::Lambda::Function": FUNCTION,
    "AWS::Lambda::Permission": TypeRules(
        _of_function,
        {"lambda:AddPermission": Rule(contexts=_principal), "lambda:RemovePermission": Rule(contexts=_principal)},
    ),
    "AWS::Logs::LogGroup": LOG_GROUP,
    "AWS::S3::Bucket": BUCKET,
    "AWS::S3::BucketPolicy": TypeRules(
        lambda change: {"s3:bucket": [_bucket(change, str(change.properties.get("Bucket")))]}
    ),
    "AWS::SNS::Subscription": SUBSCRIPTION,
    "AWS::SNS::Topic": TOPIC,
    "AWS::SNS::TopicPolicy": TypeRules(
        lambda change: {"sns:topic": [str(topic) for topic in as_list(change.properties.get("Topics"))]}
    ),
    "AWS::SQS::Queue": TypeRules(lambda change: {"sqs:queue": [change.arn("sqs", change.name("QueueName"))]}),
    "AWS::SQS::QueuePolicy": TypeRules(
        lambda change: {
            "sqs:queue": [_queue_arn(change, str(queue)) for queue in as_list(change.properties.get("Queues"))]
        }
    ),
    "AWS::SSM::Parameter": TypeRules(lambda change: {"ssm:parameter": _parameter(change)}),
    "AWS::SageMaker::ModelPackageGroup": MODEL_PACKAGE_GROUP,
    "AWS::SageMaker::Project": PROJECT,
    "AWS::Scheduler::ScheduleGroup": SCHEDULE_GROUP,
    "AWS::ServiceCatalog::CloudFormationProduct": PRODUCT,
    "AWS::ServiceCatalog::LaunchRoleConstraint": LAUNCH_ROLE_CONSTRAINT,
    "AWS::ServiceCatalog::Portfolio": TypeRules(_catalog("Portfolio", "Id")),
    "AWS::ServiceCatalog::PortfolioPrincipalAssociation": PRINCIPAL_ASSOCIATION,
    "AWS::ServiceCatalog::PortfolioProductAssociation": TypeRules(_association),
    "AWS::ServiceCatalog::ResourceUpdateConstraint": TypeRules(_association),
}
