"""A template of a few files: rendering the real one for each of thousands of cases would take hours.

That the real one is rendered as the command line does it: test_render.py.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping

from seed_lambda.hosts.codecommit import MOST_FILES

_QUESTIONS = {
    "project": "demo",
    "description": "What for",
    "problem_type": ["binary_classification", "multiclass_classification", "regression"],
    "scenario": ["baseline", "advanced"],
    "git_host": ["codecommit", "github"],
    "region": "us-east-1",
    "artifact_bucket": "bucket",
    "pipeline_role": "{{ cookiecutter.project }}-pipeline-{stage}",
}
_FILES = {
    "cookiecutter.json": json.dumps(_QUESTIONS),
    "{{cookiecutter.project}}/README.md": "# {{ cookiecutter.project }}\n{{ cookiecutter.description }}\n",
    "{{cookiecutter.project}}/.github/workflows/ci.yml": "name: CI\n",
    "{{cookiecutter.project}}/steps/train.py": "SCENARIO = '{{ cookiecutter.scenario }}'\n",
}


_MORE = {f"{{{{cookiecutter.project}}}}/data/{number}.txt": str(number) for number in range(MOST_FILES)}


def _archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)
    return packed.getvalue()


ARCHIVE = _archive(_FILES)
LARGE_ARCHIVE = _archive(_FILES | _MORE)  # of more files than one commit of CodeCommit's takes
