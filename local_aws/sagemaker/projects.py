"""Projects: a stack each, made through Service Catalog or from a template in S3.

https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects-templates-custom.html says what a template must have:
parameters SageMakerProjectName and SageMakerProjectId, which SageMaker fills. What it asks other services for, it asks
with the caller's rights.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.loopback import Loopback
from local_aws.sagemaker.project_stacks import ProjectStacks, only_provider, refusals
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.times import now
from local_aws.stack_changes import Interrupted, follow, wait_for
from local_aws.store import Document, Scope, Store

logger = logging.getLogger(__name__)

DELETED = "DeleteCompleted"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NOT_BEGUN = {
    "Create": "local_aws was stopped before the project's stack was begun. Delete the project and try again.",
    "Update": "local_aws was stopped before it noted that the stack's update had begun. Update the project again.",
    "Delete": "local_aws was stopped before it noted that the stack's deletion had begun. Delete the project again.",
}
_CREATION_FAILED = "Client error: Provisioning failed with error: "  # by Service Catalog
_DESCRIPTION = (
    "ProjectArn",
    "ProjectName",
    "ProjectId",
    "ProjectDescription",
    "ServiceCatalogProvisioningDetails",
    "ServiceCatalogProvisionedProductDetails",
    "ProjectStatus",
    "TemplateProviderDetails",
    "CreatedBy",
    "CreationTime",
    "LastModifiedTime",
    "LastModifiedBy",
)
_SUMMARY = ("ProjectName", "ProjectDescription", "ProjectArn", "ProjectId", "CreationTime", "ProjectStatus")

Begin = Callable[[], dict[str, Any]]  # asks for a change; answers what the project's document then has besides


class Projects:
    """Projects by their names.

    A document is what DescribeProject answers and, while something is under way, Verb (Create, Update or Delete) and,
    once that was asked for, what is followed: RecordId of Service Catalog's, or StackId. A deleted project is told of
    until its name is taken again.
    """

    def __init__(self, store: Store, tags: Tags, loopback: Loopback, quotas: Quotas) -> None:
        self._lock, self._tags, self._loopback, self._quotas = store.lock, tags, loopback, quotas
        self._projects = store.table("projects")
        self._stacks = ProjectStacks(tags, loopback)
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateProject": self.create,
            "DescribeProject": self.describe,
            "ListProjects": self.list,
            "UpdateProject": self.update,
            "DeleteProject": self.delete,
        }

    def create(self, call: Call, request: Request) -> Response:
        """Make a project; its stack is made afterwards.

        Raises:
            ServiceError: ValidationException: the name is taken, not exactly one way is given, the template does not
                take the parameters, Service Catalog or CloudFormation refuses; AccessDeniedException: what the caller
                may not do there; ResourceLimitExceeded: the quota of projects is reached.
        """
        product, provider = (
            request.get("ServiceCatalogProvisioningDetails"),
            only_provider(request, "TemplateProviders"),
        )
        if (product is None) == (provider is None):
            raise validation_error(
                "Give exactly one of ServiceCatalogProvisioningDetails and TemplateProviders (with a"
                " CfnTemplateProvider): what the project is made from."
            )
        document = self._reserve(call, request, product, provider)
        try:
            with refusals():
                if product is not None:
                    begun = self._stacks.provision(call, document, product)
                else:
                    begun = self._stacks.create_stack(call, document, provider or {})
        except Exception:  # nothing of the project is left
            with self._lock:
                self._projects.delete(call.scope, document["ProjectName"])
                self._tags.forget(call.scope, document["ProjectArn"])
            raise
        self._follow(call.scope, document, begun)
        return {"ProjectArn": document["ProjectArn"], "ProjectId": document["ProjectId"]}

    def describe(self, call: Call, request: Request) -> Response:
        document = self._project(call.scope, request["ProjectName"])
        return {name: document[name] for name in _DESCRIPTION if name in document}

    def list(self, call: Call, request: Request) -> Response:
        """The oldest first, unless the request sorts otherwise."""
        after = float(request.get("CreationTimeAfter", -math.inf))
        before = float(request.get("CreationTimeBefore", math.inf))
        found = [
            each
            for each in self._projects.values(call.scope)
            if request.get("NameContains", "").lower() in each["ProjectName"].lower()
            and after < each["CreationTime"] < before
        ]
        member = "ProjectName" if request.get("SortBy") == "Name" else "CreationTime"

        def position(document: Document) -> list[Any]:
            return [document[member], document["ProjectName"]]

        found.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        shown, more = page(found, request, position=position)
        return {
            "ProjectSummaryList": [{name: each[name] for name in _SUMMARY if name in each} for each in shown],
            **more,
        }

    def update(self, call: Call, request: Request) -> Response:
        """Change the description at once, and give the stack another template, other parameters or further tags.

        Tags of one that was made through Service Catalog are its provisioned product's, which takes them where a
        constraint lets it. When the stack's change is refused, nothing has changed.

        Raises:
            ServiceError: as `create`; ConflictException while something is under way.
        """
        product = request.get("ServiceCatalogProvisioningUpdateDetails")
        provider = only_provider(request, "TemplateProvidersToUpdate")
        if product is not None and provider is not None:
            raise validation_error(
                "Give ServiceCatalogProvisioningUpdateDetails or TemplateProvidersToUpdate, and not both."
            )
        with self._lock:
            document = self._at_rest(call.scope, request["ProjectName"])
            if product is not None and "ServiceCatalogProvisioningDetails" not in document:
                raise validation_error(
                    f"Project {document['ProjectName']} was made from a template in S3: give TemplateProvidersToUpdate."
                )
            if provider is not None and "TemplateProviderDetails" not in document:
                raise validation_error(
                    f"Project {document['ProjectName']} was made through Service Catalog: give"
                    " ServiceCatalogProvisioningUpdateDetails."
                )
            if product is None and request.get("Tags") and "ServiceCatalogProvisioningDetails" in document:
                product = {}
            put_back = self._put_back(call.scope, document)
            self._tags.set_on_create(call, document["ProjectArn"], request.get("Tags"))
            if "ProjectDescription" in request:
                document["ProjectDescription"] = request["ProjectDescription"]
            if product is not None or provider is not None:
                self._enter(call, document, "Update")
            else:
                document |= {"LastModifiedTime": now(), "LastModifiedBy": call.user_context}
                self._projects.put(call.scope, document["ProjectName"], document)
        if product is not None:
            tags = request.get("Tags", [])
            self._begin(call, document, put_back, lambda: self._stacks.update_product(call, document, product, tags))
        elif provider is not None:
            self._begin(call, document, put_back, lambda: self._stacks.update_stack(call, document, provider))
        return {"ProjectArn": document["ProjectArn"]}

    def delete(self, call: Call, request: Request) -> Response:
        """Delete the project's stack, and then the project.

        Raises:
            ServiceError: ValidationException: there is none; ConflictException while something is under way;
                AccessDeniedException: what the caller may not do.
        """
        with self._lock:
            document = self._at_rest(call.scope, request["ProjectName"])
            put_back = self._put_back(call.scope, document)
            self._enter(call, document, "Delete")
        self._begin(call, document, put_back, lambda: self._stacks.delete(call, document))
        return {}

    # For the server

    def resume(self) -> None:
        """After a restart with state, when the server answers: what was under way is followed further, or failed."""
        for scope, _, document in self._projects.items():
            if document["ProjectStatus"].endswith("InProgress") or document["ProjectStatus"] == "Pending":
                self._follow(scope, document, {})

    def kill(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        for thread in list(self._threads):
            thread.join()

    @property
    def busy(self) -> bool:
        return bool(self._threads)

    # A change, from its request to its end

    def _reserve(self, call: Call, request: Request, product: Request | None, provider: Request | None) -> Document:
        """Keep the project, with all that it takes to find again what is asked for next, should the server end."""
        name, project_id = request["ProjectName"], f"p-{''.join(secrets.choice(_LETTERS) for _ in range(12))}"
        arn = call.arn(f"project/{name}")
        document = {
            "ProjectArn": arn,
            "ProjectName": name,
            "ProjectId": project_id,
            "ProjectDescription": request.get("ProjectDescription", ""),
            "ProjectStatus": "Pending",
            "Verb": "Create",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "CreatedBy": call.user_context,
            "LastModifiedBy": call.user_context,
        }
        if product is not None:
            document["ServiceCatalogProvisioningDetails"] = product
        else:
            members = ("TemplateName", "TemplateURL", "RoleARN", "Parameters")
            detail: Document = {member: (provider or {})[member] for member in members if member in (provider or {})}
            detail["StackDetail"] = {"Name": f"SP-{name}-{project_id}", "StatusMessage": "-"}
            document["TemplateProviderDetails"] = [{"CfnTemplateProviderDetail": detail}]
        with self._lock:
            existing = [each for each in self._projects.values(call.scope) if each["ProjectStatus"] != DELETED]
            # Their stacks' and resources' names differ in more than capitals.
            if any(each["ProjectName"].lower() == name.lower() for each in existing):
                raise validation_error(f"Project {name} already exists. Choose another name.")
            self._quotas.check_count("projects", len(existing))
            if self._projects.get(call.scope, name) is not None:
                self._projects.delete(call.scope, name)  # so that it is listed as new
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._projects.put(call.scope, name, document)
        return document

    def _put_back(self, scope: Scope, document: Document) -> Callable[[], None]:
        """What makes a project, and its tags, what they are now; with the lock held."""
        kept, tags = dict(document), self._tags.of(scope, document["ProjectArn"])

        def put_back() -> None:
            with self._lock:
                self._projects.put(scope, kept["ProjectName"], kept)
                self._tags.put_back(scope, kept["ProjectArn"], tags)

        return put_back

    def _enter(self, call: Call, document: Document, verb: str) -> None:
        """Note that a change begins, which nothing is known of yet; with the lock held."""
        for name in ("RecordId", "StackId", "Gone"):
            document.pop(name, None)
        document |= {"Verb": verb, "ProjectStatus": f"{verb}InProgress"}
        document |= {"LastModifiedTime": now(), "LastModifiedBy": call.user_context}
        self._projects.put(call.scope, document["ProjectName"], document)

    def _begin(self, call: Call, document: Document, put_back: Callable[[], None], begin: Begin) -> None:
        """Ask for a change of a project that is there; when that is refused, the project is what it was.

        Args:
            put_back: of `_put_back`.

        Raises:
            ServiceError: ValidationException, AccessDeniedException: the other service refuses.
        """
        try:
            with refusals():
                begun = begin()
        except Exception:
            put_back()
            raise
        self._follow(call.scope, document, begun)

    def _follow(self, scope: Scope, document: Document, begun: dict[str, Any]) -> None:
        with self._lock:
            self._keep(scope, document, begun)

        def run() -> None:
            try:
                succeeded, message = self._end_of(scope, document)
                self._end(scope, document, succeeded, message)
            except Interrupted:
                pass
            except BotoCoreError:
                if not self._stopping.is_set():
                    logger.exception("Project %s is not followed any more", document["ProjectName"])
                    self._end(scope, document, False, "local_aws failed; its log has the reason.")
            except Exception:
                logger.exception("Project %s is not followed any more", document["ProjectName"])
                self._end(scope, document, False, "local_aws failed; its log has the reason.")
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True, name=f"project {document['ProjectName']}")
        self._threads.add(thread)
        thread.start()

    def _keep(self, scope: Scope, document: Document, begun: dict[str, Any]) -> None:
        if begun:
            document |= begun | {"ProjectStatus": f"{document['Verb']}InProgress"}
            self._projects.put(scope, document["ProjectName"], document)

    def _end_of(self, scope: Scope, document: Document) -> tuple[bool, str]:
        """Whether the change that is under way succeeded, and what is said of it."""
        if not {"RecordId", "StackId", "Gone"} & document.keys() and document["Verb"] == "Create":
            begun = self._stacks.find(scope, document)
            with self._lock:
                self._keep(scope, document, begun)
        if document.get("Gone"):
            return True, ""
        if "StackId" in document:
            end = follow(self._loopback.client("cloudformation", scope), document["StackId"], self._stopping)
            return end.succeeded, end.status if end.succeeded else f"{end.status}: {end.reason}"
        if "RecordId" not in document:
            return False, _NOT_BEGUN[document["Verb"]]
        catalog = self._loopback.client("servicecatalog", scope)

        def ended() -> Document | None:
            record: Document = catalog.describe_record(Id=document["RecordId"])["RecordDetail"]
            return None if record["Status"] == "IN_PROGRESS" else record

        record = wait_for(ended, self._stopping)
        message = " ".join(one["Description"] for one in record["RecordErrors"])
        prefix = _CREATION_FAILED if message and document["Verb"] == "Create" else ""
        return record["Status"] == "SUCCEEDED", prefix + message

    def _end(self, scope: Scope, document: Document, succeeded: bool, message: str) -> None:
        with self._lock:
            document["ProjectStatus"] = f"{document['Verb']}{'Completed' if succeeded else 'Failed'}"
            document["LastModifiedTime"] = now()
            for detail in document.get("TemplateProviderDetails", []):
                detail["CfnTemplateProviderDetail"]["StackDetail"]["StatusMessage"] = message or "-"
            if "ServiceCatalogProvisioningDetails" in document:
                product = document.setdefault("ServiceCatalogProvisionedProductDetails", {})
                product.pop("ProvisionedProductStatusMessage", None)
                if message:
                    product["ProvisionedProductStatusMessage"] = message
            if document["ProjectStatus"] == DELETED:
                self._tags.forget(scope, document["ProjectArn"])
            self._projects.put(scope, document["ProjectName"], document)

    # Within

    def _project(self, scope: Scope, name: str) -> Document:
        found = self._projects.get(scope, name)
        if found is None:
            raise validation_error(f"Project {name} does not exist.")
        return found

    def _at_rest(self, scope: Scope, name: str) -> Document:
        document = self._project(scope, name)
        if document["ProjectStatus"] == DELETED:
            raise validation_error(f"Project {name} does not exist.")
        if document["ProjectStatus"].endswith("InProgress") or document["ProjectStatus"] == "Pending":
            raise ServiceError(
                "ConflictException", f"Project {name} is {document['ProjectStatus']}. Wait until that is done."
            )
        return document

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        found = self._projects.get(scope, arn.rpartition("/")[2])
        return found is not None and found["ProjectArn"] == arn and found["ProjectStatus"] != DELETED
