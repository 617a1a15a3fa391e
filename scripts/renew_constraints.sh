#!/usr/bin/env bash
# Renew constraints.txt: the newest versions that the project's own bounds admit, frozen from a fresh environment.
# What torch needs for an accelerator is left out: that comes with the torch that a machine's package index gives.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet ${TORCH:-torch} -e ".[dev]"  # TORCH=torch==2.13.0 holds it to a version
{
    echo '# The versions that the tests were run with; `pip install -c constraints.txt` takes these and no others.'
    echo '# scripts/renew_constraints.sh writes this file.'
    "$environment/bin/pip" freeze --exclude-editable | grep -vE '^(nvidia|cuda|triton)' | sed -E 's/\+[a-z0-9.]+$//'
} > constraints.txt
