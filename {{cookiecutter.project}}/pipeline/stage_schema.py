"""What deployment/<stage>.yaml may say, with SageMaker's limits and the reasons for them. Pure.

    stage_file = parse({"kind": "real_time", "instance_type": "ml.m5.large"}, "dev")
    stage_file.instance_count, stage_file.rollout.termination_wait_seconds

Fields are in the units that people write (minutes, milliseconds); properties give AWS's (seconds, microseconds).
Whoever deploys checks the file with this module too, so it imports the standard library and pydantic alone.

Sources: the SageMaker API reference (CreateEndpointConfig, UpdateEndpoint, CreateTransformJob) and, in the developer
guide, "Deployment guardrails", "Serverless Inference", "Automatic scaling", "Monitor SageMaker with CloudWatch".
"""

from __future__ import annotations

import difflib
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

# What users are served with: two instances by default, which SageMaker spreads over two Availability Zones.
SERVING_STAGES = ("prod", "champion")
# A deployment may take 10 minutes to 8 hours; of these, what is kept for starting and stopping instances.
SHORTEST_DEPLOYMENT_SECONDS, LONGEST_DEPLOYMENT_SECONDS, STARTING_SECONDS = 600, 28800, 1800
# "Instances per endpoint" in Service Quotas, unless it was raised.
DEFAULT_INSTANCE_QUOTA = 4
# The program that the version was registered with is found by these.
RESERVED_VARIABLES = ("SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY")
# Media types of which every line is a record of its own.
LINES = ("text/csv", "application/x-ndjson", "application/jsonlines")


