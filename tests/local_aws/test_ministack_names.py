"""The contract with MiniStack: every name of its modules that local_aws.ministack_host uses or replaces.

When one of these fails after a new version was pinned, the name in the failing test is what moved.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.local_aws.scripts import CHECKOUT, run

HOST = CHECKOUT / "local_aws" / "ministack_host"

# Each private name with its type, or a function's parameters: they are given, or the function is replaced by ours.
NAMES = {
    "ministack.core.iam_evaluator.is_root_access_key": "(access_key_id)",
    "ministack.services.cloudformation._ACTION_HANDLERS": "dict",
    "ministack.services.cloudformation.handlers._resolve_stack": "(stack_name)",
    "ministack.services.cloudformation.handlers._create_stack_task_in_region": "(coro, stack, stack_id)",
    "ministack.services.cloudformation.changesets._create_stack_task_in_region": "(coro, stack, stack_id)",
    "ministack.services.cloudformation.changesets._find_change_set": "(cs_name, stack_name)",
    "ministack.services.cloudformation.changesets._IMPORT_LOOKUPS": "dict",
    "ministack.services.cloudformation.helpers._p": "(params, key, default)",
    "ministack.services.cloudformation.helpers._esc": "(s, quote)",
    "ministack.services.cloudformation.helpers._error": "(code, message, status)",
    "ministack.services.cloudformation.helpers._resolve_document": "(params, body_key, url_key, label)",
    "ministack.services.cloudformation.engine._resolve_dynamic_reference": "(literal)",
    "ministack.services.cloudformation.helpers._validate_stack_tags": "(tags)",
    "ministack.services.cloudformation.helpers._extract_members": "(params, prefix)",
    "ministack.services.cloudformation.provisioners._STACK_TAG_PROPERTY": "dict",
    "ministack.services.cloudformation.provisioners._REPLACING_PROPERTIES": "dict",
    "ministack.services.cloudformation.stacks._runs_on_worker_thread": "(resource_type)",
    "ministack.services.cloudformation.provisioners._DEFERRED_PREDECESSOR_DELETES": "ContextVar",
    "ministack.services.cloudformation.provisioners._provision_resource": (
        "(resource_type, logical_id, props, stack_name)"
    ),
    "ministack.services.cloudformation.provisioners._update_resource": (
        "(resource_type, physical_id, old_props, new_props, stack_name, logical_id, old_attrs)"
    ),
    "ministack.services.cloudformation.provisioners._delete_resource": (
        "(resource_type, physical_id, props, stack_name, logical_id)"
    ),
    "ministack.services.cloudformation.stacks._provision_resource": "(resource_type, logical_id, props, stack_name)",
    "ministack.services.cloudformation.stacks._update_resource": (
        "(resource_type, physical_id, old_props, new_props, stack_name, logical_id, old_attrs)"
    ),
    "ministack.services.cloudformation.stacks._delete_resource": (
        "(resource_type, physical_id, props, stack_name, logical_id)"
    ),
    "ministack.services.ssm.resolve_parameter_value": "(name_or_arn, version, decrypt)",
    "ministack.app.app": "(scope, receive, send)",
    "ministack.app.SERVICE_HANDLERS": "dict",
    "ministack.core.router.SERVICE_PATTERNS": "dict",
    "ministack.core.responses.get_account_id": "()",
    "ministack.core.responses.get_region": "()",
    "ministack.core.responses.set_request_account_id": "(access_key_id)",
    "ministack.core.responses.request_scope": "(account_id, region)",
    "ministack.core.responses.error_response_json": "(code, message, status, extra, message_key, content_type)",
    "ministack.core.iam_evaluator.resolve_caller_identity": "(access_key_id)",
    "ministack.services.sts.register_session": "(access_key, session)",
    "ministack.services.eventbridge._put_events": "(data, allow_aws_source)",
    "ministack.services.eventbridge._dispatch_to_lambda": "(arn, payload)",
    "ministack.services.eventbridge._rules": "AccountRegionScopedDict",
    "ministack.services.eventbridge._targets": "AccountRegionScopedDict",
    "ministack.services.eventbridge._invoke_target": "(target, event, rule, view)",
    "ministack.services.eventbridge._parse_cron_fields": "(expr)",
    "ministack.services.eventbridge._cron_next_fire": "(fields, after_dt)",
    "ministack.services.eventbridge.start_scheduler": "()",
    "ministack.services.lambda_svc._emit_lambda_metrics": "(function_name, duration_ms, error, throttle)",
    "ministack.services.lambda_svc._emit_lambda_logs": "(func, request_id, log_text, error, duration_ms, log_source)",
    "ministack.services.lambda_svc._execute_function_dispatch": "(func, config, event, request_id, started)",
    "ministack.services.lambda_svc._execute_function_with_config_scope": "(func, event)",
    "ministack.services.lambda_svc._get_func_record_for_ref": "(function_ref)",
    "ministack.services.lambda_svc._execution_record_for_config": "(func, config)",
    "ministack.services.lambda_svc.invoke_async_with_retry": "(func, event)",
    "ministack.services.lambda_svc.invalidate_worker": "(func_name, qualifier, account, region)",
    "ministack.services.lambda_svc._create_function": "(data)",
    "ministack.services.lambda_svc._update_config": "(name, data)",
    "ministack.services.lambda_svc._run_sqs_batch": "(esm, func_rec, event, batch, queue_url, queue_name)",
    "ministack.services.lambda_svc._esm_wake": "Event",
    "ministack.services.lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS": "float",
    "ministack.services.lambda_svc._ESM_BACKOFF_SECONDS": "float",
    "ministack.services.sns._deliver_to_lambda": (
        "(endpoint, envelope, topic_arn, sub_arn, msg_id, raw_message, message_attributes)"
    ),
    "ministack.services.sns.publish_internal": (
        "(topic_arn, message, subject, message_structure, message_attributes, message_group_id, "
        "message_deduplication_id)"
    ),
    "ministack.services.sqs._collect_msgs": "(q, max_n, vis_timeout)",
    "ministack.services.sqs._act_send_message": "(data, qurl)",
    "ministack.services.sqs._act_change_visibility": "(data, qurl)",
    "ministack.services.sqs._act_change_visibility_batch": "(data, qurl)",
    "ministack.services.sqs._get_q": "(url, action)",
    "ministack.services.sqs._receive_messages_for_esm": "(queue_url, max_number)",
    "ministack.services.sqs._delete_messages_for_esm": "(queue_url, receipt_handles)",
    "ministack.services.sqs._HANDLERS": "dict",
    "ministack.services.sqs._queues": "AccountRegionScopedDict",
    "ministack.services.sqs._queue_by_arn": "(arn)",
    "ministack.services.sns._topic_by_arn_any_scope": "(topic_arn)",
    "ministack.services.cloudwatch.record_metric": "(namespace, metric_name, value, unit, dimensions)",
    "ministack.services.cloudwatch._alarms": "AccountRegionScopedDict",
    "ministack.services.cloudwatch._metrics": "AccountRegionScopedDict",
    "ministack.services.cloudwatch._dims_key": "(dims)",
    "ministack.services.cloudwatch._point_stats": "(pt)",
    "ministack.services.cloudwatch._put_metric_alarm": "(params, cbor_data, is_cbor, is_json)",
    "ministack.services.cloudwatch._evict_old_metrics": "()",
    "ministack.services.cloudwatch._evaluate_alarm": "(alarm)",
    "ministack.services.cloudwatch._evaluate_all_alarms": "()",
    "ministack.services.cloudwatch._dispatch_alarm_actions": "(alarm, old_state, new_state, reason)",
    "ministack.services.cloudwatch._record_history": (
        "(alarm_name, old_state, new_state, reason, alarm_type, reason_data)"
    ),
    "ministack.services.cloudwatch._evaluate_parent_alarms": "(child, seen)",
    "ministack.services.cloudwatch._error": "(code, message, status, use_json, use_cbor)",
    "ministack.services.scheduler._schedules": "AccountRegionScopedDict",
    "ministack.services.scheduler._to_epoch": "(value)",
    "ministack.services.scheduler._create_schedule": "(name, body)",
    "ministack.services.scheduler._update_schedule": "(name, body)",
    "ministack.services.scheduler._error": "(status, code, message)",
    "ministack.services.scheduler.start_scheduler": "()",
    "ministack.core.iam_evaluator.EvalContext": "type",
    "ministack.core.iam_actions.extract_iam_action": "(service, method, path, headers, body, query_params)",
    "ministack.core.iam_actions.extract_resource_arn": (
        "(service, method, path, headers, body, query_params, region, account_id)"
    ),
    "ministack.core.iam_actions.request_tag_context": "(service, iam_action, body, params)",
    "ministack.core.iam_actions.logs_service_context": "(action, body, resource_arn, region, account_id)",
    "ministack.core.iam_actions._match_rest_action": "(service, method, path, query_params)",
    "ministack.core.iam_actions._BOTOCORE_SERVICE_MAP": "dict",
    "ministack.core.iam_actions._AUTH_FAILURES": "dict",
    "ministack.core.iam_evaluator.enforce": (
        "(access_key_id, iam_action, service, region, resource_arn, service_context)"
    ),
    "ministack.core.iam_evaluator.parse_policy_document": "(doc)",
    "ministack.core.iam_evaluator.resolve_credential": "(access_key_id, account_id, session_token)",
    "ministack.core.iam_evaluator.find_iam_access_key_account": "(access_key_id)",
    "ministack.core.iam_evaluator.CredentialResolutionError": "type",
    "ministack.services.tagging.resource_tags": "(arn)",
    "ministack.services.cloudwatch._resource_tags": "AccountScopedDict",
    "ministack.services.eventbridge._tags": "AccountRegionScopedDict",
    "ministack.services.scheduler._tags": "AccountScopedDict",
    "ministack.services.iam._users": "AccountScopedDict",
    "ministack.services.iam._groups": "AccountScopedDict",
    "ministack.services.iam._instance_profiles": "AccountScopedDict",
    "ministack.core.iam_evaluator.evaluate_resource_policy": "(doc, ctx, service, named_only, direct_only)",
    "ministack.core.iam_evaluator._resource_policy": "(service, resource_arn)",
    "ministack.core.iam_evaluator._resolve_condition_key": "(key, ctx)",
    "ministack.services.lambda_svc._sqs_esm_concurrency": "(esm, func_rec, config, queue)",
    "ministack.services.sns._deliver_to_sqs": (
        "(endpoint, envelope, raw, raw_message, message_group_id, message_dedup_id, message_attributes, topic_arn)"
    ),
    "ministack.services.sns._topics": "AccountRegionScopedDict",
    "ministack.services.kms._resolve_key": "(key_id_or_arn)",
    "ministack.services.kms._keys": "AccountRegionScopedDict",
    "ministack.services.iam._roles": "AccountScopedDict",
    "ministack.services.cloudwatch_logs._log_groups": "AccountRegionScopedDict",
    "ministack.services.dynamodb._pitr_settings": "AccountRegionScopedDict",
    "ministack.services.dynamodb._tables": "AccountRegionScopedDict",
    "ministack.services.dynamodb._sse_description_from_spec": "(spec)",
    "ministack.services.s3._ensure_bucket": "(name)",
    "ministack.services.s3._stored_sse_headers": "(obj)",
    "ministack.services.s3._resolve_sse_write_headers": "(headers, bucket_name)",
    "ministack.services.s3._multipart_uploads": "AccountScopedDict",
    "ministack.services.secretsmanager._resolve": "(secret_id, use_arn_scope)",
    "ministack.services.ssm._select_parameter": "(name_or_arn)",
    "ministack.services.ssm._parameters": "AccountRegionScopedDict",
    "ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS": "dict",
    "ministack.services.cloudformation.engine._evaluate_conditions": "(template, params)",
    "ministack.core.iam_evaluator._action_matches": "(request_action, actions, not_actions)",
    "ministack.core.iam_evaluator.evaluate": "(ctx, policies, limits)",
    "ministack.services.cloudformation.provisioners._cw_metric_alarm_record": "(name, props)",
    "ministack.app.load_state": "(service)",
    "ministack.app.save_all": "(services)",
    "ministack.app._load_persisted_state": "()",
    "ministack.core.persistence.STATE_DIR": "str",
    "ministack.core.persistence._json_default": "(obj)",
    "ministack.core.persistence._json_object_hook": "(obj)",
    "ministack.services.sts._sessions": "dict",
    "ministack.services.sns._threading": "module",
    "ministack.services.lambda_svc._get_func_record_for_ref_in_scope": "(function_ref, account_id, region)",
    "ministack.services.lambda_svc._write_code_blob": "(code_zip)",
    "ministack.services.lambda_svc._prune_orphan_code_blobs": "(referenced)",
    "ministack.services.lambda_svc._BLOB_REF_KEY": "str",
    "ministack.services.dynamodb._set_item": "(table, pk_val, sk_val, item)",
    "ministack.services.dynamodb._remove_item": "(table, pk_val, sk_val)",
    "ministack.services.dynamodb._INDEX_MEMBERS": "str",
    "ministack.services.cloudformation._stacks": "AccountRegionScopedDict",
    "ministack.services.cloudformation._change_sets": "AccountRegionScopedDict",
    "ministack.core.iam_evaluator.AuthError": "type",
    "ministack.core.iam_evaluator._anonymous": "ContextVar",
    "ministack.core.iam_evaluator._signed_request": "ContextVar",
    "ministack.core.iam_evaluator.pin_request_caller": "(headers, query_params)",
    "ministack.core.persistence.load_state": "(service)",
    "ministack.core.persistence.save_all": "(services)",
    "ministack.core.router.extract_access_key_id": "(headers, query_params)",
    "ministack.services.cloudformation.stacks._create_stack_task_in_region": "(coro, stack, stack_id)",
    "ministack.services.kms.get_state": "()",
    "ministack.services.lambda_svc._functions": "AccountRegionScopedDict",
    "ministack.services.cloudformation.changesets._evaluate_conditions": "(template, params)",
    "ministack.services.cloudformation.handlers._evaluate_conditions": "(template, params)",
    "ministack.services.cloudformation.stacks._evaluate_conditions": "(template, params)",
    "ministack.core.iam_actions.SERVICE_TO_IAM_NAMESPACE": "dict",
    "ministack.core.iam_actions._CBOR_CAPABLE": "frozenset",
    "ministack.core.iam_actions._IAM_NAMESPACE_BY_OPERATION": "dict",
    "ministack.core.iam_actions._S3_BUCKET_QUERY_ACTIONS": "dict",
    "ministack.core.iam_actions._S3_OBJECT_QUERY_ACTIONS": "dict",
    "ministack.core.iam_actions._S3_QUERY_ACTIONS": "dict",
    "ministack.core.iam_actions._SERVICE_PROTOCOL": "dict",
    "ministack.core.iam_actions._s3_action": "(method, path, query_params)",
    "ministack.core.iam_actions.s3_additional_checks": "(method, path, headers, body, query_params)",
    "ministack.core.iam_actions.access_denied_response": (
        "(service, action, principal_arn, request_id, error_code, message, headers, resource_arn, explicit_deny,"
        " resource_policy_arn)"
    ),
    "ministack.core.iam_evaluator._served_unsigned": "(service, iam_action)",
    "ministack.app._handle_post_body_shortcuts": "(method, path, headers, body, query_params, request_id)",
    "ministack.core.responses.now_iso": "()",
    "ministack.services.cloudformation._stack_events": "AccountRegionScopedDict",
    "ministack.services.cloudformation.changesets._deploy_stack_async": (
        "(stack_name, stack_id, template, param_values, disable_rollback, tags, is_update, previous_stack,"
        " retain_except_on_create, imports)"
    ),
    "ministack.services.cloudformation.changesets._resolve_parameters": "(template, provided_params, previous_params)",
    "ministack.services.cloudformation.custom_resource.invoke_custom_resource": (
        "(request_type, logical_id, props, stack_name, stack_id, resource_type, physical_id, old_props)"
    ),
    "ministack.services.cloudformation.engine._constraint_error": "(name, defn, reason)",
    "ministack.services.cloudformation.engine._resolve_parameters": "(template, provided_params, previous_params)",
    "ministack.services.cloudformation.handlers._deploy_stack_async": (
        "(stack_name, stack_id, template, param_values, disable_rollback, tags, is_update, previous_stack,"
        " retain_except_on_create, imports)"
    ),
    "ministack.services.cloudformation.handlers._resolve_parameters": "(template, provided_params, previous_params)",
    "ministack.services.cloudformation.provisioners._codebuild_cfn_to_api": "(value)",
    "ministack.services.cloudformation.provisioners._physical_name": (
        "(stack_name, logical_id, lowercase, max_len, seeded)"
    ),
    "ministack.services.cloudformation.stacks._add_event": (
        "(stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status)"
    ),
    "ministack.services.cloudformation.stacks._delete_stack_async": "(stack_name, stack_id, retain_resources, force)",
    "ministack.services.cloudformation.stacks._deploy_stack_async": (
        "(stack_name, stack_id, template, param_values, disable_rollback, tags, is_update, previous_stack,"
        " retain_except_on_create, imports)"
    ),
    "ministack.services.cloudformation.stacks._roll_back_operation": (
        "(stack_name, stack_id, stack, operation, reason_override)"
    ),
    "ministack.services.cloudformation.handlers._delete_stack_async": "(stack_name, stack_id, retain_resources, force)",
    "ministack.services.cloudformation.handlers._roll_back_operation": (
        "(stack_name, stack_id, stack, operation, reason_override)"
    ),
    "ministack.services.cloudformation.stacks._with_dependencies": "(logical_ids, res_defs, remaining)",
    "ministack.services.codebuild._project_shape": "(project)",
    "ministack.services.codebuild._projects": "AccountRegionScopedDict",
    "ministack.services.eventbridge._apply_input_transformer": "(transformer, rule, view)",
    "ministack.services.eventbridge._pattern_event_view": "(event)",
    "ministack.services.iam._boundary_policy_error": "(arn)",
    "ministack.services.iam._create_oidc_provider": "(p)",
    "ministack.services.iam._oidc_providers": "AccountScopedDict",
    "ministack.services.iam._policies": "AccountScopedDict",
    "ministack.services.iam._delete_policy": "(p)",
    "ministack.services.cloudformation.provisioners._iam_policy_reconcile_entities": "(arn, old_props, new_props)",
    "ministack.services.s3._buckets": "AccountScopedDict",
    "ministack.services.s3._delete_bucket": "(name)",
    "ministack.services.s3._delete_bucket_encryption": "(name)",
    "ministack.services.s3._delete_bucket_lifecycle": "(name)",
    "ministack.services.s3._delete_bucket_ownership_controls": "(name)",
    "ministack.services.s3._delete_bucket_tagging": "(name)",
    "ministack.services.s3._put_bucket_encryption": "(name, body)",
    "ministack.services.s3._put_bucket_lifecycle": "(name, body)",
    "ministack.services.s3._put_bucket_ownership_controls": "(name, body)",
    "ministack.services.s3._put_bucket_tagging": "(name, body)",
    "ministack.services.s3._put_bucket_versioning": "(name, body)",
    "ministack.services.sts._error": "(status, code, message, ns)",
    "ministack.services.sts._p": "(params, key, default)",
    "ministack.services.sts._web_identity_trust_denied": "(role_arn, params, use_json)",
    "ministack.services.cloudformation.engine._unknown_attribute_message": "(res, logical_id, attr)",
    "ministack.services.cloudformation.provisioners._eb_rule_bus_name": "(props)",
    "ministack.services.eventbridge._rule_key": "(rule_name, bus_name)",
}

LOOK_UP = """
import importlib, inspect, json, sys
found = {}
for name in sys.argv[1:]:
    module, _, attribute = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), attribute)
        found[name] = type(value).__name__
        if inspect.isfunction(value):
            found[name] = f"({', '.join(inspect.signature(value).parameters)})"
    except (ImportError, AttributeError) as error:
        found[name] = f"gone: {error}"
