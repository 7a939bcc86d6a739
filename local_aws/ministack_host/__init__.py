"""The one place that touches MiniStack's private names.

Each has a contract test in tests/local_aws/test_ministack_names.py; what MiniStack does with them is in
test_ministack_host.py.

MiniStack is the process's web application and answers every generic service. Services of our own are mounted beside
them: a request with their `X-Amz-Target` prefix comes to our handler with account and Region already read from its
signature. MiniStack reads its environment when it is imported: nothing here imports it before `configure` was called.

| module | of MiniStack it is about |
|---|---|
| app | its web application: configuration, what is mounted, the request that is answered |
| credentials, arns | access keys, roles' sessions, whom a role trusts; what a name, an id or an alias stands for |
| web_identity | the tokens of identity providers for which STS gives sessions of roles |
| permissions, questions, policies | IAM asked and its decisions kept; what is asked; what policies would have said |
| functions, queues, events | Lambda; SQS and the clock; events of AWS's services |
| alarms, schedules | CloudWatch's metrics and alarms; EventBridge's and Scheduler's schedules |
| cloudformation, conditions, parameters | whom a stack acts as; lists in templates' conditions; templates' parameters |
| catalog | types AWS::ServiceCatalog::*; what Service Catalog may give a stack |
| resources | what MiniStack's CloudFormation leaves out of types that our templates use |
| builds | CodeBuild's projects, whose builds are our own |
| pipelines | CodePipeline's pipelines as resources of stacks and as targets of rules |
| drift | CloudFormation's change sets that make again what was deleted by hand |
| custom_resources | CloudFormation's custom resources; what stacks say of resources that are being worked on |
| forwarded, keys | what services do for callers and as roles; the KMS keys that they use |
| state, stores | what survives the process |
"""

from local_aws.ministack_host.alarms import AlarmsOfMiniStack
from local_aws.ministack_host.app import Handler, application, configure, mount, request_scope
from local_aws.ministack_host.arns import kms_key_arn
from local_aws.ministack_host.builds import find_build_project, run_builds
from local_aws.ministack_host.catalog import offer_catalog
from local_aws.ministack_host.cloudformation import authorize_stacks
from local_aws.ministack_host.conditions import join_in_conditions
from local_aws.ministack_host.credentials import (
    account_of,
    caller_of,
    credential_of,
    role_credentials,
    role_trusts,
)
from local_aws.ministack_host.custom_resources import run_custom_resources
from local_aws.ministack_host.drift import revert_drift
from local_aws.ministack_host.events import put_event
from local_aws.ministack_host.forwarded import Forwarded
from local_aws.ministack_host.functions import run_functions
from local_aws.ministack_host.parameters import resolve_stored_parameters
from local_aws.ministack_host.permissions import enforce_iam, identity_of
from local_aws.ministack_host.pipelines import offer_pipelines
from local_aws.ministack_host.policies import policies_allow
from local_aws.ministack_host.questions import correct_questions
from local_aws.ministack_host.queues import keep_queue_times
from local_aws.ministack_host.resources import complete_resources
from local_aws.ministack_host.schedules import SchedulesOfMiniStack
from local_aws.ministack_host.state import keep_state
from local_aws.ministack_host.web_identity import take_web_identities

__all__ = [
    "AlarmsOfMiniStack",
    "Forwarded",
    "Handler",
    "SchedulesOfMiniStack",
    "account_of",
    "application",
    "authorize_stacks",
    "caller_of",
    "complete_resources",
    "configure",
    "correct_questions",
    "credential_of",
    "enforce_iam",
    "find_build_project",
    "identity_of",
    "join_in_conditions",
    "keep_queue_times",
    "keep_state",
    "kms_key_arn",
    "mount",
    "offer_catalog",
    "offer_pipelines",
    "policies_allow",
    "put_event",
    "request_scope",
    "resolve_stored_parameters",
    "revert_drift",
    "role_credentials",
    "role_trusts",
    "run_builds",
    "run_custom_resources",
    "run_functions",
    "take_web_identities",
]
