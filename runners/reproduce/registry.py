"""The figures and tables that `fsl reproduce` knows. To add one: a file with an Experiment, and a line here."""

from __future__ import annotations

from fewshot_env.errors import FewShotError, suggest
from runners.reproduce.fig3 import FIG3
from runners.reproduce.fig4 import FIG4
from runners.reproduce.fig5 import FIG5
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.table1 import TABLE1
from runners.reproduce.table2 import TABLE2

EXPERIMENTS = {e.name: e for e in (FIG3, FIG4, TABLE1, TABLE2, FIG5)}


def experiments_named(name: str) -> list[Experiment]:
    """The experiment with this name, or all for "all"; raises FewShotError for another name."""
    if name == "all":
        return list(EXPERIMENTS.values())
    if name not in EXPERIMENTS:
        known = [*EXPERIMENTS, "all"]
        raise FewShotError(f"cannot reproduce {name!r}{suggest(name, known)}; known: {', '.join(known)}")
    return [EXPERIMENTS[name]]