class StageFileError(ValueError):
    """A stage file that cannot be used; `faults` has one line for each fault: field, fault, remedy."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Section(BaseModel):
    """Strict: a count of `yes` or "2" is a mistake, not a number. Unknown fields would do nothing, silently."""

    # defer_build: a Lambda that starts needs one of the kinds, and not at once
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


def _off_is_none(value: Any) -> Any:
    """PyYAML reads a bare `off` as false, editors read it as "off", and what was dumped says null."""
    return None if value is False or value == "off" else value


def _without_default(schema: dict[str, Any]) -> None:
    """The JSON Schema says no default that depends on the stage, which an editor cannot know."""
    schema.pop("default", None)


def _rollout_by_name(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _size(value: Any) -> Any:
    if not (type(value) is int and value >= 1) and not (isinstance(value, str) and re.fullmatch(SHARE, value)):
        raise ValueError(f"{value!r} is no size: write a share of the instances (10%), or a number of them (1)")
    return value


SHARE = r"^[1-9][0-9]?%$"
Size = Annotated[
    str | int,
    BeforeValidator(_size, json_schema_input_type=Annotated[str, Field(pattern=SHARE)] | Annotated[int, Field(ge=1)]),
]
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
S3Uri = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/\S+$", max_length=1024)]
VariableName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=1024)]
Environment = Annotated[
    dict[VariableName, Annotated[str, Field(max_length=1024)]],
    Field(
        max_length=100,
        description="Environment variables of the container: at most 100, names of letters, digits and _, values in "
        "quotes where they are not text.",
    ),
]
KmsKey = Annotated[
    str | None,
    Field(
        pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+$",
        description="The ARN of the KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID) for the volumes and for what is "
        "written to S3; null: AWS's own keys.",
    ),
]
NetworkIsolation = Annotated[bool, Field(description="true: the container can reach no network, not even AWS.")]
InstanceCount = Annotated[int, Field(ge=1, le=100)]
Approval = Annotated[
    Literal["manual", "automatic"],
    Field(
        description="automatic: every version that is registered is deployed, where the stage's model package group "
        "has the tag modelyard:approval=automatic, which an administrator sets; manual: a person approves."
    ),
]
Dashboard = Annotated[bool, Field(description="Whether the endpoint gets a CloudWatch dashboard.")]
Replace = Annotated[
    bool,
    Field(
        description="true: where an endpoint of another kind serves, it is deleted first and made anew: requests fail "
        "meanwhile. SageMaker cannot change an endpoint's kind."
    ),
]
Cooldown = Annotated[
    int,
    Field(ge=0, le=3600, description="How many seconds to wait, 0 to 3600, before scaling in that direction again."),
]
BakeMinutes = Annotated[
    float,
    Field(
        ge=0,
        le=60,
        description="How many minutes the alarms are watched after each step that is not the last: SageMaker waits 0 "
        "to 3600 seconds.",
    ),
]
FinishBakeMinutes = Annotated[
    float,
    Field(
        ge=0,
        le=60,
        description="How many minutes the old instances are kept, and the alarms watched, after all traffic has moved: "
        "SageMaker waits 0 to 3600 seconds.",
    ),
]


class Vpc(Section):
    """Where the containers' network interfaces are made."""

    subnets: Annotated[
        list[Annotated[str, Field(pattern=r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$")]],
        Field(min_length=1, max_length=16, description="1 to 16 subnets' ids; in two Availability Zones at least."),
    ]
    security_groups: Annotated[
        list[Annotated[str, Field(pattern=r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")]],
        Field(min_length=1, max_length=5, description="1 to 5 security groups' ids."),
    ]

    @property
    def config(self) -> dict[str, list[str]]:
        """AWS's VpcConfig."""
        return {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.security_groups)}


# --- rollouts -------------------------------------------------------------------------------------------------------


class _Rollout(Section):
    """What the three ways have in common; the numbers are those of UpdateEndpoint's DeploymentConfig."""

    finish_bake_minutes: FinishBakeMinutes = 0

    @property
    def wait_seconds(self) -> int:
        """TrafficRoutingConfiguration.WaitIntervalInSeconds."""
        return 0

    @property
    def termination_wait_seconds(self) -> int:
        """TerminationWaitInSeconds."""
        return round(self.finish_bake_minutes * 60)

    @property
    def bake_seconds(self) -> int:
        """How long the alarms are watched in all."""
        return self.termination_wait_seconds

    @property
    def maximum_execution_seconds(self) -> int:
        """MaximumExecutionTimeoutInSeconds: all bakes, and time to start and stop instances."""
        return max(SHORTEST_DEPLOYMENT_SECONDS, self.bake_seconds + STARTING_SECONDS)


class AllAtOnce(_Rollout):
    """All traffic moves to the new instances as soon as they answer."""

    type: Literal["all_at_once"]


class Canary(_Rollout):
    """A part of the new instances takes traffic first, then all."""

    type: Literal["canary"]
    size: Annotated[
        Size,
        Field(
            description="How much moves first: a share of the instances (10%), or a number of instances. At most half."
        ),
    ] = "10%"
    bake_minutes: BakeMinutes = 10
    finish_bake_minutes: FinishBakeMinutes = 5

    @field_validator("size")
    @classmethod
    def _size_is_at_most_half(cls, size: str | int) -> str | int:
        if isinstance(size, str) and _share(size) > 50:
            raise ValueError(f"a canary of {size} is too large: SageMaker takes at most 50% of the fleet")
        return size

    @property
    def capacity(self) -> dict[str, Any]:
        """CanarySize."""
        return _capacity(self.size)

    @property
    def wait_seconds(self) -> int:
        return round(self.bake_minutes * 60)

    @property
    def bake_seconds(self) -> int:
        return self.wait_seconds + self.termination_wait_seconds


class Linear(_Rollout):
    """Traffic moves in equal steps."""

    type: Literal["linear"]
    step: Annotated[
        Size,
        Field(
            description="How much moves at once: a share of the instances (25%), or a number of instances. 10% to 50%."
        ),
    ] = "25%"
    bake_minutes: BakeMinutes = 5
    finish_bake_minutes: FinishBakeMinutes = 5

    @field_validator("step")
    @classmethod
    def _step_is_in_range(cls, step: str | int) -> str | int:
        if isinstance(step, str) and not 10 <= _share(step) <= 50:
            raise ValueError(f"a step of {step} cannot be: SageMaker takes 10% to 50% of the fleet")
        return step

    @property
    def capacity(self) -> dict[str, Any]:
        """LinearStepSize."""
        return _capacity(self.step)

    @property
    def wait_seconds(self) -> int:
        return round(self.bake_minutes * 60)

    @property
    def bake_seconds(self) -> int:
        # a number of instances is at least a tenth of them, so there are at most ten steps
        steps = math.ceil(100 / _share(self.step)) if isinstance(self.step, str) else 10
        return (steps - 1) * self.wait_seconds + self.termination_wait_seconds


ROLLOUTS: dict[str, type[_Rollout]] = {"all_at_once": AllAtOnce, "canary": Canary, "linear": Linear}
RolloutName = Literal["all_at_once", "canary", "linear"]
AnyRollout = Annotated[AllAtOnce | Canary | Linear, Field(discriminator="type")]
Rollout = Annotated[
    AnyRollout,
    BeforeValidator(_rollout_by_name, json_schema_input_type=RolloutName | AnyRollout),
    Field(
        description="How traffic moves to a new version: all_at_once, canary or linear, alone or with sizes and bake "
        "times ({type: canary, size: 10%, bake_minutes: 10, finish_bake_minutes: 5})."
    ),
]


def _share(size: str) -> int:
    return int(size.removesuffix("%"))


def _capacity(size: str | int) -> dict[str, Any]:
    if isinstance(size, str):
        return {"Type": "CAPACITY_PERCENT", "Value": _share(size)}
    return {"Type": "INSTANCE_COUNT", "Value": size}


# --- scaling --------------------------------------------------------------------------------------------------------


class RequestTarget(Section):
    invocations_per_instance: Annotated[
        float, Field(gt=0, le=1e6, description="Requests a minute that one instance should answer.")
    ]

    @property
    def metric(self) -> str:
        """PredefinedMetricType."""
        return "SageMakerVariantInvocationsPerInstance"

    @property
    def value(self) -> float:
        """TargetValue."""
        return float(self.invocations_per_instance)


class UtilizationTarget(Section):
    utilization: Annotated[
        float, Field(gt=0, le=1, description="The share of the provisioned concurrency that should be in use, 0 to 1.")
    ]

    @property
    def metric(self) -> str:
        """PredefinedMetricType."""
        return "SageMakerVariantProvisionedConcurrencyUtilization"

    @property
    def value(self) -> float:
        """TargetValue."""
        return float(self.utilization)


class Scaling(Section):
    """Target tracking of Application Auto Scaling between two numbers of instances."""

    min: Annotated[
        int,
        Field(ge=1, le=1000, description="The fewest instances: a real-time variant cannot be scaled to none."),
    ]
    max: Annotated[int, Field(ge=1, le=1000, description="The most instances.")]
    target: RequestTarget
    scale_in_cooldown_seconds: Cooldown = 300
    scale_out_cooldown_seconds: Cooldown = 60

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Scaling:
        return _ordered(self)


class ConcurrencyScaling(Section):
    """Target tracking of Application Auto Scaling between two numbers of provisioned concurrency."""

    min: Annotated[int, Field(ge=1, le=200, description="The least provisioned concurrency.")]
    max: Annotated[int, Field(ge=1, le=200, description="The most provisioned concurrency.")]
    target: UtilizationTarget
    scale_in_cooldown_seconds: Cooldown = 300
    scale_out_cooldown_seconds: Cooldown = 60

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> ConcurrencyScaling:
        return _ordered(self)


def _ordered(scaling: Any) -> Any:
    if scaling.min > scaling.max:
        raise ValueError(f"min {scaling.min} is more than max {scaling.max}: exchange them")
    return scaling


# --- alarms ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlarmSpec:
    """One alarm in CloudWatch's words and units.

    Args:
        kind: what the alarm's name ends with.
        dimensions: of a metric that is not the endpoint's own; None: the endpoint's own dimensions belong here.
    """

    kind: Literal["errors", "latency", "custom"]
    namespace: str
    metric: str
    statistic: str
    threshold: float
    comparison: str
    dimensions: dict[str, str] | None

    @property
    def statistic_argument(self) -> dict[str, str]:
        """PutMetricAlarm takes percentiles in another argument than the simple statistics."""
        return {"ExtendedStatistic" if self.statistic.startswith("p") else "Statistic": self.statistic}


class CustomAlarm(Section):
    """An alarm on any metric of CloudWatch."""

    namespace: Annotated[str, Field(pattern=r"^[^:].*$", max_length=255, description="The metric's namespace.")]
    metric: Annotated[str, Field(min_length=1, max_length=255, description="The metric's name.")]
    dimensions: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=255)], Annotated[str, Field(min_length=1, max_length=1024)]]
        | None,
        Field(
            max_length=30, description="The metric's dimensions; null: the endpoint's own (EndpointName, VariantName)."
        ),
    ] = None
    statistic: Annotated[
        str,
        Field(
            pattern=r"^(Average|Sum|Minimum|Maximum|SampleCount|p(\d{1,2}(\.\d{1,2})?|100))$",
            description="Average, Sum, Minimum, Maximum, SampleCount or a percentile such as p99.",
        ),
    ] = "Average"
    threshold: Annotated[float, Field(allow_inf_nan=False, description="In the metric's own unit.")]
    comparison: Annotated[
        Literal[
            "GreaterThanThreshold",
            "GreaterThanOrEqualToThreshold",
            "LessThanThreshold",
            "LessThanOrEqualToThreshold",
        ],
        Field(description="When the alarm is raised."),
    ] = "GreaterThanThreshold"

    @model_validator(mode="after")
    def _metric_is_where_sagemaker_puts_it(self) -> CustomAlarm:
        if self.namespace == "AWS/SageMaker" and self.metric.endswith("Utilization") and self.dimensions is None:
            raise ValueError(
                f"{self.metric} of an endpoint is in the namespace /aws/sagemaker/Endpoints: in AWS/SageMaker it never "
                "has data, and the alarm could not be raised"
            )
        if self.metric == "OverheadLatency" and self.statistic.startswith("p"):
            raise ValueError("SageMaker has no percentiles of OverheadLatency: choose Average or Maximum")
        return self


class Alarms(Section):
    """What goes wrong, at which an update is rolled back, and of which people are told at any time."""

    error_share: Annotated[
        float | None,
        Field(ge=0, lt=1, description="The share of requests, 0 to 1, above which server errors (5xx) are too many."),
    ] = None
    p99_latency_ms: Annotated[
        float | None,
        Field(
            gt=0,
            lt=60000,
            description="Milliseconds above which the slowest hundredth of the answers is too slow: SageMaker breaks "
            "a request off after 60 seconds.",
        ),
    ] = None
    custom: Annotated[CustomAlarm | None, Field(description="An alarm on any other metric.")] = None
    period_seconds: Annotated[
        int,
        Field(
            ge=60,
            le=3600,
            multiple_of=60,
            description="The time of one value: 60 to 3600 seconds in whole minutes; SageMaker sends one a minute.",
        ),
    ] = 60
    periods: Annotated[
        int, Field(ge=1, le=24, description="How many periods in a row must be bad before the alarm is raised.")
    ] = 1
    go_back: Annotated[
        bool | None,
        Field(
            description="Whether an alarm that is raised when a version serves already rejects it and brings back the "
            "one that served before; null: for prod and champion."
        ),
    ] = None
    hold_minutes: Annotated[
        int,
        Field(
            ge=0,
            le=10080,
            description="For how many minutes after going back by itself, at an alarm or at failed endpoint tests, the "
            "endpoint does not do so again: people are told instead.",
        ),
    ] = 60

    @model_validator(mode="after")
    def _says_something(self) -> Alarms:
        if not self.specs:
            raise ValueError("none of error_share, p99_latency_ms and custom is set: set one, or write alarms: off")
        return self

    @property
    def p99_latency_microseconds(self) -> float | None:
        """ModelLatency is in microseconds ("Monitor SageMaker with CloudWatch")."""
        return None if self.p99_latency_ms is None else self.p99_latency_ms * 1000

    @property
    def seconds_until_raised(self) -> int:
        """How long something must be bad before the alarm is raised."""
        return self.period_seconds * self.periods

    @property
    def specs(self) -> list[AlarmSpec]:
        """At most three; SageMaker takes ten for a roll-back."""
        found = []
        if self.error_share is not None:
            # 0 or 1 for each request, so that the average is the share
            found.append(_own_metric("errors", "Invocation5XXErrors", "Average", float(self.error_share)))
        if self.p99_latency_microseconds is not None:
            found.append(_own_metric("latency", "ModelLatency", "p99", float(self.p99_latency_microseconds)))
        if self.custom is not None:
            one = self.custom
            found.append(
                AlarmSpec(
                    kind="custom",
                    namespace=one.namespace,
                    metric=one.metric,
                    statistic=one.statistic,
                    threshold=float(one.threshold),
                    comparison=one.comparison,
                    dimensions=one.dimensions,
                )
            )
        return found


def _own_metric(kind: Literal["errors", "latency"], metric: str, statistic: str, threshold: float) -> AlarmSpec:
    return AlarmSpec(kind, "AWS/SageMaker", metric, statistic, threshold, "GreaterThanThreshold", None)


# --- data capture ---------------------------------------------------------------------------------------------------

ContentType = Annotated[
    str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9.+])*/[a-zA-Z0-9](-*[a-zA-Z0-9.+])*$", max_length=256)
]


