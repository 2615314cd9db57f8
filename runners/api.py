"""The Python interface of the command line: `runners.run`, `runners.evaluate`, `runners.predict` and `runners.load`.

Settings are those of `--set`, as a mapping: `{"train_tasks": 500, "agent.inner_lr": 0.02}`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fewshot_env.store import expanded

if TYPE_CHECKING:
    from agents.base import Agent
    from fewshot_env.sampler import TaskSampler
    from runners.prediction.predictions import Predictions


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder, and what result.json holds (mean, ci95, scores, settings, episode_hash, ...)."""

    folder: Path
    result: dict[str, Any]


_one_at_a_time = threading.RLock()


@contextmanager
def _process_kept() -> Iterator[None]:
    """Leave torch's threads and random numbers as the caller had them; calls of several threads take turns.

    Training draws from torch's global generator, so two runs at the same time would not be reproducible.
    """
    import torch

    with _one_at_a_time, torch.inference_mode(False), torch.enable_grad():
        threads, state = torch.get_num_threads(), torch.get_rng_state()
        try:
            yield
        finally:
            torch.set_rng_state(state)
            torch.set_num_threads(threads)


def run(
    env: str | type[TaskSampler],
    agent: str | type[Agent],
    settings: Mapping[str, Any] = MappingProxyType({}),
    preset: str = "paper",
    log_dir: str | Path = "runs",
) -> Finished:
    """Train an agent on an environment and test it, as `fsl run` does; everything is logged to a new folder.

    In any thread, and in a notebook; runs of several threads take turns. Torch's threads and random numbers are left as
    they were. A run that fails before its first checkpoint leaves no folder behind.

    Args:
        env: NAME, "SOURCE->TARGET", "module:Class", or a sampler class (fewshot_env.sampler.TaskSampler).
        agent: a name, "module:Class", or a class derived from agents.base.Agent.
        settings: what differs from the paper's settings, as flat keys: {"train_tasks": 500, "env.n_shot": 10}.
        preset: "paper" (the published numbers of tasks) or "quick" (about a minute).
        log_dir: where the run's folder is made.

    Returns:
        The run's folder and its result.

    Raises:
        FewShotError: before anything is written, where the command would refuse; later where custom code fails or
            another process is gone.
        KeyboardInterrupt: where the run was interrupted; what it printed says how to continue.

    Example:
        >>> done = runners.run("sine", "turtle", {"train_tasks": 500}, preset="quick")
        >>> done.result["mean"]
    """
    from fewshot_env.errors import FewShotError
    from fewshot_env.plugins import name_of
    from runners.distributed.stop import Interrupted, RunEnded
    from runners.storage.schemas import read_result
    from runners.training import launcher

    names = {"env": env if isinstance(env, str) else name_of(env)}
    names["agent"] = agent if isinstance(agent, str) else name_of(agent)
    if twice := [name for name in names if settings.get(name, names[name]) != names[name]]:
        name = twice[0]
        raise FewShotError(
            f"settings have {name!r}: {settings[name]!r}, but the {name} is the argument {names[name]!r}; its settings "
            f"are flat keys: {name}.NAME"
        )
    try:
        with _process_kept():
            (folder,) = launcher.begin({**settings, **names}, preset, expanded(log_dir), 1, 1)
    except Interrupted:
        raise KeyboardInterrupt from None
    except RunEnded:
        raise FewShotError("another process of this run is gone; what was printed says how to continue") from None
    return Finished(folder, read_result(folder))


def evaluate(
    folder: str | Path,
    env: str | type[TaskSampler] | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    agent: str | None = None,
    network: str | None = None,
) -> dict[str, Any]:
    """Test a run's best weights on frozen episodes, as `fsl eval` does.

    Args:
        folder: the run's, or a file of `fsl export`.
        env: the environment to test on, as for `run`; default the run's own target.
        settings: what differs from the run's, for example {"env.n_shot": 5}.
        agent: module:Class, where the run names a class of your own that is not imported yet; it is not otherwise.
        network: module:factory, likewise.

    Returns:
        The result, which is also written into the run's folder, if there is one.

    Raises:
        FewShotError: where there are no weights, or they do not fit.
    """
    from fewshot_env.plugins import name_of
    from runners.evaluation.retest import retest

    name = env if env is None or isinstance(env, str) else name_of(env)
    with _process_kept():
        return retest(expanded(folder), name, dict(settings), agent, network)[0]


def predict(
    run: str | Path,
    support: str | Path,
    images: str | Path | Sequence[str | Path],
    transductive: bool = False,
    background: str = "white",
    device: str = "auto",
    settings: Mapping[str, Any] = MappingProxyType({}),
    agent: str | None = None,
    network: str | None = None,
) -> Predictions:
    """Classify images with a trained agent, from a few labelled ones, as `fsl predict` does.

    Args:
        run: the folder of a run on images, or a file of `fsl export`.
        support: a folder with a folder of labelled images for each class; the classes need not be those of training.
        images: files and folders of images to classify.
        transductive: normalize over all images together; an answer then depends on the others.
        background: what transparent parts of images are laid over, a colour.
        device: cpu, cuda, cuda:1, ...; auto is CUDA if there is one.
        settings: of the agent, where they differ from those of its training: {"eval_steps": 20}.
        agent: module:Class, where a file holds an agent of your own class.
        network: module:factory, likewise.

    Returns:
        `predictions` (file, predicted, probabilities, confidence, unsure) in the order of the images, `classes`,
        `unreadable` with reasons, and `notes`; `as_csv()` and `as_json()`.

    Raises:
        FewShotError: where the agent takes no images or no such number of classes, or no image can be read.

    Example:
        >>> found = runners.predict("runs/NAME", "labelled", "new")
        >>> [(p.file.name, p.predicted, p.confidence) for p in found.predictions]
    """
    from runners.prediction.command import predict_and_write

    places = [images] if isinstance(images, str | Path) else images
    with _process_kept():
        return predict_and_write(
            expanded(run), expanded(support), [expanded(place) for place in places], None, None, transductive, device,
            background, settings, agent, network,
        )  # fmt: skip


def load(folder: str | Path, agent: str | None = None, network: str | None = None) -> Agent:
    """The agent of a run with its best weights, in eval mode.

    Neither the run's environment nor its data is needed (for runs of older versions both are). `agents.load` reads the
    checkpoint alone.

    Args:
        folder: the run's.
        agent: module:Class, where the run names a class of your own that is not imported yet; it is not otherwise.
        network: module:factory, likewise.

    Raises:
        FewShotError: where there are no weights, or a class is not named.
    """
    from runners.evaluation.retest import load_best

    with _process_kept():
        return load_best(expanded(folder), (agent, network))
