"""Carry out what `fsl run` was asked for: one run or several seeds, in this process or a team of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from fewshot_env.errors import FewShotError, is_out_of_memory, said
from runners.config.plan import Plan, make_plan, side_by_side
from runners.config.settings import Settings
from runners.console.output import log
from runners.distributed import launch
from runners.distributed import process_group as team
from runners.distributed.stop import Interrupted
from runners.evaluation.evaluate import in_words
from runners.evaluation.statistics import over_seeds, seeds_in_words
from runners.loggers.base import find as find_logger
from runners.storage import run_folder as run_dir
from runners.storage.checkpoint import load
from runners.storage.lock import locked
from runners.storage.schemas import read_result, read_settings
from runners.training.trainer import Run, check_shares


def planned(settings: Settings, preset: str, seeds: int, processes: int) -> list[Plan]:
    """The plans of so many seeds; raises FewShotError for whatever would keep them from being carried out."""
    first = make_plan(settings, preset)
    plans = [make_plan(settings | {"seed": first.run.seed + i}, preset) if i else first for i in range(seeds)]
    first.make_agent()  # an unusable device or setting is found now
    for name in first.run.loggers:
        find_logger(name)
    check_shares(first, processes)
    team.check_gpus(first.run.device, processes)
    return plans


def begin(settings: Settings, preset: str, log_dir: Path, seeds: int, processes: int) -> list[Path]:
    """New runs in new folders, which are returned. Everything is checked before the first folder is made."""
    plans = planned(settings, preset, seeds, processes)
    us = team.join(plans[0].run.device)
    check_shares(plans[0], us.size)
    folders: list[Path] = []
    if us.leads:
        folders = run_dir.create_group(log_dir, plans) if seeds > 1 else [run_dir.create(log_dir, plans[0])]
    try:
        folders = us.gather(folders)[0]
    except team.MemberLost:
        raise FewShotError("the first process could not make the run's folder; its own message says why") from None
    _carry_out(plans, folders, us, processes)
    return folders


def resume(folder: Path, processes: int) -> list[Path]:
    """Runs continued from their last checkpoints; `folder` holds one, or several by seed. All of them are returned."""
    folders = run_dir.members(folder)
    unfinished = [f for f in folders if not (f / "result.json").exists()]
    if not unfinished:
        raise FewShotError(f"{folder} is finished; its result is in result.json (fsl eval {folders[0]} tests it again)")
    carry_on(unfinished, processes)
    return folders


def carry_on(folders: Sequence[Path], processes: int = 1) -> None:
    """The runs in these folders, which differ in their seeds, from where each stands."""
    plans = [make_plan(read_settings(f)) for f in folders]
    plans[0].make_agent()  # as at the beginning: an unusable device is found now
    for name in plans[0].run.loggers:
        find_logger(name)
    team.check_gpus(plans[0].run.device, processes)
    us = team.join(plans[0].run.device)
    check_shares(plans[0], max(processes, us.size))
    _carry_out(plans, folders, us, processes)


def _carry_out(plans: Sequence[Plan], folders: Sequence[Path], us: team.Team, processes: int) -> None:
    where = run_dir.group_of(folders)
    if processes > 1 and us.size == 1:
        code = launch.launch(where, processes)
        if code:
            raise typer.Exit(code)
        return
    again = f"fsl run --resume {where}"
    try:
        with locked(folders) if us.leads else nullcontext():
            for number, batch in enumerate(_side_by_side(plans, folders)):
                run = Run([plans[i] for i in batch], [folders[i] for i in batch], us)
                if number == 0 and us.leads:
                    _announce(plans, where)
                run()
    except Interrupted as stop:
        if us.leads:
            log.warning(f"interrupted; continue with: {again}")
        raise typer.Exit(stop.code) from None
    except team.MemberLost as lost:
        if not launch.launched():  # else the process that launched us tells
            log.warning(f"fsl: another process of this run is gone ({lost}); continue with: {again}")
        raise typer.Exit(1) from None
    except OSError as error:
        raise FewShotError(
            f"the run {where} can not be written ({error.strerror or error}); mend that, then continue with: {again}"
        ) from error
    except FewShotError:
        raise
    except Exception as error:  # of an agent or environment of one's own, most likely
        if is_out_of_memory(error):
            raise
        raise FewShotError(
            f"{plans[0].run.agent} on {plans[0].pair} failed: {said(error)}; --verbose shows the way there; mend that, "
            f"then continue with: {again}"
        ) from error
    finally:
        us.leave()


def _announce(plans: Sequence[Plan], where: Path) -> None:
    run = plans[0].run
    seeds = f"seed {run.seed}" if len(plans) == 1 else f"seeds {run.seed} to {plans[-1].run.seed}"
    log.info(f"{run.agent} on {plans[0].pair}, {run.train_tasks} tasks, {seeds}: {where}")
    for key, value in plans[0].settings.items():
        log.debug(f"  {key} = {json.dumps(value)}")


def _side_by_side(plans: Sequence[Plan], folders: Sequence[Path]) -> list[list[int]]:
    """The runs, by number, in portions to be trained at once: of small agents, equally far, with tasks of one shape."""
    if len(plans) == 1 or not side_by_side(plans[0]):
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
    try:
        moments = (content["agent"]["optimizer"] or {"state": {}})["state"].values()
        return (content["tasks_seen"], *[float(m["step"]) for m in moments])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise FewShotError(f"the checkpoint {file} is not one of such a run; use another run, or start anew") from error


def report(folders: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """What came of finished runs that differ in their seeds, for JSON and in words."""
    results, where = [read_result(folder) for folder in folders], run_dir.group_of(folders)
    log.info(f"see it: tensorboard --logdir {where.parent if len(folders) == 1 else where}")
    pair, ways = results[0]["env"], results[0]["settings"].get("env.n_way")
    floor = f" (chance {1 / ways:.3f})" if isinstance(ways, int) and ways > 0 else ""
    if len(folders) == 1:
        found, words = results[0] | {"folder": str(where)}, in_words(results[0])
    else:
        runs = [result | {"folder": str(folder)} for result, folder in zip(results, folders, strict=True)]
        found = {"env": pair, "agent": results[0]["agent"], "folder": str(where)} | over_seeds(results) | {"runs": runs}
        words = seeds_in_words(found, len(folders))
    skipped = sum(result.get("skipped_steps", 0) for result in results)
    skips = f", {skipped} training steps skipped" if skipped else ""
    return found, f"test on {pair.split('->')[-1]}: {words}{floor}{skips}"
