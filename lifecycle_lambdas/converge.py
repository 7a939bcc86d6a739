"""Brings one endpoint to where its ledger says that it should be: what is declared, what is, the next call, and again.

Whoever looks needs no memory: what was done is recorded before and after each call, and what is there is asked of AWS.
So a look that was killed, or that comes twice or late, ends as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas import (
    alarms,
    approvals,
    batch_jobs,
    choosing,
    declared,
    endpoint_tests,
    execute,
    forecast,
    going_back,
    incidents,
    messages,
    metrics,
    observe,
    sweep,
    watching,
)
from lifecycle_lambdas.aws_errors import not_allowed
from lifecycle_lambdas.calls import REQUESTS, AwsCall
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.declared import AdministratorsFault, Declared, StageFileError
from lifecycle_lambdas.execute import Refused, passing
from lifecycle_lambdas.going_back import GoBack
from lifecycle_lambdas.ledger import Lease, LeaseLost
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.names import project_tags
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.plan import LOOK_AGAIN, Do, Done, GiveUp, Step, Wait, plan
from lifecycle_lambdas.recording import describe, group_arn, group_tags
from lifecycle_lambdas.records import Attempt, Deployment, Entry, State, Status, package_version

# After so long what a function held that was killed is free; every write of one that lives renews it in time.
LEASE_SECONDS = 30.0
RENEW_AFTER = 10.0
# The newest deployments are read, and older ones only by their number: the calls do not grow with the history.
HISTORY = 20
# Of how many of them it is made sure that people were told how they ended.
FEW = 3
# How often what should be may change during one look (each failed deployment leads to the version before it).
MOST_ROUNDS = 5
# A deployment is one item of DynamoDB, which takes 400 KB; an attempt with AWS's refusal can have 1 KB.
MOST_ATTEMPTS = 200
# Seconds that a call and writing down its answer may take.
ENOUGH = 3.0
# Seconds that a look with nothing to do may take; those under way are looked at again every minute.
ENOUGH_FOR_A_LOOK = 10.0
_REMOVED = "removed: nothing of it is left"


@dataclass(frozen=True)
class Outcome:
    """What a look came to.

    Args:
        busy: another one is looking after the endpoint: nothing was done.
        settled: what should be is; else it goes on when an event comes, or the schedule of every minute.
        summary: in words.
        look_again_in: seconds that a person who waits for it should let pass; None: not known.
        began: when what is under way began: a deployment, or with the decision to remove; None: nothing is.
    """

    endpoint: str
    busy: bool = False
    settled: bool = False
    summary: str = ""
    look_again_in: float | None = None
    began: datetime | None = field(default=None, compare=False)


def look(endpoint: str, context: Context, asking: bool = True) -> Outcome:
    """Bring the endpoint as far as it goes now.

    Who finds another one at it asks that one to look once more when it is done, and is done. Should that one be gone,
    the endpoint is among those under way, and its lease expires.

    Args:
        asking: see events.LookAt.

    Raises:
        ClientError: an answer of AWS's that is nobody's fault here; looking again goes on where this look ended.
    """
    ledger = context.ledger
    busy = Outcome(endpoint, busy=True, summary="another one is looking after it")
    lease = ledger.lease(endpoint, context.owner, LEASE_SECONDS)
    if lease is None and asking:
        ledger.ask(endpoint)
        # it may have ended just before it could see that
        lease = ledger.lease(endpoint, context.owner, LEASE_SECONDS)
    if lease is None:
        return busy
    try:
        while True:
            with lease:
                state = ledger.state(endpoint)
                if state is None:
                    return Outcome(endpoint, settled=True, summary="the ledger does not know it")
                one = _Look(state, context, lease)
                outcome = replace(one.run(), began=one.began)
            after = ledger.state(endpoint)
            if after is None or after.asked == state.asked or context.remaining() < ENOUGH_FOR_A_LOOK:
                return outcome
            lease = ledger.lease(endpoint, context.owner, LEASE_SECONDS)
            if lease is None:
                return busy
    except LeaseLost as lost:
        return Outcome(endpoint, busy=True, summary=str(lost))


class _Look:
    """One look at one endpoint by whoever has its lease."""

    def __init__(self, state: State, context: Context, lease: Lease) -> None:
        self.state = state
        self.endpoint = state.endpoint
        self.context = context
        self.ledger = context.ledger
        self.lease = lease
        self.renewed = time.monotonic()
        self.packages: dict[str, dict[str, Any] | None] = {}
        self.news: list[Message] = []
        self.incidents: dict[int, Deployment] = {}
        self.began: datetime | None = None
        self.removing = False
        self.foreign: Observed | None = None

    def run(self) -> Outcome:
        try:
            for _ in range(MOST_ROUNDS):
                outcome = self.round()
                if outcome is not None:
                    return outcome
            return Outcome(self.endpoint, summary="many deployments failed one after the other", look_again_in=60.0)
        except (AdministratorsFault, Refused) as error:
            return self.stuck(str(error))
        except ClientError as error:
            if not not_allowed(error):
                raise
            return self.stuck(str(error))
        finally:
            self.tell_news()

    def round(self) -> Outcome | None:
        """Towards what should be now; None when that changed meanwhile."""
        entry = approvals.desired(self.ledger.entries(self.endpoint), self.approval_of, self.context.now())
        recorded = self.ledger.deployments(self.endpoint, HISTORY)
        history = [deployment for deployment in recorded if deployment.number > self.state.removed_number]
        if entry is None:
            return self.take_away(history)
        if entry.kind == "remove":
            return self.remove(entry, history)
        under_way = choosing.going_on(entry, history)
        observed = self.observe(None if under_way is None else under_way.number)
        serving = self.deployment(observed.serving, history)
        if serving is not None and serving.package_arn != entry.package_arn and self.is_lost(serving.package_arn):
            return None if self.goes_back(serving, observed) else self.stuck(_lost(serving))
        deployment = choosing.chosen(entry, history, serving, observed)
        if deployment is not None and deployment.status == "failed":
            if not self.approved_anew(deployment):
                self.reject(deployment, entry)
                return None
            deployment = None
        if deployment is not None and deployment.status == "succeeded" and self.goes_back(deployment, observed):
            return None
        if going_back.is_automatic(entry) and self.state.status != "settled":
            self.tell_going_back(entry)
        history = self.supersede(history, deployment, f"{_words(entry)} instead")
        if deployment is None:
            self.began = entry.at  # until it has one: its stage file may not be readable
            try:
                deployment = self.start(entry, serving, observed)
            except StageFileError as error:
                self.reject(self.start_nothing(entry, serving, str(error)), entry)
                return None
        elif deployment.status == "superseded":
            deployment = self.record(replace(deployment, status="under-way", ended=None, reason=""))
        return self.advance(deployment, entry, observed, history)

    # --- what should be

    def approval_of(self, arn: str) -> str | None:
        package = self.package(arn)
        return None if package is None else package["ModelApprovalStatus"]

    def package(self, arn: str) -> dict[str, Any] | None:
        if arn not in self.packages:
            self.packages[arn] = describe(self.context, arn)
        return self.packages[arn]

    def known_package(self, arn: str) -> dict[str, Any]:
        package = self.package(arn)
        if package is None:
            raise StageFileError(f"{arn} is not there any more")
        return package

    def approved_anew(self, failed: Deployment) -> bool:
        """Whether somebody changed the version after its deployment had failed, and before that was written on it."""
        package = self.package(failed.package_arn)
        if package is None or failed.ended is None:
            return False
        # a version that was never modified was registered as approved
        return bool(package.get("LastModifiedTime", package["CreationTime"]) > failed.ended)

    def deployment(self, number: int | None, history: list[Deployment]) -> Deployment | None:
        if number is None:
            return None
        found = next((one for one in history if one.number == number), None)
        return found or self.ledger.deployment(self.endpoint, number)

    def start(self, entry: Entry, serving: Deployment | None, observed: Observed) -> Deployment:
        """A new deployment. Raises StageFileError when its version's stage file cannot be used."""
        from lifecycle_lambdas import stage_schema

        package = self.known_package(_arn(entry))
        stage_file = declared.read_stage_file(self.context, package, self.state.stage)
        stage_file = choosing.applied(stage_file, entry, serving, observed, self.state.stage)
        _, _, sha256 = declared.stage_file_place(package, self.state.stage)
        deployment = self.begin(
            replace(self.of(entry, serving), stage_file=stage_schema.dump(stage_file), stage_file_sha256=sha256)
        )
        self.note_incident(deployment)
        return deployment

    def read_again(self, deployment: Deployment, package: dict[str, Any], observed: Observed) -> Deployment:
        """The deployment with its version's stage file, which a ledger was rebuilt without. Raises StageFileError."""
        from lifecycle_lambdas import stage_schema

        stage_file = declared.read_stage_file(self.context, package, self.state.stage)
        stage_file = declared.effective(stage_file, stage_file, choosing.instances(observed))
        return replace(deployment, stage_file=stage_schema.dump(stage_file))

    def start_nothing(self, entry: Entry, serving: Deployment | None, reason: str) -> Deployment:
        """A deployment that has failed already: its stage file cannot be used."""
        failed = self.of(entry, serving)
        return self.begin(replace(failed, status="failed", ended=failed.started, reason=reason))

    def of(self, entry: Entry, serving: Deployment | None) -> Deployment:
        """The entry's deployment before it has a number and a stage file."""
        return Deployment(
            endpoint=self.endpoint,
            number=0,
            entry_key=entry.key,
            package_arn=_arn(entry),
            stage_file={},
            stage_file_sha256="",
            status="under-way",
            started=self.context.now(),
            previous=None if serving is None else serving.number,
        )

    def begin(self, deployment: Deployment) -> Deployment:
        deployment = self.ledger.start_deployment(self.lease, deployment)
        self.state = replace(self.state, status="under-way", last_number=deployment.number)
        counted = metrics.embedded(
            metrics.DEPLOYMENTS, 1, "Count", deployment.started, **{metrics.KIND: deployment.kind}
        )
        counted |= {"number": deployment.number, "package": deployment.package_arn}
        log("a deployment begins", endpoint=self.endpoint, **counted)
        return deployment

    # --- is what serves at fault

    def goes_back(self, serving: Deployment, observed: Observed) -> bool:
        """Whether what serves is at fault and is gone back from: then something else should serve from now on."""
        decision = watching.judged(self.context, self.state, serving, observed, self.package)
        if isinstance(decision, GoBack):
            self.keep_lease()
            self.ledger.append(decision.entry, self.lease)
            log("goes back", level="WARNING", endpoint=self.endpoint, why=decision.reason, cause=decision.cause.key)
            return True
        if decision is not None:
            self.news.append(watching.stays(self.endpoint, decision))
        return False

    def tell_going_back(self, entry: Entry) -> None:
        if not self.ledger.was_told(self.endpoint, messages.id_of_going_back(entry)):
            self.news.append(watching.went_back(self.context, self.state, entry, self.package))

    def reject_what_was_left(self, deployment: Deployment) -> None:
        """Of a version that the controller went back from, when another one serves: write on it why.

        Not before: were what it goes back to not to start, what is at fault is still better than nothing. Where it did
        not start, nothing was gone back from.
        """
        left = watching.left_behind(self.context, self.endpoint)
        if left is None or left.leaves is None or left.leaves == deployment.package_arn:
            return
        if not going_back.led_on(left, self.approval_of):
            return
        if self.approval_of(left.leaves) == "Approved":
            why = approvals.gone_back_from(self.endpoint, left.why)
            self.update_package(left.leaves, {approvals.STATUS: approvals.WENT_BACK}, **_rejected(why))

    def note_incident(self, deployment: Deployment) -> None:
        """Its page is written when the look is over: what serves does not wait for it."""
        if incidents.is_one(deployment):
            self.incidents[deployment.number] = deployment

    def supersede(self, history: list[Deployment], but: Deployment | None, reason: str) -> list[Deployment]:
        """Whatever else is under way is wanted no more; the history as it is then."""
        after = []
        for deployment in history:
            if deployment.status == "under-way" and (but is None or deployment.number != but.number):
                deployment = replace(deployment, status="superseded", ended=self.context.now(), reason=reason)
                # Whoever watches its approval sees it there. Before it is recorded: no look comes back to it then. Not
                # on what was rejected, of which is still to be read who did it.
                if self.approval_of(deployment.package_arn) == "Approved":
                    self.stamp_superseded(deployment)
                self.record(deployment)
                self.tell_ended(deployment)
            after.append(deployment)
        return after

    def stamp_superseded(self, deployment: Deployment) -> None:
        """That it may not be stamped does not hold up what takes its place: that may be going back from it."""
        try:
            self.update_package(deployment.package_arn, _stamps(deployment))
        except ClientError as error:
            if passing(error):
                raise
            log("the version could not be stamped", level="ERROR", package=deployment.package_arn, error=str(error))

    # --- what is

    def observe(self, number: int | None) -> Observed:
        clients = self.context.clients
        observed = observe.observe(clients, self.endpoint, number, self.context.settings.schedule_group)
        if not self.removing:
            return observed
        if observed.endpoint is None:
            left = observe.targets(clients("application-autoscaling"), self.endpoint, ())
            return replace(observed, targets=left)
        if sweep.is_ours(clients, "sagemaker", observed.endpoint.arn, self.tags):
            return replace(observed, tagged=True)
        # somebody else's of the same name, which stays with what it is made of
        self.foreign = observed
        return replace(observed, endpoint=None, targets=())

    @property
    def tags(self) -> dict[str, str]:
        """By which what is the endpoint's own is known."""
        return project_tags(self.state.project, "", self.state.stage)

    # --- doing

    def advance(
        self, deployment: Deployment, entry: Entry, observed: Observed, history: list[Deployment]
    ) -> Outcome | None:
        """Steps towards the deployment until there is nothing to do now; None when it failed."""
        self.began = deployment.started if deployment.status == "under-way" else None
        package = self.known_package(deployment.package_arn)
        tags = group_tags(self.context, group_arn(deployment.package_arn))
        # what a look that was killed had asked for, it could not write down
        found = _closed(replace(deployment, requested=choosing.requested(deployment, observed)))
        if found != deployment:
            deployment = self.record(found)
        try:
            if not deployment.stage_file:
                deployment = self.record(self.read_again(deployment, package, observed))
            wanted = declared.declare(deployment, self.state, package, tags, self.context.settings)
        except StageFileError as error:
            if deployment.status == "succeeded":  # what is not readable now is no fault of what serves
                version = package_version(deployment.package_arn)
                return self.stuck(f"version {version} serves on, but its stage file cannot be used: {error}")
            self.fail(deployment, entry, str(error))
            return None
        deployment, step, observed = self.steps(wanted, deployment, observed)
        if isinstance(step, GiveUp):
            if not step.reject:
                return self.stuck(step.reason)
            self.fail(deployment, entry, step.reason)
            return None
        if isinstance(step, Wait):
            return self.wait(deployment, step)
        return self.settle(deployment, entry, wanted, observed, history)

    def take_away(self, history: list[Deployment]) -> Outcome:
        """Nothing should serve: what was deployed goes. What Modelyard never deployed stays."""
        if not history:
            return self.settled("nothing was ever deployed", [])
        history = self.supersede(history, None, "nothing should serve")
        deployment = next((one for one in history if one.status == "succeeded"), history[0])
        observed = self.observe(None)
        if self.state.status == "settled" and plan(None, observed, self.context.now()) == Done():
            return Outcome(self.endpoint, settled=True, summary="nothing should serve, and nothing does")
        serving = self.deployment(observed.serving, history)
        if serving is not None and self.is_lost(serving.package_arn):
            return self.stuck(_lost(serving))
        self.under_way()
        self.began = self.taken_away_since(deployment)
        deployment, step, observed = self.steps(None, _closed(deployment), observed)
        if isinstance(step, GiveUp):
            return self.stuck(step.reason)
        if isinstance(step, Wait):
            return self.wait(deployment, step)
        self.sweep(observed, None, None)
        removed = any(attempt.operation in ("delete_endpoint", "delete_schedule") for attempt in deployment.attempts)
        if removed and deployment.status == "succeeded":
            reason = "No version is approved, or the stage is parked. Approve a version, and it is deployed."
            about = str(deployment.number)
            self.news.append(messages.of_endpoint("removed", self.endpoint, about, reason))
        return self.settled("nothing serves any more", history)

    def is_lost(self, arn: str) -> bool:
        """Whoever deletes a version from the registry cleans up there, and decides nothing about what serves."""
        return approvals.is_lost(arn, self.ledger.entries(self.endpoint), self.approval_of, self.context.now())

    def taken_away_since(self, deployment: Deployment) -> datetime | None:
        """Since when nothing should serve. The controller's own park is as of a time before it was decided."""
        newest = next(iter(self.ledger.entries(self.endpoint)), None)
        if newest is None or newest.kind != "park" or newest.source != "controller":
            return None if newest is None else newest.at
        deletions = (one.at for one in deployment.attempts if one.operation == "delete_endpoint")
        return next(deletions, self.context.now())

    def remove(self, entry: Entry, history: list[Deployment]) -> Outcome:
        """The endpoint's project is being deleted: all of it goes, whichever deployment it belongs to.

        What there is is known by its tags and its whole name, not by the ledger: the model package group may be gone,
        and somebody may have changed or deleted parts by hand.
        """
        self.removing = True
        history = self.supersede(history, None, "the endpoint is being removed")
        observed = self.observe(None)
        if self.state.status == "removed" and plan(None, observed, self.context.now()) == Done():
            return Outcome(self.endpoint, settled=True, summary=_REMOVED)
        self.under_way()
        self.began = entry.at
        if history:
            deployment, step, observed = self.steps(None, _closed(history[0]), observed)
        else:
            step, observed = self.unrecorded_steps(observed)
        if isinstance(step, GiveUp):
            return self.stuck(step.reason)
        if isinstance(step, Wait):
            return self.wait(deployment, step) if history else self.waiting(step)
        self.keep_lease()
        if running := batch_jobs.stop(self.context.clients, self.endpoint, self.tags):
            return self.waiting(Wait(f"transform jobs are being stopped: {', '.join(running)}", LOOK_AGAIN))
        self.sweep(self.foreign or observed, None, None)
        self.ledger.forget_policies(self.endpoint)
        self.ledger.forget_tests(self.endpoint)
        if history:
            self.news.append(messages.of_entry(entry, None, None))
        return self.settled(_REMOVED, history, "removed")

    def unrecorded_steps(self, observed: Observed) -> tuple[Step, Observed]:
        """As steps(), of an endpoint without a deployment in which to record them: its ledger was lost."""
        while True:
            step = plan(None, observed, self.context.now())
            if isinstance(step, Do) and self.context.remaining() < ENOUGH:
                step = Wait("the time of this look is over", 0.0)
            if not isinstance(step, Do):
                return step, observed
            self.keep_lease()
            outcome = execute.execute(step.call, self.context.clients)
            log("called", operation=step.call.operation, resource=step.call.resource, outcome=outcome)
            observed = self.observe(None)

    def steps(
        self, wanted: Declared | None, deployment: Deployment, observed: Observed
    ) -> tuple[Deployment, Step, Observed]:
        """Do what the plan says until it says something else than doing; every call is recorded before it is made."""
        before, refused = deployment, None
        while True:
            step = plan(wanted, observed, self.context.now())
            if isinstance(step, Do) and self.context.remaining() < ENOUGH:
                step = Wait("the time of this look is over", 0.0)
            if not isinstance(step, Do):
                return deployment if deployment == before else self.record(deployment), step, observed
            deployment = self.attempting(deployment, step.call)
            try:
                outcome = execute.execute(step.call, self.context.clients)
            except Refused as error:
                deployment = _with_outcome(deployment, str(error)[:1000])
                if refused == step.call and error.of_the_moment:
                    return self.record(deployment), Wait(str(error), LOOK_AGAIN), observed
                if refused == step.call:
                    return self.record(deployment), GiveUp(f"AWS refused {error}", error.of_the_request), observed
                # perhaps somebody else changed something meanwhile: then the plan is another one now
                refused, observed = step.call, self.observe(None if wanted is None else wanted.number)
                continue
            log("called", operation=step.call.operation, resource=step.call.resource, outcome=outcome)
            deployment = _with_outcome(deployment, outcome)
            if wanted is not None and step.call.operation in REQUESTS:
                wanted = replace(wanted, requested=self.context.now())
                deployment = self.record(replace(deployment, requested=wanted.requested))
            if outcome == "done":
                observed = forecast.apply(observed, step.call, self.context.now())
            else:
                observed = self.observe(None if wanted is None else wanted.number)

    def attempting(self, deployment: Deployment, call: AwsCall) -> Deployment:
        """Write down the call before it is made, with how the one before it ended."""
        attempt = Attempt(self.context.now(), call.operation, call.resource, "")
        return self.record(replace(deployment, attempts=_bounded((*deployment.attempts, attempt))))

    def record(self, deployment: Deployment) -> Deployment:
        self.keep_lease()
        self.ledger.record(self.lease, deployment)
        return deployment

    def keep_lease(self) -> None:
        """Raises LeaseLost when the look took longer than the lease, and another one is at it."""
        if time.monotonic() - self.renewed > RENEW_AFTER:
            self.lease.renew()
            self.renewed = time.monotonic()

    def sweep(self, observed: Observed, current: Deployment | None, wanted: Declared | None) -> None:
        """Remove what nothing needs any more."""
        standing = [] if wanted is None else [call.request["AlarmName"] for call in alarms.standing_alarms(wanted)]
        need = sweep.needed(
            observed,
            None if current is None else current.number,
            None if current is None else self.way_back(current),
            standing,
            wanted is not None and getattr(wanted.stage_file, "dashboard", False),
        )
        clients = self.context.clients
        there = sweep.present(clients, self.endpoint, observed.dashboard is not None)
        for call, arn in sweep.stale(self.endpoint, there, need):
            if arn is None or sweep.is_ours(clients, call.service, arn, self.tags):
                self.keep_lease()
                outcome = execute.execute(call, clients)
                log("swept", operation=call.operation, resource=call.resource, outcome=outcome)

    def way_back(self, deployment: Deployment) -> int | None:
        found = going_back.way_back(deployment, watching.history(self.context, self.state), self.approval_of)
        return None if found is None else found.number

    # --- how it ends

    def settle(
        self,
        deployment: Deployment,
        entry: Entry,
        wanted: Declared,
        observed: Observed,
        history: list[Deployment],
    ) -> Outcome | None:
        """What should be is: written down and on the version, what is not needed goes, people are told.

        None when it is at fault already: the event of its end may have come later than that of an alarm.
        """
        ends_now = deployment.status != "succeeded"
        if ends_now:
            ended = choosing.ended_at(deployment, observed, self.context.now())
            deployment = self.record(replace(deployment, status="succeeded", ended=ended, reason=""))
        # before all else: what answers wrongly is found by them
        endpoint_tests.due(self.context, deployment, self.known_package(deployment.package_arn))
        version = f"version {package_version(deployment.package_arn)} serves (deployment {deployment.number})"
        in_doubt = going_back.is_in_doubt(deployment, observed, self.context.now())
        if self.state.status == "settled" and not in_doubt:
            return Outcome(self.endpoint, settled=True, summary=version)
        self.stamp(deployment, entry)
        self.reject_what_was_left(deployment)
        self.tell_ended(deployment, entry)
        self.sweep(observed, deployment, wanted)
        if ends_now and self.goes_back(deployment, observed):
            return None
        if in_doubt:
            self.under_way()  # an alarm that lasts is no event: every ten minutes would be too seldom
            summary = f"{version}; an alarm is raised that may still be of what served before"
            return Outcome(self.endpoint, summary=summary, look_again_in=LOOK_AGAIN)
        return self.settled(version, history)

    def settled(self, summary: str, history: list[Deployment], status: Status = "settled") -> Outcome:
        """From now on the endpoint is looked at every ten minutes, a removed one never; a look that was killed may
        have told too little."""
        for deployment in history[:FEW]:
            if deployment.status in ("failed", "superseded"):
                self.tell_ended(deployment)
        self.tell_news()
        if self.state.status != status and not self.ledger.set_status(self.state, status, self.lease.fence):
            return Outcome(self.endpoint, summary="somebody asked for another look meanwhile", look_again_in=0.0)
        return Outcome(self.endpoint, settled=True, summary=summary)

    def wait(self, deployment: Deployment, step: Wait) -> Outcome:
        if not step.overdue and "alarms raised" in step.reason and deployment.reason != step.reason:
            # when SageMaker has gone back the alarms may be quiet again
            self.record(replace(deployment, reason=step.reason))
        return self.waiting(step)

    def waiting(self, step: Wait) -> Outcome:
        if step.overdue:
            self.stuck(step.reason)
        return Outcome(self.endpoint, summary=step.reason, look_again_in=step.look_again_in)

    def stuck(self, reason: str) -> Outcome:
        """A person has to do something; it is tried again all the same, and told once for each reason.

        Another number is no other reason: a quota's refusal says what is used now.
        """
        self.under_way()
        digest = hashlib.sha256(re.sub(r"\d+", "", reason).encode()).hexdigest()[:12]
        about = f"{self.state.last_number}#{digest}"
        goes_on = "It is tried again every minute, and goes on by itself when that is put right."
        remedy = f"{messages.remedy(reason)} {goes_on}"
        self.news.append(messages.of_endpoint("stuck", self.endpoint, about, reason, remedy))
        log("stuck", level="ERROR", endpoint=self.endpoint, reason=reason)
        return Outcome(self.endpoint, summary=reason, look_again_in=60.0)

    def under_way(self) -> None:
        """From now on the schedule looks every minute."""
        if self.state.status != "under-way":
            # where somebody asked meanwhile it is so already
            self.ledger.set_status(self.state, "under-way", self.lease.fence)
            self.state = replace(self.state, status="under-way")

    def fail(self, deployment: Deployment, entry: Entry, reason: str) -> None:
        """The deployment failed: its version is rejected, so that what served before serves on."""
        ended = replace(deployment, status="failed", ended=self.context.now(), reason=reason)
        self.reject(self.record(ended), entry)

    def reject(self, deployment: Deployment, entry: Entry) -> None:
        """Write on the version of a failed deployment what happened, and tell."""
        what = approvals.failure(self.endpoint, deployment.number, deployment.reason)
        self.update_version(deployment, entry, **_rejected(what))
        self.tell_ended(deployment, entry)

    def stamp(self, deployment: Deployment, entry: Entry) -> None:
        """Write the deployment on its version, unless it stands there."""
        package = self.package(deployment.package_arn)
        metadata = {} if package is None else package.get("CustomerMetadataProperties", {})
        if package is not None and not _stamps(deployment).items() <= metadata.items():
            self.update_version(deployment, entry)

    def update_version(self, deployment: Deployment, entry: Entry, **changes: str) -> None:
        package = self.package(deployment.package_arn)
        # who was to write on it who approved it may have been killed before
        stamps = _stamps(deployment) | ({} if package is None else approvals.approval_stamps(entry, package))
        self.update_package(deployment.package_arn, stamps, **changes)

    def update_package(self, arn: str, stamps: dict[str, str], **changes: str) -> None:
        client = self.context.client("sagemaker")
        self.packages.pop(arn, None)
        self.keep_lease()  # who comes late would undo what was decided about the version since
        try:
            client.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=stamps, **changes)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            # A version has 50 properties at most, and may be full: what happened to it matters more than its stamps.
            log("the version could not be stamped", level="ERROR", package=arn, error=str(error))
            if changes:
                client.update_model_package(ModelPackageArn=arn, **changes)

    def tell_news(self) -> None:
        """When all else is done: what serves does not wait for messages."""
        news, self.news = self.news, []
        for message in news:
            self.context.tell(message)
        happened, self.incidents = self.incidents, {}
        for deployment in happened.values():
            fault = incidents.write(self.context, self.state, deployment, self.package)
            if fault is not None:
                self.context.tell(fault)

    def tell_ended(self, deployment: Deployment, entry: Entry | None = None) -> None:
        """Tell how a deployment ended, once: when the look is over."""
        self.note_incident(deployment)
        kind, remedy = _KINDS[deployment.status]
        if self.ledger.was_told(self.endpoint, messages.of_deployment(kind, deployment, approved_by="").id):
            return
        by = entry.by if entry is not None and entry.package_arn == deployment.package_arn else ""
        before = self.deployment(deployment.previous, [])
        self.news.append(
            messages.of_deployment(
                kind,
                deployment,
                approved_by=by,
                package=self.package(deployment.package_arn),
                before=None if before is None else self.package(before.package_arn),
                reason=deployment.reason,
                remedy=remedy,
                incident=incidents.uri(self.state, deployment, self.package(deployment.package_arn)),
            )
        )


