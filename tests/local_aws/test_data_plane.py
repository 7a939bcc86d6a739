"""The data plane by itself: what it does with a container that is slow, gone or broken, and how it counts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.data_plane import http1
from local_aws.data_plane.listener import Client
from local_aws.data_plane.plane import Plane
from local_aws.data_plane.tally import MOST_VALUES, Tally, rounded

ACCOUNT, REGION = "123456789012", "us-east-1"


class Stand:
    """A plane whose container is a coroutine of the test's."""

    def __init__(self, folder: Path, timeout: float) -> None:
        self.said: list[dict[str, Any]] = []
        self.plane = Plane(lambda kind, **content: self.said.append({"say": kind, **content}), 60.0, timeout)
        self.socket = str(folder / "socket")
        self._number = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self.plane), "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def serve(self, answer: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        """Let the container answer with these bytes; None closes the connection."""

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    said = await answer(await reader.readexactly(length))
                    if said is None:
                        break
                    writer.write(said)
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()

        self._container = await asyncio.start_unix_server(client, self.socket)

    def act(self, do: str, **content: Any) -> int:
        self._number += 1
        self.plane.act({"number": self._number, "do": do, **content})
        return self._number

    def fleet(self, **settings: Any) -> None:
        described: dict[str, Any] = {
            "id": "f",
            "scope": [ACCOUNT, REGION],
            "endpoint": "e",
            "config": "c",
            "variant": "v",
        }
        described |= {
            "instances": 1,
            "max_concurrency": None,
            "provisioned_concurrency": None,
            "socket": self.socket,
            "up": True,
            "asleep": False,
        }
        self.act("fleet", fleet=described | settings)
        routes: dict[str, Any] = {"status": "InService", "deploying": False, "data_capture": None}
        routes["variants"] = [{"name": "v", "weight": 1.0, "fleets": [["f", 1.0]]}]
        self.act("route", scope=[ACCOUNT, REGION], endpoint="e", routes=routes)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    def request(self, body: bytes, key: str = ACCOUNT) -> bytes:
        signed = f"AWS4-HMAC-SHA256 Credential={key}/20261121/{REGION}/sagemaker/aws4_request, Signature=0"
        return http1.message("POST /endpoints/e/invocations HTTP/1.1", {"Authorization": signed}, body)

    async def ask(self, body: bytes = b"x", key: str = ACCOUNT) -> tuple[int, str, bytes]:
        """Status, error type and body."""
        reader, writer = await self.connect()
        writer.write(self.request(body, key))
        received = bytearray(await reader.readuntil(b"\r\n\r\n"))
        head = http1.read_head(received)
        assert head is not None
        content = await reader.readexactly(int(head.headers["content-length"]))
        writer.close()
        return int(head.first[1]), head.headers.get("x-amzn-errortype", ""), content

    def done(self, number: int) -> bool:
        return {"say": "done", "number": number} in self.said


def run(test: Callable[[Stand], Awaitable[None]], timeout: float = 60.0) -> None:
    async def main(folder: str) -> None:
        stand = Stand(Path(folder), timeout)
        await stand.open()
        await test(stand)

    with tempfile.TemporaryDirectory(prefix="plane-") as folder:
        asyncio.run(main(folder))


async def echo(body: bytes) -> bytes:
    return http1.answer(200, {"Content-Type": "text/csv"}, body)


def test_a_model_that_takes_too_long_is_given_up():
    async def test(stand: Stand) -> None:
        async def slow(body: bytes) -> bytes:
            await asyncio.sleep(0.3 if body == b"slow" else 0)
            return await echo(body)

        await stand.serve(slow)
        stand.fleet()
        asked = asyncio.create_task(stand.ask(b"slow"))
        await asyncio.sleep(0.1)
        stand.plane.check()
        status, error, body = await asked
        assert (status, error) == (424, "ModelError")
        assert b"Received server error (0) from primary" in body
        assert b"Your invocation timed out while waiting for a response from container primary." in body
        await asyncio.sleep(0.3)  # its late answer goes nowhere
        assert await stand.ask(b"fast") == (200, "", b"fast")

    run(test, timeout=0.05)


def test_a_container_that_hangs_up_is_a_model_error():
    async def test(stand: Stand) -> None:
        async def hang_up(body: bytes) -> None:
            return None

        await stand.serve(hang_up)
        stand.fleet()
        assert (await stand.ask())[:2] == (424, "ModelError")

    run(test)


def test_after_a_container_has_hung_up_requests_wait_until_it_is_known_whether_it_has_ended():
    async def test(stand: Stand) -> None:
        asked: list[bytes] = []

        async def dying(body: bytes) -> bytes | None:
            asked.append(body)
            return None if body == b"die" else await echo(body)

        await stand.serve(dying)
        stand.fleet()
        assert (await stand.ask(b"die"))[0] == 424
        ended = asyncio.create_task(stand.ask(b"after an end"))
        await asyncio.sleep(0.05)
        assert asked == [b"die"]
        stand.act("down", fleet="f")
        await asyncio.sleep(0.4)
        assert asked == [b"die"]
        stand.act("up", fleet="f", setup=0.0)
        assert (await ended)[2] == b"after an end"

        assert (await stand.ask(b"die"))[0] == 424
        assert (await stand.ask(b"nothing has ended"))[2] == b"nothing has ended"

    run(test)


def test_requests_wait_for_a_container_that_is_started_again():
    async def test(stand: Stand) -> None:
        stand.fleet()  # nobody listens at its socket: it has died, which nobody has said yet
        asked = [asyncio.create_task(stand.ask(str(number).encode())) for number in range(3)]
        await asyncio.sleep(0.1)
        stand.act("down", fleet="f")
        await stand.serve(echo)
        stand.act("up", fleet="f", setup=1.0)
        assert [await each for each in asked] == [(200, "", b"0"), (200, "", b"1"), (200, "", b"2")]

    run(test)


def test_a_container_that_cannot_be_started_again_is_unavailable():
    async def test(stand: Stand) -> None:
        stand.fleet(up=False)
        waiting = asyncio.create_task(stand.ask())
        await asyncio.sleep(0.05)
        stand.act("broken", fleet="f")
        for status, error, _ in (await waiting, await stand.ask()):
            assert (status, error) == (503, "ServiceUnavailable")

    run(test)


def test_draining_ends_with_the_last_request():
    async def test(stand: Stand) -> None:
        go = asyncio.Event()

        async def when_told(body: bytes) -> bytes:
            await go.wait()
            return await echo(body)

        await stand.serve(when_told)
        stand.fleet()
        asked = asyncio.create_task(stand.ask())
        await asyncio.sleep(0.05)
        number = stand.act("drain", fleet="f")
        assert not stand.done(number)
        go.set()
        assert (await asked)[0] == 200
        assert stand.done(number)
        assert stand.done(stand.act("drain", fleet="f"))

    run(test)


def test_a_fleet_that_is_taken_away_fails_what_it_has():
    async def test(stand: Stand) -> None:
        async def never(body: bytes) -> bytes:
            await asyncio.sleep(60)
            return b""

        await stand.serve(never)
        stand.fleet()
        asked = asyncio.create_task(stand.ask())
        await asyncio.sleep(0.05)
        stand.act("forget", fleet="f")
        assert (await asked)[:2] == (424, "ModelError")
        metrics = [message for message in stand.said if message["say"] == "metrics"]
        assert {datum["MetricName"] for message in metrics for datum in message["data"]} >= {"Invocations"}
        assert (await stand.ask())[:2] == (503, "ServiceUnavailable")

    run(test)


def test_a_serverless_container_is_woken_once_for_all_who_wait():
    async def test(stand: Stand) -> None:
        await stand.serve(echo)
        stand.fleet(max_concurrency=5, instances=None)
        stand.plane._fleets["f"].sleep_if_idle(0.0)
        assert {"say": "sleep", "fleet": "f"} in stand.said
        asked = [asyncio.create_task(stand.ask()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert stand.said.count({"say": "wake", "fleet": "f"}) == 1
        stand.act("up", fleet="f", setup=2e6)
        assert [(await each)[0] for each in asked] == [200, 200, 200]
        stand.act("flush")
        (message,) = [message for message in stand.said if message["say"] == "metrics"]
        by_name = {datum["MetricName"]: datum for datum in message["data"]}
        assert (by_name["ModelSetupTime"]["Values"], by_name["ModelSetupTime"]["Counts"]) == ([2e6], [3])
        assert "InvocationsPerInstance" not in by_name
        assert max(by_name["OverheadLatency"]["Values"]) < 2e6

    run(test)


def test_the_use_of_provisioned_concurrency_is_counted_and_such_a_container_never_sleeps():
    async def test(stand: Stand) -> None:
        await stand.serve(echo)
        stand.fleet(max_concurrency=5, provisioned_concurrency=2, instances=None)
        stand.plane._fleets["f"].sleep_if_idle(0.0)
        await asyncio.gather(stand.ask(), stand.ask())
        stand.act("flush")
        assert [message["say"] for message in stand.said].count("sleep") == 0
        (message,) = [message for message in stand.said if message["say"] == "metrics"]
        by_name = {datum["MetricName"]: datum for datum in message["data"]}
        found = by_name["ServerlessProvisionedConcurrencyUtilization"]
        assert sum(found["Counts"]) == 2
        assert 0.5 in found["Values"]

    run(test)


def test_the_account_of_a_role_s_key_is_asked_for_once():
    async def test(stand: Stand) -> None:
        await stand.serve(echo)
        stand.fleet()
        asked = [asyncio.create_task(stand.ask(key="ASIAEXAMPLE")) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert stand.said.count({"say": "account", "access_key": "ASIAEXAMPLE"}) == 1
        stand.plane.act({"do": "account", "access_key": "ASIAEXAMPLE", "account": ACCOUNT})
        assert [(await each)[0] for each in asked] == [200, 200]
        assert (await stand.ask(key="ASIAEXAMPLE"))[0] == 200

    run(test)


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 7))
def test_chunks_are_read_however_they_arrive(chunks: list[bytes], step: int):
    sent = b"".join(f"{len(chunk):x};a=b\r\n".encode() + chunk + b"\r\n" for chunk in chunks if chunk) + b"0\r\n\r\n"
    received, body = bytearray(), bytearray()
    for start in range(0, len(sent), step):
        assert not http1.read_chunks(received, body)
        received += sent[start : start + step]

    assert http1.read_chunks(received, body)
    assert bytes(body) == b"".join(chunks)
    assert not received


@pytest.mark.parametrize(
    "sent",
    [b"-6\r\nabc", b"+1\r\na\r\n", b"ffffffffff\r\n", b"1\r\nabc\r\n", b"1" * 70000, b"0\r\nA: b\r\n" * 10000],
    ids=[
        "a negative size",
        "a signed size",
        "a very large chunk",
        "a wrong size",
        "an endless size",
        "endless trailers",
    ],
)
def test_what_is_no_chunk_is_refused(sent: bytes):
    with pytest.raises(http1.BadRequest):
        http1.read_chunks(bytearray(sent), bytearray())


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1_0", "", "１"])
def test_what_is_no_content_length_is_refused(length: str):
    with pytest.raises(http1.BadRequest):
        http1.content_length({"content-length": length})


def test_a_client_that_takes_no_answers_gets_no_more_of_them():
    async def test(stand: Stand) -> None:
        answered = 0

        async def large(body: bytes) -> bytes:
            nonlocal answered
            answered += 1
            return await echo(b"x" * 1024**2)

        await stand.serve(large)
        stand.fleet()
        reader, writer = await stand.connect()
        for _ in range(60):
            writer.write(stand.request(b"x"))
        await asyncio.sleep(0.5)
        in_vain = answered
        for _ in range(60):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(1024**2)
        writer.close()

        assert in_vain < 20
        assert answered == 60

    run(test)


@given(st.floats(1e-3, 1e9))
def test_latencies_are_rounded_by_less_than_5_percent(value: float):
    assert abs(rounded(value) - value) <= 0.0501 * value


def test_many_different_latencies_are_several_data_of_at_most_150_values():
    tally = Tally(invocations=2000, model_latencies=[float(number) for number in range(1, 200_000, 97)])
    data = [datum for datum in tally.metrics(1) if datum["MetricName"] == "ModelLatency"]

    assert len(data) > 1
    assert all(len(datum["Values"]) <= MOST_VALUES for datum in data)
    assert sum(sum(datum["Counts"]) for datum in data) == len(tally.model_latencies)


def test_nothing_is_said_of_a_time_without_requests():
    assert Tally().metrics(1) == []


@pytest.mark.parametrize(
    "head",
    [b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"x" * 70000],
    ids=["no version", "no header", "endless"],
)
def test_what_is_no_head_is_refused(head: bytes):
    with pytest.raises(http1.BadRequest):
        http1.read_head(bytearray(head))
