"""Every agent on the same small tasks: `python campaigns/learners.py OUT` makes the page and picture of all learners.

Each cell (agent, tasks, seed) is a run of its own, in one of --processes processes with one thread; its numbers are
kept in OUT/cells, and the same command goes on where it was ended.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
SIZES = {"sine": 3_000, "glyphs1": 300, "glyphs5": 150}
"""Training tasks by kind of tasks: 5-shot sine, glyphs 5-way 1-shot and 5-shot."""

TESTED = {"sine": 500, "glyphs1": 100, "glyphs5": 100}
"""Test tasks."""

FILTERS = 32

KNOWN = {
    "maml": ("47", "63"),
    "anil": ("46.7", "61.5"),
    "boil": ("49.61", "66.45"),
    "meta-sgd": ("50.47", "64.03"),
    "meta-curvature": ("55.73 (128 filters)", "70.30 (128 filters)"),
    "alfa": ("50.58", "69.12"),
    "maml++": ("52.15 (48 filters)", "68.32 (48 filters)"),
    "cavia": ("51.82 (512 filters)", "65.85 (512 filters)"),
    "mt-net": ("51.70", ""),
    "reptile": ("47.07", "62.74"),
    "imaml": ("49.30", ""),
    "r2d2": ("49.50", "65.40"),
    "metaoptnet": ("52.87", "68.76"),
    "metaoptnet-ridge": ("53.23", "69.51"),
    "leo": ("61.76 (WRN-28-10)", "77.59 (WRN-28-10)"),
    "matching": ("43.56", "55.31"),
    "relation": ("50.44", "65.32"),
    "protonet": ("49.42", "68.20"),
    "simpleshot": ("49.7", "66.9"),
    "turtle": ("48", "62"),
    "fo-turtle": ("43", "59"),
    "fo-maml": ("46", "63"),
    "lstm": ("45", "61"),
    "lstm-enhanced": ("48", "63"),
    "scratch": ("29", "40"),
    "finetuning": ("38", "56"),
    "baseline++": ("44", "58"),
}
"""What others report on miniImageNet, 5-way 1-shot and 5-shot, Conv4 unless said: each method's own paper; of the last
eight rows and maml, the paper that this project implements."""

HEAD = """# All learners on the same tasks

Every registered agent with the settings that `fsl run` takes for such tasks, on equal numbers of tasks: {sine} on
5-shot sine, {images} on glyphs, 5-way 1-shot, {fewer} on 5-shot, Conv4 with {filters} filters. These settings are
published ones but for what each agent's page says: cavia, sap, op-lstm (images) and imaml (sine) have rates that were
chosen in this project by how soon training on glyphs or sine left chance. Pre-trained agents take as many minibatches
as there are tasks, each of as many images as a task has. The last of the image columns tests the 5-shot runs on
textures, which they have never seen. ± is the 95 % interval over three seeds (Student's t); {tested} test tasks each
(sine {tested_sine}). These are seconds to minutes of training on easy images: they compare the cost and the start of
learning, not what the methods reach. An agent at 0.2 has not left chance in so few tasks, which for learned update
rules and networks that start symmetric takes longer; reptile's published rate is for 100,000 steps, and maml++'s
schedules are those of so short a run.

The image columns cannot be compared with each other: 5-shot has half as many tasks. An interval wider than the scale
(op-lstm) means that some seeds left chance and others did not. Every agent has its own number of inner steps.

CPU time is that of a run for each training task, times the share of its time that was training (sampling included),
one thread, two runs at a time on two shared cores. Memory is the peak of a process that takes one outer step on a
5-way 1-shot task of 84x84 images with 75 query images (Conv4, 64 filters), above that of a process with chance.
Parameters are those that meta-training changes (on glyphs 1-shot). The last two columns are **others' numbers**, from
each method's paper (mostly Conv4, 84x84, full training; they come from different treatments of batch normalization,
filters and augmentations): what the methods are known to reach, not what was run here; empty where no number is at
hand. Empty cells of time and memory: no training.

    python campaigns/learners.py OUT

![accuracy over CPU seconds](../pictures/learners.png)

