"""What ListModels, ListEndpointConfigs and ListEndpoints have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from local_aws.calls import Request, page
from local_aws.store import Document


def listed(
    documents: Iterable[Document], request: Request, prefix: str, summary: tuple[str, ...]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What matches the filters, in the order asked for (default: by CreationTime, Descending, as documented).

    Args:
        documents: with <prefix>Name, CreationTime and, where the request can name them, LastModifiedTime and
            <prefix>Status.
        prefix: of the members' names, such as "Endpoint".
        summary: the members that are answered.
    """
    name, status = f"{prefix}Name", f"{prefix}Status"
    found = [
        document
        for document in documents
        if request.get("NameContains", "").lower() in document[name].lower()
        and request.get("StatusEquals", document.get(status)) == document.get(status)
        and all(
            float(request.get(f"{time}After", -math.inf))
            < (document.get(time) or document["CreationTime"])
            < float(request.get(f"{time}Before", math.inf))
            for time in ("CreationTime", "LastModifiedTime")
        )
    ]
    member = {"Name": name, "Status": status}.get(request.get("SortBy", ""), "CreationTime")

    def position(document: Document) -> list[Any]:
        return [document[member], document["CreationTime"], document[name]]

    found.sort(key=position, reverse=request.get("SortOrder") != "Ascending")
    found, more = page(found, request, position=position)
    return [{key: document[key] for key in summary} for document in found], more
