"""`fsl replay`: an episode that went wrong, once more, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewshot_env.errors import FewShotError


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An episode saved by a run: RUN/faults/*.pt.")],
) -> None:
    """Repeat an episode whose numbers were not finite: its loss by inner step, and what was the first of them."""
    from runners.evaluation.non_finite import first_unsound, trace
    from runners.storage import checkpoint

    if not file.is_file():
        raise FewShotError(f"there is no file {file}; name an episode that a run saved, RUN/faults/*.pt")
    content = checkpoint.load(file)
    try:
        agent, episode, fault = _set_up(content)
        name, numbers = content["settings"]["agent"], trace(agent, episode)
        head = f"{name}, {fault['split']} task {fault['task_seed']}, met after {fault['tasks_seen']} tasks"
    except FewShotError:  # an agent that is not there, say
        raise
    except Exception as error:  # whatever a file of another form leads to
        raise FewShotError(f"{file} is no saved episode; name a file of a run's folder faults/") from error
    first = first_unsound(numbers)
    print(head)
    width = max(len(number.name) for number in numbers)
    for number in numbers:
        mark = "  <- the first that is not finite" if number.name == first else ""
        print(f"  {number.name:<{width}}  {number.value:.6g}{mark}")
    print("arrays are shown by their largest magnitude" if first else "all is finite here")


def _set_up(content: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The agent as it was, the task it met, and what the run said of it."""
    from agents.registry import find, load_plugins
    from fewshot_env.episode import Episode, Split, TaskSpec
    from runners.config.settings import section, validate

    spec, weights, fault = TaskSpec(**content["spec"]), dict(content["weights"]), content["fault"]
    episode = Episode(Split(*content["support"]), Split(*content["query"])).to("cpu")
    training = {"split", "task_seed", "tasks_seen"} <= set(fault) and fault["split"] == "train"
    load_plugins()  # no code is imported for a file of another form
    cls = find(content["settings"]["agent"]).load()
    agent = cls(spec, validate(cls.Config, section(content["settings"], "agent"), "agent."))
    agent.load_state_dict(weights)
    agent.train(training)
    return agent, episode, fault
