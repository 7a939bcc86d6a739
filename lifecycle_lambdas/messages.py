"""What whoever watches is told: as text for mail, and in Slack's format for a chat's webhook.

A message's id is made from what it is about, so that saying the same twice can be noticed (Context.tell).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from lifecycle_lambdas.records import Deployment, Entry, package_version

EntryKind = Literal["approved", "rejected", "parked", "go-back"]
DeploymentKind = Literal["deployed", "failed", "superseded"]
# removed: nothing should serve, so the endpoint was deleted, or all of it for good;
# stuck: it goes on only when a person does something; went-back: the controller did so by itself;
# cleaned: what nobody needed was removed, or will be
TestsKind = Literal["tests-passed", "tests-failed", "tests-broken"]
Kind = EntryKind | DeploymentKind | TestsKind | Literal["removed", "stuck", "went-back", "cleaned"]

LONGEST_SUBJECT = 100  # SNS API reference, Publish: printable ASCII, fewer than 100 characters
# Slack's reference of Block Kit: header, section text, section fields and how many of them
LONGEST_HEADER, LONGEST_TEXT, LONGEST_FIELD, MOST_FIELDS = 150, 3000, 2000, 10
# Of one message's text: the first failures of endpoint tests in full, and what follows from them.
MOST_SECTIONS = 6
MARKS: dict[Kind, str] = {
    "approved": ":ballot_box_with_check:",
    "rejected": ":no_entry_sign:",
    "parked": ":double_vertical_bar:",
    "go-back": ":rewind:",
    "deployed": ":white_check_mark:",
    "failed": ":x:",
    "superseded": ":fast_forward:",
    "removed": ":wastebasket:",
    "stuck": ":warning:",
    "tests-passed": ":test_tube:",
    "tests-failed": ":x:",
    "tests-broken": ":warning:",
    "cleaned": ":broom:",
    "went-back": ":rewind:",
}
CONSOLE = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
# Who can do what about that which holds an endpoint up: words of AWS's refusals, the first of them that are found.
_REMEDIES = (
    (
        r"\bKMS[A-Z.]|\bkms:|KMS key",
        "Whoever owns the key: enable it, and let its policy give the role that is named the use of it.",
    ),
    (
        r"LimitExceeded|QuotaExceeded|(?i:service limit|\bquota)",
        "Whoever owns the account: ask for more in Service Quotas, or remove what is used no more. Or approve a "
        "version whose stage file asks for less.",
    ),
    (
        r"AccessDenied|UnauthorizedOperation|(?i:not authorized|assume|could not access)",
        "Whoever administers the platform: give the role that is named what it lacks. The platform's own roles get "
        "back what they should have when the platform is installed again.",
    ),
)
_REMOVED = (
    "The endpoint, its models, endpoint configs, alarms, scaling, dashboard and schedule are gone. What was decided "
    "and deployed stays in the ledger."
)
_REMEDY = "Whoever administers the platform: put it right."
Package = Mapping[str, Any]
"""DescribeModelPackage's answer, or of it ModelPackageArn and CustomerMetadataProperties."""


