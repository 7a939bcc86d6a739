"""The sections `park` and `clean` of a stage file: what they take, for which stages, what an editor says of them."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from lifecycle_lambdas import stage_schema
from lifecycle_lambdas.stage_schema import StageFileError, dump, parse

REAL_TIME = {"kind": "real_time", "instance_type": "ml.m5.large"}
SERVERLESS = {"kind": "serverless"}
BATCH = {
    "kind": "batch",
    "instance_type": "ml.m5.large",
    "schedule": "rate(1 day)",
    "input": "s3://bucket/new/",
    "output": "s3://bucket/answers/",
}
EDITOR = jsonschema.Draft202012Validator(stage_schema.json_schema())
AT = {"at": "nightly", "hour": 20, "timezone": "UTC", "day": None, "idle_hours": None}


@pytest.mark.parametrize("kind", [REAL_TIME, SERVERLESS])
@pytest.mark.parametrize("stage", ["feature", "dev"])
@pytest.mark.parametrize(
    ("park", "meant"),
    [
        ("nightly", AT),
        ("weekly", {**AT, "at": "weekly", "day": "FRI"}),
        ({"at": "nightly", "hour": 0, "timezone": "Europe/Berlin"}, {**AT, "hour": 0, "timezone": "Europe/Berlin"}),
        ({"at": "weekly", "day": "SUN"}, {**AT, "at": "weekly", "day": "SUN"}),
        ({"idle_hours": 3}, {**dict.fromkeys(AT), "idle_hours": 3}),
        ("off", None),
        (False, None),
        (None, None),
    ],
)
def test_an_endpoint_is_parked_as_the_field_says_and_what_is_written_down_says_the_same(kind, stage, park, meant):
    content = {**kind, "park": park}
    stage_file = parse(content, stage)
    assert dump(stage_file)["park"] == meant
    assert parse(dump(stage_file), stage) == stage_file
    EDITOR.validate(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"park": "daily"}, "^park.at: 'daily' is not allowed: it must be 'nightly' or 'weekly'"),
        ({"park": {}}, r"^park: say either at \(nightly, weekly\) or idle_hours"),
        ({"park": {"at": "nightly", "idle_hours": 3}}, "^park: say either at"),
        ({"park": {"idle_hours": 3, "hour": 20}}, "^park: hour, day and timezone belong to at, .* remove them"),
        ({"park": {"at": "nightly", "day": "FRI"}}, "^park: day belongs to weekly"),
        ({"park": {"at": "nightly", "hour": 24}}, "^park.hour: 24 is not allowed"),
        ({"park": {"at": "nightly", "timezone": "Mars"}}, "^park.timezone: there is no time zone 'Mars'"),
        ({"park": {"idle_hours": 0}}, "^park.idle_hours: 0 is not allowed"),
        ({"park": {"idle_hour": 3}}, "^park.idle_hour: there is no such field, did you mean idle_hours"),
        ({"clean": {"versions_after_days": 29}}, "^clean.versions_after_days: 29 is not allowed: .* up to 30 days ago"),
        ({"clean": {"pipelines_after_days": 0}}, "^clean.pipelines_after_days: 0 is not allowed"),
        (
            {"clean": {"versions_after_days": None, "pipelines_after_days": None}},
            "^clean: nothing would ever be removed",
        ),
        ({"clean": {"versions_after_day": 30}}, "there is no such field, did you mean versions_after_days"),
        ({"park": {"idle_hours": 3}, "tests": {"every_minutes": 5}}, "never idle for park.idle_hours"),
    ],
)
def test_what_would_not_do_what_is_meant_is_refused_with_the_remedy(content, message):
    with pytest.raises(StageFileError, match=message):
        parse({**REAL_TIME, **content}, "feature")


@pytest.mark.parametrize("stage", ["prod", "champion", "challenger"])
def test_what_serves_users_is_not_parked(stage):
    with pytest.raises(StageFileError, match=f"^park: {stage} serves users, .* remove it"):
        parse({**REAL_TIME, "park": "nightly"}, stage)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_versions_of_other_stages_than_feature_are_not_cleaned_up(stage):
    with pytest.raises(StageFileError, match=r"^clean: .* move it to feature\.yaml"):
        parse({**REAL_TIME, "clean": {}}, stage)


def test_a_batch_stage_has_no_endpoint_to_park_and_its_versions_go_by_age():
    with pytest.raises(StageFileError, match=r"^park: a batch stage has no endpoint"):
        parse({**BATCH, "park": "nightly"}, "feature")
    content: dict[str, Any] = {**BATCH, "clean": {"pipelines_after_days": None}}
    assert dump(parse(content, "feature"))["clean"] == {"versions_after_days": 30, "pipelines_after_days": None}
    EDITOR.validate(content)
