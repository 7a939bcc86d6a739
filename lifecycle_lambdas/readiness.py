"""Whether a project is ready for production: a checklist over what is in the account. Each item is a pure function.

What may not be read is unknown, which is never ok. What the list does not say is in NOT_CHECKED.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lifecycle_lambdas import names
from lifecycle_lambdas.approvals import BY, UNKNOWN
from lifecycle_lambdas.records import Deployment, package_version

Status = Literal["ok", "missing", "unknown"]
# Of production; feature and dev may be parked, and one instance is enough there.
SERVING_STAGES = ("prod", "champion", "challenger")
# Those of servicecatalog/platform.yaml.
PLATFORM_ALARMS = (
    "modelyard-batch-failing",
    "modelyard-clean-failing",
    "modelyard-commit-status-failing",
    "modelyard-commit-status-retrying",
    "modelyard-deploy-failing",
    "modelyard-deploy-retrying",
    "modelyard-deploy-throttled",
    "modelyard-endpoint-tests-failing",
    "modelyard-endpoint-tests-retrying",
    "modelyard-event-age",
    "modelyard-failed-messages",
    "modelyard-notify-failing",
    "modelyard-plan-failing",
    "modelyard-retraining-failed-messages",
    "modelyard-seed-failing",
    "modelyard-seed-throttled",
)
SCHEDULES = ("modelyard-under-way", "modelyard-everything")
# The other rules of servicecatalog/platform.yaml: schedules, and those by which AWS's events come.
RULES = (
    "modelyard-alarms",
    "modelyard-clean",
    "modelyard-endpoint-tests",
    "modelyard-endpoints",
    "modelyard-executions",
    "modelyard-model-packages",
    "modelyard-test-jobs",
    "modelyard-transform-jobs",
)
QUEUES = (
    "modelyard-commit-status",
    "modelyard-events",
    "modelyard-failed",
    "modelyard-retraining-failed",
    "modelyard-tests",
)
# Who approves without being a person: the controller, and a project's roles of pipelines and of CI.
_MACHINE = r"role/(?:.*/)?(?:modelyard-deploy-|{project}-(?:pipeline|ci)-)"
REINSTALL = "let an administrator put it right: make install-platform OPTIONS=--revert-drift"
NOT_CHECKED = (
    "whether the alarms' thresholds, the endpoint tests and their load are what the business needs",
    "whether somebody is on call, and reads what the topic sends",
    "how good and how fair the model is, and whether the data drifts",
    "with which key the models' own logs are encrypted",
    "quotas of the account, costs and budgets",
    "networks (VPC), the Git host, and who may read the repositories",
    "the loss of the whole Region, and backups outside of this account",
)


@dataclass(frozen=True)
class Unread:
    """What could not be read, and AWS's reason."""

    why: str


@dataclass(frozen=True)
class Item:
    """
    Args:
        place: "platform", a bucket's or an endpoint's name.
        found: what is there, in words.
        remedy: what to do; "" when it is ok.
    """

    place: str
    name: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class PlatformFacts:
    """AWS's answers about the platform.

    Args:
        subscriptions: of the topic, as ListSubscriptionsByTopic has them.
        has_chat: a webhook's secret was given at installation.
        topic: GetTopicAttributes' Attributes.
        table: DescribeTable's Table.
        backups: DescribeContinuousBackups' ContinuousBackupsDescription.
        dead_letters: how many lie in modelyard-failed.
        alarms: by name, as DescribeAlarms has them.
        queues: GetQueueAttributes' Attributes by the queue's name; None where there is none.
        logs: of the functions, by log group, as DescribeLogGroups has them.
        event_source: GetEventSourceMapping's State of the controller's queue.
        rules: by rule, its State; None where there is none.
    """

    topic_arn: str
    has_chat: bool
    subscriptions: list[dict[str, Any]] | Unread
    topic: dict[str, str] | Unread
    table: dict[str, Any] | Unread
    backups: dict[str, Any] | Unread
    dead_letters: int | Unread
    alarms: dict[str, dict[str, Any]] | Unread
    queues: dict[str, dict[str, str] | None] | Unread
    logs: dict[str, dict[str, Any]] | Unread
    event_source: str | Unread
    rules: dict[str, str | None] | Unread


