"""Licences and vulnerabilities of the dependencies: `python campaigns/supply_chain.py > docs/licences.md`.

Prints the licences of everything that an installation pulls in, as installed here (pip-licenses). With the argument
`audit`: the known vulnerabilities of the direct dependencies (pip-audit, which asks the package index). Needs
pip install -e '.[audit]'.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement


def needed(name: str, deep: bool = True) -> set[str]:
    """The installed dependencies of `name`, without its extras; deep: also their dependencies, with their extras."""
    found: set[str] = set()
    queue, seen = [(name, "")], {(name, "")}
    while queue:
        of, extra = queue.pop()
        for line in requires(of) or ():
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
                continue
            try:
                version(wanted.name)
            except PackageNotFoundError:
                continue
            found.add(wanted.name)
            new = {(wanted.name, e) for e in ("", *wanted.extras)} - seen if deep else set()
            seen |= new
            queue += new
    return found


def licences() -> str:
    """A Markdown table."""
    words = [sys.executable, "-m", "piplicenses", "--format=markdown", "--from=mixed", "--packages", *needed("fewshot")]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def audit() -> int:
    """Check the direct dependencies, as installed here, for vulnerabilities; returns pip-audit's exit code."""
    with tempfile.TemporaryDirectory() as place:
        pins = Path(place) / "requirements.txt"
        pins.write_text("".join(f"{name}=={version(name)}\n" for name in sorted(needed("fewshot", deep=False))))
        words = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(pins)]
        return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    if "audit" in sys.argv:
        sys.exit(audit())
    print("# Licences of the dependencies\n\nAll packages that fewshot depends on, as installed where")
    print("`python campaigns/supply_chain.py` was run.\n")
    print(licences(), end="")
