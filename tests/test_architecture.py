"""Three rooms, arrows one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "fewshot_env": lambda module: module.startswith("fewshot_env"),
    "agents": lambda module: module.startswith("agents") or module in ("fewshot_env.episode", "fewshot_env.errors"),
    "runners": lambda module: True,
}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_know_only_what_they_may(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        ours = [m for m in imports(file) if m.split(".")[0] in ALLOWED]
        assert [m for m in ours if not ALLOWED[room](m)] == [], file


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["list"], ["runs", "."]])
def test_the_command_line_imports_nothing_heavy(command):
    code = (
        f"import sys; sys.argv = ['fsl', *{command!r}]\n"
        "from runners.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'tensorboard', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_files_stay_small():
    for room in ALLOWED:
        for file in (ROOT / room).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 320, file