_KINDS: dict[str, tuple[messages.DeploymentKind, str]] = {
    "succeeded": ("deployed", ""),
    "superseded": ("superseded", ""),
    "failed": (
        "failed",
        "The version is rejected, and what served before serves on. When the cause is put right, approve the version "
        "again, or register a new one.",
    ),
}


def _lost(serving: Deployment) -> str:
    return (
        f"version {package_version(serving.package_arn)} serves, and is not in the model registry any more: somebody "
        "deleted it. It serves on, since nobody decided otherwise. Approve another version, or take the endpoint away "
        f"(park {serving.endpoint} --why ...)"
    )


def _rejected(why: str) -> dict[str, str]:
    return {"ModelApprovalStatus": "Rejected", "ApprovalDescription": approvals.description(why)}


def _stamps(deployment: Deployment) -> dict[str, str]:
    """What is written on the version, as approvals.DEPLOYMENT_STAMPS names it."""
    if deployment.ended is None:
        raise ValueError(f"{deployment.name} has not ended")
    ended = f"{deployment.ended:%Y-%m-%dT%H:%M:%SZ}"
    values = (str(deployment.number), deployment.status, ended)
    return dict(zip(approvals.DEPLOYMENT_STAMPS, values, strict=True))


def _bounded(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The first and the last of them, when there are too many: what is refused is tried again every minute."""
    if len(attempts) <= MOST_ATTEMPTS:
        return attempts
    return (*attempts[: MOST_ATTEMPTS // 2], *attempts[-(MOST_ATTEMPTS // 2) :])


def _with_outcome(deployment: Deployment, outcome: str) -> Deployment:
    last = replace(deployment.attempts[-1], outcome=outcome)
    return replace(deployment, attempts=(*deployment.attempts[:-1], last))


def _closed(deployment: Deployment) -> Deployment:
    """With no attempt open: how the call of a look that was killed ended, nobody knows."""
    if not deployment.attempts or deployment.attempts[-1].outcome:
        return deployment
    return _with_outcome(deployment, "not known: the look ended with it")


def _words(entry: Entry) -> str:
    return f"version {package_version(_arn(entry))} should serve"


def _arn(entry: Entry) -> str:
    if entry.package_arn is None:
        raise ValueError(f"{entry.endpoint}: the ledger's entry {entry.key} names no version")
    return entry.package_arn