@dataclass(frozen=True)
class BucketFacts:
    """AWS's answers about a bucket with models and data; None where it has none of it."""

    name: str
    encryption: dict[str, Any] | None | Unread
    versioning: str | Unread
    policy: str | None | Unread
    public_access: dict[str, bool] | None | Unread


@dataclass(frozen=True)
class EndpointFacts:
    """AWS's and the ledger's answers about one endpoint of production.

    Args:
        endpoint: DescribeEndpoint's answer; None: there is none.
        config: DescribeEndpointConfig's of what it is on.
        schedule: GetSchedule's of a batch stage; None: there is none.
        last_job: of a batch stage the newest of ListTransformJobs that its schedule started; None: there is none.
        tags: of the endpoint.
        group_tags: of its model package group.
        targets: DescribeScalableTargets' ScalableTargets.
        alarms: the standing alarms by name, as DescribeAlarms has them.
        logs: for how many days the endpoint's own log is kept; None: for ever; 0: there is no log yet.
        deployment: the last one that succeeded.
        package: DescribeModelPackage's of its version.
        way_back: what it would go back to; None: there is nothing.
        way_back_model: whether the model of that deployment is still there.
    """

    name: str
    topic_arn: str
    endpoint: dict[str, Any] | None | Unread
    config: dict[str, Any] | None | Unread
    schedule: dict[str, Any] | None | Unread
    last_job: dict[str, Any] | None | Unread
    tags: dict[str, str] | Unread
    group_tags: dict[str, str] | Unread
    targets: list[dict[str, Any]] | Unread
    alarms: dict[str, dict[str, Any]] | Unread
    logs: int | None | Unread
    deployment: Deployment | None | Unread
    package: dict[str, Any] | None | Unread
    way_back: Deployment | None | Unread
    way_back_model: bool | Unread = False

    @property
    def kind(self) -> str:
        """As the stage file that serves says; "" where nothing was deployed."""
        return "" if not isinstance(self.deployment, Deployment) else str(self.deployment.stage_file.get("kind", ""))


def checklist(
    platform: PlatformFacts, buckets: Iterable[BucketFacts], endpoints: Iterable[EndpointFacts]
) -> list[Item]:
    """Every item, in the order in which it is shown."""
    found = [check(platform) for check in PLATFORM]
    found += [check(bucket) for bucket in buckets for check in BUCKET]
    for endpoint in endpoints:
        checks = SCHEDULED if endpoint.kind == "batch" else HOSTED
        found += [check(endpoint) for check in checks]
    return found


# --- the platform


def somebody_is_told(facts: PlatformFacts) -> Item:
    def judge(subscriptions: list[dict[str, Any]]) -> Verdict:
        confirmed = [one for one in subscriptions if one["SubscriptionArn"].startswith("arn:")]
        people = [one["Protocol"] for one in confirmed if one["Protocol"] != "lambda"]
        people += ["chat"] if facts.has_chat and len(people) < len(confirmed) else []
        waiting = len(subscriptions) - len(confirmed)
        if people:
            return "ok", f"{', '.join(sorted(set(people)))}", ""
        found = f"{waiting} subscriptions wait for their confirmation" if waiting else "nobody is subscribed"
        return "missing", found, "confirm the mail, or give --alert-email or --webhook-secret-arn: docs/install.md"

    return _judged("platform", "alarms and messages reach somebody", facts.subscriptions, judge)


