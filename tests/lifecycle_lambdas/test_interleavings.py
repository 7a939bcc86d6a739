"""A thousand random histories of a stage: whatever happened in whatever order, what serves is what the ledger says."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifecycle_lambdas import approvals
from lifecycle_lambdas.records import Entry, EntryKind
from tests import proof
from tests.lifecycle_lambdas.test_converge import ALARM, BATCH, CANARY, SCALING, STAGE_FILE, Killed, Stage, make_stage

HISTORIES, AT_ONCE = 1000, 50
STEPS = 40
WHAT: tuple[EntryKind, ...] = ("approve",) * 6 + ("reject",) * 2 + ("go-back",) * 2 + ("park", "remove")
KINDS: tuple[dict[str, Any], ...] = (
    *(
        STAGE_FILE | changes
        for changes in (
            {},
            {"alarms": ALARM},
            {"instance_count": 2, "rollout": CANARY, "alarms": ALARM},
            {"instance_count": 2, "rollout": CANARY, "scaling": SCALING, "dashboard": True},
            {"instance_type": "ml.c5.large", "scaling": SCALING},
        )
    ),
    {"kind": "serverless", "memory_mb": 2048, "max_concurrency": 5},
    BATCH,
)


@dataclass
class History:
    """People, events that come late or never in their order, looks that are killed or that overlap, and AWS."""

    stage: Stage
    dice: random.Random
    versions: list[str] = field(default_factory=list)
    on_their_way: list[Entry] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seconds: int = 0

    def begin(self) -> None:
        for _ in range(4):
            fields = self.dice.choice(KINDS)
            version = self.stage.register(**fields, replace=self.dice.random() < 0.7)
            if self.dice.random() < 0.2:
                self.stage.aws.broken.add(version)
            self.versions.append(version)

    def step(self) -> None:
        what = self.dice.choice(("decide", "deliver", "deliver", "look", "look", "settle", "settle"))
        self.done.append(what)
        getattr(self, what)()

    def decide(self) -> None:
        """In the registry, or by the command; the ledger hears of it when its event comes."""
        self.seconds += self.dice.choice((0, 1, 5))
        at = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds)
        version, kind = self.dice.choice(self.versions), self.dice.choice(WHAT)
        package = self.stage.aws.packages[version]
        entry = Entry(self.stage.endpoint, kind, at, version, "ada", "tested", "event")
        if kind in ("approve", "reject"):
            status = "Approved" if kind == "approve" else "Rejected"
            self.stage.aws.update_model_package(version, ModelApprovalStatus=status)
        elif kind == "go-back" and package["ModelApprovalStatus"] != "Approved":
            return
        elif kind == "remove":
            entry = replace(entry, package_arn=None)
        elif kind == "park":
            entry = replace(entry, package_arn=None, until=self.dice.choice((None, at)))
        self.done.append(entry.key)
        self.on_their_way.append(entry)

    def deliver(self) -> None:
        if self.on_their_way:
            entry = self.on_their_way.pop(self.dice.randrange(len(self.on_their_way)))
            self.stage.ledger.append(entry)
            self.done.append(f"delivered {entry.key}")

    def look(self) -> None:
        """Killed at some call, or while others look and decide."""
        moment, kills = self.dice.randrange(1, 16), self.dice.random() < 0.5

        def hook(operation: str, request: Any, when: str) -> None:
            nonlocal moment
            moment -= 1
            if moment == 0 and kills:
                raise Killed
            if moment == 0:
                self.decide()
                self.deliver()
                assert self.stage.look().busy

        self.stage.aws.hook = hook
        try:
            self.stage.look()
        except Killed:
            self.done.append("killed")
        finally:
            self.stage.aws.hook = lambda operation, request, when: None

    def settle(self) -> None:
        self.stage.aws.settle()

    def end(self) -> None:
        while self.on_their_way:
            self.deliver()
        self.stage.settle()

    @property
    def wanted(self) -> str | None:
        """The rule, said once more: of the newest decisions the first that still holds."""
        taken_back: dict[str, datetime] = {}
        for entry in self.stage.ledger.entries(self.stage.endpoint):
            if entry.package_arn is None:
                if entry.until is None:
                    return None
            elif entry.kind == "reject":
                taken_back.setdefault(entry.package_arn, entry.at)
            elif (
                entry.at >= taken_back.get(entry.package_arn, entry.at)
                and self.stage.aws.packages[entry.package_arn]["ModelApprovalStatus"] == "Approved"
            ):
                return entry.package_arn
        return None

    @property
    def serves(self) -> str | None:
        aws = self.stage.aws
        if aws.endpoints:
            assert not aws.schedules
            assert self.stage.serving is not None
            return self.stage.serves
        for schedule in aws.schedules.values():
            return str(json.loads(schedule["Target"]["Input"])["package_arn"])
        return None


@pytest.mark.parametrize("first", range(0, HISTORIES, AT_ONCE))
def test_whatever_happened_what_serves_is_what_the_ledger_says(first: int) -> None:
    steps = 0
    for seed in range(first, first + AT_ONCE):
        history = History(make_stage(), random.Random(seed))
        history.begin()
        for _ in range(STEPS):
            history.step()
        history.end()
        steps += len(history.done)

        stage, what = history.stage, f"seed {seed}: {history.done}"
        assert history.serves == history.wanted, what
        # nothing is orphaned: what serves, the way back, and the alarms and the scaling of what serves
        kept = {name for name in stage.there if not name.endswith(" config") and name.isdecimal()}
        assert len(kept) <= 2, what
        assert {name for name in stage.there if name not in kept} <= {*(f"{name} config" for name in kept), "errors"}, (
            what
        )
        assert len(stage.aws.targets) == len(stage.aws.policies) <= (1 if history.serves else 0), what
        assert "under-way" not in stage.statuses, what
        assert stage.ledger.known[stage.endpoint].status in ("settled", "removed"), what
        removed = approvals.is_removed(stage.ledger.entries(stage.endpoint))
        assert not (removed and stage.there), what
        calls = len(stage.aws.calls)
        assert stage.look().settled, what
        assert not [call for call in stage.aws.calls[calls:] if not call.startswith(("Describe", "Get", "List"))], what
    proof.keep(f"interleavings_{first}", {"histories": AT_ONCE, "steps": steps})
