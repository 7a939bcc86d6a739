"""Models for tests of transform jobs: archives with a few lines of Python, or with a real booster."""

from __future__ import annotations

from typing import Any

from tests.local_aws.job_requests import IMAGE, Workshop, tar_gz

# What it answers to a request: of each line the first column, the number of lines in the request, and the
# environment's variables that TELL names.
ECHO = """
    import json, os, time

    def model_fn(model_dir):
        print("model loaded")
        return None

    def transform_fn(model, body, content_type, accept):
        text = body if isinstance(body, str) else body.decode()
        if "sleep" in text:
            print("sleeping", flush=True)
            time.sleep(60)
        if "broken" in text:
            raise RuntimeError("this line is broken")
        lines = [line for line in text.splitlines() if line]
        if accept == "application/jsonlines":
            return "".join(json.dumps({"seen": json.loads(line)}) + "\\n" for line in lines), accept
        told = ",".join(os.environ.get(name, "") for name in os.environ.get("TELL", "").split(","))
        return "".join(f"{line.split(',')[0]},{len(lines)},{told}\\n" for line in lines), accept
"""


def make_model(workshop: Workshop, program: str | bytes = ECHO, **environment: str) -> str:
    """Create a model; its name.

    Args:
        program: inference.py, or a whole archive.
    """
    name = workshop.name()
    archive = program if isinstance(program, bytes) else tar_gz({"code/inference.py": program})
    container: dict[str, Any] = {
        "Image": IMAGE,
        "ModelDataUrl": workshop.put(f"{name}/model.tar.gz", archive),
        "Environment": {"SAGEMAKER_PROGRAM": "inference.py", **environment},
    }
    workshop.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=workshop.role)
    return name