print(json.dumps(found))
"""


def names_used(file: Path) -> Iterator[str]:
    """The full names of what a module takes from MiniStack's modules or replaces there."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    known: dict[str, str] = {}  # how an expression here is called there
    for node in nodes:
        if isinstance(node, ast.Import):
            known |= {one.asname or one.name: one.name for one in node.names if one.name.startswith("ministack")}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("ministack"):
            known |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in known:
            known |= {ast.unparse(target): known[node.value.id] for target in node.targets}
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            # "for module in (provisioners, stacks): module.name = ours"
            modules = [known[each.id] for each in node.iter.elts if isinstance(each, ast.Name) and each.id in known]
            replaced = [
                target.attr
                for statement in node.body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == ast.unparse(node.target)
            ]
            yield from (f"{module}.{name}" for module in modules for name in replaced)
    yield from known.values()
    for node in nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in known:
            yield f"{known[ast.unparse(node.value)]}.{node.attr}"


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, not a package
        return False


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    return run(LOOK_UP, *NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_ministack_still_has_the_private_name(found, name):
    assert found[name] == NAMES[name], f"{name} moved: look for its successor and change local_aws/ministack_host/"


@pytest.mark.parametrize("file", sorted(HOST.glob("*.py")), ids=lambda file: file.stem)
def test_every_name_that_is_used_is_in_the_contract(file):
    assert {name for name in names_used(file) if name not in NAMES and not is_module(name)} == set()


def test_no_name_is_in_the_contract_that_nothing_uses():
    assert NAMES.keys() - {name for file in HOST.glob("*.py") for name in names_used(file)} == set()


def test_ministack_is_imported_nowhere_else():
    elsewhere = [
        str(file)
        for file in (CHECKOUT / "local_aws").rglob("*.py")
        if HOST not in file.parents and any(name.startswith("ministack.") for name in names_used(file))
    ]
    assert elsewhere == []
