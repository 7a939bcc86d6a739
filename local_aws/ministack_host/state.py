"""Durability: MiniStack's state, written down whenever it changes and loaded again.

Touches: how `ministack.app` and `ministack.core.persistence` load and save, the services' dictionaries (stores.py),
and the threads in which SNS delivers.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_aws.durability import WHOLE, Durability, Kept, Watched
from local_aws.ministack_host.queues import HELD
from local_aws.ministack_host.stores import (
    ATTRIBUTES,
    LAGGING_STORES,
    LOG_STREAMS,
    MODULES,
    SAVED_STORES,
    SPECIAL_STORES,
    LogStreams,
    Sessions,
    joined,
)

# What a stack is in whose operation ended with the server. From each there is a way on: to delete it, to update it
# again, to continue the roll-back.
INTERRUPTED_STACKS = {
    "CREATE_IN_PROGRESS": "CREATE_FAILED",
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_FAILED",
    "DELETE_IN_PROGRESS": "DELETE_FAILED",
    "UPDATE_IN_PROGRESS": "UPDATE_FAILED",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_IN_PROGRESS": "IMPORT_ROLLBACK_FAILED",
    "IMPORT_ROLLBACK_IN_PROGRESS": "IMPORT_ROLLBACK_FAILED",
}


def keep_state(durability: Durability, data: Path) -> None:
    """Let MiniStack's state be written down whenever it changes, and be loaded from there.

    Other services' state than SAVED_STORES has is saved when the server is stopped.

    Args:
        data: the folder of S3's objects, as in `configure`.
    """
    repair_objects(data)
    import ministack.app
    from ministack.core import persistence
    from ministack.services import sns

    load_file, save_files, load_all = persistence.load_state, persistence.save_all, ministack.app._load_persisted_state
    found = durability.load(persistence._json_object_hook)
    services_found = {name.partition("/")[0] for name in found}
    stores = _StoresOfMiniStack(durability)

    def load(service: str) -> Any:
        if service not in SAVED_STORES or service not in services_found:
            return load_file(service)  # also what an older local_aws has left
        return stores.state(service, found)

    def load_and_keep() -> None:
        load_all()
        if sessions := found.get("sts/sessions"):
            from ministack.services import sts

            sts._sessions.update({key: parts[WHOLE] for key, parts in sessions.items()})
        found.clear()
        stores.clean_up()
        durability.write_everything()
        for service in SAVED_STORES:
            (Path(persistence.STATE_DIR) / f"{service}.json").unlink(missing_ok=True)

    def save(services: dict[str, Any]) -> None:
        durability.write_everything()
        save_files({name: state for name, state in services.items() if name not in SAVED_STORES})

    ministack.app.load_state, ministack.app.save_all = load, save
    ministack.app._load_persisted_state = load_and_keep
    durability.before_write = stores.watch_new
    sns._threading = types.SimpleNamespace(Thread=_Delivery)


def repair_objects(data: Path) -> None:
    """Undo writes of objects that the end of a server has cut in two.

    S3 writes an object's body, then what describes it, each file at once. A body that is newer than its description was
    not acknowledged: the version before it comes back, when the bucket has versions, else it is described anew.
    """
    for description in data.glob("[0-9]*/*/**/*.meta.json"):
        body = description.with_name(description.name.removesuffix(".meta.json"))
        if not body.is_file() or body.stat().st_mtime_ns <= description.stat().st_mtime_ns:
            continue
        known = json.loads(description.read_text())
        account, bucket, *key = body.relative_to(data).parts
        version = data / ".versions" / account / bucket / str(known.get("version_id")) / Path(*key)
        temporary = body.with_name(body.name + ".tmp")
        if version.is_file():
            temporary.write_bytes(version.read_bytes())
            temporary.replace(body)
        else:
            content = body.read_bytes()
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            known |= {"size": len(content), "etag": f'"{digest}"', "checksums": {}}
        temporary.write_text(json.dumps(known))
        temporary.replace(description)


class _Delivery(threading.Thread):
    """What SNS delivers by: an invocation of a function must be kept before the topic's client is answered."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], daemon: bool) -> None:
        super().__init__(target=target, args=args, daemon=daemon)
        self._delivery = args[0]

    def start(self) -> None:
        from ministack.services import sns

        if self._delivery is sns._deliver_to_lambda:
            self.run()
        else:
            super().start()


