"""Packages and folders import only downwards, and no modules import each other in a circle."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.helpers.cli import ROOT

PACKAGES = ("runners", "agents", "fewshot_env")  # top to bottom
FOR_AGENTS = {f"fewshot_env.{name}" for name in ("episode", "errors", "plugins", "durable", "settings")}
ORDER = {  # files and folders of a package, top to bottom: each row imports from its own row and from the rows below
    "runners": [
        "__init__ __main__ cli",
        "api",
        "reproduce",
        "reporting",
        "training",
        "prediction",
        "evaluation",
        "loggers",
        "storage",
        "distributed",
        "config",
        "console",
    ],
    "agents": [
        "__init__ maml maml_plus boil meta_sgd meta_curvature alfa cavia mt_net sap reptile imaml turtle meta_lstm "
        "op_lstm plain_lstm pretraining transfer simpleshot linear_probe transductive protonet relation matching r2d2 "
        "metaoptnet leo chance check saved exported",
        "registry",  # loads the methods above by name
        "gradient_based neural base charts",
        "engine",
        "networks",
        "kernels",
    ],
}
ROWS = {(package, name): i for package, rows in ORDER.items() for i, row in enumerate(rows) for name in row.split()}


def modules():
    """Every module of the three packages by its name."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    names = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    return {".".join(n[:-1] if n[-1] == "__init__" else n): file for n, file in zip(names, files, strict=True)}


MODULES = modules()


def imports(module):
    """Our modules that a module imports: at its top, for type checkers only, or in a function."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


IMPORTS = {module: {name for name in imports(module) if name.split(".")[0] in PACKAGES} for module in MODULES}


def may_import(package, name):
    """Whether modules of a package may import a module of the three packages."""
    return package in ("runners", name.split(".")[0]) or (package == "agents" and name in FOR_AGENTS)


def place(module):
    """The package, and the file or folder in it, where a module lies."""
    package, *inside = module.split(".")
    return package, inside[0] if inside else "__init__"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    found = [(module, name) for module, names in IMPORTS.items() for name in names if place(module)[0] == package]
    assert found
    assert [f"{module} -> {name}" for module, name in found if not may_import(package, name)] == []


@pytest.mark.parametrize("package", ORDER)
def test_folders_import_only_from_folders_below(package):
    inside = {place(module) for module in MODULES if place(module)[0] == package}
    assert inside - ROWS.keys() == set(), "these have no place in ORDER"
    pairs = [(module, name) for module, names in IMPORTS.items() for name in names]
    pairs = [(module, name) for module, name in pairs if place(module)[0] == place(name)[0] == package]
    assert [f"{module} -> {name}" for module, name in pairs if ROWS[place(name)] < ROWS[place(module)]] == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_top_of_runners_is_folders():
    assert len([entry for entry in (ROOT / "runners").iterdir() if entry.is_file()]) <= 6


def test_tests_share_code_only_through_helpers():
    files = [file for folder in ("tests", "campaigns") for file in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r"^\s*(?:from|import) tests\.(?!helpers)", re.MULTILINE)
    assert [str(file) for file in files if pattern.search(file.read_text())] == []


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
