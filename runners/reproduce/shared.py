"""What several figures and tables share: the paper's agents, their colours, the scales, the image cells and claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runners.reproduce.machinery.claims import (
    Claim,
    Decide,
    Decision,
    columns_of,
    decide_each,
    in_some,
    is_close,
    is_lower,
    median_of,
)
from runners.reproduce.machinery.grid import Cell, Scale
from runners.reproduce.machinery.statistics import Estimate, Reference
from runners.reproduce.machinery.summary import Summaries

SINE_SCALES = {
    "full": Scale("full", 30, {}),
    "quick": Scale("quick", 3, {"train_tasks": 3000, "val_every": 1000, "val_tasks": 200, "test_tasks": 500}),
}
IMAGE_SCALES = {
    "full": Scale("full", 5, {}),
    "quick": Scale("quick", 2, {"train_tasks": 8, "val_every": 8, "val_tasks": 2, "test_tasks": 10, "log_every": 4}),
}

AGENTS = {
    "TrainFromScratch": "scratch",
    "Finetuning": "finetuning",
    "Baseline++": "baseline++",
    "Meta-learner LSTM": "lstm",
    "Meta-learner LSTM (enhanced)": "lstm-enhanced",
    "FO-MAML": "fo-maml",
    "MAML": "maml",
    "First-order TURTLE": "fo-turtle",
    "TURTLE": "turtle",
}
"""The rows of the paper's tables, in its order, with our names of the agents."""

COLOURS = {
    "TURTLE": "#1b6ca8",
    "First-order TURTLE": "#e07b39",
    "MAML": "#3a7d44",
    "FO-MAML": "#9a9a2f",
    "Meta-learner LSTM": "#8e4585",
    "Meta-learner LSTM (enhanced)": "#c23b5a",
}
"""One colour per agent, the same in every figure."""

TITLES = {"mini": "miniImageNet", "cub": "CUB"}

TableValues = Mapping[str, Sequence[tuple[int, int]]]
"""A table of the paper by row: the value and half of its interval in hundredths, by column."""


def image_cell(row: str, source: str, shots: int, value: tuple[int, int], target: str | None = None) -> Cell:
    """A cell of 5-way image classification; value: the paper's, in hundredths, each number rounded by up to 0.005."""
    env = TITLES[source] if target is None else f"{TITLES[source]} → {TITLES[target]}"
    settings = {"env": source, "agent": AGENTS[row], "env.n_way": 5, "env.n_shot": shots, "env.n_query": 16}
    reference = Reference(Estimate(value[0] / 100, value[1] / 100, 5), 0.01)
    return Cell(row, f"{env} {shots}-shot", settings, target, reference)


def table_cells(values: TableValues, settings: Sequence[tuple[str, str | None, int]]) -> list[Cell]:
    """The cells of a table whose columns are settings (source, target, shots)."""
    return [
        image_cell(row, source, shots, value, target)
        for row in AGENTS
        for (source, target, shots), value in zip(settings, values[row], strict=True)
    ]


CLOSE_ACCURACY = 0.02
"""Two accuracies are close where they differ by at most this."""


def order_claims(on: str = "") -> Iterator[Claim]:
    """What the paper says of first and second order on images; on: the data set whose columns decide it."""
    where = f" on {on}" if on else ""
    yield Claim(f"second-order gradients improve TURTLE{where}", _improves("TURTLE", "First-order TURTLE", on))
    yield Claim(
        f"raw gradients and second order improve the LSTM{where}",
        _improves("Meta-learner LSTM (enhanced)", "Meta-learner LSTM", on),
    )
    yield Claim(
        f"first- and second-order MAML are close{where}: they differ by at most {CLOSE_ACCURACY}", _maml_orders(on)
    )


def _improves(better: str, worse: str, on: str) -> Decide:
    """Whether an agent's accuracy is above another's in some setting, and below it in none."""

    def decide(cells: Summaries) -> Decision:
        def one(column: str) -> Decision:
            a, b = median_of(cells, better, column), median_of(cells, worse, column)
            return is_lower(b, a), f"{a} against {b}"

        return decide_each([column for column in columns_of(cells) if column.startswith(on)], one, in_some)

    return decide


def _maml_orders(on: str) -> Decide:
    def decide(cells: Summaries) -> Decision:
        def one(column: str) -> Decision:
            first, second = median_of(cells, "FO-MAML", column), median_of(cells, "MAML", column)
            return is_close(first, second, CLOSE_ACCURACY), f"FO {first}, SO {second}"

        return decide_each([column for column in columns_of(cells) if column.startswith(on)], one)

    return decide
