#!/usr/bin/env bash
# Every static check, called by `make lint` with PYTHON (the main environment) and LINT (the linters' bin folder).
# They run side by side; each one's output is shown as a whole, in their order, and one that fails stops no other.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${PYTHON:?}" "${LINT:?}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python_code() {
  echo "ruff, mypy: what is not generated"
  "$LINT/ruff" check .
  "$LINT/ruff" format --check .
  "$LINT/mypy"

  echo "ruff: hooks (Jinja stands in their strings only)"
  "$LINT/ruff" check --isolated --line-length 120 --select E,F,W,I hooks/*.py
}

templates() {
  echo "cfn-lint, checkov, parliament: CloudFormation templates and the IAM policies in them"
  templates=$(grep -l AWSTemplateFormatVersion servicecatalog/*.yaml)
  policies=$(find servicecatalog -name "*-policy*.json")
  # shellcheck disable=SC2086  # they are several words
  {
    "$LINT/cfn-lint" $templates
    "$LINT/checkov" --skip-download --framework cloudformation --quiet --compact \
      --config-file servicecatalog/checkov.yaml $(printf -- "--file %s " $templates)
    "$PYTHON" -m tests.lint_resources $templates $policies
    "$LINT/python" -W ignore::UserWarning -m tests.lint_policies $templates $policies
  }
}

others() {
  echo "CI files against their schemas"
  "$LINT/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml

  if command -v terraform >/dev/null; then
    echo "terraform fmt: servicecatalog/terraform (tests/servicecatalog/test_terraform.py validates and applies it)"
    terraform fmt -check -diff servicecatalog/terraform
  else
    echo "terraform fmt: SKIPPED, terraform is not on the PATH"
  fi
}

# The template is linted in the form that its users get: each problem type, and each Git host's CI.
lint_generated() { # takes cookiecutter's answers
  echo "ruff, mypy, CI file: a generated repository ($*)"
  folder=$(mktemp -d "$scratch/XXXXXX")
  "$PYTHON" -m cookiecutter --no-input --output-dir "$folder" . project=lint "$@" >/dev/null
  (cd "$folder/lint" && "$OLDPWD/$LINT/ruff" check . && "$OLDPWD/$LINT/ruff" format --check . \
    && "$OLDPWD/$LINT/mypy" --ignore-missing-imports --check-untyped-defs pipeline steps)
  if [ -d "$folder/lint/.github" ]; then
    "$LINT/check-jsonschema" --builtin-schema vendor.github-workflows "$folder"/lint/.github/workflows/*.yml
  elif [ -f "$folder/lint/.gitlab-ci.yml" ]; then
    "$LINT/check-jsonschema" --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci "$folder/lint/.gitlab-ci.yml"
  fi # of buildspec.yml there is no schema: tests/template/test_generation.py
}
generated() {
  lint_generated problem_type=binary_classification
  lint_generated problem_type=multiclass_classification git_host=gitlab
  lint_generated problem_type=regression git_host=github
}

checks=(python_code templates others generated)
started=()
for check in "${checks[@]}"; do
  (set -e; "$check") >"$scratch/$check.log" 2>&1 &
  started+=($!)
done
failed=()
for number in "${!checks[@]}"; do
  wait "${started[$number]}" || failed+=("${checks[$number]}")
  cat "$scratch/${checks[$number]}.log"
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "Lint: see above: ${failed[*]}"
  exit 1
fi
echo "Lint: no complaint."