def topic_is_encrypted(facts: PlatformFacts) -> Item:
    def judge(topic: dict[str, str]) -> Verdict:
        lacks = [] if topic.get("KmsMasterKeyId") else ["it has no key"]
        lacks += [] if denies_plain_http(topic.get("Policy")) else ["its policy allows requests without TLS"]
        return _lacking(lacks, "a key, and TLS only")

    return _judged("platform", "messages are encrypted", facts.topic, judge)


def ledger_is_encrypted(facts: PlatformFacts) -> Item:
    def judge(table: dict[str, Any]) -> Verdict:
        encryption = table.get("SSEDescription", {})
        if encryption.get("Status") == "ENABLED" and encryption.get("SSEType") == "KMS":
            return "ok", "with a key of KMS", ""
        key = "Enabled=true,SSEType=KMS,KMSMasterKeyId=<SSM parameter /modelyard/key-arn>"
        return "missing", "with DynamoDB's own key", f"{_UPDATE_TABLE} --sse-specification {key}"

    return _judged("platform", "the ledger is encrypted", facts.table, judge)


def ledger_can_be_restored(facts: PlatformFacts) -> Item:
    def judge(backups: dict[str, Any]) -> Verdict:
        status = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus", "DISABLED")
        if status == "ENABLED":
            return "ok", "to every second of the last 35 days", ""
        command = "aws dynamodb update-continuous-backups --table-name <SSM parameter /modelyard/ledger-table>"
        on = "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
        return "missing", f"point-in-time recovery is {status.lower()}", f"{command} {on}"

    return _judged("platform", "the ledger can be restored", facts.backups, judge)


def ledger_cannot_be_deleted(facts: PlatformFacts) -> Item:
    def judge(table: dict[str, Any]) -> Verdict:
        if table.get("DeletionProtectionEnabled"):
            return "ok", "deletion protection is on", ""
        return "missing", "deletion protection is off", f"{_UPDATE_TABLE} --deletion-protection-enabled"

    return _judged("platform", "the ledger is not deleted by accident", facts.table, judge)


def no_dead_letters(facts: PlatformFacts) -> Item:
    def judge(number: int) -> Verdict:
        if not number:
            return "ok", "there are none", ""
        return "missing", f"{number} messages were never answered", "python -m lifecycle_lambdas replay"

    return _judged("platform", "dead letters", facts.dead_letters, judge)


def platform_is_watched(facts: PlatformFacts) -> Item:
    def judge(alarms: dict[str, dict[str, Any]]) -> Verdict:
        return _alarm_verdict(alarms, PLATFORM_ALARMS, facts.topic_arn, REINSTALL)

    return _judged("platform", "the platform's alarms", facts.alarms, judge)


def queues_are_encrypted(facts: PlatformFacts) -> Item:
    def judge(queues: dict[str, dict[str, str] | None]) -> Verdict:
        if absent := [name for name in QUEUES if queues.get(name) is None]:
            return "missing", f"there is no {', '.join(absent)}", REINSTALL
        plain = [name for name in QUEUES if not _is_encrypted(queues[name] or {})]
        if plain:
            url = f"$(aws sqs get-queue-url --queue-name {plain[0]} --query QueueUrl --output text)"
            command = f"aws sqs set-queue-attributes --queue-url {url} --attributes SqsManagedSseEnabled=true"
            return "missing", f"in plain text: {', '.join(plain)}", command
        return "ok", f"{len(QUEUES)}, with SQS's key or one of KMS", ""

    return _judged("platform", "queues are encrypted", facts.queues, judge)


def logs_end(facts: PlatformFacts) -> Item:
    def judge(logs: dict[str, dict[str, Any]]) -> Verdict:
        days = {name: group.get("retentionInDays") for name, group in sorted(logs.items())}
        if not days:
            return "missing", "there are none", REINSTALL
        if kept := [name for name, number in days.items() if number is None]:
            command = f"aws logs put-retention-policy --log-group-name {kept[0]} --retention-in-days 90"
            return "missing", f"kept for ever: {', '.join(kept)}", command
        return "ok", f"{max(number for number in days.values() if number is not None)} days at most", ""

    return _judged("platform", "the functions' logs end", facts.logs, judge)


