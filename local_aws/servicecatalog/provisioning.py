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
from local_aws.servicecatalog.access import RESOURCE_UPDATE, Access, LaunchPath
from local_aws.servicecatalog.catalog import (
    Catalog,
    catalog_arn,
    invalid,
    merged_tags,
    new_id,
    tag_list,
)
from local_aws.stack_changes import (
    CAPABILITIES,
    LONGEST_REASON,
    NO_UPDATES,
    Interrupted,
    StackEnd,
    create_stack,
    follow,
    is_missing,
)
from local_aws.store import Document, Scope
from local_aws.template_forms import TemplateForm, read_template, value_faults

logger = logging.getLogger(__name__)

SERVICE = "servicecatalog.amazonaws.com"
SESSION = "servicecatalog"  # the name of a launch role's session
STACK_ARN = "CloudformationStackARN"  # the output that every record has
_PROVISION, _UPDATE, _TERMINATE = "PROVISION_PRODUCT", "UPDATE_PROVISIONED_PRODUCT", "TERMINATE_PROVISIONED_PRODUCT"
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

        Parameters that are not given keep their values. Tags stay what they are, unless a constraint lets updates
        change them: then it also gets those that portfolio and product have by now.
        https://docs.aws.amazon.com/servicecatalog/latest/adminguide/constraints-resourceupdate.html

        Raises:
            ServiceError: as `provision`; InvalidParametersException also while it is changed already, and for tags
                without that constraint.
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
        tags = document["Tags"]
        if path.updates_tags:
            tags = _checked_tags(tags | path.tags | merged_tags({}, request))
        elif request.get("Tags"):
            raise invalid(
                f"Tag updates are not allowed for product {product['Id']}: its portfolio {path.portfolio['Id']} has no"
                f" {RESOURCE_UPDATE} constraint on it with TagUpdateOnProvisionedProduct ALLOWED. Leave Tags out."
            )
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
            ServiceError: ResourceNotFoundException, even for a token that was answered before: that counts until
                the product is gone; InvalidParametersException while it is changed.
        """
        self._provisioned(call, request)
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
        role = record["Detail"].get("LaunchRoleArn")
        asks = "Started" not in record and not record.get("RetainPhysicalResources")
        # Its trust may have changed since the launch; the session that is kept here knows nothing of that.
        if asks and (fault := self._launch_role_fault(scope, role, document["ProductId"])):
            return StackEnd("", "FAILED", fault)
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
            document["StatusMessage"] = _told(end)
            self._catalog.provisioned.put(scope, document["Id"], document)
            self._end_record(scope, record, "FAILED", _told(end))

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
        if fault := self._launch_role_fault(scope, path.launch_role, path.product["Id"]):
            raise invalid(fault)

    def _launch_role_fault(self, scope: Scope, role: str | None, product: str) -> str | None:
        """Why Service Catalog cannot act as a launch role; None when it can, or there is none."""
        source = f"arn:aws:servicecatalog:{scope.region}:{scope.account}:{product}"
        if role is None or self._trusts(scope, role, SERVICE, source):
            return None
        return (
            f"Access denied while assuming the role {role}. Please ensure that the role exists and that its trust"
            f" policy lets {SERVICE} assume it."
        )


def _told(end: StackEnd) -> str:
    """Why a change failed, in Service Catalog's form.

    Seen in https://github.com/aws-samples/aws-account-vending-machine/issues/7; no document of AWS's shows it.
    """
    if not end.events:
        return end.reason
    each = [
        f"{{LogicalResourceId : {event['LogicalResourceId']}, ResourceType : {event['ResourceType']},"
        f" StatusReason : {event['ResourceStatusReason']}}}"
        for event in end.events
    ]
    return f"Errors from CloudFormation: [{', '.join(each)}]"[:LONGEST_REASON]


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