class DataCapture(Section):
    """Requests and answers kept in S3, to find out later what was asked."""

    percent: Annotated[int, Field(ge=1, le=100, description="The share of the requests that is kept, 1 to 100.")] = 100
    content_types: Annotated[
        list[ContentType],
        Field(
            max_length=10,
            description="CSV and JSON media types that are kept as text; all others are kept in base64 without a word "
            "here.",
        ),
    ] = ["text/csv", "application/json"]
    capture: Annotated[
        list[Literal["input", "output"]],
        Field(min_length=1, max_length=2, description="input (requests), output (answers), or both."),
    ] = ["input", "output"]

    @field_validator("content_types")
    @classmethod
    def _content_types_are_text(cls, found: list[str]) -> list[str]:
        for name in found:
            if "csv" not in name and "json" not in name:
                raise ValueError(f"SageMaker keeps {name} in base64 whatever is said here: list CSV and JSON alone")
        return found

    @property
    def csv_content_types(self) -> list[str]:
        """CaptureContentTypeHeader.CsvContentTypes."""
        return [name for name in self.content_types if "csv" in name]

    @property
    def json_content_types(self) -> list[str]:
        """CaptureContentTypeHeader.JsonContentTypes."""
        return [name for name in self.content_types if "csv" not in name]

    @property
    def capture_modes(self) -> list[dict[str, str]]:
        """CaptureOptions."""
        return [{"CaptureMode": name.capitalize()} for name in self.capture]