def logs_are_encrypted(facts: PlatformFacts) -> Item:
    def judge(logs: dict[str, dict[str, Any]]) -> Verdict:
        if not logs:
            return "missing", "there are none", REINSTALL
        if plain := [name for name, group in sorted(logs.items()) if not group.get("kmsKeyId")]:
            key = "<SSM parameter /modelyard/key-arn>"
            command = f"aws logs associate-kms-key --log-group-name {plain[0]} --kms-key-id {key}"
            return "missing", f"with CloudWatch's own key: {', '.join(plain)}", command
        return "ok", "with a key of KMS", ""

    return _judged("platform", "the functions' logs are encrypted", facts.logs, judge)


def controller_is_on(facts: PlatformFacts) -> Item:
    def judge(state: str) -> Verdict:
        if state == "Enabled":
            return "ok", "it takes what comes", ""
        remedy = f'{EVENT_SOURCE} --enabled (docs/operate.md, "Stopping the controller")'
        return "missing", f"its event source mapping is {state}", remedy

    return _judged("platform", "the controller is on", facts.event_source, judge)


def controller_looks_again(facts: PlatformFacts) -> Item:
    def judge(rules: dict[str, str | None]) -> Verdict:
        return _rules_verdict(rules, SCHEDULES, "every minute, and at everything every ten")

    return _judged("platform", "the controller looks by itself", facts.rules, judge)


def rules_are_on(facts: PlatformFacts) -> Item:
    def judge(rules: dict[str, str | None]) -> Verdict:
        return _rules_verdict(rules, RULES, f"{len(RULES)}: cleaning up, endpoint tests, what AWS tells")

    return _judged("platform", "events and schedules come", facts.rules, judge)


# --- buckets


def bucket_is_encrypted(facts: BucketFacts) -> Item:
    def judge(encryption: dict[str, Any] | None) -> Verdict:
        rules = (encryption or {}).get("Rules", [])
        kinds = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in rules]
        if any(kinds):
            return "ok", ", ".join(filter(None, kinds)), ""
        return "missing", "it has no default encryption", f"aws s3api put-bucket-encryption --bucket {facts.name} ..."

    return _judged(facts.name, "what is stored is encrypted", facts.encryption, judge)


def bucket_takes_tls_only(facts: BucketFacts) -> Item:
    def judge(policy: str | None) -> Verdict:
        if denies_plain_http(policy):
            return "ok", "its policy denies anything else", ""
        remedy = "deny aws:SecureTransport false in its policy, as servicecatalog/platform.yaml's ArtifactBucketPolicy"
        return "missing", "requests without TLS are allowed", remedy

    return _judged(facts.name, "TLS only", facts.policy, judge)


def bucket_keeps_versions(facts: BucketFacts) -> Item:
    def judge(versioning: str) -> Verdict:
        if versioning == "Enabled":
            return "ok", "what is overwritten or deleted can be had back", ""
        command = f"aws s3api put-bucket-versioning --bucket {facts.name} --versioning-configuration Status=Enabled"
        return "missing", "what is overwritten is lost", command

    return _judged(facts.name, "backups: versions are kept", facts.versioning, judge)


def bucket_is_private(facts: BucketFacts) -> Item:
    def judge(block: dict[str, bool] | None) -> Verdict:
        wanted = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        off = [name for name in wanted if not (block or {}).get(name)]
        if not off:
            return "ok", "public access is blocked", ""
        return "missing", f"off: {', '.join(off)}", f"aws s3api put-public-access-block --bucket {facts.name} ..."

    return _judged(facts.name, "nothing is public", facts.public_access, judge)


# --- endpoints