class _StoresOfMiniStack:
    """MiniStack's dictionaries, watched as their modules are imported."""

    def __init__(self, durability: Durability) -> None:
        self._durability = durability
        self._new = [*SAVED_STORES, "sts"]

    def state(self, service: str, found: Mapping[str, dict[Any, dict[str, Any]]]) -> dict[str, Any]:
        """What a module's load_persisted_state() takes."""
        module = importlib.import_module(f"ministack.services.{MODULES.get(service, service)}")
        state = {}
        for name in SAVED_STORES[service].split():
            full_name = f"{service}/{name}"
            store = type(getattr(module, ATTRIBUTES.get(full_name, f"_{name}")))()
            entries = found.get(full_name, {})
            streams = found.get(LOG_STREAMS, {}) if name == "log_groups" else {}
            store._data = {key: joined(full_name, parts, streams.get(key, {})) for key, parts in entries.items()}
            state[name] = store
        return state

    def watch_new(self) -> None:
        """Watch what was imported since."""
        for service in list(self._new):
            module = sys.modules.get(f"ministack.services.{MODULES.get(service, service)}")
            if module is not None and not getattr(module.__spec__, "_initializing", False):
                self._new.remove(service)
                self._watch(service, module)

    def clean_up(self) -> None:
        """What was under way when the last process ended goes no further by itself."""
        from ministack.services import lambda_svc, sqs

        for queue in sqs._queues.all_values():
            for message in queue["messages"]:
                if HELD in message:
                    message["visible_at"] = message.pop(HELD)
        codes = set()
        for function in lambda_svc._functions.all_values():
            for record in (function, *function.get("versions", {}).values()):
                if isinstance(record.get("code_zip"), bytes):
                    codes.add(hashlib.sha256(record["code_zip"]).hexdigest())
        lambda_svc._prune_orphan_code_blobs(codes)
        if "ministack.services.cloudformation" in sys.modules:  # else it has no stacks
            _end_stack_operations()

    def _watch(self, service: str, module: Any) -> None:
        from ministack.core.persistence import _json_default

        if service == "sts":
            module._sessions = self._watched([Sessions("sts/sessions", lambda: module._sessions)], module._sessions)
            return
        for name in SAVED_STORES[service].split():
            full_name = f"{service}/{name}"
            store = getattr(module, ATTRIBUTES.get(full_name, f"_{name}"))
            data = functools.partial(getattr, store, "_data")
            kind = SPECIAL_STORES.get(full_name, Kept)
            kept = [kind(full_name, data, _json_default, full_name in LAGGING_STORES)]
            if name == "log_groups":
                kept.append(LogStreams(LOG_STREAMS, data, _json_default, lags=True))
            store._data = self._watched(kept, store._data)

    def _watched(self, kept: list[Kept], data: dict[Any, Any]) -> Watched:
        return Watched(data, self._durability.keep(*kept))


def _end_stack_operations() -> None:
    from ministack.services import cloudformation

    for stack in cloudformation._stacks.all_values():
        if status := INTERRUPTED_STACKS.get(stack["StackStatus"]):
            reason = f"local_aws was stopped while the stack was {stack['StackStatus']}."
            stack.update(StackStatus=status, StackStatusReason=reason)
    for changes in cloudformation._change_sets.all_values():
        if changes.get("ExecutionStatus") == "EXECUTE_IN_PROGRESS":
            changes["ExecutionStatus"] = "EXECUTE_FAILED"
