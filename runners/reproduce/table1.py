"""Table 1: accuracies of all methods on miniImageNet and CUB."""

from __future__ import annotations

from collections.abc import Iterable

from runners.reproduce.machinery.claims import Claim, Decision, columns_of, in_all, is_lower, median_of
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.summary import Summaries
from runners.reproduce.shared import IMAGE_SCALES, order_claims, table_cells

SETTINGS = (("mini", None, 1), ("mini", None, 5), ("cub", None, 1), ("cub", None, 5))
PAPER = {
    "TrainFromScratch": ((29, 0), (40, 0), (30, 0), (46, 0)),
    "Finetuning": ((38, 0), (56, 0), (33, 1), (53, 1)),
    "Baseline++": ((44, 0), (58, 0), (36, 1), (53, 1)),
    "Meta-learner LSTM": ((45, 1), (61, 0), (50, 0), (65, 1)),
    "Meta-learner LSTM (enhanced)": ((48, 1), (63, 1), (53, 1), (71, 0)),
    "FO-MAML": ((46, 1), (63, 0), (52, 0), (72, 1)),
    "MAML": ((47, 1), (63, 0), (52, 0), (73, 1)),
    "First-order TURTLE": ((43, 1), (59, 4), (50, 0), (64, 3)),
    "TURTLE": ((48, 1), (62, 1), (53, 0), (72, 1)),
}
"""Table 1 in hundredths: value and half of its interval, by setting."""


def _five_shots(cells: Summaries) -> Decision:
    one_shot = [(row, column) for row, column in cells if column.endswith("1-shot")]
    verdicts = {
        f"{row} on {column.removesuffix(' 1-shot')}": is_lower(
            median_of(cells, row, column), median_of(cells, row, column.replace("1-shot", "5-shot"))
        )
        for row, column in one_shot
    }
    evidence = f"{sum(holds is True for holds in verdicts.values())} of {len(verdicts)}"
    for verdict, label in ((False, "not"), (None, "undecided")):
        names = [name for name, holds in verdicts.items() if holds is verdict]
        evidence += f"; {label}: {', '.join(names)}" if names else ""
    return in_all(verdicts.values()), evidence


def _best_in_half(cells: Summaries) -> Decision:
    columns, ours = columns_of(cells), ("TURTLE", "Meta-learner LSTM (enhanced)")
    others = [row for row in dict.fromkeys(row for row, _ in cells) if row not in ours]

    def best(rows: Iterable[str], column: str) -> float:
        return max(median_of(cells, row, column).value for row in rows)

    won = [column for column in columns if best(ours, column) > best(others, column)]
    return 2 * len(won) >= len(columns), f"{len(won)} of {len(columns)} settings: {', '.join(won) or 'none'}"


TABLE1 = Experiment(
    name="table1",
    title="Table 1: 5-way image classification",
    cells=table_cells(PAPER, SETTINGS),
    source="the paper, Table 1",
    scales=IMAGE_SCALES,
    data=("mini", "cub"),
    claims=(
        *order_claims("miniImageNet"),
        Claim("every method is better with five shots than with one", _five_shots),
        Claim("TURTLE or the enhanced LSTM has the best median in half of the settings", _best_in_half),
    ),
)
