"""Table 2: accuracies of the methods trained on one image data set and tested on the other."""

from __future__ import annotations

from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.shared import IMAGE_SCALES, order_claims, table_cells

SETTINGS = (("mini", "cub", 1), ("mini", "cub", 5), ("cub", "mini", 1), ("cub", "mini", 5))
PAPER = {
    "TrainFromScratch": ((30, 0), (46, 0), (29, 0), (40, 0)),
    "Finetuning": ((33, 0), (52, 1), (29, 0), (41, 0)),
    "Baseline++": ((35, 1), (52, 1), (26, 0), (31, 1)),
    "Meta-learner LSTM": ((34, 1), (52, 1), (29, 1), (37, 0)),
    "Meta-learner LSTM (enhanced)": ((37, 0), (55, 1), (32, 1), (43, 1)),
    "FO-MAML": ((34, 1), (54, 1), (31, 0), (45, 1)),
    "MAML": ((35, 0), (56, 1), (31, 0), (47, 0)),
    "First-order TURTLE": ((36, 0), (54, 2), (30, 0), (31, 1)),
    "TURTLE": ((38, 0), (56, 1), (30, 0), (44, 0)),
}
"""Table 2 in hundredths: value and half of its interval, by setting."""

TABLE2 = Experiment(
    name="table2",
    title="Table 2: 5-way cross-domain classification",
    cells=table_cells(PAPER, SETTINGS),
    source="the paper, Table 2",
    scales=IMAGE_SCALES,
    data=("mini", "cub"),
    claims=tuple(order_claims()),
)