"""


def run_cell(agent: str, kind: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and test one agent; {"refused": words} where it is not for such tasks."""
    import runners
    from fewshot_env.errors import FewShotError

    env = "sine" if kind == "sine" else "glyphs"
    settings: dict[str, Any] = {
        "train_tasks": SIZES[kind], "val_tasks": 0, "test_tasks": TESTED[kind], "threads": 1, "seed": seed,
        "env.n_shot": 5,
    }  # fmt: skip
    per_task = 55
    if kind != "sine":
        shots = int(kind[-1])
        settings |= {"env.n_way": 5, "env.n_shot": shots, "env.n_query": 15}
        settings |= {} if agent == "chance" else {"agent.filters": FILTERS}
        per_task = 5 * (shots + 15)
    try:
        if _pretrains(agent):
            settings["agent.pretrain_batch"] = per_task
        started = time.process_time()
        done = runners.run(env, agent, settings, log_dir=out / "runs")
        seconds = done.result["seconds"]
        cpu = (time.process_time() - started) * seconds["train"] / max(sum(seconds.values()), 1e-9)
        found = {"score": done.result["mean"], "cpu": cpu / SIZES[kind] if cpu else 0.0}
        learner = runners.load(done.folder)
        found["parameters"] = sum(p.numel() for p in learner.parameters()) if learner.learns else 0
        if kind == "glyphs5":
            found["textures"] = runners.evaluate(done.folder, "textures")["mean"]
    except FewShotError as error:
        if kind != "sine":
            raise
        return {"refused": str(error)}  # it is for classes
    return found


def memory(agent: str) -> float:
    """Peak MB of a process that takes an outer step on one 84x84 5-way 1-shot task with 15 query images per class."""
    import resource

    import torch

    import agents
    from fewshot_env.episode import Split, TaskSpec

    torch.set_num_threads(1)
    spec = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
    learner = agents.make(agent, spec, n_shot=1).train()
    for _ in range(2 if learner.learns else 0):
        size = 80 if learner.config.minibatch else 75
        support = Split(torch.rand(1, 5, 3, 84, 84), torch.arange(5).view(1, 5))
        query = Split(torch.rand(1, size, 3, 84, 84), torch.arange(size).remainder(5).view(1, -1))
        adapted = learner.adapt(support)
        learner.meta_update(learner.predict(adapted, query.x), query.labels, adapted)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _pretrains(agent: str) -> bool:
    import agents

    return bool(agents.find(agent).load().Config().minibatch)


def compute(out: Path, processes: int) -> dict[tuple[str, str, int], dict[str, Any]]:
    """All cells, those that are missing computed."""
    import agents

    (out / "cells").mkdir(parents=True, exist_ok=True)
    wanted = [(agent, kind, seed) for seed in SEEDS for kind in SIZES for agent in agents.AGENTS]
    files = {cell: out / "cells" / f"{cell[0]}-{cell[1]}-{cell[2]}.json" for cell in wanted}
    left = [cell for cell in wanted if not files[cell].exists()]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_cell, *cell, out): cell for cell in left}
        for n, future in enumerate(as_completed(futures), 1):
            cell, found = futures[future], future.result()
            files[cell].write_text(json.dumps(found))
            print(f"{n} of {len(left)}: {' '.join(map(str, cell))}: {found}", flush=True)
    for name in agents.AGENTS:
        file = files[name, "memory", 0] = out / "cells" / f"{name}-memory-0.json"
        if not file.exists():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                file.write_text(json.dumps({"peak": alone.submit(memory, name).result()}))
    return {cell: json.loads(file.read_text()) for cell, file in files.items()}


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean and half of the 95 % interval over seeds, by Student's t."""
    from runners.evaluation.statistics import half_width

    return sum(values) / len(values), half_width(values) or 0.0


def short(number: float) -> str:
    """Two significant digits, without an exponent."""
    return f"{float(f'{number:.2g}'):g}"


def of_cells(cells: dict[tuple[str, str, int], dict[str, Any]], agent: str, kind: str, what: str) -> list[float]:
    """One number of every seed's cell; none where the agent refuses such tasks."""
    return [cells[agent, kind, seed][what] for seed in SEEDS if what in cells[agent, kind, seed]]


