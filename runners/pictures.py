"""Pictures of how an agent answers one frozen episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Agent
from fewshot_env.render import draw
from fewshot_env.vector import FewShotVectorEnv


def picture_of(agent: Agent, env: FewShotVectorEnv, task_seed: int) -> NDArray[np.uint8] | None:
    """The task's contact sheet with the agent's answers, or its curve before and after adaptation; else None."""
    mode = agent.training
    agent.eval()
    task = env.sampler.sample([task_seed]).to(env.device)
    answers = {"before": agent.predict(agent.adapt(task.support.empty()), task.query.x)[0]}
    answers["after adaptation"] = agent.predict(agent.adapt(task.support), task.query.x)[0]
    agent.train(mode)
    return draw(agent.spec, task, answers)
