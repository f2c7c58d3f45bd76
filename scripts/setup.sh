#!/usr/bin/env bash
# Makes .venv with the exact versions of requirements.lock. Fails with a sentence; leaves .venv/ready when all is well.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }
works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=${PYTHON:-}
if [ -n "$python" ]; then
  works "$python" || { say "$python is no Python 3.11 or newer. Type: make PYTHON=/path/to/python3.11 …"; exit 1; }
else
  # The one the lock file was made with first. A name that is found may still not run (version managers leave such), so try.
  for python in python3.11 python3 python3.12 python3.13; do works "$python" && break || python=; done
  if [ -z "$python" ]; then
    say "No Python 3.11 or newer was found. Install one (with its venv module), or type: make PYTHON=/path/to/python3.11 …"
    exit 1
  fi
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
  say "This Python has no venv module. On Debian and Ubuntu, type: apt-get install python3-venv"
  exit 1
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
failed() {
  say "Installing the packages of requirements.lock failed (the lines above say where)."
  command -v cc >/dev/null 2>&1 || say "A package may have had to be compiled, and there is no C compiler here: install gcc or clang, then try again."
  say "Without a network, nothing can be installed the first time; afterwards everything works offline."
  exit 1
}

say "Making .venv (a minute or two, once) …"
torch=$(grep -oE '^torch==[0-9.]+' requirements.lock)
if ! .venv/bin/python -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '${torch#torch==}')" >/dev/null 2>&1; then
  # Without a GPU the CPU build is enough, and ten times smaller. Where the configured index would give the CUDA build,
  # uv knows the place of the CPU build.
  if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 &&
    ! pip install --dry-run --no-deps --report - "$torch" 2>/dev/null | grep -q '+cpu'; then
    pip install uv && .venv/bin/uv pip install -q --python .venv/bin/python --torch-backend cpu "$torch" || failed
  else
    pip install "$torch" || failed
  fi
fi
pip install -r requirements.lock || failed
pip install --no-deps --no-build-isolation -e . || failed
touch .venv/ready