class EndpointTests(Section):
    """The version's tests/endpoint/*.yaml, again and again while it serves."""

    every_minutes: Annotated[
        int,
        Field(
            ge=5,
            le=1440,
            description="How often, in minutes, 5 to 1440: every run asks the endpoint what callers ask it, and a load "
            "in tests/endpoint/ is sent every time.",
        ),
    ]


# --- parking and cleaning up ----------------------------------------------------------------------------------------

# Where nobody is served: an endpoint there may go, and old versions and pipelines of the first.
PARKED_STAGES, CLEANED_STAGE = ("feature", "dev"), "feature"
PARK_HOUR, PARK_DAY = 20, "FRI"


def _park_by_name(value: Any) -> Any:
    """`nightly` alone, and the defaults of what is said by the clock: with idle_hours they would do nothing."""
    value = {"at": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or value.get("at") is None:
        return value
    given = {name: each for name, each in value.items() if each is not None}
    day = {"day": PARK_DAY} if given["at"] == "weekly" else {}
    return {"hour": PARK_HOUR, "timezone": "UTC", **day, **given}


class Park(Section):
    """When an endpoint is deleted until something is approved again: at a time of the clock, or when nobody asks it."""

    at: Annotated[
        Literal["nightly", "weekly"] | None, Field(description="nightly: every day at `hour`; weekly: on `day`.")
    ] = None
    hour: Annotated[
        int | None, Field(ge=0, le=23, description=f"With `at`: the hour, 0 to 23, {PARK_HOUR} if nothing is said.")
    ] = None
    timezone: Annotated[
        str | None,
        Field(max_length=50, description="Of that hour, as in Europe/Berlin, UTC if nothing is said."),
    ] = None
    day: Annotated[
        Literal["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"] | None,
        Field(description=f"With `at: weekly`: the day, {PARK_DAY} if nothing is said."),
    ] = None
    idle_hours: Annotated[
        int | None,
        Field(ge=1, le=336, description="Instead of `at`: after so many hours, 1 to 336, in which nobody asked it."),
    ] = None

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str | None) -> str | None:
        return name if name is None else check_timezone(name)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Park:
        if (self.at is None) == (self.idle_hours is None):
            raise ValueError("say either at (nightly, weekly) or idle_hours: write park: nightly, or {idle_hours: 3}")
        if self.idle_hours is not None and (self.hour, self.day, self.timezone) != (None, None, None):
            raise ValueError("hour, day and timezone belong to at, and do nothing with idle_hours: remove them")
        if self.at == "nightly" and self.day is not None:
            raise ValueError("day belongs to weekly, and does nothing with nightly: remove it, or write at: weekly")
        return self


class Clean(Section):
    """What is removed of the stage feature when it is old; see docs/lifecycle.md of Modelyard, "Cleaning up"."""

    versions_after_days: Annotated[
        int | None,
        Field(
            ge=30,
            le=3650,
            description="Versions that nothing needs go when they are older, with their model and evaluation: 30 to "
            "3650 days, since a pipeline may take over what it computed up to 30 days ago; null: never.",
        ),
    ] = 30
    pipelines_after_days: Annotated[
        int | None,
        Field(
            ge=1,
            le=3650,
            description="Pipelines whose branch is gone go when they were not run or changed for longer: 1 to 3650 "
            "days; null: never. Branches are known of a repository that Modelyard made (CodeCommit, GitHub); of any "
            "other one, as on GitLab, all pipelines stay.",
        ),
    ] = 14

    @model_validator(mode="after")
    def _removes_something(self) -> Clean:
        if self.versions_after_days is None and self.pipelines_after_days is None:
            raise ValueError("nothing would ever be removed: set one of them, or write clean: off")
        return self


ParkField = Annotated[
    Annotated[Park, BeforeValidator(_park_by_name)] | None,
    BeforeValidator(_off_is_none, json_schema_input_type=Literal["nightly", "weekly", "off", False] | Park | None),
    Field(
        description="feature and dev only: when the endpoint is deleted until something is approved again: nightly, "
        "weekly, {at: nightly, hour: 20, timezone: Europe/Berlin} or {idle_hours: 3}; off: never."
    ),
]
CleanField = Annotated[
    Clean | None,
    BeforeValidator(_off_is_none, json_schema_input_type=Clean | Literal["off", False] | None),
    Field(
        description="feature only: what goes by age, {versions_after_days: 30, pipelines_after_days: 14}; the newest "
        "registered version's counts for the project; off: nothing."
    ),
]


# --- the kinds ------------------------------------------------------------------------------------------------------


class _Endpoint(Section):
    """What both kinds of endpoints have."""

    environment: Environment = {}
    alarms: Annotated[
        Alarms | None,
        BeforeValidator(_off_is_none, json_schema_input_type=Alarms | Literal["off", False] | None),
        Field(
            description="What goes wrong: an update is rolled back at it (real_time), people are told of it at any "
            "time, and what serves goes back (go_back); off: nothing is watched."
        ),
    ] = None
    dashboard: Dashboard = True
    tests: Annotated[
        EndpointTests | None,
        BeforeValidator(_off_is_none, json_schema_input_type=EndpointTests | Literal["off", False] | None),
        Field(
            description="How often tests/endpoint/ is run while the version serves; off: only after each deployment. "
            "What a failure means is said there (on_failure)."
        ),
    ] = None
    park: ParkField = None
    clean: CleanField = None
    replace: Replace = False
    approval: Approval = "manual"

    @field_validator("environment")
    @classmethod
    def _the_program_is_the_versions(cls, environment: dict[str, str]) -> dict[str, str]:
        return _without_reserved(environment)

    @model_validator(mode="after")
    def _tests_are_requests(self) -> _Endpoint:
        if self.tests is not None and self.park is not None and self.park.idle_hours is not None:
            raise ValueError(
                f"tests.every_minutes {self.tests.every_minutes} asks the endpoint all the time, so that it is never "
                "idle for park.idle_hours: set tests to off, or park to nightly or weekly"
            )
        return self


