"""Launching: new runs and resumed ones, one or several seeds, in this process or a group of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fewshot_env.errors import FewShotError, command, is_out_of_memory, said
from fewshot_env.store import expanded
from runners.config.plan import Plan, make_plan, side_by_side
from runners.config.settings import Settings
from runners.console.output import log
from runners.distributed import launch
from runners.distributed.process_group import ProcessGroup, ProcessLost, check_gpus, join
from runners.distributed.stop import Interrupted, RunEnded
from runners.evaluation.evaluate import in_words
from runners.evaluation.result import remarks
from runners.evaluation.statistics import over_seeds, seeds_in_words
from runners.loggers.base import find_logger
from runners.storage import run_folder
from runners.storage.checkpoint import load
from runners.storage.lock import NO_LOCKS, locked
from runners.storage.schemas import read_preset, read_result, read_settings
from runners.training import trainer


def planned(settings: Settings, preset: str, seeds: int, processes: int) -> list[Plan]:
    """The plans of so many seeds; raises FewShotError for whatever would prevent them from being carried out."""
    first = make_plan(settings, preset)
    plans = [make_plan(settings | {"seed": first.run.seed + i}, preset) if i else first for i in range(seeds)]
    _verify_machine(first, processes)
    return plans


def begin(settings: Settings, preset: str, log_dir: Path, seeds: int, processes: int) -> list[Path]:
    """Carry out new runs in new folders, which are returned. Everything is checked before the first folder is made."""
    log_dir, plans = expanded(log_dir), planned(settings, preset, seeds, processes)
    group = join(plans[0].run.device)
    _verify_shares(plans[0], group.size)
    folders: list[Path] = []
    if group.is_main:
        folders = run_folder.create_group(log_dir, plans) if seeds > 1 else [run_folder.create(log_dir, plans[0])]
    try:
        folders = group.gather(folders)[0]
    except ProcessLost:
        raise FewShotError("the first process could not make the run's folder; its own message says why") from None
    try:
        _carry_out(plans, folders, group, processes, new=True)
    except RunEnded:
        raise
    except Exception as error:
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno not in NO_LOCKS  # not the run's fault
        if group.is_main and not full and not _can_continue(folders):
            shutil.rmtree(run_folder.group_of(folders), ignore_errors=True)
        raise
    return folders


def _can_continue(folders: Sequence[Path]) -> bool:
    """Whether one of the runs has a checkpoint, or tasks that fsl replay can show."""
    return any((folder / name).exists() for folder in folders for name in ("last.pt", "faults"))


def resume(folder: Path, processes: int) -> list[Path]:
    """Continue runs from their last checkpoints.

    Args:
        folder: of one run, or of several by seed.
        processes: that share every meta-batch.

    Returns:
        The folders of all runs in it.

    Raises:
        FewShotError: where all of them are finished, or a checkpoint is damaged.
        RunEnded: where the user asked to stop, or a process is gone.
    """
    folders = run_folder.members(folder)
    unfinished = [f for f in folders if not (f / "result.json").exists()]
    if not unfinished:
        again = command("fsl", "eval", folders[0])
        raise FewShotError(f"{folder} is finished; its result is in result.json ({again} tests it again)")
    continue_runs(unfinished, processes)
    return folders


def continue_runs(folders: Sequence[Path], processes: int = 1) -> None:
    """Continue the runs in these folders, which differ only in their seeds, from where each stands."""
    plans = [make_plan(read_settings(f), read_preset(f)) for f in folders]
    _verify_machine(plans[0], processes)
    group = join(plans[0].run.device)
    _verify_shares(plans[0], max(processes, group.size))
    _carry_out(plans, folders, group, processes)


def _verify_machine(plan: Plan, processes: int) -> None:
    """Raise FewShotError where the device, a setting, a logger or the number of processes cannot be used."""
    plan.make_agent()
    for name in plan.run.loggers:
        find_logger(name)
    _verify_shares(plan, processes)
    check_gpus(plan.run.device, processes)


def _verify_shares(plan: Plan, processes: int) -> None:
    """Raise FewShotError where one of so many processes would have no tasks of a meta-batch."""
    tasks = plan.agent_config.tasks_per_step
    if processes > tasks:
        what = "a minibatch cannot be split" if plan.agent_config.minibatch else f"a meta-batch has {tasks} tasks"
        raise FewShotError(f"{processes} processes are too many: {what}; use fewer, or raise --meta-batch")


def _carry_out(
    plans: Sequence[Plan], folders: Sequence[Path], group: ProcessGroup, processes: int, new: bool = False
) -> None:
    """Train and test the runs in these folders; `new` ones that fail before their first checkpoint are not resumed."""
    where = run_folder.group_of(folders)
    if processes > 1 and group.size == 1:
        code = launch.launch(where, processes)
        if code:
            raise Interrupted(code) if code > 128 else RunEnded(code)
        return
    again = command("fsl", "run", "--resume", where)

    def advice() -> str:
        start = new and not _can_continue(folders)
        return "mend that, and start the run again" if start else f"mend that, then continue with: {again}"

    try:
        with locked(folders) if group.is_main else nullcontext():
            for number, batch in enumerate(_side_by_side(plans, folders)):
                training = trainer.begin([plans[i] for i in batch], [folders[i] for i in batch], group)
                if number == 0 and group.is_main:
                    _announce(plans, where)
                trainer.run_to_the_end(training)
    except Interrupted:
        if group.is_main:
            log.warning(f"interrupted; continue with: {again}")
        raise
    except ProcessLost as lost:
        if not launch.launched():  # else the process that launched this one reports it
            log.warning(f"fsl: another process of this run is gone ({lost}); continue with: {again}")
        raise RunEnded(1) from None
    except OSError as error:
        raise FewShotError(
            f"the run {where} cannot be written ({error.strerror or error}); mend that, then continue with: {again}"
        ) from error
    except FewShotError:
        raise
    except Exception as error:  # most likely of a custom agent or environment
        if is_out_of_memory(error):
            raise
        raise FewShotError(
            f"{plans[0].run.agent} on {plans[0].pair} failed: {said(error)}; --verbose shows the traceback; {advice()}"
        ) from error
    finally:
        group.leave()


def _announce(plans: Sequence[Plan], where: Path) -> None:
    run = plans[0].run
    seeds = f"seed {run.seed}" if len(plans) == 1 else f"seeds {run.seed} to {plans[-1].run.seed}"
    log.info(f"{run.agent} on {plans[0].pair}, {run.train_tasks} tasks, {seeds}: {where}")
    if not plans[0].learns:
        log.info(f"fsl: with these settings {run.agent} has nothing to train, so train_tasks is 0")
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
    """Tasks seen, and the steps that the optimizer has taken (fewer where some were skipped)."""
    if not file.exists():
        return ()
    content = load(file)
    try:
        moments = (content["agent"]["optimizer"] or {"state": {}})["state"].values()
        return (content["tasks_seen"], *[float(m.get("step", 0)) for m in moments])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise FewShotError(f"the checkpoint {file} is not one of such a run; use another run, or start anew") from error


def report(folders: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """The result of finished runs that differ only in their seeds, for JSON and in words."""
    results, where = [read_result(folder) for folder in folders], run_folder.group_of(folders)
    log.info(f"see it: {command('tensorboard', '--logdir', where.parent if len(folders) == 1 else where)}")
    env = results[0]["env"]
    if len(folders) == 1:
        whole, words = results[0] | {"folder": str(where)}, in_words(results[0])
    else:
        runs = [result | {"folder": str(folder)} for result, folder in zip(results, folders, strict=True)]
        whole = {"env": env, "agent": results[0]["agent"], "folder": str(where)} | over_seeds(results) | {"runs": runs}
        words = seeds_in_words(whole, len(folders))
    skipped = sum(result.get("skipped_steps", 0) for result in results)
    skips = f", {skipped} training steps skipped" if skipped else ""
    return whole, f"test on {env.split('->')[-1]}: {words}{_reference(results)}{skips}{remarks(results)}"


def _reference(results: Sequence[dict[str, Any]]) -> str:
    """What the score stands beside: chance, or the validation error before training (of a pair it is the source's)."""
    ways = results[0]["settings"].get("env.n_way")
    if isinstance(ways, int) and ways > 0:
        return f" (chance {1 / ways:.3f})"
    untrained = [r["untrained"] for r in results if r.get("untrained") is not None]
    if not untrained or "->" in results[0]["env"]:
        return ""
    return f" (validation before training {sum(untrained) / len(untrained):.3f})"
