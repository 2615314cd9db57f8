#!/bin/sh
# Runs the tests with the lowest (or highest) versions that pyproject.toml allows, in a temporary environment:
#     campaigns/compatibility.sh 3.11 lowest-direct
#     campaigns/compatibility.sh 3.13 highest
# Needs uv (pip install uv), a Python of that version, and 7 GB of disk. Further arguments are passed to pytest.
set -e
python=$1 resolution=$2
shift 2
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
uv venv -q --seed --python "$python" "$place/venv"
uv pip install -q --python "$place/venv/bin/python" --resolution "$resolution" -e '.[dev]'
"$place/venv/bin/python" -c '
import re, sys, tomllib
from importlib.metadata import version
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
names = [re.match(r"[\w-]+", word).group() for word in wanted]
print("Python", sys.version.split()[0] + ":", ", ".join(f"{name} {version(name)}" for name in names), flush=True)'
"$place/venv/bin/python" -m pytest "$@"