class RealTime(_Endpoint):
    """An endpoint on instances that always run."""

    kind: Literal["real_time"]
    instance_type: Annotated[InstanceType, Field(description="The SageMaker instance type, as in ml.m5.large.")]
    instance_count: Annotated[
        InstanceCount,
        Field(
            description="How many instances, 1 to 100; by default 2 for prod and champion, in two Availability Zones, "
            "else 1, and always within scaling's bounds. With scaling: how many at the start.",
            json_schema_extra=_without_default,
        ),
    ] = 1
    scaling: Annotated[
        Scaling | None,
        BeforeValidator(_off_is_none, json_schema_input_type=Scaling | Literal["off", False] | None),
        Field(description="Target tracking between two numbers of instances; off: always instance_count."),
    ] = None
    rollout: Rollout = Field(default="all_at_once", validate_default=True)
    data_capture: Annotated[
        DataCapture | None,
        BeforeValidator(_off_is_none, json_schema_input_type=DataCapture | Literal["off", False] | None),
        Field(description="Requests and answers kept in S3 for later questions; off: none."),
    ] = None
    vpc: Annotated[Vpc | None, Field(description="The VPC that the containers are in; null: SageMaker's own.")] = None
    kms_key: KmsKey = None
    network_isolation: NetworkIsolation = False

    @property
    def smallest_fleet(self) -> int:
        """The fewest instances that the endpoint can have when it is updated."""
        return self.scaling.min if self.scaling else self.instance_count

    @property
    def largest_fleet(self) -> int:
        """The most instances that serve, not counting those of an update."""
        return self.scaling.max if self.scaling else self.instance_count

    @model_validator(mode="after")
    def _count_is_within_the_bounds(self) -> RealTime:
        if self.scaling and not self.scaling.min <= self.instance_count <= self.scaling.max:
            raise ValueError(
                f"instance_count {self.instance_count} is not within scaling's {self.scaling.min} to "
                f"{self.scaling.max}: correct one of them"
            )
        return self

    @model_validator(mode="after")
    def _rollout_suits_the_fleet(self) -> RealTime:
        kind, fleet = self.rollout.type, self.smallest_fleet
        size = self.rollout.size if isinstance(self.rollout, Canary) else None
        size = self.rollout.step if isinstance(self.rollout, Linear) else size
        if size is None:
            return self
        if fleet < 2:
            raise ValueError(
                f"rollout {kind} moves at most half of the fleet at once, and the fleet can be of 1 instance: set "
                f"{'scaling.min' if self.scaling else 'instance_count'} to 2 at least, or rollout to all_at_once"
            )
        if isinstance(size, int) and size > fleet / 2:
            raise ValueError(
                f"rollout {kind} of {size} instances is more than half of the fleet, which can be of {fleet}: "
                f"SageMaker takes at most half: lower it to {fleet // 2}"
            )
        if isinstance(self.rollout, Linear) and isinstance(size, int) and size < self.largest_fleet / 10:
            raise ValueError(
                f"rollout linear in steps of {size} instances is less than a tenth of the fleet, which can be of "
                f"{self.largest_fleet}: SageMaker takes 10% to 50%: raise it to {math.ceil(self.largest_fleet / 10)}"
            )
        return self

    @model_validator(mode="after")
    def _rollout_ends_in_time(self) -> RealTime:
        if self.rollout.maximum_execution_seconds > LONGEST_DEPLOYMENT_SECONDS:
            raise ValueError(
                f"rollout {self.rollout.type} watches for {self.rollout.bake_seconds / 60:g} minutes in all, and with "
                f"{STARTING_SECONDS // 60} minutes for starting instances that is more than the "
                f"{LONGEST_DEPLOYMENT_SECONDS // 60} minutes that SageMaker gives a deployment: shorten bake_minutes, "
                "or take larger steps"
            )
        return self

    @model_validator(mode="after")
    def _key_suits_the_instances(self) -> RealTime:
        _check_local_storage(self.kms_key, self.instance_type)
        return self


class Serverless(_Endpoint):
    """An endpoint without instances: it is paid by use, and its first answer after a pause is slow."""

    kind: Literal["serverless"]
    memory_mb: Annotated[
        Literal[1024, 2048, 3072, 4096, 5120, 6144],
        Field(description="Memory in MB: SageMaker gives 1024 to 6144, in steps of 1024."),
    ] = 2048
    max_concurrency: Annotated[
        int, Field(ge=1, le=200, description="How many requests at a time, 1 to 200; further ones are refused.")
    ] = 5
    provisioned_concurrency: Annotated[
        int | None,
        Field(
            ge=1,
            le=200,
            description="How many of them are kept ready, and paid for all the time, 1 to max_concurrency; null: none.",
        ),
    ] = None
    scaling: Annotated[
        ConcurrencyScaling | None,
        BeforeValidator(_off_is_none, json_schema_input_type=ConcurrencyScaling | Literal["off", False] | None),
        Field(description="Target tracking between two numbers of provisioned concurrency; off: always the same."),
    ] = None

    @property
    def config(self) -> dict[str, int]:
        """AWS's ServerlessConfig."""
        found = {"MemorySizeInMB": int(self.memory_mb), "MaxConcurrency": self.max_concurrency}
        if self.provisioned_concurrency is not None:
            found["ProvisionedConcurrency"] = self.provisioned_concurrency
        return found

    @model_validator(mode="after")
    def _concurrency_is_in_order(self) -> Serverless:
        ready = self.provisioned_concurrency
        if ready is not None and ready > self.max_concurrency:
            raise ValueError(
                f"provisioned_concurrency {ready} is more than max_concurrency {self.max_concurrency}: SageMaker keeps "
                "at most max_concurrency ready: lower it, or raise max_concurrency"
            )
        if self.scaling is None:
            return self
        if ready is None:
            raise ValueError("scaling changes provisioned_concurrency, and none is set: set it, or scaling to off")
        if not self.scaling.min <= ready <= self.scaling.max:
            raise ValueError(
                f"provisioned_concurrency {ready} is not within scaling's {self.scaling.min} to {self.scaling.max}: "
                "correct one of them"
            )
        if self.scaling.max > self.max_concurrency:
            raise ValueError(
                f"scaling.max {self.scaling.max} is more than max_concurrency {self.max_concurrency}: lower it, or "
                "raise max_concurrency"
            )
        return self


