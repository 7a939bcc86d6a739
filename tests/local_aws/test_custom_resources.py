"""CloudFormation's custom resources: what functions are asked, what counts as their answer, what stacks do with it."""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.custom_resources import Request, RequestFailed, as_sent, generated_id, read_answer
from tests.local_aws.lambda_requests import Parts
from tests.local_aws.waiting import settled, wait_for

STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/shop/51af3dc0-da77-11e4-872e-1234567db123"
# Tells the queue what it was asked and what CloudFormation says of it meanwhile; then does as its property "Do" says.
SOURCE = """
import json, time, urllib.request
import boto3

def handler(event, context):
    properties = event["ResourceProperties"]
    cloudformation = boto3.client("cloudformation")
    stack, name = event["StackId"], event["LogicalResourceId"]
    resource = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=name)["StackResourceDetail"]
    listed = cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    seen = {
        "resource": resource["ResourceStatus"],
        "listed": next(each["ResourceStatus"] for each in listed if each["LogicalResourceId"] == name),
        "event": next(each["ResourceStatus"] for each in events if each["LogicalResourceId"] == name),
        "stack": cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"],
    }
    message = json.dumps({"asked": event, "seen": seen, "id": resource.get("PhysicalResourceId")})
    boto3.client("sqs").send_message(QueueUrl=properties["Queue"], MessageBody=message)
    do = properties.get("Do", {}).get(event["RequestType"], "succeed")
    if do == "raise":
        raise RuntimeError("as it was told")
    if do == "wait":
        time.sleep(600)
    if do == "answer nothing":
        return
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": "SUCCESS", "PhysicalResourceId": properties.get("Id", "thing/1"), "Data": {"Url": "git://x"}}
    if do == "fail":
        answer |= {"Status": "FAILED", "Reason": "the name is taken"}
    if do == "say too much":
        answer["Reason"] = "x" * 4096
    body = json.dumps(answer).encode()
    put = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    urllib.request.urlopen(put).read()
"""


def a_request(**more: Any) -> Request:
    return Request(**{"kind": "Create", "stack": STACK, "logical_id": "Thing", "type": "Custom::Thing"} | more)


def an_answer(request: Request, **more: Any) -> dict[str, Any]:
    return {
        "Status": "SUCCESS",
        "PhysicalResourceId": "thing/1",
        "StackId": request.stack,
        "RequestId": request.id,
        "LogicalResourceId": request.logical_id,
        **more,
    }


def test_scalars_are_sent_as_strings_and_maps_and_lists_as_they_are() -> None:
    properties = {"Count": 3, "On": True, "Off": False, "Rate": 0.5, "Tags": {"a": 1}, "Names": ["b", 2]}
    sent = {"Count": "3", "On": "true", "Off": "false", "Rate": "0.5", "Tags": {"a": "1"}, "Names": ["b", "2"]}
    assert as_sent(properties) == sent


def test_an_update_says_what_there_was() -> None:
    request = a_request(
        kind="Update", properties={"Size": 2}, old_properties={"Size": 1}, physical_id="thing/1", id="request-1"
    )
    assert request.event("https://answers/1") == {
        "RequestType": "Update",
        "ResponseURL": "https://answers/1",
        "StackId": STACK,
        "RequestId": "request-1",
        "ResourceType": "Custom::Thing",
        "LogicalResourceId": "Thing",
        "PhysicalResourceId": "thing/1",
        "ResourceProperties": {"Size": "2"},
        "OldResourceProperties": {"Size": "1"},
    }


def test_a_success_gives_the_id_and_the_data() -> None:
    request = a_request(properties={})
    data = {"Url": "u", "Count": 3, "New": True}
    answer = read_answer(json.dumps(an_answer(request, Data=data, NoEcho=True)).encode(), request, "none")
    assert (answer.physical_id, answer.data) == ("thing/1", {"Url": "u", "Count": "3", "New": "true"})


