"""Products that are launched, updated and terminated; each change is a record, and a stack behind it.

With a launch constraint CloudFormation is called as the launch role, which must let Service Catalog assume it
(https://docs.aws.amazon.com/servicecatalog/latest/adminguide/constraints-launch.html), else as whoever has called.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import Call, Operation, Request, Response, ServiceError
from local_aws.loopback import Loopback
from local_aws.sagemaker.times import now
from local_aws.servicecatalog.access import Access, LaunchPath
from local_aws.servicecatalog.catalog import (
    Catalog,
    catalog_arn,
    invalid,
    merged_tags,
    new_id,
    paged,
    tag_list,
)
from local_aws.stack_changes import CAPABILITIES, NO_UPDATES, Interrupted, StackEnd, create_stack, follow, is_missing
from local_aws.store import Document, Scope
from local_aws.template_forms import TemplateForm, read_template, value_faults

logger = logging.getLogger(__name__)

SERVICE = "servicecatalog.amazonaws.com"
SESSION = "servicecatalog"  # the name of a launch role's session
STACK_ARN = "CloudformationStackARN"  # the output that every record has
_PROVISION, _UPDATE, _TERMINATE = "PROVISION_PRODUCT", "UPDATE_PROVISIONED_PRODUCT", "TERMINATE_PROVISIONED_PRODUCT"
# Members of a provisioned product's document, as they are answered.
_SUMMARY = (
    "Name",
    "Arn",
    "Type",
    "Id",
    "Status",
    "StatusMessage",
    "CreatedTime",
    "IdempotencyToken",
    "LastRecordId",
    "LastProvisioningRecordId",
    "LastSuccessfulProvisioningRecordId",
    "ProductId",
    "ProvisioningArtifactId",
)
_DETAIL = (*_SUMMARY, "LaunchRoleArn")
_ATTRIBUTE = (*_SUMMARY, "PhysicalId", "ProductName", "ProvisioningArtifactName", "UserArn", "UserArnSession")
_LEVELS = {"Account": "", "Role": "UserArn", "User": "UserArnSession"}  # by what it is one's own
_STOPPED = "local_aws was stopped before CloudFormation was asked. Try again."

# (scope, the role's ARN, the service that wants to assume it, ARN of what it acts for) -> whether the role lets it
Trusts = Callable[[Scope, str, str, str], bool]


class Provisioning:
    """
    Args:
        trusts: ministack_host.role_trusts.

    A provisioned product's document has, beside what it answers, its Parameters (those that were given, by name) and
    Tags; a record's has its outputs, and Started once CloudFormation was asked.
    """

    def __init__(self, catalog: Catalog, access: Access, loopback: Loopback, trusts: Trusts) -> None:
        self._catalog, self._access, self._loopback, self._trusts = catalog, access, loopback, trusts
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()

    def tags(self, arn: str) -> dict[str, str] | None:
        """Of the portfolio or product with an ARN; None when there is none."""
        return self._catalog.tags(arn)

    def operations(self) -> dict[str, Operation]:
        return {
            "ProvisionProduct": self.provision,
            "UpdateProvisionedProduct": self.update,
            "TerminateProvisionedProduct": self.terminate,
            "DescribeProvisionedProduct": self.describe,
            "SearchProvisionedProducts": self.search,
            "ScanProvisionedProducts": self.scan,
            "GetProvisionedProductOutputs": self.outputs,
            "DescribeRecord": self.describe_record,
            "ListRecordHistory": self.list_records,
        }

    # Changes

    def provision(self, call: Call, request: Request) -> Response:
        """Launch a product.

        Raises:
            ServiceError: ResourceNotFoundException: no such product, version or way to it for the caller;
                DuplicateResourceException: the name is taken; InvalidParametersException: a version that is not
                active, parameters that the template does not take, a launch role that Service Catalog cannot assume.
        """
        _refuse_stack_sets(request)
        if request.get("NotificationArns"):
            raise invalid("NotificationArns is not supported by local_aws. Leave it out.")
        product = self._catalog.product(call.scope, request, "ProductId", "ProductName")
        path = self._access.path(call, product, request)
        version = self._active_version(call, product, request)
        values = _given(request)
        _check_values(read_template(version["Template"]), values)
        self._check_launch_role(call.scope, path)
        tags = _checked_tags(path.tags | merged_tags({}, request))
        provisioned_id = new_id("pp")
        work: list[Callable[[], None]] = []

        def do() -> Response:
            name = request["ProvisionedProductName"]
            if any(each["Name"] == name for each in self._catalog.provisioned.values(call.scope)):
                raise ServiceError(
                    "DuplicateResourceException",
                    f"A provisioned product with the name {name} exists already. Choose another name.",
                )
            principal, session = self._access.caller(call)
            document = {
                "Id": provisioned_id,
                "Name": name,
                "Arn": f"arn:aws:servicecatalog:{call.scope.region}:{call.scope.account}:stack/{name}/{provisioned_id}",
                "Type": "CFN_STACK",
                "CreatedTime": now(),
                "IdempotencyToken": request["ProvisionToken"],
                "UserArn": principal,
                "UserArnSession": session,
                "StackName": f"SC-{call.scope.account}-{provisioned_id}",
                "Parameters": values,
                "Tags": tags,
                **_chosen(path, version),
            }
            record = self._begin(call, document, _PROVISION)
            work.append(lambda: self._start(call.scope, record, self._client(call, document)))
            return {"RecordId": record["RecordId"]}

        answer = self._catalog.once(call, "ProvisionProduct", request, do, "ProvisionToken")
        return self._answer(call, answer, work)

    def update(self, call: Call, request: Request) -> Response:
        """Give a provisioned product another version, other parameters or further tags.

        Parameters that are not given keep their values.

        Raises:
            ServiceError: as `provision`; InvalidParametersException also while it is changed already.
        """
        _refuse_stack_sets(request)
        document = self._provisioned(call, request)
        last_record = document["LastRecordId"]
        product, path, version = self._updated_choice(call, document, request)
        values = document["Parameters"] | _given(request)
        form = read_template(version["Template"])
        values = {name: value for name, value in values.items() if name in form.parameters or name in _given(request)}
        _check_values(form, values)
        self._check_launch_role(call.scope, path)
        tags = _checked_tags(document["Tags"] | path.tags | merged_tags({}, request))
        work: list[Callable[[], None]] = []

        def do() -> Response:
            current = self._provisioned(call, request)
            _require_rest(current)
            if current["LastRecordId"] != last_record:
                raise invalid(f"Provisioned product {current['Name']} was changed by somebody else. Try again.")
            # What was before is kept in the record, for the provisioned product is what it was when the update fails.
            before = {name: current.get(name) for name in ("Parameters", "Tags", *_chosen(path, version))}
            current |= {"Parameters": values, "Tags": tags, "ProductName": product["Name"], **_chosen(path, version)}
            record = self._begin(call, current, _UPDATE, before=before)
            work.append(lambda: self._start(call.scope, record, self._client(call, current)))
            return {"RecordId": record["RecordId"]}

        answer = self._catalog.once(call, "UpdateProvisionedProduct", request, do, "UpdateToken")
        return self._answer(call, answer, work)

    def terminate(self, call: Call, request: Request) -> Response:
        """Take a provisioned product away: its stack first, unless RetainPhysicalResources leaves that.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidParametersException while it is changed.
        """
        work: list[Callable[[], None]] = []

        def do() -> Response:
            document = self._provisioned(call, request)
            _require_rest(document)
            options = {name: request.get(name, False) for name in ("IgnoreErrors", "RetainPhysicalResources")}
            record = self._begin(call, document, _TERMINATE, **options)
            work.append(lambda: self._start(call.scope, record, self._client(call, document)))
            return {"RecordId": record["RecordId"]}

        answer = self._catalog.once(call, "TerminateProvisionedProduct", request, do, "TerminateToken")
        return self._answer(call, answer, work)

    # Reading

    def describe(self, call: Call, request: Request) -> Response:
        document = self._catalog.provisioned_product(call.scope, request, "Id", "Name")
        return {"ProvisionedProductDetail": _only(document, _DETAIL), "CloudWatchDashboards": []}

    def search(self, call: Call, request: Request) -> Response:
        """Those of the caller's level (AccessLevelFilter; without it his own) that the filters let through."""
        found = self._of_level(call, self._catalog.provisioned.values(call.scope), request)
        for name, queries in request.get("Filters", {}).items():
            if name != "SearchQuery":
                raise invalid(f"Filter {name} is not supported by local_aws; SearchQuery is.")
            found = [each for each in found if any(_matches(each, query) for query in queries)]
        sort_by = {"createdTime": "CreatedTime", "name": "Name", "status": "Status", "id": "Id"}.get(
            request.get("SortBy", "createdTime")
        )
        if sort_by is None:
            raise invalid(f"SortBy {request['SortBy']} is not supported: createdTime, id, name and status are.")
        found.sort(key=lambda each: (each[sort_by], each["Id"]), reverse=request.get("SortOrder") != "ASCENDING")
        shown, more = paged(found, request)
        products = [_only(each, _ATTRIBUTE) | {"Tags": tag_list(each["Tags"])} for each in shown]
        return {"ProvisionedProducts": products, "TotalResultsCount": len(found), **more}

    def scan(self, call: Call, request: Request) -> Response:
        found = self._of_level(call, self._catalog.provisioned.values(call.scope), request)
        shown, more = paged(found, request)
        return {"ProvisionedProducts": [_only(each, _DETAIL) for each in shown], **more}

    def outputs(self, call: Call, request: Request) -> Response:
        """Of the last change that succeeded.

        Raises:
            ServiceError: InvalidParametersException for an output that there is not.
        """
        document = self._catalog.provisioned_product(
            call.scope, request, "ProvisionedProductId", "ProvisionedProductName"
        )
        record_id = document.get("LastSuccessfulProvisioningRecordId")
        found = self._catalog.record(call.scope, record_id)["Outputs"] if record_id else []
        if keys := request.get("OutputKeys"):
            found = [each for each in found if each["OutputKey"] in keys]
            if missing := [key for key in keys if key not in [each["OutputKey"] for each in found]]:
                raise invalid(f"Provisioned product {document['Id']} has no output {', '.join(missing)}.")
        shown, more = paged(found, request)
        return {"Outputs": shown, **more}

    def describe_record(self, call: Call, request: Request) -> Response:
        record = self._catalog.record(call.scope, request["Id"])
        shown, more = paged(record["Outputs"], request)
        return {"RecordDetail": record["Detail"], "RecordOutputs": shown, **more}

    def list_records(self, call: Call, request: Request) -> Response:
        """The newest first."""
        found = self._of_level(call, self._catalog.records.values(call.scope), request)
        if "SearchFilter" in request:
            name, value = request["SearchFilter"].get("Key"), request["SearchFilter"].get("Value")
            member = {"product": "ProductId", "provisionedproduct": "ProvisionedProductId"}.get(str(name))
            if member is None:
                raise invalid("SearchFilter Key: product or provisionedproduct.")
            found = [each for each in found if each["Detail"].get(member) == value]
        shown, more = paged(found[::-1], request)
        return {"RecordDetails": [each["Detail"] for each in shown], **more}

    # For the server

    def template(self, scope: Scope, version_id: str) -> str | None:
        """A version's template, for CloudFormation."""
        version = self._catalog.versions.get(scope, version_id)
        return str(version["Template"]) if version else None

    def stack_tags(self, scope: Scope, stack: str) -> dict[str, str]:
        """The tags that only Service Catalog can give the stack of that name.

        https://docs.aws.amazon.com/servicecatalog/latest/adminguide/autotags.html
        """
        document = self._catalog.provisioned.get(scope, stack.removeprefix(f"SC-{scope.account}-"))
        if document is None or document["StackName"] != stack:
            return {}
        return {
            "aws:servicecatalog:portfolioArn": catalog_arn(scope, f"portfolio/{document['PortfolioId']}"),
            "aws:servicecatalog:productArn": catalog_arn(scope, f"product/{document['ProductId']}"),
            "aws:servicecatalog:provisioningPrincipalArn": document["UserArnSession"],
            "aws:servicecatalog:provisionedProductArn": document["Arn"],
            "aws:servicecatalog:provisioningArtifactIdentifier": document["ProvisioningArtifactId"],
        }

    def resume(self) -> None:
        """After a restart with state: what was under way is followed further, or has failed."""
        for scope, _, record in self._catalog.records.items():
            if record["Detail"]["Status"] == "IN_PROGRESS":
                role = record["Detail"].get("LaunchRoleArn")
                client = self._loopback.client("cloudformation", scope, role, SESSION)
                self._start(scope, record, client)

    def kill(self) -> None:
        self._stopping.set()

    def stop(self) -> None:
        self.kill()
        for thread in list(self._threads):
            thread.join()

    # A change, from its request to its end

    def _begin(self, call: Call, document: Document, kind: str, **more: Any) -> Document:
        """Keep a record of a change that is under way; with the lock held."""
        record_id = new_id("rec")
        detail = {
            "RecordId": record_id,
            "ProvisionedProductName": document["Name"],
            "Status": "IN_PROGRESS",
            "CreatedTime": now(),
            "UpdatedTime": now(),
            "ProvisionedProductType": document["Type"],
            "RecordType": kind,
            "ProvisionedProductId": document["Id"],
            "ProductId": document["ProductId"],
            "ProvisioningArtifactId": document["ProvisioningArtifactId"],
            "PathId": document["PathId"],
            "RecordErrors": [],
            "RecordTags": tag_list(document["Tags"]),
            "LaunchRoleArn": document.get("LaunchRoleArn"),
        }
        status = document.get("Status")
        principal, session = self._access.caller(call)
        document |= {"Status": "UNDER_CHANGE", "StatusMessage": "", "LastRecordId": record_id}
        if kind != _TERMINATE:
            document["LastProvisioningRecordId"] = record_id
        record = {
            "RecordId": record_id,
            "Detail": {name: value for name, value in detail.items() if value is not None},
            "UserArn": principal,
            "UserArnSession": session,
            "Outputs": [],
            "StatusBefore": status,
            **more,
        }
        self._catalog.provisioned.put(call.scope, document["Id"], document)
        self._catalog.records.put(call.scope, record_id, record)
        return record

    def _answer(self, call: Call, answer: Response, work: list[Callable[[], None]]) -> Response:
        detail = dict(self._catalog.record(call.scope, answer["RecordId"])["Detail"])
        for each in work:  # none, when the token came before
            each()
        return {"RecordDetail": detail}

    def _client(self, call: Call, document: Document) -> Any:
        if role := document.get("LaunchRoleArn"):
            return self._loopback.client("cloudformation", call.scope, role, SESSION)
        return self._loopback.callers_client("cloudformation", call.scope, call.access_key)

    def _start(self, scope: Scope, record: Document, cloudformation: Any) -> None:
        def run() -> None:
            try:
                self._run(scope, record, cloudformation)
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True, name=f"servicecatalog {record['RecordId']}")
        self._threads.add(thread)
        thread.start()

    def _run(self, scope: Scope, record: Document, cloudformation: Any) -> None:
        document = self._catalog.provisioned.get(scope, record["Detail"]["ProvisionedProductId"])
        if document is None:  # only a state folder that somebody has changed
            self._end_record(scope, record, "FAILED", "The provisioned product is gone.")
            return
        try:
            end = self._change(scope, record, document, cloudformation)
        except Interrupted:
            return
        except ClientError as error:
            said = error.response["Error"]
            end = StackEnd("", "FAILED", f"{said['Message']} (Service: CloudFormation; Error Code: {said['Code']})")
        except BotoCoreError as error:  # the server goes
            if self._stopping.is_set():
                return
            end = StackEnd("", "FAILED", str(error))
        except Exception:
            logger.exception("Service Catalog failed in %s", record["RecordId"])
            end = StackEnd("", "FAILED", "local_aws failed; its log has the reason.")
        self._end(scope, record, document, end)

    def _change(self, scope: Scope, record: Document, document: Document, cloudformation: Any) -> StackEnd:
        kind, stack = record["Detail"]["RecordType"], document["StackName"]
        if kind == _TERMINATE:
            return self._delete_stack(record, document, cloudformation)
        if "Started" not in record:
            if self._stopping.is_set():
                raise Interrupted
            if record.get("Seen"):  # in an earlier process, which did not come to ask
                return StackEnd("", "FAILED", _STOPPED)
            self._note(scope, record, Seen=True)
            request = self._stack_request(scope, document)
            if kind == _PROVISION:
                self._note(scope, record, Started=create_stack(cloudformation, stack, **request))
            else:
                try:
                    started = cloudformation.update_stack(StackName=stack, **request)["StackId"]
                except ClientError as error:
                    if error.response["Error"]["Message"] != NO_UPDATES:
                        raise
                    started = document["PhysicalId"]
                self._note(scope, record, Started=started)
            document["PhysicalId"] = record["Started"]
        return follow(cloudformation, record["Started"], self._stopping)

    def _delete_stack(self, record: Document, document: Document, cloudformation: Any) -> StackEnd:
        stack = document.get("PhysicalId") or document["StackName"]
        if record["RetainPhysicalResources"]:
            return StackEnd(stack, "DELETE_COMPLETE")
        try:
            cloudformation.delete_stack(StackName=stack)
        except ClientError as error:
            if not is_missing(error):
                raise
        return follow(cloudformation, stack, self._stopping)

    def _stack_request(self, scope: Scope, document: Document) -> dict[str, Any]:
        return {
            "TemplateURL": template_url(scope, document["ProvisioningArtifactId"]),
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value} for name, value in document["Parameters"].items()
            ],
            "Tags": tag_list(document["Tags"]),
            "Capabilities": CAPABILITIES,
        }

    def _end(self, scope: Scope, record: Document, document: Document, end: StackEnd) -> None:
        kind = record["Detail"]["RecordType"]
        with self._catalog.lock:
            if end.succeeded:
                self._succeed(scope, record, document, end)
                return
            if kind == _TERMINATE and record["IgnoreErrors"]:
                self._catalog.provisioned.delete(scope, document["Id"])
                self._end_record(scope, record, "SUCCEEDED")
                return
            if kind == _UPDATE:
                document |= record["before"]
            # TAINTED: the stack is there, as it was. ERROR: it is not running.
            as_before = record["StatusBefore"] in ("AVAILABLE", "TAINTED")
            unchanged = end.status in ("UPDATE_ROLLBACK_COMPLETE", "FAILED")
            document["Status"] = "TAINTED" if as_before and unchanged else "ERROR"
            document["StatusMessage"] = end.reason
            self._catalog.provisioned.put(scope, document["Id"], document)
            self._end_record(scope, record, "FAILED", end.reason)

    def _succeed(self, scope: Scope, record: Document, document: Document, end: StackEnd) -> None:
        if record["Detail"]["RecordType"] == _TERMINATE:
            self._catalog.provisioned.delete(scope, document["Id"])
        else:
            arn = {
                "OutputKey": STACK_ARN,
                "OutputValue": end.stack_id,
                "Description": "The ARN of the launched Cloudformation Stack",
            }
            names = ("OutputKey", "OutputValue", "Description")
            record["Outputs"] = [arn, *[{name: one[name] for name in names if name in one} for one in end.outputs]]
            document["Status"], document["LastSuccessfulProvisioningRecordId"] = "AVAILABLE", record["RecordId"]
            self._catalog.provisioned.put(scope, document["Id"], document)
        self._end_record(scope, record, "SUCCEEDED")

    def _end_record(self, scope: Scope, record: Document, status: str, reason: str = "") -> None:
        errors = [{"Code": "StackOperationFailed", "Description": reason}] if reason else []
        detail = record["Detail"] | {"Status": status, "UpdatedTime": now(), "RecordErrors": errors}
        self._note(scope, record, Detail=detail)

    def _note(self, scope: Scope, record: Document, **members: Any) -> None:
        record |= members
        self._catalog.records.put(scope, record["RecordId"], record)

    # Within

    def _provisioned(self, call: Call, request: Request) -> Document:
        return self._catalog.provisioned_product(call.scope, request, "ProvisionedProductId", "ProvisionedProductName")

    def _active_version(self, call: Call, product: Document, request: Request) -> Document:
        version = self._catalog.version(call.scope, product["Id"], request)
        if not version["Active"]:
            raise invalid(f"ProvisioningArtifact {version['Id']} of product {product['Id']} is not active.")
        return version

    def _updated_choice(
        self, call: Call, document: Document, request: Request
    ) -> tuple[Document, LaunchPath, Document]:
        """Product, way and version after an update: those of before, where the request does not say otherwise."""
        named = _members(request, "ProductId", "ProductName")
        product = self._catalog.product(
            call.scope, named or {"ProductId": document["ProductId"]}, "ProductId", "ProductName"
        )
        same = product["Id"] == document["ProductId"]
        paths = _members(request, "PathId", "PathName")
        path = self._access.path(call, product, paths or ({"PathId": document["PathId"]} if same else {}))
        chosen = _members(request, "ProvisioningArtifactId", "ProvisioningArtifactName")
        if chosen or not same:
            return product, path, self._active_version(call, product, chosen)
        before = {"ProvisioningArtifactId": document["ProvisioningArtifactId"]}
        return product, path, self._catalog.version(call.scope, product["Id"], before)

    def _check_launch_role(self, scope: Scope, path: LaunchPath) -> None:
        source = f"arn:aws:servicecatalog:{scope.region}:{scope.account}:{path.product['Id']}"
        if path.launch_role and not self._trusts(scope, path.launch_role, SERVICE, source):
            raise invalid(
                f"Access denied while assuming the role {path.launch_role}. Please ensure that the role exists and"
                f" that its trust policy lets {SERVICE} assume it."
            )

    def _of_level(self, call: Call, documents: list[Document], request: Request) -> list[Document]:
        level = request.get("AccessLevelFilter", {"Key": "User", "Value": "self"})
        if level.get("Value", "self") != "self":
            raise invalid("AccessLevelFilter Value: self is the only one.")
        own = dict(zip(("UserArn", "UserArnSession"), self._access.caller(call), strict=True))
        member = _LEVELS[level.get("Key", "User")]
        return [each for each in documents if not member or each[member] == own[member]]


