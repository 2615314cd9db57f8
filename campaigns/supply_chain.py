"""What fewshot brings with it: `python campaigns/supply_chain.py > docs/licences.md` (needs pip install -e '.[audit]').

The licences of everything that an installation pulls in, as installed here, by pip-licenses; with the word `audit`, the
known vulnerabilities of what pyproject.toml names, by pip-audit, which asks the package index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement


def needed(name: str, deep: bool = True) -> set[str]:
    """The installed distributions that `name` needs, without its own extras; deep: and what those need, with theirs."""
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
    """Ask for vulnerabilities of the direct dependencies, in the versions installed here; pip-audit's exit code."""
    with tempfile.TemporaryDirectory() as place:
        pins = Path(place) / "requirements.txt"
        pins.write_text("".join(f"{name}=={version(name)}\n" for name in sorted(needed("fewshot", deep=False))))
        words = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(pins)]
        return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    if "audit" in sys.argv:
        sys.exit(audit())
    print("# Licences of what fewshot needs\n\nAs installed where `python campaigns/supply_chain.py` was run.\n")
    print(licences(), end="")