@pytest.mark.parametrize(
    ("change", "reason", "physical_id"),
    [
        ({"Status": "FAILED", "Reason": "no room"}, "Message returned: no room (RequestId: r)", "thing/1"),
        ({"Status": "FAILED"}, "Message returned: no reason was given (RequestId: r)", "thing/1"),
        ({"Status": "DONE"}, "Invalid Status", "thing/1"),
        ({"Reason": "x" * 4096}, "Response object is too long.", "none"),
        ({"PhysicalResourceId": ""}, "Invalid PhysicalResourceId", "none"),
        ({"PhysicalResourceId": None}, "Invalid PhysicalResourceId", "none"),
        ({"PhysicalResourceId": "x" * 1025}, "Invalid PhysicalResourceId", "none"),
        ({"StackId": "another"}, "Invalid StackId", "none"),
        ({"RequestId": "another"}, "Invalid RequestId", "none"),
        ({"LogicalResourceId": "another"}, "Invalid LogicalResourceId", "none"),
        ({"Data": ["Url"]}, "Data is not a JSON object", "thing/1"),
    ],
)
def test_what_is_no_success_fails_the_resource_and_says_why(
    change: dict[str, Any], reason: str, physical_id: str
) -> None:
    request = a_request(properties={}, id="r")
    with pytest.raises(RequestFailed) as failure:
        read_answer(json.dumps(an_answer(request, **change)).encode(), request, "none")
    assert reason in str(failure.value)
    assert failure.value.physical_id == physical_id


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"SUCCESS"', b"\xff"])
def test_what_is_no_json_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(RequestFailed, match="Invalid response object"):
        read_answer(body, a_request(properties={}), "none")


@pytest.mark.parametrize("given", ["0", "3601", "soon", "-1", "1.5", ""])
def test_a_service_timeout_is_1_to_3600_seconds(given: str) -> None:
    with pytest.raises(RequestFailed, match="give a number of seconds from 1 to 3600"):
        _ = a_request(properties={"ServiceTimeout": given}).timeout


def test_without_a_service_timeout_an_answer_is_awaited_for_an_hour() -> None:
    assert a_request(properties={}).timeout == 3600
    assert a_request(properties={"ServiceTimeout": 60}).timeout == 60


def test_a_resource_whose_creation_says_no_id_gets_one_of_cloudformations() -> None:
    one, another = (generated_id(a_request(properties={})) for _ in range(2))
    assert one.startswith("shop-Thing-")
    assert one != another


# --- with a server


@dataclasses.dataclass
class Stacks:
    """Stacks of custom resources on one server, and what their function was asked."""

    aws: LocalAWS

    def __post_init__(self) -> None:
        self.parts = Parts(self.aws)
        self.cloudformation = self.aws.client("cloudformation")
        self.function = self.parts.function("provider", SOURCE, Timeout=900)

    def pass_time(self, seconds: float) -> None:
        self.aws.configure("clock", {"advance": seconds})

    def new(self) -> Stack:
        name = f"s{uuid.uuid4().hex[:8]}"
        return Stack(self, name, self.parts.queue(name)[0])


@dataclasses.dataclass
class Stack:
    stacks: Stacks
    name: str
    queue: str
    id: str = ""

    def template(self, **things: dict[str, Any]) -> str:
        common = {"ServiceToken": self.stacks.function, "Queue": self.queue}
        resources = {
            name: {"Type": "Custom::Thing", "Properties": {**common, **properties}}
            for name, properties in things.items()
        }
        outputs = {name: {"Value": {"Fn::Sub": f"${{{name}}} ${{{name}.Url}}"}} for name in things}
        return json.dumps({"Resources": resources, "Outputs": outputs})

    def create(self, *, wait: bool = True, **things: dict[str, Any]) -> str:
        template = self.template(**things)
        self.id = self.stacks.cloudformation.create_stack(StackName=self.name, TemplateBody=template)["StackId"]
        return self.settled() if wait else ""

    def update(self, *, wait: bool = True, **things: dict[str, Any]) -> str:
        self.stacks.cloudformation.update_stack(StackName=self.name, TemplateBody=self.template(**things))
        return self.settled() if wait else ""

    def delete(self) -> str:
        self.stacks.cloudformation.delete_stack(StackName=self.id)
        return self.settled()

    def settled(self) -> str:
        return str(settled(self.stacks.cloudformation, self.id)["StackStatus"])

    def now(self) -> dict[str, Any]:
        return dict(self.stacks.cloudformation.describe_stacks(StackName=self.id)["Stacks"][0])

    def events(self, name: str = "Thing") -> list[tuple[str, str]]:
        """Status and reason, the oldest first."""
        events = self.stacks.cloudformation.describe_stack_events(StackName=self.id)["StackEvents"]
        return [
            (event["ResourceStatus"], event.get("ResourceStatusReason", ""))
            for event in reversed(events)
            if event["LogicalResourceId"] == name
        ]

    def asked(self, count: int) -> list[dict[str, Any]]:
        """The function's next so many invocations: {"asked": the event, "seen": what CloudFormation then said}."""
        return self.stacks.parts.received(self.queue, count)

    def asked_again(self) -> dict[str, Any]:
        """The next invocation, after the delay that follows one that failed."""
        receive = self.stacks.parts.queues.receive_message

        def message() -> Any:
            self.stacks.pass_time(5)  # in small steps, since it is not known when the one before has ended
            return receive(QueueUrl=self.queue).get("Messages")

        found = wait_for(message)[0]
        self.stacks.parts.queues.delete_message(QueueUrl=self.queue, ReceiptHandle=found["ReceiptHandle"])
        return dict(json.loads(found["Body"]))