def page(cells: dict[tuple[str, str, int], dict[str, Any]], names: list[str]) -> str:
    """The Markdown page."""
    head = ["agent", "sine 5-shot (mse)", "glyphs 1-shot", "glyphs 5-shot", "glyphs->textures 5-shot",
            "CPU ms a task: sine", "glyphs 1-shot", "glyphs 5-shot", "MB a step, 84x84", "parameters",
            "miniImageNet 1-shot (others')", "5-shot (others')"]  # fmt: skip
    rows = []
    for name in names:
        row = [f"`{name}`"]
        for kind, what in (("sine", "score"), ("glyphs1", "score"), ("glyphs5", "score"), ("glyphs5", "textures")):
            values = of_cells(cells, name, kind, what)
            row.append("{:.3f} ± {:.3f}".format(*mean_and_half(values)) if values else "needs classes")
        for kind in SIZES:
            cpu = of_cells(cells, name, kind, "cpu")
            row.append(short(1000 * sum(cpu) / len(cpu)) if cpu and cells[name, kind, 0]["parameters"] else "")
        above = cells[name, "memory", 0]["peak"] - cells["chance", "memory", 0]["peak"]
        row.append(f"{above:,.0f}" if cells[name, "glyphs1", 0]["parameters"] else "")
        row.append(f"{int(of_cells(cells, name, 'glyphs1', 'parameters')[0]):,}")
        rows.append([*row, *KNOWN.get(name, ("", ""))])
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    words = HEAD.format(
        sine=f"{SIZES['sine']:,}",
        images=SIZES["glyphs1"],
        fewer=SIZES["glyphs5"],
        filters=FILTERS,
        tested=TESTED["glyphs1"],
        tested_sine=TESTED["sine"],
    )
    return words + "\n".join(lines) + "\n"


def picture(cells: dict[tuple[str, str, int], dict[str, Any]], names: list[str], file: Path) -> None:
    """Accuracy over the CPU seconds of the training, on glyphs 1-shot and 5-shot."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 6), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("glyphs1", "glyphs5"), strict=True):
        taken: list[Any] = []
        points = []
        for name in names:
            cpu, scores = of_cells(cells, name, kind, "cpu"), of_cells(cells, name, kind, "score")
            if cells[name, kind, 0]["parameters"]:
                points.append((SIZES[kind] * sum(cpu) / len(cpu), *mean_and_half(scores), name))
        axis.errorbar(*zip(*[p[:2] for p in points], strict=True), yerr=[p[2] for p in points], fmt="o", ms=4,
                      color="#1b6ca8", ecolor="#b9d3e6", capsize=2)  # fmt: skip
        axis.set(xscale="log", xlabel=f"CPU seconds of the training ({SIZES[kind]} tasks)",
                 title=f"glyphs, 5-way {kind[-1]}-shot")  # fmt: skip
        axis.set_ylim(0.1, 1)
        ticks = [5, 10, 20, 40, 80]
        axis.set_xticks(ticks, [str(n) for n in ticks], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_xlim(min(p[0] for p in points) * 0.85, max(p[0] for p in points) * 1.5)
        axis.axhline(0.2, color="grey", lw=0.8, ls=":")
        axis.grid(axis="y", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        figure.canvas.draw()
        for x, y, _, name in sorted(points, key=lambda p: -p[1]):
            _label(axis, x, y, name, taken)
    axes[0].set_ylabel("accuracy (95 % interval over seeds)")
    figure.savefig(file)


def _label(axis: Any, x: float, y: float, name: str, taken: list[Any]) -> None:
    """Write a name beside its point where it covers no other name."""
    shifts = [(5, dy) for dy in (-2, 6, -10, 14, -18, 22, -26, 30, -34)]
    for dx, dy in [*shifts, *((-5 - 4.2 * len(name), dy) for _, dy in shifts)]:
        text = axis.annotate(name, (x, y), (dx, dy), textcoords="offset points", fontsize=7)
        box = text.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            break
        text.remove()
    else:
        text = axis.annotate(name, (x, y), (5, -2), textcoords="offset points", fontsize=7)
    taken.append(text.get_window_extent())


def main() -> None:
    """See the module."""
    import agents

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    cells = compute(options.out.absolute(), options.processes)
    names = list(agents.AGENTS)
    (options.out / "learners.md").write_text(page(cells, names))
    picture(cells, names, options.out / "learners.png")


if __name__ == "__main__":
    main()
