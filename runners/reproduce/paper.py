"""What stands beside our values: the paper's tables, and numbers where the paper has a picture only."""

from __future__ import annotations

from dataclasses import dataclass

from runners.reproduce.experiments import turtle_row
from runners.reproduce.statistics import Estimate, median_over_runs

TABLE_COLUMNS = {
    "table1": ("miniImageNet 1-shot", "miniImageNet 5-shot", "CUB 1-shot", "CUB 5-shot"),
    "table2": ("miniImageNet → CUB 1-shot", "miniImageNet → CUB 5-shot", "CUB → miniImageNet 1-shot",
               "CUB → miniImageNet 5-shot"),
}  # fmt: skip

# Tables 1 and 2, in hundredths: value, half of its interval
TABLES = {
    "table1": {
        "TrainFromScratch": ((29, 0), (40, 0), (30, 0), (46, 0)),
        "Finetuning": ((38, 0), (56, 0), (33, 1), (53, 1)),
        "Baseline++": ((44, 0), (58, 0), (36, 1), (53, 1)),
        "Meta-learner LSTM": ((45, 1), (61, 0), (50, 0), (65, 1)),
        "Meta-learner LSTM (enhanced)": ((48, 1), (63, 1), (53, 1), (71, 0)),
        "FO-MAML": ((46, 1), (63, 0), (52, 0), (72, 1)),
        "MAML": ((47, 1), (63, 0), (52, 0), (73, 1)),
        "First-order TURTLE": ((43, 1), (59, 4), (50, 0), (64, 3)),
        "TURTLE": ((48, 1), (62, 1), (53, 0), (72, 1)),
    },
    "table2": {
        "TrainFromScratch": ((30, 0), (46, 0), (29, 0), (40, 0)),
        "Finetuning": ((33, 0), (52, 1), (29, 0), (41, 0)),
        "Baseline++": ((35, 1), (52, 1), (26, 0), (31, 1)),
        "Meta-learner LSTM": ((34, 1), (52, 1), (29, 1), (37, 0)),
        "Meta-learner LSTM (enhanced)": ((37, 0), (55, 1), (32, 1), (43, 1)),
        "FO-MAML": ((34, 1), (54, 1), (31, 0), (45, 1)),
        "MAML": ((35, 0), (56, 1), (31, 0), (47, 0)),
        "First-order TURTLE": ((36, 0), (54, 2), (30, 0), (31, 1)),
        "TURTLE": ((38, 0), (56, 1), (30, 0), (44, 0)),
    },
}

# Best validation error of 5 of 30 runs, printed in a notebook of the published repository (commit 100b9bb)
PRINTED = {
    ("FO-MAML", "T = 1"): (0.671, 0.775, 0.702, 0.683, 0.709),
    ("FO-MAML", "T = 5"): (0.533, 0.517, 0.550, 0.508, 0.496),
    (turtle_row("TURTLE", 5), "T = 1"): (0.577, 0.579, 0.615, 0.610, 0.600),
    (turtle_row("TURTLE", 6), "T = 5"): (0.362, 0.364, 0.359, 0.378, 0.372),
}

# The published implementation, run anew with two of its seeds: mean test error
RERUN = {("MAML", "sine"): (0.714, 0.674), ("TURTLE", "sine"): (0.493, 0.502)}

SOURCES = {
    "table1": "the paper, Table 1",
    "table2": "the paper, Table 2",
    "fig3": "5 of 30 runs that a notebook of the published repository prints (commit 100b9bb), TURTLE's with one task "
    "a meta-batch, where the paper and these runs have two; the paper's Fig. 3 is a picture without numbers",
    "fig4": "the published implementation run anew with 2 of its seeds; the paper's Fig. 4 is a picture without "
    "numbers",
    "fig5": "accuracy: the paper, Table 1; its times are a picture without numbers",
}


@dataclass(frozen=True)
class Reference:
    """A value to stand beside ours; rounding: how far rounding may have moved it."""

    estimate: Estimate
    rounding: float

    @property
    def widened(self) -> Estimate:
        """The value with its interval widened by the rounding."""
        half = self.estimate.half
        return Estimate(self.estimate.value, None if half is None else half + self.rounding, self.estimate.runs)


def reference(experiment: str, row: str, column: str) -> Reference | None:
    """The value for a cell, if there is one."""
    if experiment in ("fig3", "fig4"):
        values = (PRINTED if experiment == "fig3" else RERUN).get((row, column))
        return None if values is None else Reference(median_over_runs(values), 0.0005)
    table = "table1" if experiment == "fig5" else experiment
    value, half = TABLES[table][row][TABLE_COLUMNS[table].index(column)]
    return Reference(Estimate(value / 100, half / 100, 5), 0.01)  # value and interval are rounded, 0.005 each