def it_serves(facts: EndpointFacts) -> Item:
    def judge(endpoint: dict[str, Any] | None) -> Verdict:
        if endpoint is None:
            back = f"python -m lifecycle_lambdas go-back {facts.name} VERSION --why ..."
            remedy = f"approve a version; one that is parked: {back}"
            return "missing", "there is no endpoint", remedy
        status = endpoint["EndpointStatus"]
        if status != "InService":
            return "missing", f"the endpoint is {status}", f"python -m lifecycle_lambdas show {facts.name}"
        if not isinstance(facts.deployment, Deployment) or endpoint["EndpointConfigName"] != facts.deployment.name:
            found = f"it serves {endpoint['EndpointConfigName']}, which is not the last deployment"
            return "missing", found, f"python -m lifecycle_lambdas look {facts.name} --wait"
        version = package_version(facts.deployment.package_arn)
        return "ok", f"version {version}, deployment {facts.deployment.number}", ""

    return _judged(facts.name, "it serves what was deployed", facts.endpoint, judge)


def its_schedule_is_on(facts: EndpointFacts) -> Item:
    def judge(schedule: dict[str, Any] | None) -> Verdict:
        if schedule is None or schedule.get("State") != "ENABLED":
            return "missing", "there is no schedule that is on", f"python -m lifecycle_lambdas look {facts.name} --wait"
        return "ok", str(schedule.get("ScheduleExpression")), ""

    return _judged(facts.name, "its batch jobs are scheduled", facts.schedule, judge)


def its_last_run_succeeded(facts: EndpointFacts) -> Item:
    def judge(job: dict[str, Any] | None) -> Verdict:
        if job is None:
            return "missing", "there was no run yet", "wait for the first one before you rely on it"
        name, status = job["TransformJobName"], job["TransformJobStatus"]
        if status in ("Completed", "InProgress"):
            return "ok", f"{name} is {status}", ""
        found = f"{name} is {status}: {job.get('FailureReason') or 'no reason given'}"
        return "missing", found, "put the reason right; the log group /aws/sagemaker/TransformJobs has its log"

    return _judged(facts.name, "its last batch job succeeded", facts.last_job, judge)


def it_is_watched(facts: EndpointFacts) -> Item:
    def judge(alarms: dict[str, dict[str, Any]]) -> Verdict:
        wanted = [names.standing_alarm(facts.name, kind) for kind in ("errors", "latency")]
        return _alarm_verdict(
            alarms, wanted, facts.topic_arn, "set alarms in its stage file: error_share, p99_latency_ms"
        )

    return _judged(facts.name, "alarms on errors and latency", facts.alarms, judge)


def it_has_two_instances(facts: EndpointFacts) -> Item:
    def judge(endpoint: dict[str, Any] | None) -> Verdict:
        if facts.kind == "serverless":
            return "ok", "serverless: AWS's own", ""
        if endpoint is None:
            return "missing", "there is no endpoint", "approve a version"
        count = min((one.get("DesiredInstanceCount", 0) for one in endpoint.get("ProductionVariants", [])), default=0)
        if isinstance(facts.targets, Unread):
            return "unknown", facts.targets.why, _READ
        lowest = min((target["MinCapacity"] for target in facts.targets), default=count)
        if min(count, lowest) >= 2:
            return "ok", f"{count} instances, {lowest} at least", ""
        found = f"{count} instances, {lowest} at least: SageMaker spreads two and more over Availability Zones"
        return "missing", found, "set instance_count: 2, or scaling: {min: 2, ...}, in its stage file"

    return _judged(facts.name, "two instances", facts.endpoint, judge)


