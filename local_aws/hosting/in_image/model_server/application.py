"""What the model server answers with: the model's own program (script mode), or the image's default handler."""

from __future__ import annotations

import os

from .server import Application


def load(model_folder: str) -> Application:
    """Load the model as the environment's SAGEMAKER_PROGRAM says; whatever that raises ends the process."""
    if os.environ.get("SAGEMAKER_PROGRAM"):
        from .script_mode import ScriptMode

        return ScriptMode(model_folder)
    from .default_handler import DefaultHandler

    return DefaultHandler(model_folder)


def max_payload_mb() -> int:
    """MaxPayloadInMB of the image: MAX_CONTENT_LENGTH (bytes, 6 MB by default), at most 20 MB."""
    return min(int(os.environ.get("MAX_CONTENT_LENGTH") or 6 * 1024**2), 20 * 1024**2) // 1024**2