class Batch(Section):
    """No endpoint: a transform job on a schedule."""

    kind: Literal["batch"]
    instance_type: Annotated[InstanceType, Field(description="The SageMaker instance type, as in ml.m5.large.")]
    instance_count: Annotated[
        InstanceCount, Field(description="How many instances share the files of a run, 1 to 100.")
    ] = 1
    schedule: Annotated[
        str,
        Field(
            max_length=256,
            description="When it runs, as EventBridge Scheduler takes it: rate(1 day), or cron(0 6 ? * MON-FRI *): "
            "minutes, hours, day of the month, month, day of the week, year, one of the two days as ?.",
        ),
    ]
    timezone: Annotated[
        str, Field(max_length=50, description="Of a cron schedule, as in Europe/Berlin; summer time is kept.")
    ] = "UTC"
    input: Annotated[
        S3Uri, Field(description="What is predicted: an object, or all below a prefix (s3://bucket/new/).")
    ]
    output: Annotated[
        S3Uri, Field(description="Where the answers go: below this prefix, each run's below a prefix of its own.")
    ]
    content_type: Annotated[ContentType, Field(description="The media type of the input.")] = "text/csv"
    accept: Annotated[
        ContentType | None, Field(description="The media type of the answers; null: that of the input.")
    ] = None
    split: Annotated[
        Literal["line", "none"],
        Field(
            description="line: every line is a record, and the files have no header line, since only the first piece "
            "of a file would have it; none: a file is sent whole, and must fit in max_payload_mb."
        ),
    ] = "line"
    max_payload_mb: Annotated[
        int, Field(ge=1, le=100, description="The size of a request in MB, 1 to 100; SageMaker's own default is 6.")
    ] = 6
    join_input: Annotated[
        bool, Field(description="true: every answer stands behind its record, in one line; needs split: line.")
    ] = False
    environment: Environment = {}
    vpc: Annotated[Vpc | None, Field(description="The VPC that the containers are in; null: SageMaker's own.")] = None
    kms_key: KmsKey = None
    network_isolation: NetworkIsolation = False
    clean: CleanField = None
    replace: Replace = False
    approval: Approval = "manual"

    @property
    def answer_type(self) -> str:
        """TransformOutput.Accept."""
        return self.accept or self.content_type

    @property
    def split_type(self) -> str:
        """TransformInput.SplitType."""
        return self.split.capitalize()

    @property
    def assemble_with(self) -> str:
        """TransformOutput.AssembleWith."""
        return self.split.capitalize()

    @field_validator("environment")
    @classmethod
    def _the_program_is_the_versions(cls, environment: dict[str, str]) -> dict[str, str]:
        return _without_reserved(environment)

    @field_validator("schedule")
    @classmethod
    def _schedule_is_readable(cls, text: str) -> str:
        check_schedule(text)
        return text

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, name: str) -> str:
        return check_timezone(name)

    @model_validator(mode="after")
    def _lines_are_records(self) -> Batch:
        if self.split == "line" and self.content_type not in LINES:
            raise ValueError(
                f"split: line needs a content_type of which every line is a record ({', '.join(LINES)}), and "
                f"{self.content_type} is none: set split to none"
            )
        if self.join_input and (self.split != "line" or self.answer_type != self.content_type):
            raise ValueError(
                "join_input writes record and answer as one line, for which split must be line and accept the same as "
                "content_type: correct them, or set join_input to false"
            )
        return self

    @model_validator(mode="after")
    def _output_is_no_input(self) -> Batch:
        source, target = (f"{uri.rstrip('/')}/" for uri in (self.input, self.output))
        if target.startswith(source):
            raise ValueError(f"output lies below input ({self.input}): the next run would predict the answers too")
        return self

    @model_validator(mode="after")
    def _key_suits_the_instances(self) -> Batch:
        _check_local_storage(self.kms_key, self.instance_type)
        return self


# What a stage file is, checked. Later kinds (asynchronous, multi_model) come in here, in KINDS and in NOT_HERE.
StageFile: TypeAlias = RealTime | Serverless | Batch
KINDS: dict[str, type[RealTime] | type[Serverless] | type[Batch]] = {
    "real_time": RealTime,
    "serverless": Serverless,
    "batch": Batch,
}
NOT_BUILT_YET = ("asynchronous", "multi_model")
# Why a kind has not what others have.
NOT_HERE = {
    "serverless": {
        "vpc": "SageMaker's serverless endpoints cannot be in a VPC",
        "network_isolation": "SageMaker's serverless endpoints have no network isolation",
        "data_capture": "SageMaker's serverless endpoints cannot capture data",
        "rollout": "SageMaker has no canary, linear or baking updates of serverless endpoints",
        "kms_key": "a serverless endpoint has no volume, and captures nothing",
        "instance_type": "a serverless endpoint has no instances",
        "instance_count": "a serverless endpoint has no instances: see max_concurrency",
    },
    "real_time": dict.fromkeys(
        ("memory_mb", "max_concurrency", "provisioned_concurrency"), "that is for kind: serverless"
    ),
    "batch": {
        **dict.fromkeys(
            ("rollout", "scaling", "alarms", "data_capture", "dashboard", "park"), "a batch stage has no endpoint"
        ),
        "tests": "a batch stage is tested when it is deployed; nothing answers between its runs",
    },
}
NO_ROLE = (
    "a stage file cannot name a role: who may push to this repository would choose what the model may do. The role is "
    "chosen by the tag modelyard:model-role of the stage's model package group: remove it here"
)


