"""Carry out what `fsl run` was asked for: one run or several seeds, in this process or a team of them."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from agents.stack import can_stack
from fewshot_env.errors import FewShotError
from runners import launch, run_dir, team
from runners.checkpoint import load
from runners.evaluate import in_words
from runners.plan import Plan, make_plan
from runners.settings import Settings
from runners.stop import Interrupted
from runners.train import Run, check_shares


def begin(settings: Settings, preset: str, log_dir: Path, seeds: int, processes: int) -> list[Path]:
    """New runs in new folders, which are returned. Everything is checked before the first folder is made."""
    first = make_plan(settings, preset)
    plans = [make_plan(settings | {"seed": first.run.seed + i}, preset) if i else first for i in range(seeds)]
    first.make_agent()  # an unusable device or setting is found now
    us = team.join(first.run.device)
    check_shares(first, max(processes, us.size))
    folders: list[Path] = []
    if us.leads:
        folders = run_dir.create_group(log_dir, plans) if seeds > 1 else [run_dir.create(log_dir, first)]
    try:
        folders = us.gather(folders)[0]
    except team.MemberLost:
        raise FewShotError("the first process could not make the run's folder; its own message says why") from None
    _carry_out(plans, folders, us, processes)
    return folders


def resume(folder: Path, processes: int) -> None:
    """Runs continued from their last checkpoints; `folder` holds one, or several by seed."""
    folders = run_dir.members(folder)
    unfinished = [f for f in folders if not (f / "result.json").exists()]
    if not unfinished:
        raise FewShotError(f"{folder} is finished; its result is in result.json (fsl eval {folders[0]} tests it again)")
    plans = [make_plan(run_dir.read_settings(f)) for f in unfinished]
    plans[0].make_agent()  # as at the beginning: an unusable device is found now
    us = team.join(plans[0].run.device)
    check_shares(plans[0], max(processes, us.size))
    _carry_out(plans, unfinished, us, processes)


def _carry_out(plans: Sequence[Plan], folders: Sequence[Path], us: team.Team, processes: int) -> None:
    run, where = plans[0].run, run_dir.group_of(folders)
    if us.leads and not launch.launched():
        seeds = f"seed {run.seed}" if len(plans) == 1 else f"seeds {run.seed} to {plans[-1].run.seed}"
        print(f"{run.agent} on {plans[0].pair}, {run.train_tasks} tasks, {seeds}: {where}", flush=True)
    if processes > 1 and us.size == 1:
        code = launch.launch(where, processes)
        if code:
            raise typer.Exit(code)
        return
    results, again = [], f"fsl run --resume {where}"
    try:
        for batch in _side_by_side(plans, folders):
            results += Run([plans[i] for i in batch], [folders[i] for i in batch], us)()
    except Interrupted as stop:
        if us.leads:
            print(f"interrupted; continue with: {again}", file=sys.stderr)
        raise typer.Exit(stop.code) from None
    except team.MemberLost as lost:
        if not launch.launched():  # else the process that launched us tells
            print(f"fsl: another process of this run is gone ({lost}); continue with: {again}", file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        us.leave()
    if us.leads:
        _report(plans[0], results, where)


def _side_by_side(plans: Sequence[Plan], folders: Sequence[Path]) -> list[list[int]]:
    """The runs, by number, in portions that can be trained at once: of small agents, and equally far."""
    if len(plans) == 1 or not can_stack(plans[0].make_agent()):
        return [[i] for i in range(len(plans))]
    by_progress: dict[tuple[float, ...], list[int]] = {}
    for i, folder in enumerate(folders):
        by_progress.setdefault(_progress(folder / "last.pt"), []).append(i)
    return list(by_progress.values())


def _progress(file: Path) -> tuple[float, ...]:
    """Tasks seen, and the steps that Adam has taken (fewer where some were skipped)."""
    if not file.exists():
        return ()
    content = load(file)
    moments = (content["agent"]["optimizer"] or {"state": {}})["state"].values()
    return (content["tasks_seen"], *[float(m["step"]) for m in moments])


def _report(plan: Plan, results: Sequence[dict[str, Any]], where: Path) -> None:
    floor = f" (chance {1 / plan.spec.n_outputs:.3f})" if plan.spec.kind == "classification" else ""
    words = in_words(results[0]) if len(results) == 1 else _over_seeds(results)
    print(f"test on {plan.pair.target.name}: {words}{floor}")
    print(f"see it: tensorboard --logdir {where.parent if len(results) == 1 else where}")


def _over_seeds(results: Sequence[dict[str, Any]]) -> str:
    """One line: "mse 0.471 ± 0.013 (95 % interval over 3 seeds), from 0.460 to 0.487"."""
    means = [r["mean"] for r in results if r["mean"] is not None]
    diverged = sum(r["diverged"] for r in results)
    if len(means) < 2:
        return f"{results[0]['metric']}: fewer than two of {len(results)} seeds have a finite mean"
    half = 1.96 * statistics.stdev(means) / math.sqrt(len(means))
    return (
        f"{results[0]['metric']} {statistics.fmean(means):.3f} ± {half:.3f} (95 % interval over {len(means)} seeds), "
        f"from {min(means):.3f} to {max(means):.3f}" + (f", {diverged} tasks diverged" if diverged else "")
    )
