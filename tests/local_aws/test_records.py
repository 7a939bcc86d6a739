"""A transform job's data: lines, requests, filters, joins, and how a container is asked. Without a job."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.jobs.json_path import NotFound, read_path
from local_aws.jobs.records import (
    CSV,
    JSON,
    JSON_LINES,
    BadRecord,
    Processing,
    assembled,
    batches,
    manifest_objects,
    split_lines,
)
from local_aws.jobs.staging import S3Location
from local_aws.jobs.transform import Settings, TransformPlan, settings_of

ROW = ["id-1", 1, 2, 3]
PERSON = {"id": 7, "features": [1, 2, 3], "name": {"first": "Ada", "last": "L"}}


def processing(
    kind: str, input_filter: str = "$", output_filter: str = "$", join: bool = False, lines: bool = True
) -> Processing:
    return Processing(kind, read_path(input_filter), read_path(output_filter), join, lines)


# JSONPath


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("$", ROW, ROW),
        ("$[0]", ROW, "id-1"),
        ("$[-1]", ROW, 3),
        ("$[1:]", ROW, [1, 2, 3]),
        ("$[:-1]", ROW, ["id-1", 1, 2]),
        ("$[0,2:]", ROW, ["id-1", 2, 3]),
        ("$[0,-1]", ROW, ["id-1", 3]),
        ("$[*]", ROW, ROW),
        ("$.features", PERSON, [1, 2, 3]),
        ("$.features[0:2]", PERSON, [1, 2]),
        ("$['id','features']", PERSON, {"id": 7, "features": [1, 2, 3]}),
        ("$.name.['first', 'last']", PERSON, {"first": "Ada", "last": "L"}),
        ('$["name"].first', PERSON, "Ada"),
        ("$.name.*", PERSON, ["Ada", "L"]),
    ],
)
def test_the_operators_that_aws_documents_select_a_part(path, value, part):
    assert read_path(path).select(value) == part


@pytest.mark.parametrize("path", ["$..name", "$[?(@.id > 1)]", "$[(@.length-1)]", "$[0:4:2]", "$.", "$[]", "$['a',1]"])
def test_other_operators_are_refused_by_name(path):
    with pytest.raises(ValueError, match="which transform jobs do not support"):
        read_path(path)


def test_a_path_begins_with_a_dollar():
    with pytest.raises(ValueError, match=r"'features' is no JSONPath: it must begin with \$"):
        read_path("features")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("$[4]", ROW, "there is no index 4 in an array of 4"),
        ("$[-5]", ROW, "there is no index -5 in an array of 4"),
        ("$.age", PERSON, "there is no 'age' in"),
        ("$[0]", PERSON, "an index needs an array"),
        ("$.a", 3, "there is no 'a' in 3"),
        ("$.*", 3, r"\* needs an object or an array"),
    ],
)
def test_what_is_not_there_is_named(path, value, message):
    with pytest.raises(NotFound, match=message):
        read_path(path).select(value)


# Records and requests


def test_lines_keep_their_line_feeds_and_empty_ones_are_no_records():
    assert list(split_lines(io.BytesIO(b"a\n\nb\r\n  \nc"))) == [b"a\n", b"b\r\n", b"c"]


def test_a_record_larger_than_a_request_may_be_is_refused():
    with pytest.raises(BadRecord, match="Too much data for max payload size: a record has 5 bytes of 4"):
        list(batches([b"abc", b"abcde"], 4, single=False))


@given(st.lists(st.binary(min_size=1, max_size=9)), st.integers(9, 30) | st.none(), st.booleans())
def test_every_record_is_in_one_request_in_order_and_none_is_larger_than_allowed(records, largest, single):
    found = list(batches(records, largest, single))
    assert [record for batch in found for record in batch] == records
    assert all(batch for batch in found)
    if single:
        assert all(len(batch) == 1 for batch in found)
    elif largest is not None:
        assert all(sum(map(len, batch)) <= largest for batch in found)
        for one, following in pairwise(found):  # as many as fit
            assert sum(map(len, one)) + len(following[0]) > largest
    else:
        assert len(found) <= 1


@pytest.mark.parametrize(("lines", "file"), [(False, b"12\n3"), (True, b"1\n2\n3\n")])
def test_answers_are_put_one_after_the_other_or_line_by_line(lines, file):
    assert b"".join(assembled([b"1", b"2\n", b"3"], lines)) == file


# Filters and joins


def test_an_input_filter_hides_columns_from_the_model():
    assert processing(CSV, "$[1:]").request([b"id-1,1,Ulm\n", b'id-2,2,"Bonn, D"']) == b'1,Ulm\n2,"Bonn, D"\n'


def test_without_an_input_filter_the_model_is_sent_the_bytes_as_they_are():
    assert processing(CSV, join=True).request([b'"a" ,1\r\n', b"b,2"]) == b'"a" ,1\r\nb,2'


def test_csv_answers_are_joined_at_the_end_of_their_rows():
    job = processing(CSV, "$[1:]", "$[0,-1]", join=True)
    assert job.answer([b"id-1,1,2\n", b"id-2,3,4\n"], b"0.1,0.9\n0.2,0.8\n") == b"id-1,0.9\nid-2,0.8\n"


def test_one_column_of_csv_is_still_csv():
    assert processing(CSV, output_filter="$[1]").answer([b"1\n", b"2\n"], b"a,b\nc,d\n") == b"b\nd\n"


def test_json_lines_answers_are_joined_as_sagemakeroutput():
    job = processing(JSON_LINES, "$.features", "$['id','SageMakerOutput']", join=True)
    records = [b'{"id": 1, "features": [3], "z": 0}\n', b'{"id": 2, "features": [4]}']
    assert job.request(records) == b"[3]\n[4]\n"
    assert [json.loads(line) for line in job.answer(records, b'{"score": 0.5}\n0.25\n').splitlines()] == [
        {"id": 1, "SageMakerOutput": {"score": 0.5}},
        {"id": 2, "SageMakerOutput": 0.25},
    ]


def test_what_is_no_object_is_joined_as_sagemakerinput_and_sagemakeroutput():
    job = processing(JSON, join=True, lines=False)
    assert json.loads(job.answer([b"[1,2]"], b"0.5")) == {"SageMakerInput": [1, 2], "SageMakerOutput": 0.5}


def test_an_answer_for_each_record_or_none():
    with pytest.raises(BadRecord, match="the model answered 2 records with 1; each needs one answer"):
        processing(CSV, join=True).answer([b"1\n", b"2\n"], b"0.5\n")


@pytest.mark.parametrize(
    ("job", "record", "message"),
    [
        (processing(JSON_LINES, "$.a"), b"{a}", "a record is no application/jsonlines"),
        (processing(JSON_LINES, "$.a"), b"[" * 100_000, "a record is no application/jsonlines"),
        (processing(CSV, "$[0]"), b"\xff", "a record is no text/csv"),
        (processing(CSV, "$[0]"), b'"a', "a record is no text/csv"),
        (processing(CSV, "$[3]"), b"1,2", r"\$\[3\]: there is no index 3 in an array of 2"),
    ],
)
def test_a_record_that_cannot_be_read_or_filtered_is_named(job, record, message):
    with pytest.raises(BadRecord, match=message):
        job.request([record])


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=5), min_size=1, max_size=5))
def test_any_cell_of_a_csv_line_comes_through_filter_and_join(rows):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    records = [line.encode() + b"\n" for line in stream.getvalue().split("\n")[:-1]]
    answer = b"".join(b"0.%d\n" % number for number in range(len(records)))
    joined = processing(CSV, join=True).answer(records, answer).decode()
    found = list(csv.reader(io.StringIO(joined, newline="")))
    assert found == [[*row, f"0.{number}"] for number, row in enumerate(rows)]


# Manifests


def test_a_manifest_names_objects_below_a_prefix():
    named = manifest_objects(b'[{"prefix": "s3://b/p/"}, "a.csv", "c/d.csv"]')
    assert (named.prefix, named.paths) == ("s3://b/p/", ["a.csv", "c/d.csv"])


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b'["a"]', b'[{"prefix": 1}]', b'[{"prefix": "s3://b/"}, 1]', b"nothing"]
)
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ValueError, match=r"a manifest is|is no path|Expecting value"):
        manifest_objects(text)


def test_a_manifest_does_not_lead_out_of_its_prefix():
    with pytest.raises(ValueError, match=r"'\.\./x' is no path below the manifest's prefix"):
        manifest_objects(b'[{"prefix": "s3://b/p/"}, "../x"]')


# How a container is asked


def plan(concurrency: int | None = None, payload_mb: int | None = None, strategy: str | None = None) -> TransformPlan:
    place = S3Location("bucket", "key")
    return TransformPlan(
        source=place,
        manifest=False,
        content_type=None,
        accept=None,
        lines=True,
        assemble_lines=True,
        processing=None,
        output=place,
        kms_key=None,
        instances=1,
        concurrency=concurrency,
        payload_mb=payload_mb,
        strategy=strategy,
        timeout=1,
        retries=0,
    )


OWN = {"MaxConcurrentTransforms": 2, "MaxPayloadInMB": 20, "BatchStrategy": "SINGLE_RECORD"}


@pytest.mark.parametrize(
    ("asked", "parameters", "settings"),
    [
        (plan(), {}, Settings(1, 6, single=False)),
        (plan(), OWN, Settings(2, 20, single=True)),
        (plan(1, 0, "MultiRecord"), OWN, Settings(1, 0, single=False)),
        (plan(0, 5, "SingleRecord"), {}, Settings(1, 5, single=True)),
        (plan(), {"MaxConcurrentTransforms": "2", "MaxPayloadInMB": -1, "BatchStrategy": None}, Settings(1, 6, False)),
    ],
)
def test_the_request_says_how_a_container_is_asked_else_the_container_else_aws(
    asked, parameters, settings, monkeypatch
):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert settings_of(asked, parameters) == settings


def test_no_more_requests_are_sent_at_once_than_the_machine_has_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert settings_of(plan(concurrency=16), {}).concurrency == 2