def parse(content: Any, stage: str) -> StageFile:
    """A stage file's content (of YAML or JSON, or what `dump` made) with all defaults, those of the stage included.

    Raises StageFileError with every fault that can be told.
    """
    if not isinstance(content, dict):
        raise StageFileError([f"it must hold fields (name: value), but is {type(content).__name__}: restore it"])
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise StageFileError([_kind_fault(content, kind)])
    model = KINDS[kind]
    if model is RealTime and "instance_count" not in content:
        content = {**content, "instance_count": _default_count(content.get("scaling"), stage)}
    try:
        stage_file = model.model_validate(content)
    except ValidationError as error:
        raise StageFileError([_fault_line(model, kind, fault) for fault in error.errors()]) from None
    if faults := list(_faults_of_the_stage(stage_file, stage)):
        raise StageFileError(faults)
    return stage_file


def _faults_of_the_stage(stage_file: StageFile, stage: str) -> Iterator[str]:
    """What only some stages may say."""
    if not isinstance(stage_file, Batch) and stage_file.park is not None and stage not in PARKED_STAGES:
        yield f"park: {stage} serves users, and its endpoint is not parked by a clock: remove it (only feature and dev)"
    if stage_file.clean is not None and stage != CLEANED_STAGE:
        yield f"clean: only versions and pipelines of feature go by age: move it to {CLEANED_STAGE}.yaml"


def dump(stage_file: StageFile) -> dict[str, Any]:
    """As JSON, with all defaults; `parse` reads it back as the same."""
    return stage_file.model_dump(mode="json")


def with_capacity_of(stage_file: StageFile, serving: StageFile) -> StageFile:
    """The stage file with instance type, count and scaling (or memory and concurrency) of what serves now.

    For going back to an older version. A rollout that such a fleet cannot have becomes all_at_once: going back must
    not fail at it. Of another kind nothing is kept, and it replaces what serves: that was rejected, so it has to go in
    any case, or a person asked for the older version.
    """
    if isinstance(stage_file, RealTime) and isinstance(serving, RealTime):
        kept = ["instance_type", "instance_count", "scaling"]
    elif isinstance(stage_file, Serverless) and isinstance(serving, Serverless):
        kept = ["memory_mb", "max_concurrency", "provisioned_concurrency", "scaling"]
    elif isinstance(stage_file, Batch) and isinstance(serving, Batch):
        kept = ["instance_type", "instance_count"]
    else:
        return stage_file.model_copy(update={"replace": True})
    now = dump(serving)
    content = {**dump(stage_file), **{name: now[name] for name in kept}}
    if isinstance(stage_file, RealTime) and isinstance(serving, RealTime):
        # SageMaker refuses a key of one's own for volumes that the instances encrypt by themselves
        content["kms_key"] = None if has_local_storage(serving.instance_type) else content["kms_key"]
    try:
        return type(stage_file).model_validate(content)
    except ValidationError:
        return type(stage_file).model_validate({**content, "rollout": "all_at_once"})


def warnings(stage_file: StageFile, stage: str) -> list[str]:
    """What SageMaker takes but may not be meant, one text each."""
    found = []
    if stage_file.approval == "automatic" and stage in SERVING_STAGES:
        found.append(f"approval: automatic: whatever is registered for {stage} is served to users, seen by nobody")
    if stage_file.replace:
        found.append("replace: true: an endpoint of another kind is deleted before this one is made: an outage")
    if isinstance(stage_file, RealTime):
        found += _real_time_warnings(stage_file, stage)
    if isinstance(stage_file, Serverless) and stage in SERVING_STAGES and stage_file.provisioned_concurrency is None:
        found.append("provisioned_concurrency is not set: the first answer after a pause takes seconds")
    return found


def _real_time_warnings(stage_file: RealTime, stage: str) -> Iterator[str]:
    fleet, rollout, alarms = stage_file.largest_fleet, stage_file.rollout, stage_file.alarms
    if stage in SERVING_STAGES and stage_file.smallest_fleet < 2:
        yield f"{stage} can be on one instance: when that one fails, or its Availability Zone, nothing answers"
    if stage_file.vpc and len(stage_file.vpc.subnets) == 1 and stage_file.smallest_fleet > 1:
        yield "vpc names one subnet, and so one Availability Zone: when that fails, nothing answers"
    if 2 * fleet > DEFAULT_INSTANCE_QUOTA:
        yield (
            f"an update of {fleet} instances starts as many new ones before the old ones go, {2 * fleet} in all: the "
            f"quota of instances per endpoint is {DEFAULT_INSTANCE_QUOTA} unless it was raised (Service Quotas)"
        )
    if alarms is None and not isinstance(rollout, AllAtOnce):
        yield f"rollout {rollout.type} without alarms: nothing can roll a bad version back while it is tried"
    if alarms is not None and rollout.bake_seconds == 0:
        yield "alarms without bake times: a bad version is not rolled back, since nobody waits (finish_bake_minutes)"
    if alarms is not None and 0 < rollout.bake_seconds < alarms.seconds_until_raised:
        yield (
            f"the alarms need {alarms.seconds_until_raised} s to be raised, and the rollout watches for "
            f"{rollout.bake_seconds} s: a bad version is not rolled back"
        )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of stage files, for editors; `python -m pipeline schema` prints it."""
    found = TypeAdapter(Annotated[RealTime | Serverless | Batch, Field(discriminator="kind")]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(found)}


def _plain(schema: Any) -> Any:
    """Without the titles, which repeat the names, and OpenAPI's discriminators, which are no JSON Schema."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _plain(value)
        for name, value in schema.items()
        if name != "discriminator" and not (name == "title" and isinstance(value, str))
    }


