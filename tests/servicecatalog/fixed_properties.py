"""What an installed stack can never change: properties that only a resource's creation sets, of resources with names.

CloudFormation refuses to replace a resource that a template names ("cannot update a stack when a custom-named resource
requires replacing"), and with it the whole update of every installation. `fixed_properties.json` has these properties
as they were published. `python -m tests.servicecatalog.fixed_properties` adds resources that are new, drops those that
are gone, and refuses what nobody could install over an earlier version. A resource under another name is another one:
the old one is deleted with all that is in it, so think twice; then it is written down, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from local_aws.permissions import cloudformation
from servicecatalog import account, product
from tests.servicecatalog import template

RECORD = Path(__file__).with_suffix(".json")
TEMPLATES = {path.stem: path for path in (account.TEMPLATE, account.PORTFOLIO_TEMPLATE, product.TEMPLATE)}

Fixed = dict[str, dict[str, Any]]  # properties by "template/resource", as the template writes them


def names_of(kind: str) -> set[str]:
    """The properties by which a template may name a resource of a type."""
    return {"Name", f"{kind.rpartition(':')[2]}Name"}


def of_template(name: str, written: dict[str, Any]) -> Fixed:
    """The properties of a template's named resources that only creation sets."""
    found: Fixed = {}
    for logical_id, resource in written["Resources"].items():
        only = {path.split("/")[2] for path in cloudformation._schema(resource["Type"]).get("createOnlyProperties", [])}
        properties = resource.get("Properties", {})
        if names_of(resource["Type"]) & only & properties.keys():
            fixed = {key: value for key, value in properties.items() if key in only}
            found[f"{name}/{logical_id}"] = {"Type": resource["Type"], **fixed}
    return found


def written() -> Fixed:
    """Of all templates, as they are now."""
    return {key: one for name, path in TEMPLATES.items() for key, one in of_template(name, template.load(path)).items()}


def recorded() -> Fixed:
    found: Fixed = json.loads(RECORD.read_text())
    return found


def refused(before: Fixed, now: Fixed) -> list[str]:
    """What CloudFormation would refuse in an installed stack, in words."""
    faults = []
    for key in sorted(before.keys() & now.keys()):
        names = names_of(now[key]["Type"])
        if before[key] == now[key] or any(before[key].get(name) != now[key].get(name) for name in names):
            continue
        changed = sorted(name for name in before[key] | now[key] if before[key].get(name) != now[key].get(name))
        faults.append(
            f"{key}: {', '.join(changed)} cannot be changed while the resource keeps its name, or no installed stack "
            f"could be updated. Put back {json.dumps({name: before[key].get(name) for name in changed})}"
        )
    return faults


def main() -> int:
    before, now = recorded() if RECORD.exists() else {}, written()
    if faults := refused(before, now):
        print("\n".join(faults), file=sys.stderr)
        return 1
    lines = [f"  {json.dumps(key)}: {json.dumps(now[key], sort_keys=True)}" for key in sorted(now)]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")  # a line each, so that a change is seen
    return 0


if __name__ == "__main__":
    sys.exit(main())
