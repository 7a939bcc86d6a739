"""The clock: how fast AWS's time passes, and how it is moved."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request

import pytest

from local_aws import LocalAWS
from local_aws.clock import Clock


def test_durations_are_divided_by_the_speed():
    assert Clock(60).seconds(600) == 10


def test_the_clocks_time_begins_now_and_passes_at_its_speed():
    clock, started = Clock(100), time.time()
    begun = clock.now()

    time.sleep(0.2)

    assert begun - started < 100
    assert clock.now() - begun == pytest.approx(100 * (time.time() - started), abs=10)


def test_sleeping_ends_when_the_time_has_passed():
    started = time.monotonic()

    stopped = Clock(100).sleep(20)

    assert not stopped
    assert 0.2 <= time.monotonic() - started < 5


def test_sleeping_ends_early_when_it_is_stopped():
    stop, started = threading.Event(), time.monotonic()
    threading.Timer(0.1, stop.set).start()

    assert Clock(1).sleep(60, stop)
    assert time.monotonic() - started < 30


def test_moving_the_clock_wakes_who_sleeps():
    clock, started = Clock(1), time.monotonic()
    threading.Timer(0.1, clock.advance, [3600]).start()

    clock.sleep(3600)

    assert time.monotonic() - started < 30


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ValueError, match="it is a positive number"):
        Clock(speed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"advance": -1}, "can only be moved forward"),
        ({"advance": "1 day"}, "give .*advance.*: seconds"),
        ({"advance": True}, "give .*advance.*: seconds"),
        ({"speed": 3}, "give .*advance.*: seconds"),
        ({}, "give .*advance.*: seconds"),
    ],
)
def test_a_change_that_is_none_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Clock().configure(settings)


def test_the_server_is_started_with_a_speed_and_its_clock_can_be_moved():
    with LocalAWS(clock_speed=60) as aws:
        before = aws.configure("clock", {"advance": 0})
        after = aws.configure("clock", {"advance": 86400})

        with pytest.raises(ValueError, match=r"There is no switch 'weather'; there are .*clock, events"):
            aws.configure("weather", {})
        with pytest.raises(ValueError, match="forward"):
            aws.configure("clock", {"advance": -1})
        request = urllib.request.Request(f"{aws.endpoint}/_local_aws/clock", b"no JSON")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        read = urllib.request.urlopen(f"{aws.endpoint}/_local_aws/clock").read()

    assert before["speed"] == 60
    assert 86400 <= after["now"] - before["now"] < 86400 + 600
    assert refused.value.code == 400
    assert b'"speed": 60.0' in read


def test_the_command_line_refuses_a_speed_that_is_none(capsys, monkeypatch):
    from local_aws.__main__ import main

    monkeypatch.setattr("sys.argv", ["local_aws", "start", "--clock-speed", "0"])

    assert main() == 1
    assert "--clock-speed 0: give a positive number" in capsys.readouterr().err