@pytest.fixture(scope="module")
def stacks() -> Iterator[Stacks]:
    with LocalAWS() as aws:
        yield Stacks(aws)


def kinds(asked: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(each["asked"]["RequestType"], each["asked"].get("PhysicalResourceId")) for each in asked]


def put(url: str, body: bytes, content_type: str = "") -> int:
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_created_changed_and_deleted_as_the_function_answers(stacks: Stacks) -> None:
    stack = stacks.new()
    assert stack.create(Thing={"Size": 1}) == "CREATE_COMPLETE"
    assert stack.now()["Outputs"][0]["OutputValue"] == "thing/1 git://x"
    assert stack.update(Thing={"Size": 2}) == "UPDATE_COMPLETE"
    assert stack.delete() == "DELETE_COMPLETE"

    created, updated, deleted = stack.asked(3)
    assert kinds([created, updated, deleted]) == [("Create", None), ("Update", "thing/1"), ("Delete", "thing/1")]
    assert updated["asked"]["ResourceProperties"]["Size"] == "2"
    assert updated["asked"]["OldResourceProperties"]["Size"] == "1"
    for asked, status in ((created, "CREATE"), (updated, "UPDATE"), (deleted, "DELETE")):
        assert set(asked["seen"].values()) == {f"{status}_IN_PROGRESS"}
    assert [each["id"] for each in (created, updated, deleted)] == [None, "thing/1", "thing/1"]


def test_a_failed_creation_is_deleted_by_the_id_that_it_gave(stacks: Stacks) -> None:
    stack = stacks.new()
    assert stack.create(Thing={"Do": {"Create": "fail"}}) == "ROLLBACK_COMPLETE"

    created, deleted = stack.asked(2)
    assert kinds([created, deleted]) == [("Create", None), ("Delete", "thing/1")]
    assert deleted["seen"]["stack"] == "ROLLBACK_IN_PROGRESS"
    assert deleted["seen"]["resource"] == "DELETE_IN_PROGRESS"
    reason = (
        "Received response status [FAILED] from custom resource. Message returned: the name is taken"
        f" (RequestId: {created['asked']['RequestId']})"
    )
    assert ("CREATE_FAILED", reason) in stack.events()


@pytest.mark.parametrize("answer", ["say too much", "fail"])
def test_what_cannot_be_deleted_is_asked_for_again_by_the_next_deletion(stacks: Stacks, answer: str) -> None:
    stack = stacks.new()
    assert stack.create(Thing={"Do": {"Delete": answer}}) == "CREATE_COMPLETE"
    for _ in range(2):
        assert stack.delete() == "DELETE_FAILED"
    assert kinds(stack.asked(3)) == [("Create", None), ("Delete", "thing/1"), ("Delete", "thing/1")]


