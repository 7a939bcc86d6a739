"""All endpoints' fleets and routes, and the process that answers InvokeEndpoint by them."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.clock import Clock
from local_aws.hosting.fleet import Fleet, FleetSpec, Surroundings
from local_aws.hosting.publisher import Publisher
from local_aws.images import Images
from local_aws.jobs.opt_ml import choose
from local_aws.loopback import Loopback
from local_aws.processes import Process
from local_aws.store import Scope

FLUSH_TIMEOUT = 5.0  # seconds, when the server ends

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VariantRoute:
    """A production variant.

    Args:
        name: VariantName.
        weight: its share of the endpoint's traffic is its weight over all weights.
        fleets: which fleets get what shares of the variant's traffic; the shares add up to 1.
    """

    name: str
    weight: float
    fleets: tuple[tuple[Fleet, float], ...]


@dataclass(frozen=True)
class EndpointRoutes:
    """Where the requests of an endpoint go.

    Args:
        status: EndpointStatus.
        variants: its production variants.
        data_capture: DataCaptureConfig of the endpoint config, or None.
        deploying: the metrics then carry EndpointConfigName too.
    """

    status: str
    variants: tuple[VariantRoute, ...]
    data_capture: dict[str, Any] | None = None
    deploying: bool = False


class Hosting:
    """The fleets of one server, and its data plane.

    Args:
        loopback: clients for S3, CloudWatch and CloudWatch Logs.
        images: the environments that stand for container images.
        work: a folder for the containers' own folders; a short path, for their sockets lie there.
        opt_ml: how containers get /opt/ml: "auto", "namespace" or "rewrite".
        clock: metrics are published each of its minutes.
        account_of: the account that an access key belongs to, of keys that are none themselves.
        listener: the data plane's socket, which listens already; closed by whoever made it.
        permit: (access key, Region, endpoint) -> what its data plane is answered about who may invoke what
            (local_aws.permissions.invocation); without it everybody may invoke everything.
    """

    def __init__(
        self,
        loopback: Loopback,
        images: Images,
        work: Path,
        opt_ml: str,
        clock: Clock,
        account_of: Callable[[str], str],
        listener: socket.socket,
        permit: Callable[[str, str, str], dict[str, Any]] | None = None,
    ) -> None:
        self._permit = permit
        self._loopback, self._images, self._work, self._opt_ml_setting = loopback, images, work.absolute(), opt_ml
        self._clock, self._account_of = clock, account_of
        self._publisher = Publisher(loopback, clock)
        self._listener = listener
        self.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # The reader of what the data plane says takes none of `_lock`: whoever waits for an answer may hold it.
        self._lock, self._sending = threading.RLock(), threading.Lock()
        self._fleets: dict[str, Fleet] = {}
        self._routes: dict[tuple[Scope, str], EndpointRoutes] = {}
        # Of each variant's latest model: what it captured may come when its fleet has gone.
        self._roles: dict[tuple[Scope, str, str], str | None] = {}
        self._numbers = itertools.count(1)
        self._answers: dict[int, threading.Event] = {}
        self._stopped = False
        # When InvokeEndpoint was last asked for, by time.monotonic(); known when the metrics of that minute are.
        self.last_request = time.monotonic()
        self._start_data_plane()
        self._send({"do": "listen"})

    def start_fleet(self, spec: FleetSpec) -> Fleet:
        """Start a variant's container; returns at once, `Fleet.wait_ready` says when it answers.

        Raises:
            RuntimeError: containers cannot have /opt/ml in the way that was asked for.
        """
        with self._lock:
            fleet = Fleet(spec, self._around)
            self._fleets[fleet.id] = fleet
            self._roles[spec.scope, spec.endpoint, spec.variant] = spec.container.role
        self._publisher.watch(fleet)
        return fleet

    def route(self, scope: Scope, endpoint: str, routes: EndpointRoutes | None) -> None:
        """Replace what an endpoint's requests go to; None takes the endpoint away.

        When this returns, every later request goes by the new routes; those in flight are answered by the old ones.
        """
        with self._lock:
            if routes is None:
                self._routes.pop((scope, endpoint), None)
            else:
                self._routes[scope, endpoint] = routes
            self._tell_routes(scope, endpoint)

    def tell(self, do: str, *, timeout: float | None = None, **content: Any) -> bool:
        """Send the data plane a message and wait until it is acted on; False when that took longer (seconds)."""
        number, done = next(self._numbers), threading.Event()
        with self._lock:
            if do == "forget":
                fleet = self._fleets.pop(content["fleet"], None)
                if fleet is not None:
                    self._publisher.forget(fleet)
            if self._stopped:
                return True
            self._answers[number] = done
            sent = self._send({"number": number, "do": do, **content})
        answered = not sent or done.wait(timeout)
        self._answers.pop(number, None)
        return answered

    def processes(self) -> list[Process]:
        """Those of the endpoints' containers, and the data plane's."""
        # Without the lock, which may be held by who waits for the data plane: the event loop asks.
        fleets = list(self._fleets.values())
        found = [(fleet.spec.endpoint, pid) for fleet in fleets if (pid := fleet.container.pid) is not None]
        return [Process("data-plane", "data-plane", self._process.pid), *(Process("endpoint", *each) for each in found)]

    def flush(self) -> None:
        """Publish the metrics and captured data that there are; call it while CloudWatch and S3 still answer."""
        self.tell("flush", timeout=FLUSH_TIMEOUT)
        self._publisher.flush()

    def kill(self) -> None:
        """End the data plane and every container at once."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            fleets = list(self._fleets.values())
            for done in list(self._answers.values()):
                done.set()
        self._control.shutdown(socket.SHUT_RDWR)
        self._process.terminate()
        self._process.wait()
        threads = [threading.Thread(target=fleet.kill) for fleet in fleets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._publisher.stop()

    def stop(self) -> None:
        """As `kill`, and wait for the threads."""
        self.kill()
        self._reader.join()
        self._control.close()

    @functools.cached_property
    def _around(self) -> Surroundings:
        # Trying out whether namespaces are to be had takes a moment: not before there is an endpoint.
        opt_ml = choose(self._opt_ml_setting)
        return Surroundings(self._loopback, self._images, opt_ml, self._clock, self._work, self)

    def _start_data_plane(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "local_aws.data_plane",
                    f"--listen={self._listener.fileno()}",
                    f"--control={theirs.fileno()}",
                    f"--clock-speed={self._clock.speed}",
                    *(["--enforce-iam"] if self._permit is not None else []),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(self._listener.fileno(), theirs.fileno()),
                env=dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            )
        self._reader = threading.Thread(target=self._read, args=(self._control,), name="data-plane", daemon=True)
        self._reader.start()

    def _send(self, message: dict[str, Any]) -> bool:
        """False when the data plane is gone: the thread that reads starts it again, and tells it everything."""
        try:
            with self._sending:
                self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def _tell_routes(self, scope: Scope, endpoint: str) -> None:
        routes = self._routes.get((scope, endpoint))
        described = None
        if routes is not None:
            described = {
                "status": routes.status,
                "data_capture": routes.data_capture,
                "deploying": routes.deploying,
                "variants": [
                    {
                        "name": variant.name,
                        "weight": variant.weight,
                        "fleets": [[fleet.id, share] for fleet, share in variant.fleets],
                    }
                    for variant in routes.variants
                ],
            }
        self.tell("route", scope=list(scope), endpoint=endpoint, routes=described)

    def _read(self, control: socket.socket) -> None:
        """Act on what the data plane says, until it ends; should it have died, start it again."""
        with control.makefile("rb") as lines:
            try:
                for line in lines:
                    self._act(json.loads(line))
            except ConnectionError:
                logger.debug("the data plane was killed")
        for done in list(self._answers.values()):
            done.set()
        with self._lock:
            if self._stopped:
                return
            code = self._process.wait()
            logger.error("the data plane has ended with exit code %s; it is started again", code)
            control.close()
            self._start_data_plane()
            threading.Thread(target=self._tell_everything, name="data-plane-restart", daemon=True).start()

    def _tell_everything(self) -> None:
        with self._lock:
            for fleet in self._fleets.values():
                self.tell("fleet", fleet=fleet.described())
            for scope, endpoint in self._routes:
                self._tell_routes(scope, endpoint)
            self._send({"do": "listen"})

    def _act(self, message: dict[str, Any]) -> None:
        kind = message["say"]
        if kind == "done":
            done = self._answers.get(message["number"])
            if done is not None:
                done.set()
        elif kind == "metrics":
            self.last_request = time.monotonic()
            self._publisher.metrics(message)
        elif kind == "capture":
            variant = (Scope(*message["scope"]), message["endpoint"], message["variant"])
            self._publisher.capture(message, self._roles.get(variant))
        elif kind == "permit":
            asked = {name: message[name] for name in ("access_key", "region", "endpoint")}
            answer = self._permit(*asked.values()) if self._permit is not None else {}
            self._send({"do": "permit", **asked, **answer})
        elif kind == "account":
            key = message["access_key"]
            self._send({"do": "account", "access_key": key, "account": self._account_of(key)})
        else:  # "wake" or "sleep"
            fleet = self._fleets.get(message["fleet"])
            if fleet is not None:
                (fleet.wake if kind == "wake" else fleet.sleep)()
