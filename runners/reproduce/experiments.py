"""The paper's figures and tables, declared. What a cell leaves open is `Config.paper` and the paper's protocol."""

from __future__ import annotations

from typing import Any

from fewshot_env.errors import FewShotError, suggest
from runners.reproduce.grid import Cell, Experiment, Scale

SINE = {
    "full": Scale("full", 30, {}),
    "quick": Scale("quick", 3, {"train_tasks": 3000, "val_every": 1000, "val_tasks": 200, "test_tasks": 500}),
}
IMAGES = {
    "full": Scale("full", 5, {}),
    "quick": Scale("quick", 2, {"train_tasks": 8, "val_every": 8, "val_tasks": 2, "test_tasks": 10, "log_every": 4}),
}

GRADIENT_ONLY = {"agent.history": "none", "agent.time_input": False, "agent.learned_rates": False}
"""Fig. 3: the gradient is the only input, and alpha is fixed to ones."""

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
"""The rows of the paper's tables, in its order."""

TITLES = {"mini": "miniImageNet", "cub": "CUB"}


def turtle_row(agent: str, layers: int) -> str:
    """The name of a row of Fig. 3."""
    return f"{agent}, {layers} hidden"


def _fig3() -> list[Cell]:
    cells = []
    for steps in (1, 5, 10):
        column, fixed = f"T = {steps}", {"env": "sine", "agent.inner_steps": steps}
        cells += [Cell(row, column, {**fixed, "agent": AGENTS[row]}) for row in ("FO-MAML", "MAML")]
        for row in ("First-order TURTLE", "TURTLE"):
            for layers in range(1, 7):
                net: dict[str, Any] = {**GRADIENT_ONLY, "agent.hidden_layers": layers}
                cells.append(Cell(turtle_row(row, layers), column, {**fixed, "agent": AGENTS[row], **net}))
    return cells


def _fig4() -> list[Cell]:
    return [Cell(row, "sine", {"env": "sine", "agent": AGENTS[row]}) for row in ("MAML", "Meta-learner LSTM", "TURTLE")]


def _images(row: str, source: str, shots: int, target: str | None = None) -> Cell:
    env = TITLES[source] if target is None else f"{TITLES[source]} → {TITLES[target]}"
    fixed = {"env": source, "agent": AGENTS[row], "env.n_way": 5, "env.n_shot": shots, "env.n_query": 16}
    return Cell(row, f"{env} {shots}-shot", fixed, target)


TIMED = ("FO-MAML", "MAML", "Meta-learner LSTM", "Meta-learner LSTM (enhanced)", "First-order TURTLE", "TURTLE")

EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment(
            "fig3",
            "figure",
            "Fig. 3: order, number of updates T and hidden layers of TURTLE on 5-shot sine regression",
            _fig3(),
            SINE,
            "validation",
        ),
        Experiment("fig4", "figure", "Fig. 4: 5-shot sine regression", _fig4(), SINE),
        Experiment(
            "table1",
            "table",
            "Table 1: 5-way image classification",
            [_images(row, env, shots) for row in AGENTS for env in ("mini", "cub") for shots in (1, 5)],
            IMAGES,
            data=("mini", "cub"),
        ),
        Experiment(
            "table2",
            "table",
            "Table 2: 5-way cross-domain classification",
            [
                _images(row, source, shots, target)
                for row in AGENTS
                for source, target in (("mini", "cub"), ("cub", "mini"))
                for shots in (1, 5)
            ],
            IMAGES,
            data=("mini", "cub"),
        ),
        Experiment(
            "fig5",
            "figure",
            "Fig. 5: running time and accuracy on miniImageNet",
            [_images(row, "mini", shots) for shots in (1, 5) for row in TIMED],
            IMAGES,
            data=("mini",),
            timed=True,
        ),
    )
}


def find(name: str) -> list[Experiment]:
    """The experiment called `name`, or all; raises FewShotError for another name."""
    if name == "all":
        return list(EXPERIMENTS.values())
    if name not in EXPERIMENTS:
        known = [*EXPERIMENTS, "all"]
        raise FewShotError(f"can not reproduce {name!r}{suggest(name, known)}; known: {', '.join(known)}")
    return [EXPERIMENTS[name]]