def template_url(scope: Scope, version_id: str) -> str:
    """Where CloudFormation reads a version's template: in a bucket of Service Catalog's own."""
    return f"https://s3.{scope.region}.amazonaws.com/sc-{scope.account}-{scope.region}/{version_id}.template"


def _chosen(path: LaunchPath, version: Document) -> Document:
    return {
        "ProductId": path.product["Id"],
        "ProductName": path.product["Name"],
        "PortfolioId": path.portfolio["Id"],
        "PathId": path.id,
        "ProvisioningArtifactId": version["Id"],
        "ProvisioningArtifactName": version["Name"],
        "LaunchRoleArn": path.launch_role,
    }


def _members(request: Request, *names: str) -> Request:
    return {name: request[name] for name in names if name in request}


def _given(request: Request) -> dict[str, str]:
    """The parameters that a request gives a value for."""
    return {
        one["Key"]: one.get("Value", "")
        for one in request.get("ProvisioningParameters", [])
        if "Key" in one and not one.get("UsePreviousValue")
    }


def _check_values(form: TemplateForm, values: Mapping[str, str]) -> None:
    if faults := value_faults(form, values):
        raise invalid("; ".join(faults))


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    return merged_tags({}, {"Tags": tag_list(tags)})


def _refuse_stack_sets(request: Request) -> None:
    if request.get("ProvisioningPreferences"):
        raise invalid(
            "ProvisioningPreferences are not supported by local_aws: they are for stack sets. Leave them out."
        )


def _require_rest(document: Document) -> None:
    if document["Status"] == "UNDER_CHANGE":
        raise invalid(
            f"Provisioned product {document['Name']} is UNDER_CHANGE. Wait until that is done, then try again."
        )


def _only(document: Document, names: tuple[str, ...]) -> Document:
    return {name: document[name] for name in names if document.get(name) is not None}


def _matches(document: Document, query: str) -> bool:
    """Whether a provisioned product is what a query such as "name:churn" or "churn" asks for."""
    name, colon, value = query.partition(":")
    text = {each.lower(): str(document.get(each, "")) for each in _ATTRIBUTE}
    if colon and name.lower() in text:
        return text[name.lower()].lower() == value.strip('"').lower()
    if colon and name == "arn":
        return document["Arn"] == value
    return any(query.strip('"').lower() in each.lower() for each in text.values())