def check_timezone(name: str) -> str:
    """The name. Raises ValueError for one that no time zone has."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # a system without the time zones' files knows none but cannot say that this one is wrong
        if zoneinfo.available_timezones() or not re.fullmatch(r"[A-Za-z0-9_+/-]+", name):
            raise ValueError(f"there is no time zone {name!r}: write one as in Europe/Berlin, or UTC") from None
    return name


def check_schedule(text: str) -> None:
    """Raises ValueError unless EventBridge Scheduler takes it as a repeated schedule.

    Source: EventBridge Scheduler user guide, "Schedule types".
    """
    if text.startswith("at("):
        raise ValueError(f"{text!r} would run once alone: write rate(...) or cron(...)")
    rate = re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)s?\)", text)
    cron = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", text)
    if (rate is None and cron is None) or not text.isascii():
        raise ValueError(
            f"{text!r} is no schedule: write rate(1 day), or cron(0 6 ? * MON-FRI *) with six fields: minutes, hours, "
            "day of the month, month, day of the week, year"
        )
    if cron is None:
        return
    for field, value in zip(CRON_FIELDS, cron.groups(), strict=True):
        if not all(field.takes(item) for item in value.split(",")):
            raise ValueError(f"{text!r}: {value!r} is not allowed for the {field.name}: {field.rule}")
    if (cron[3] == "?") == (cron[5] == "?"):
        raise ValueError(
            f"{text!r}: exactly one of day of the month and day of the week must be ?, as in cron(0 6 ? * MON-FRI *)"
        )


@dataclass(frozen=True)
class CronField:
    """One of the six fields; names stand for numbers from `lowest` on; extra: what else it takes (pattern)."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    extra: str | None = None

    @property
    def rule(self) -> str:
        named = f", {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"write {self.lowest} to {self.highest}{named}, *, or several with , - and /"

    def takes(self, item: str) -> bool:
        if item == "*" or (self.extra is not None and re.fullmatch(self.extra, item)):
            return True
        start, slash, step = item.partition("/")
        if slash and not (step.isdecimal() and int(step) > 0):
            return False
        if start == "*":
            return True
        texts = start.split("-")
        bounds = [number for text in texts if (number := self._number(text)) is not None]
        return len(bounds) == len(texts) <= 2 and bounds == sorted(bounds)

    def _number(self, text: str) -> int | None:
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.lowest
        return int(text) if text.isdecimal() and self.lowest <= int(text) <= self.highest else None


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
CRON_FIELDS = (
    CronField("minutes", 0, 59),
    CronField("hours", 0, 23),
    CronField("day of the month", 1, 31, extra=r"\?|L|LW|(3[01]|[12]?\d)W"),
    CronField("month", 1, 12, MONTHS),
    CronField("day of the week", 1, 7, DAYS, extra=r"\?|L|([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(L|#[1-5])"),
    CronField("year", 1970, 2199),
)


def has_local_storage(instance_type: str) -> bool:
    """Whether the instances have disks of their own, which their hardware encrypts.

    Families with a d (m5d, g4dn, p4d) and g5, g6. Source: CreateEndpointConfig, KmsKeyId.
    """
    family = instance_type.split(".")[1]
    return bool(re.fullmatch(r"[a-z]+\d+[a-z]*d[a-z]*|g5|g6e?", family))


def _check_local_storage(kms_key: str | None, instance_type: str) -> None:
    if kms_key is not None and has_local_storage(instance_type):
        raise ValueError(
            f"kms_key: {instance_type} has disks of its own, which its hardware encrypts, and SageMaker takes no key "
            "for them: remove kms_key, or choose an instance type without (ml.m5.large)"
        )


def _without_reserved(environment: dict[str, str]) -> dict[str, str]:
    for name in RESERVED_VARIABLES:
        if name in environment:
            raise ValueError(f"{name} is the version's own, and another one would serve another program: remove it")
    return environment


def _default_count(scaling: Any, stage: str) -> int:
    count = 2 if stage in SERVING_STAGES else 1
    if isinstance(scaling, dict):
        lowest, highest = scaling.get("min"), scaling.get("max")
        count = max(count, lowest) if type(lowest) is int else count
        count = min(count, highest) if type(highest) is int and highest >= 1 else count
    return count


def _kind_fault(content: dict[str, Any], kind: Any) -> str:
    known = ", ".join(KINDS)
    if "kind" not in content:
        return f"kind: the field is missing: add it ({known})"
    if kind in NOT_BUILT_YET:
        return f"kind: {kind} is not built yet: choose one of {known}"
    return f"kind: {_shown(kind)} is none: choose one of {known}{_nearest(str(kind), list(KINDS))}"


def _fault_line(model: type[Section], kind: str, fault: Any) -> str:
    """One of pydantic's errors as: field, fault, remedy or limit."""
    place = [part for index, part in enumerate(fault["loc"]) if not (index and part in ROLLOUTS)]
    section, field = _at(model, fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"])
    name = ".".join(map(str, place))
    return f"{name}: {_fault_text(section, field, kind, fault)}" if name else _fault_text(section, field, kind, fault)


def _fault_text(section: type[BaseModel], field: FieldInfo | None, kind: str, fault: Any) -> str:
    name = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        if re.search(r"(^|_)role(_|$)", name.lower()):
            return NO_ROLE
        if len(fault["loc"]) == 1 and name in NOT_HERE[kind]:
            return f"{NOT_HERE[kind][name]}: remove it, or choose another kind"
        known = list(section.model_fields)
        return f"there is no such field{_nearest(name, known)}: correct or remove it (known here: {', '.join(known)})"
    if fault["type"] == "missing":
        return f"the field is missing: add it. {field.description if field else ''}".rstrip()
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = fault["input"].get("type") if isinstance(fault["input"], dict) else fault["input"]
        return f"{_shown(given)} is no type of rollout: choose one of {', '.join(ROLLOUTS)}"
    reason = "" if field is None or not field.description else f": {field.description}"
    if fault["type"] == "string_pattern_mismatch" and reason:
        return f"{_shown(fault['input'])} is not allowed{reason}"
    message = re.sub(r"^(Input|String|Value|List|Dictionary) should", "must", fault["msg"])
    return f"{_shown(fault['input'])} is not allowed: it {message}{reason}"


def _shown(value: Any) -> str:
    """The value as a message shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def _at(model: type[BaseModel], place: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The section and the field at `place`; parts that name no field (list items, keys) stay with theirs."""
    section: type[BaseModel] = model
    field: FieldInfo | None = None
    for part in place:
        if part in ROLLOUTS:
            section = ROLLOUTS[str(part)]
        elif str(part) in section.model_fields:
            field = section.model_fields[str(part)]
            section = _section(field.annotation) or section
    return section, field


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)