def its_volumes_are_encrypted(facts: EndpointFacts) -> Item:
    def judge(config: dict[str, Any] | None) -> Verdict:
        from lifecycle_lambdas.stage_schema import has_local_storage

        if config is None:
            return "missing", "there is no endpoint config", "approve a version"
        types = [one.get("InstanceType") for one in config.get("ProductionVariants", [])]
        if config.get("KmsKeyId"):
            return "ok", "with a key of your own", ""
        if not any(types):
            return "ok", "serverless: AWS's own", ""
        if all(kind is not None and has_local_storage(kind) for kind in types):
            return "ok", "by the instances' hardware", ""
        return "missing", "with a key of AWS's, which nobody here can withdraw", "set kms_key in its stage file"

    return _judged(facts.name, "volumes are encrypted with your key", facts.config, judge)


def a_person_approves(facts: EndpointFacts) -> Item:
    def judge(package: dict[str, Any] | None) -> Verdict:
        if isinstance(facts.group_tags, Unread):
            return "unknown", facts.group_tags.why, _READ
        if facts.group_tags.get("modelyard:approval") == "automatic":
            remedy = f"remove the tag modelyard:approval of the model package group {facts.name}"
            return "missing", "versions may approve themselves", remedy
        by = ({} if package is None else package.get("CustomerMetadataProperties", {})).get(BY, "")
        if not by or by == UNKNOWN:
            return (
                "missing",
                "who approved what serves is not known",
                "approve another one: who approved this is lost",
            )
        project = re.escape(facts.name.rpartition("-")[0])
        if re.search(_MACHINE.format(project=project), by):
            return "missing", f"approved by {by}", "let a person approve: attach modelyard-deny-approval to that role"
        return "ok", f"by {by}", ""

    return _judged(facts.name, "a person approved what serves", facts.package, judge)


def it_is_tested(facts: EndpointFacts) -> Item:
    def judge(package: dict[str, Any] | None) -> Verdict:
        metadata = {} if package is None else package.get("CustomerMetadataProperties", {})
        if "tests.sha256" not in metadata:
            return "missing", "the version has no endpoint tests", "write tests/endpoint/cases.yaml in the repository"
        status = metadata.get("tests.status", "")
        if status == "passed":
            return "ok", f"passed at {metadata.get('tests.at', 'an unknown time')}", ""
        found = f"their status is {status}" if status else "they were not run yet"
        return "missing", found, f"python -m lifecycle_lambdas test {facts.name}"

    return _judged(facts.name, "endpoint tests are there and passed", facts.package, judge)


def it_can_go_back(facts: EndpointFacts) -> Item:
    def judge(before: Deployment | None) -> Verdict:
        if before is None:
            return (
                "missing",
                "no other version that is approved served before",
                "deploy two versions before you rely on it",
            )
        version = package_version(before.package_arn)
        if isinstance(facts.way_back_model, Unread):
            return "unknown", facts.way_back_model.why, _READ
        return "ok", f"version {version}" + ("" if facts.way_back_model else ", whose model is made anew"), ""

    return _judged(facts.name, "there is a way back", facts.way_back, judge)


def it_is_tagged(facts: EndpointFacts) -> Item:
    def judge(tags: dict[str, str]) -> Verdict:
        wanted = ("sagemaker:project-name", "sagemaker:project-id", "modelyard:project", "modelyard:stage")
        lacks = [name for name in wanted if not tags.get(name)]
        if lacks:
            remedy = f"aws sagemaker add-tags, with what the model package group {facts.name} has"
            return "missing", f"it lacks {', '.join(lacks)}", remedy
        return "ok", "project and stage: costs can be told apart", ""

    return _judged(facts.name, "tags", facts.tags, judge)


def its_log_ends(facts: EndpointFacts) -> Item:
    def judge(days: int | None) -> Verdict:
        if days is None:
            group = f"/aws/sagemaker/Endpoints/{facts.name}"
            command = f"aws logs put-retention-policy --log-group-name {group} --retention-in-days 90"
            return "missing", "the model's log is kept for ever", command
        return "ok", f"{days} days" if days else "there is none yet", ""

    return _judged(facts.name, "the model's log ends", facts.logs, judge)