def test_what_cannot_be_deleted_keeps_what_it_refers_to(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(First={}, Second={"After": {"Ref": "First"}, "Do": {"Delete": "fail"}}, Other={})
    assert stack.delete() == "DELETE_FAILED"
    asked = [each["asked"] for each in stack.asked(5)]
    assert {each["LogicalResourceId"] for each in asked if each["RequestType"] == "Delete"} == {"Second", "Other"}
    left = stacks.cloudformation.list_stack_resources(StackName=stack.id)["StackResourceSummaries"]
    assert {each["LogicalResourceId"] for each in left} == {"First", "Second"}


def test_what_a_rollback_could_not_delete_goes_with_the_stack(stacks: Stacks) -> None:
    stack = stacks.new()
    assert stack.create(Thing={"Do": {"Create": "fail", "Delete": "fail"}}) == "ROLLBACK_FAILED"
    assert stack.delete() == "DELETE_FAILED"
    assert kinds(stack.asked(3)) == [("Create", None), ("Delete", "thing/1"), ("Delete", "thing/1")]


def test_a_failed_update_is_taken_back_by_an_update_to_what_there_was(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Size": 1})
    assert stack.update(Thing={"Size": 2, "Do": {"Update": "fail"}}) == "UPDATE_ROLLBACK_COMPLETE"

    _, update, back = stack.asked(3)
    assert kinds([update, back]) == [("Update", "thing/1"), ("Update", "thing/1")]
    assert (back["asked"]["ResourceProperties"]["Size"], back["asked"]["OldResourceProperties"]["Size"]) == ("1", "2")
    assert back["seen"]["stack"] == "UPDATE_ROLLBACK_IN_PROGRESS"


def test_an_update_with_another_id_is_a_replacement_whose_predecessor_goes_at_the_end(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Id": "thing/1"})
    assert stack.update(Thing={"Id": "thing/2"}) == "UPDATE_COMPLETE"

    _, updated, deleted = stack.asked(3)
    assert kinds([updated, deleted]) == [("Update", "thing/1"), ("Delete", "thing/1")]
    assert deleted["seen"] == {
        "resource": "UPDATE_COMPLETE",
        "listed": "UPDATE_COMPLETE",
        "event": "DELETE_IN_PROGRESS",
        "stack": "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    }
    assert stack.now()["Outputs"][0]["OutputValue"] == "thing/2 git://x"


def test_a_failed_creation_in_an_update_is_deleted_and_the_rest_is_as_it_was(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Size": 1})
    new = {"Id": "other/1", "Do": {"Create": "fail"}, "After": {"Ref": "Thing"}}
    assert stack.update(Thing={"Size": 2}, Other=new) == "UPDATE_ROLLBACK_COMPLETE"
    asked = kinds(stack.asked(5))
    assert asked[:3] == [("Create", None), ("Update", "thing/1"), ("Create", None)]
    assert sorted(asked[3:]) == [("Delete", "other/1"), ("Update", "thing/1")]


def test_what_a_stack_keeps_of_a_failed_creation_goes_when_it_is_rolled_back_later(stacks: Stacks) -> None:
    stack = stacks.new()
    template = stack.template(Thing={"Do": {"Create": "fail"}})
    created = stacks.cloudformation.create_stack(StackName=stack.name, TemplateBody=template, DisableRollback=True)
    stack.id = created["StackId"]
    assert stack.settled() == "CREATE_FAILED"
    stacks.cloudformation.rollback_stack(StackName=stack.name)
    assert stack.settled() == "ROLLBACK_COMPLETE"
    assert kinds(stack.asked(2)) == [("Create", None), ("Delete", "thing/1")]


def test_data_that_was_not_answered_fails_the_stack_and_the_resource_goes(stacks: Stacks) -> None:
    stack = stacks.new()
    template = json.loads(stack.template(Thing={}))
    template["Outputs"] = {"Missing": {"Value": {"Fn::GetAtt": ["Thing", "Missing"]}}}
    body = json.dumps(template)
    stack.id = stacks.cloudformation.create_stack(StackName=stack.name, TemplateBody=body)["StackId"]
    assert stack.settled() == "ROLLBACK_COMPLETE"
    assert kinds(stack.asked(2)) == [("Create", None), ("Delete", "thing/1")]
    reasons = [reason for _, reason in stack.events(stack.name)]
    assert any("Vendor response doesn't contain Missing attribute" in reason for reason in reasons)


def test_a_resource_that_leaves_the_template_is_deleted(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={}, Other={"Id": "other/1"})
    assert stack.update(Thing={}) == "UPDATE_COMPLETE"
    assert ("Delete", "other/1") in kinds(stack.asked(3))


def test_a_function_that_raises_is_invoked_thrice_and_then_the_time_is_up(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Do": {"Create": "raise"}}, wait=False)
    (first,) = stack.asked(1)
    assert [stack.asked_again()["asked"] for _ in range(2)] == [first["asked"]] * 2
    assert stack.now()["StackStatus"] == "CREATE_IN_PROGRESS"

    stacks.pass_time(3600)
    assert stack.settled() == "ROLLBACK_COMPLETE"
    (deletion,) = stack.asked(1)
    assert deletion["asked"]["PhysicalResourceId"].startswith(f"{stack.name}-Thing-")
    status, reason = stack.events()[1]
    assert status == "CREATE_FAILED"
    assert reason.startswith(
        "CloudFormation did not receive a response from your Custom Resource. Please check your logs for requestId"
        f" [{first['asked']['RequestId']}]. If you are using the Python cfn-response module"
    )


def test_a_url_takes_one_answer_in_time(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Do": {"Create": "answer nothing"}, "ServiceTimeout": 300}, wait=False)
    event = stack.asked(1)[0]["asked"]
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")} | {"Status": "SUCCESS"}
    good = json.dumps(answer | {"PhysicalResourceId": "thing/by-hand", "Data": {"Url": "u"}}).encode()

    assert put(event["ResponseURL"], good, "application/json") == 403  # not what the URL is signed for
    assert put(event["ResponseURL"] + "x", good) == 403
    assert stack.now()["StackStatus"] == "CREATE_IN_PROGRESS"
    assert put(event["ResponseURL"], good) == 200
    assert stack.settled() == "CREATE_COMPLETE"
    assert put(event["ResponseURL"], json.dumps(answer | {"Status": "FAILED"}).encode()) == 200
    assert stack.settled() == "CREATE_COMPLETE"
    assert stack.now()["Outputs"][0]["OutputValue"] == "thing/by-hand u"


def test_an_answer_after_the_time_changes_nothing(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Do": {"Create": "answer nothing"}, "ServiceTimeout": 60}, wait=False)
    event = stack.asked(1)[0]["asked"]
    stacks.pass_time(60)
    assert stack.settled() == "ROLLBACK_COMPLETE"
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    body = json.dumps(answer | {"Status": "SUCCESS", "PhysicalResourceId": "thing/late"}).encode()
    assert put(event["ResponseURL"], body) == 200
    assert stack.settled() == "ROLLBACK_COMPLETE"


def test_a_killed_function_is_invoked_again(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Do": {"Create": "wait"}}, wait=False)
    (first,) = stack.asked(1)
    stacks.aws.configure("processes", {"kill": "provider"})
    assert stack.asked_again()["asked"] == first["asked"]
    stacks.aws.configure("processes", {"kill": "provider"})
    stacks.pass_time(3600)
    assert stack.settled() == "ROLLBACK_COMPLETE"


def test_without_its_function_a_resource_fails_at_once_and_nothing_is_to_be_deleted(stacks: Stacks) -> None:
    stack = stacks.new()
    arn = stacks.function.replace(":provider", ":nobody")
    assert stack.create(Thing={"ServiceToken": arn}) == "ROLLBACK_COMPLETE"
    assert [status for status, _ in stack.events()] == ["CREATE_IN_PROGRESS", "CREATE_FAILED"]
    assert f"Function not found: {arn}" in stack.events()[1][1]


@pytest.mark.parametrize(
    ("properties", "fault"),
    [
        ({"ServiceToken": "arn:aws:sns:us-east-1:123456789012:topic"}, "asks functions only"),
        ({"ServiceToken": "arn:aws:lambda:eu-west-1:123456789012:function:provider"}, "must be in the stack's Region"),
        ({"ServiceToken": "provider"}, "give the ARN of a function"),
        ({"ServiceTimeout": 0}, "ServiceTimeout 0: give a number of seconds from 1 to 3600"),
    ],
)
def test_what_cannot_be_asked_fails_the_resource_and_says_so(
    stacks: Stacks, properties: dict[str, Any], fault: str
) -> None:
    stack = stacks.new()
    assert stack.create(Thing=properties) == "ROLLBACK_COMPLETE"
    assert fault in stack.events()[1][1]


def test_two_stacks_wait_at_once(stacks: Stacks) -> None:
    slow, quick = stacks.new(), stacks.new()
    slow.create(Thing={"Do": {"Create": "answer nothing"}, "ServiceTimeout": 60}, wait=False)
    slow.asked(1)
    assert quick.create(Thing={}) == "CREATE_COMPLETE"
    assert slow.now()["StackStatus"] == "CREATE_IN_PROGRESS"
    stacks.pass_time(60)
    assert slow.settled() == "ROLLBACK_COMPLETE"


def test_the_function_may_go_while_it_is_awaited(stacks: Stacks) -> None:
    stack = stacks.new()
    gone = stacks.parts.function("leaving", SOURCE, Timeout=900)
    stack.create(Thing={"ServiceToken": gone, "Do": {"Create": "answer nothing"}, "ServiceTimeout": 60}, wait=False)
    stack.asked(1)
    stacks.parts.functions.delete_function(FunctionName="leaving")
    stacks.pass_time(60)
    assert stack.settled() == "ROLLBACK_FAILED"
    assert "Function not found" in stack.events()[-1][1]


def test_a_deletion_cancels_the_creation_that_it_comes_upon(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={"Do": {"Create": "answer nothing"}}, wait=False)
    stack.asked(1)
    for _ in range(2):  # the second is the same deletion
        stacks.cloudformation.delete_stack(StackName=stack.id)
    wait_for(lambda: stack.now()["StackStatus"] == "DELETE_COMPLETE")
    (deletion,) = stack.asked(1)
    assert deletion["asked"]["PhysicalResourceId"].startswith(f"{stack.name}-Thing-")
    assert deletion["seen"]["stack"] == "DELETE_IN_PROGRESS"
    assert ("CREATE_FAILED", "Resource creation cancelled") in stack.events()
    assert stacks.parts.is_empty(stack.queue)


def test_a_deletion_awaits_the_update_that_it_comes_upon(stacks: Stacks) -> None:
    stack = stacks.new()
    stack.create(Thing={})
    stack.update(Thing={"Do": {"Update": "answer nothing"}, "ServiceTimeout": 60}, wait=False)
    stack.asked(2)
    stacks.cloudformation.delete_stack(StackName=stack.id)
    assert stack.now()["StackStatus"] == "UPDATE_IN_PROGRESS"
    stacks.pass_time(60)
    wait_for(lambda: stack.now()["StackStatus"] == "DELETE_COMPLETE")
    assert [kind for kind, _ in kinds(stack.asked(2))] == ["Update", "Delete"]


@pytest.mark.slow
def test_a_creation_that_the_servers_end_cut_off_is_deleted_with_its_stack(tmp_path: Path) -> None:
    with LocalAWS(state=tmp_path) as aws:
        stack = Stacks(aws).new()
        stack.create(Thing={"Do": {"Create": "answer nothing"}}, wait=False)
        stack.asked(1)
    with LocalAWS(state=tmp_path) as aws:
        cloudformation = aws.client("cloudformation")
        found = cloudformation.describe_stacks(StackName=stack.id)["Stacks"][0]
        resource = cloudformation.describe_stack_resource(StackName=stack.id, LogicalResourceId="Thing")
        assert found["StackStatus"] == "CREATE_FAILED"
        assert resource["StackResourceDetail"]["ResourceStatus"] == "CREATE_FAILED"
        cloudformation.delete_stack(StackName=stack.id)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack.id, WaiterConfig={"Delay": 0.05})
        url = aws.client("sqs").get_queue_url(QueueName=stack.name)["QueueUrl"]
        body = aws.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"][0]["Body"]
        assert json.loads(body)["asked"]["RequestType"] == "Delete"
