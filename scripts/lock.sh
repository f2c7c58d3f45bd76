#!/usr/bin/env bash
# Writes requirements.lock: the exact versions of the project with every extra that `make demo` and `make test` need.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
pip install "$(grep -oE '^torch==[0-9.]+' requirements.lock 2>/dev/null || echo torch==2.13.0)"
pip install "setuptools>=77" wheel
pip install ".[all,docs,dev,proofs]"
{
  echo "# Exact versions behind \`make demo\` and \`make test\`; written by \`make lock\`."
  pip freeze --all --exclude counterpoint --exclude pip | sed -E 's/^(torch==[0-9.]+)\+[a-z0-9.]+$/\1/'
} >requirements.lock
