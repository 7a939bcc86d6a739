#!/usr/bin/env bash
# Every static check, called by `make lint` with PYTHON (the main environment) and LINT (the linters' bin folder).
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PYTHON:?}" "${LINT:?}"

echo "ruff, mypy: what is not generated"
"$LINT/ruff" check .
"$LINT/ruff" format --check .
"$LINT/mypy"

echo "ruff: hooks (Jinja stands in their strings only)"
"$LINT/ruff" check --isolated --line-length 120 --select E,F,W,I hooks/*.py

echo "cfn-lint, checkov, parliament: CloudFormation templates and the IAM policies in them"
templates=$(grep -l AWSTemplateFormatVersion servicecatalog/*.yaml)
policies=$(find servicecatalog -name "*-policy*.json")
# shellcheck disable=SC2086  # they are several words
{
  "$LINT/cfn-lint" $templates
  "$LINT/checkov" --skip-download --framework cloudformation --quiet --compact --config-file servicecatalog/checkov.yaml \
    $(printf -- "--file %s " $templates)
  "$PYTHON" -m tests.lint_resources $templates $policies
  "$LINT/python" -W ignore::UserWarning -m tests.lint_policies $templates $policies
}

echo "CI files against their schemas"
"$LINT/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml

# The template is linted in the form that its users get: one project of each problem type.
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT
for problem_type in binary_classification multiclass_classification regression; do
  echo "ruff, mypy: a generated repository ($problem_type)"
  folder=$generated/$problem_type
  "$PYTHON" -m cookiecutter --no-input --output-dir "$folder" . project=lint "problem_type=$problem_type" >/dev/null
  (cd "$folder/lint" && "$OLDPWD/$LINT/ruff" check . && "$OLDPWD/$LINT/ruff" format --check . \
    && "$OLDPWD/$LINT/mypy" --ignore-missing-imports --check-untyped-defs pipeline steps)
done
echo "Lint: no complaint."