PLATFORM: tuple[Callable[[PlatformFacts], Item], ...] = (
    controller_is_on,
    controller_looks_again,
    rules_are_on,
    platform_is_watched,
    somebody_is_told,
    no_dead_letters,
    topic_is_encrypted,
    queues_are_encrypted,
    ledger_is_encrypted,
    ledger_can_be_restored,
    ledger_cannot_be_deleted,
    logs_end,
    logs_are_encrypted,
)
BUCKET: tuple[Callable[[BucketFacts], Item], ...] = (
    bucket_is_encrypted,
    bucket_takes_tls_only,
    bucket_keeps_versions,
    bucket_is_private,
)
HOSTED: tuple[Callable[[EndpointFacts], Item], ...] = (
    it_serves,
    it_is_watched,
    it_has_two_instances,
    its_volumes_are_encrypted,
    a_person_approves,
    it_is_tested,
    it_can_go_back,
    it_is_tagged,
    its_log_ends,
)
SCHEDULED: tuple[Callable[[EndpointFacts], Item], ...] = (
    its_schedule_is_on,
    its_last_run_succeeded,
    a_person_approves,
    it_is_tested,
    it_can_go_back,
)

Verdict = tuple[Status, str, str]
"""Status, what was found, what to do."""

_READ = "look with an operator's credentials, or an administrator's: docs/install.md, \"Who gets which policy\""
_UPDATE_TABLE = "aws dynamodb update-table --table-name <SSM parameter /modelyard/ledger-table>"
EVENT_SOURCE = "aws lambda update-event-source-mapping --uuid <SSM parameter /modelyard/deploy-event-source>"


def denies_plain_http(policy: str | None) -> bool:
    """Whether a resource's policy denies everybody every request without TLS."""
    try:
        statements = json.loads(policy or "{}").get("Statement", [])
    except (ValueError, AttributeError):
        return False
    return any(
        one.get("Effect") == "Deny"
        and one.get("Principal") in ("*", {"AWS": "*"})
        and str(one.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")).lower() == "false"
        for one in (statements if isinstance(statements, list) else [statements])
    )


def _judged(place: str, name: str, fact: Any, judge: Callable[[Any], Verdict]) -> Item:
    if isinstance(fact, Unread):
        return Item(place, name, "unknown", fact.why, _READ)
    return Item(place, name, *judge(fact))


def _lacking(lacks: list[str], found: str) -> Verdict:
    return ("missing", "; ".join(lacks), REINSTALL) if lacks else ("ok", found, "")


def _is_encrypted(queue: dict[str, str]) -> bool:
    return bool(queue.get("KmsMasterKeyId")) or queue.get("SqsManagedSseEnabled", "").lower() == "true"


def _rules_verdict(rules: dict[str, str | None], wanted: Iterable[str], found: str) -> Verdict:
    wanted = list(wanted)
    if absent := [name for name in wanted if rules.get(name) is None]:
        return "missing", f"there is no {', '.join(absent)}", REINSTALL
    if off := [name for name in wanted if rules[name] != "ENABLED"]:
        return "missing", f"off: {', '.join(off)}", f"aws events enable-rule --name {off[0]}"
    return "ok", found, ""


def _alarm_verdict(alarms: dict[str, dict[str, Any]], wanted: Iterable[str], topic: str, remedy: str) -> Verdict:
    wanted = list(wanted)
    if absent := [name for name in wanted if name not in alarms]:
        return "missing", f"there is no {', '.join(absent)}", remedy
    told = [name for name in wanted if topic not in alarms[name].get("AlarmActions", [])]
    if silent := [name for name in wanted if not alarms[name].get("ActionsEnabled", True)] + told:
        return "missing", f"nobody is told by {', '.join(silent)}", remedy
    if raised := [name for name in wanted if alarms[name].get("StateValue") == "ALARM"]:
        return "missing", f"raised now: {', '.join(raised)}", "docs/operate.md says for each alarm what to do"
    return "ok", f"{len(wanted)}, told to the topic", ""