@dataclass(frozen=True)
class Message:
    """
    Args:
        id: the same for the same news.
        title: one line.
        text: what happened and what to do, in sentences; may be empty.
        facts: names and values, in the order in which they are shown.
        links: names and addresses.
    """

    kind: Kind
    endpoint: str
    id: str
    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def subject(self) -> str:
        """As SNS takes it."""
        plain = re.sub(r"[^\x20-\x7e]", "?", self.title)
        return plain if len(plain) < LONGEST_SUBJECT else plain[: LONGEST_SUBJECT - 4] + "..."

    def as_text(self) -> str:
        facts = [f"{name}: {value}" for name, value in self.facts]
        links = [f"{name}: {address}" for name, address in self.links]
        return "\n\n".join(part for part in (self.title, self.text, "\n".join(facts), "\n".join(links)) if part)

    def as_slack(self) -> dict[str, Any]:
        """An incoming webhook's payload."""
        blocks: list[dict[str, Any]] = [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": f"{MARKS[self.kind]} {self.title}"[:LONGEST_HEADER]},
            }
        ]
        blocks += [{"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in _sections(self.text)]
        for start in range(0, len(self.facts), MOST_FIELDS):
            fields = [
                _markdown(f"*{_escaped(name)}*\n{_escaped(value)}", LONGEST_FIELD)
                for name, value in self.facts[start : start + MOST_FIELDS]
            ]
            blocks.append({"type": "section", "fields": fields})
        if self.links:
            lines = "\n".join(
                f"<{address}|{_escaped(name)}>" if address.startswith("https://") else f"{_escaped(name)}: `{address}`"
                for name, address in self.links
            )
            blocks.append({"type": "section", "text": _markdown(lines, LONGEST_TEXT)})
        return {"text": _escaped(self.title), "blocks": blocks}

    def body(self) -> str:
        """For SNS's MessageStructure json: text for everybody, Slack's format for the function that posts to a chat."""
        return json.dumps({"default": self.as_text(), "lambda": json.dumps(self.as_slack())})


def id_of_entry(entry: Entry) -> str:
    return f"entry#{entry.key}"


def id_of_going_back(entry: Entry) -> str:
    return f"went-back#{entry.key}"


def of_entry(entry: Entry, package: Package | None, before: Package | None) -> Message:
    """What was asked for. `package` is the entry's version, `before` the one that served then. Of a removal: that it
    is done."""
    version = "" if entry.package_arn is None else f"version {package_version(entry.package_arn)}"
    who = short_name(entry.by)
    kinds: dict[str, tuple[Kind, str]] = {
        "approve": ("approved", f"{version} approved by {who}"),
        "reject": ("rejected", f"{version} rejected by {who}"),
        "go-back": ("go-back", f"{who} goes back to {version}"),
        "park": ("parked", f"{who} lets nothing serve until {_until(entry)}"),
        "remove": ("removed", f"removed by {who}"),
    }
    kind, what = kinds[entry.kind]
    facts = [("By", entry.by), ("At", _moment(entry.at)), ("Why", entry.why)]
    return Message(
        kind=kind,
        endpoint=entry.endpoint,
        id=id_of_entry(entry),
        title=f"{entry.endpoint}: {what}",
        text=_REMOVED if entry.kind == "remove" else "",
        facts=(*_given(facts), *_origin(package), *compared(package, before)),
        links=_links(entry.endpoint, package),
    )


def of_deployment(
    kind: DeploymentKind,
    deployment: Deployment,
    *,
    approved_by: str,
    package: Package | None = None,
    before: Package | None = None,
    reason: str = "",
    remedy: str = "",
    incident: str = "",
) -> Message:
    """How a deployment ended.

    Args:
        approved_by: of the entry that it fulfils.
        package: the version deployed.
        before: the version that served before it.
        reason: what happened, of one that failed or was superseded.
        remedy: what a person may do now.
        incident: S3 URI of the page that is written of it; "" where there is none.
    """
    version = f"version {package_version(deployment.package_arn)}"
    took = "" if deployment.ended is None else duration(deployment.ended - deployment.started)
    titles = {
        "deployed": f"{version} serves",
        "failed": f"{version} could not be deployed",
        "superseded": f"the deployment of {version} was superseded",
    }
    facts = [("Approved by", approved_by), ("Deployment", str(deployment.number)), ("Took", took)]
    return Message(
        kind=kind,
        endpoint=deployment.endpoint,
        id=f"{kind}#{deployment.number}",
        title=f"{deployment.endpoint}: {titles[kind]}",
        text="\n".join(part for part in (reason, remedy) if part),
        facts=(*_given(facts), *_origin(package), *compared(package, before)),
        links=(*_given([("Incident", incident)]), *_links(deployment.endpoint, package, deployment.package_arn)),
    )


def of_endpoint(kind: Literal["removed", "stuck"], endpoint: str, about: str, reason: str, remedy: str = "") -> Message:
    """What happened to an endpoint without a deployment, or what holds it up.

    Args:
        about: what makes the message this one and no other, such as an entry's key or a deployment's number.
    """
    titles = {"removed": "nothing serves any more", "stuck": "needs somebody"}
    return Message(
        kind=kind,
        endpoint=endpoint,
        id=f"{kind}#{about}",
        title=f"{endpoint}: {titles[kind]}",
        text="\n".join(part for part in (reason, remedy) if part),
    )


def of_going_back(
    entry: Entry,
    look_at: tuple[str, ...],
    package: Package | None,
    before: Package | None,
    links: tuple[tuple[str, str], ...],
) -> Message:
    """That the controller goes back by itself.

    Args:
        entry: its why says what happened, since when, and from which version to which.
        look_at: what a person may look at, a sentence each.
        package: the version that it goes back to; `before`: the one that is at fault.
        links: to what is to be looked at.
    """
    version = "" if entry.package_arn is None else f" to version {package_version(entry.package_arn)}"
    left = "" if entry.leaves is None else f"version {package_version(entry.leaves)}"
    steps = "\n".join(f"{number}. {what}" for number, what in enumerate(look_at, 1))
    text = (
        f"{entry.why[:1].upper()}{entry.why[1:]}. When it serves again, {left} is rejected, with this reason: put the "
        f"cause right and register a new version, or approve {left} again. Look at\n{steps}"
    )
    return Message(
        kind="went-back",
        endpoint=entry.endpoint,
        id=id_of_going_back(entry),
        title=f"{entry.endpoint}: goes back{version} by itself",
        text=text,
        facts=(("At", _moment(entry.at)), *_origin(before), *compared(before, package)),
        links=(*links, *_links(entry.endpoint, before)),
    )


def console(arn: str, service: str) -> str:
    """The address of a service's console in the partition and Region of the ARN."""
    _, partition, _, region, *_ = arn.split(":")
    return f"https://{region}.{CONSOLE.get(partition, CONSOLE['aws'])}/{service}/home?region={region}"


def remedy(reason: str) -> str:
    """Who has to do what about the reason why an endpoint is stuck."""
    return next((who for words, who in _REMEDIES if re.search(words, reason)), _REMEDY)


def compared(package: Package | None, before: Package | None) -> tuple[tuple[str, str], ...]:
    """The version's metrics, the main one first, each with what it was in the version before."""
    metrics, others = _metrics(package), _metrics(before)
    main = _metadata(package).get("metric.main")
    old = "" if before is None else f" (version {package_version(before['ModelPackageArn'])}: {{}})"
    return tuple(
        (name, metrics[name] + (old.format(others[name]) if name in others else ""))
        for name in sorted(metrics, key=lambda name: (name != main, name))
    )


def short_name(arn: str) -> str:
    """The part of an identity's ARN that people know it by: a user's name, a role session's name, a stack's name."""
    if arn.startswith("arn:") and ":stack/" in arn:
        return arn.split("/")[1]
    return arn.rpartition("/")[2] or arn if arn.startswith("arn:") else arn


def duration(time: timedelta) -> str:
    """45 s, 6 min 12 s, 2 h 5 min."""
    seconds = round(time.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _metadata(package: Package | None) -> Mapping[str, str]:
    return {} if package is None else package.get("CustomerMetadataProperties", {})


def _metrics(package: Package | None) -> dict[str, str]:
    """Without what says how they were judged: which is the main one, the gate's threshold and tolerance."""
    settings = ("main", "threshold", "tolerance")
    named = {
        key.removeprefix("metric."): value for key, value in _metadata(package).items() if key.startswith("metric.")
    }
    return {name: _rounded(value) for name, value in named.items() if name not in settings}


def _rounded(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _origin(package: Package | None) -> tuple[tuple[str, str], ...]:
    metadata = _metadata(package)
    facts = [("Commit", metadata.get("git.commit", "")), ("Branch", metadata.get("git.branch", ""))]
    return tuple(_given(facts))


def _links(endpoint: str, package: Package | None, arn: str | None = None) -> tuple[tuple[str, str], ...]:
    arn = arn or (package["ModelPackageArn"] if package is not None else None)
    links = [("Report", _metadata(package).get("report", ""))]
    if arn is not None:
        links.append(("Endpoint", f"{console(arn, 'sagemaker')}#/endpoints/{endpoint}"))
    links.append(("Repository", _repository_link(package)))
    return tuple(_given(links))


def _repository_link(package: Package | None) -> str:
    """Metadata values hold no character that a browser would need escaped; only https leads somewhere."""
    repository = _metadata(package).get("git.repository", "")
    return repository if repository.startswith("https://") else ""


def _until(entry: Entry) -> str:
    return "something is approved" if entry.until is None else _moment(entry.until)


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _given(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in facts if value]


def _sections(text: str) -> list[str]:
    """The text in Slack's format, in as many parts as it needs, broken between lines where these are not too long."""
    parts: list[str] = []
    for line in text.splitlines(keepends=True):
        for piece in _pieces(line):
            if parts and len(parts[-1]) + len(piece) <= LONGEST_TEXT:
                parts[-1] += piece
            else:
                parts.append(piece)
    found = [part.strip("\n") for part in parts if part.strip()]
    if len(found) > MOST_SECTIONS:
        found = [*found[: MOST_SECTIONS - 2], "...", found[-1]]
    return found


def _pieces(line: str) -> Iterator[str]:
    """A line, escaped: in one piece, or in several where it is longer than one text may be."""
    step = LONGEST_TEXT if len(_escaped(line)) <= LONGEST_TEXT else LONGEST_TEXT // len("&amp;")
    for start in range(0, len(line), step):
        yield _escaped(line[start : start + step])


def _markdown(text: str, longest: int) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text if len(text) <= longest else text[: longest - 3] + "..."}


def _escaped(text: str) -> str:
    """Slack's three characters; without it a text could mention everybody or hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
