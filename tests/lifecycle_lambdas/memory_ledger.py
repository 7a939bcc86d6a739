"""The ledger without DynamoDB: a look in a hundredth of the time. That the real one does the same: test_ledger.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lifecycle_lambdas.ledger import Lease, LeaseLost, Ledger
from lifecycle_lambdas.records import Deployment, Entry, PolicyRecord, State, Status


@dataclass
class MemoryLedger(Ledger):
    """What lifecycle_lambdas.ledger.Ledger promises, of one process."""

    written: dict[str, dict[str, Entry]] = field(default_factory=dict)
    known: dict[str, State] = field(default_factory=dict)
    made: dict[str, dict[int, Deployment]] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    leased: set[str] = field(default_factory=set)
    sent: set[tuple[str, str]] = field(default_factory=set)
    told_policies: dict[tuple[str, str], PolicyRecord] = field(default_factory=dict)

    def append(self, entry: Entry, lease: Lease | None = None) -> bool:
        if lease is not None:
            self._check(lease.endpoint, lease.fence)
        entries = self.written.setdefault(entry.endpoint, {})
        if entry.key in entries:
            return False
        self.ask(entry.endpoint)
        entries[entry.key] = entry
        return True

    def entry(self, entry: Entry) -> Entry:
        return self.written[entry.endpoint][entry.key]

    def ask(self, endpoint: str) -> None:
        state = self.known[endpoint]
        self.known[endpoint] = replace(state, status="under-way", asked=state.asked + 1)

    def entries(self, endpoint: str) -> Iterator[Entry]:
        return (entry for _, entry in sorted(self.written.get(endpoint, {}).items(), reverse=True))

    def state(self, endpoint: str) -> State | None:
        return self.known.get(endpoint)

    def put_state_if_new(self, state: State) -> bool:
        return self.known.setdefault(state.endpoint, state) is state

    def set_status(self, state: State, status: Status, fence: int) -> bool:
        self._check(state.endpoint, fence)
        if self.known[state.endpoint].asked != state.asked:
            return False
        known = self.known[state.endpoint]
        removed = known.last_number if status == "removed" else known.removed_number
        self.known[state.endpoint] = replace(known, status=status, removed_number=removed)
        return True

    def lease(self, endpoint: str, owner: str, seconds: float) -> Lease | None:
        if endpoint in self.leased:
            return None
        self.leased.add(endpoint)
        self.fences[endpoint] = self.fences.get(endpoint, 0) + 1
        return Lease(self, endpoint, owner, seconds, self.fences[endpoint])

    def set_lease_end(self, lease: Lease, until: float) -> None:
        self._check(lease.endpoint, lease.fence)
        if until == 0:
            self.leased.discard(lease.endpoint)

    def deployments(self, endpoint: str, limit: int | None = None) -> Iterator[Deployment]:
        newest_first = sorted(self.made.get(endpoint, {}).values(), key=lambda one: one.number, reverse=True)
        return iter(newest_first[:limit])

    def deployment(self, endpoint: str, number: int) -> Deployment | None:
        return self.made.get(endpoint, {}).get(number)

    def start_deployment(self, lease: Lease, deployment: Deployment) -> Deployment:
        state = self.known[deployment.endpoint]
        numbered = replace(deployment, number=state.last_number + 1)
        self._check(lease.endpoint, lease.fence)
        self.made.setdefault(state.endpoint, {})[numbered.number] = numbered
        self.known[state.endpoint] = replace(state, last_number=numbered.number, status="under-way")
        return numbered

    def record(self, lease: Lease, deployment: Deployment) -> None:
        self._check(lease.endpoint, lease.fence)
        self.made.setdefault(deployment.endpoint, {})[deployment.number] = deployment

    def policy(self, endpoint: str, section: str) -> PolicyRecord | None:
        return self.told_policies.get((endpoint, section))

    def put_policy(self, record: PolicyRecord) -> None:
        self.told_policies[record.endpoint, record.section] = record

    def forget_tests(self, endpoint: str) -> None:
        """It has no schedules of tests."""

    def was_told(self, endpoint: str, message: str) -> bool:
        return (endpoint, message) in self.sent

    def begin_telling(self, endpoint: str, message: str) -> None:
        pass

    def record_told(self, endpoint: str, message: str) -> None:
        self.sent.add((endpoint, message))

    def _check(self, endpoint: str, fence: int) -> None:
        if self.fences[endpoint] != fence:
            raise LeaseLost(f"another one has taken {endpoint} over")
