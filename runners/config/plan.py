"""Plan: what one run will do, completely resolved and checked before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Literal

import gymnasium
import torch
from pydantic import BaseModel, ConfigDict, Field

from agents import registry as agent_registry
from agents.base import Agent, AgentConfig
from agents.engine.stack import can_stack
from fewshot_env import registry as env_registry
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, SettingError
from fewshot_env.pair import EnvPair
from fewshot_env.registry import EnvEntry
from fewshot_env.sampler import TaskConfig, build_sampler, sampler_class
from fewshot_env.shapes import ends, varies
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import usable_device
from runners.config.settings import Settings, section, validate

RESERVED = ("split", "minibatch")  # what the runner itself sets on an environment


FREE = (
    "device", "threads", "eval_batch", "log_every", "env.data_dir", "agent.at_once", "agent.recompute", "loggers",
    "on_nan",
)  # fmt: skip
"""Settings that change no score beyond its rounding: where and how fast a run is computed, and what is told of it."""

MOST_TRAINED, MOST_TESTED = 10**9, 10**6
"""Tasks that a run may train on, and frozen tasks of a split, whose seeds and scores are lists in memory."""


class RunConfig(BaseModel):
    """Settings of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str = Field(description="NAME, or 'SOURCE->TARGET': train on the source, test on the target")
    agent: str = Field(description="a registered name, or module:Class")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the initial weights and of the training tasks")
    train_tasks: int = Field(60_000, ge=0, le=MOST_TRAINED, description="tasks (or pre-training minibatches) in all")
    val_every: int = Field(2500, ge=1, le=MOST_TRAINED, description="tasks between validations")
    val_tasks: int = Field(600, ge=1, le=MOST_TESTED, description="frozen validation tasks")
    test_tasks: int = Field(600, ge=2, le=MOST_TESTED, description="frozen test tasks")
    eval_batch: int = Field(10, ge=1, le=MOST_TESTED, description="tasks evaluated at once; changes speed alone")
    log_every: int = Field(500, ge=1, le=MOST_TRAINED, description="tasks between rows of the training log")
    device: str = Field("auto", description="auto (CUDA where there is one), cpu, cuda, cuda:1, ...")
    on_nan: Literal["skip", "stop"] = Field(
        "skip",
        description="what a training step with a loss or gradient that is not finite does: skip (it changes nothing "
        "and is counted) or stop; the first such tasks are saved for fsl replay",
    )
    loggers: tuple[str, ...] = Field(
        ("tensorboard",), description="besides metrics.jsonl and .csv: tensorboard, wandb, mlflow, or module:Class"
    )
    threads: int = Field(1, ge=1, le=4096, description="CPU threads; more than one only on an idle machine")


def paper_protocol(spec: TaskSpec, n_shot: int) -> Settings:
    """The published numbers of tasks: sine 70,000 / 1,000 / 2,000; images 60,000 or 40,000 / 600 / 600."""
    pace = {"eval_batch": 10 if len(spec.in_shape) == 3 else 100}
    if spec.kind == "regression":
        return pace | {"train_tasks": 70_000, "val_tasks": 1000, "test_tasks": 2000}
    return pace | {"train_tasks": 60_000 if n_shot < 5 else 40_000, "val_tasks": 600, "test_tasks": 600}


def quick_protocol(spec: TaskSpec) -> Settings:
    """About a minute on one core for a first look (84x84 images: some minutes); not a result to report."""
    if spec.kind == "regression":
        return {"train_tasks": 10_000, "val_every": 2500, "val_tasks": 200, "test_tasks": 500, "log_every": 100}
    if math.prod(spec.in_shape) <= 3 * 32**2:  # drawn worlds
        return {"train_tasks": 200, "val_every": 100, "val_tasks": 10, "test_tasks": 60, "log_every": 20}
    return {"train_tasks": 40, "val_every": 20, "val_tasks": 10, "test_tasks": 20, "log_every": 4}


@dataclass(frozen=True)
class Plan:
    """A resolved run: what to train and test, and how. `settings` are the resolved flat settings."""

    run: RunConfig
    pair: EnvPair
    env_config: TaskConfig
    target_config: TaskConfig
    agent_class: type[Agent]
    agent_config: AgentConfig
    spec: TaskSpec
    varies: bool
    """Whether tasks have different shapes."""

    @property
    def settings(self) -> Settings:
        """Every setting with its value, as flat dotted keys of plain types."""
        flat: Settings = self.run.model_dump(mode="json")
        flat |= {f"env.{k}": v for k, v in self.env_config.model_dump(mode="json", exclude=set(RESERVED)).items()}
        return flat | {f"agent.{k}": v for k, v in self.agent_config.model_dump(mode="json").items()}

    @cached_property
    def device(self) -> torch.device:
        """Where to compute; raises FewShotError where that can not be."""
        return usable_device(self.run.device)

    def make_env(self, split: str, batch: int) -> FewShotVectorEnv:
        """The environment of a split ("test" is the target's) with `batch` tasks at once."""
        at_test = split == "test"
        entry, config = (self.pair.target, self.target_config) if at_test else (self.pair.source, self.env_config)
        minibatch = self.agent_config.minibatch if split == "train" else 0
        own = config.model_dump(exclude=set(RESERVED))
        return make_vec(entry, batch, self.device, own | {"split": split, "minibatch": minibatch})

    def make_agent(self) -> Agent:
        """The agent with its initial weights, which `run.seed` decides; raises FewShotError where it can not be."""
        device = self.device
        torch.manual_seed(self.run.seed)
        try:
            return self.agent_class(self.spec, self.agent_config).to(device)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FewShotError(
                f"the agent {self.run.agent!r} can not be built with these settings ({reason})"
            ) from error


def make_vec(entry: EnvEntry, batch: int, device: torch.device, settings: Settings) -> FewShotVectorEnv:
    """The vector environment of an entry, through Gymnasium's registry."""
    env = gymnasium.make_vec(
        entry.id, num_envs=batch, vectorization_mode="vector_entry_point", device=device, **settings
    ).unwrapped
    assert isinstance(env, FewShotVectorEnv)
    return env


def make_plan(settings: Settings, preset: str = "paper") -> Plan:
    """Resolve and check flat settings; what they leave open is the paper's (or the preset's) choice.

    Raises FewShotError for unknown keys, wrong values, unknown names, missing data, tasks that the data do
    not hold, and pairs of different spaces.
    """
    if preset not in ("paper", "quick"):
        raise FewShotError(f"the preset is {preset!r}, but must be paper or quick")
    for key in ("env", "agent"):
        if not isinstance(settings.get(key), str):
            raise FewShotError(f"--{key} is missing; `fsl list` shows what there is")
    unknown = [k for k in settings if "." in k and k.split(".")[0] not in ("env", "agent")]
    if unknown:
        raise FewShotError(f"unknown setting {unknown[0]!r}; it must begin with 'env.' or 'agent.', or have no dot")
    load_plugins()
    pair = EnvPair.parse(settings["env"], stores_of(settings))
    agent_spec = agent_registry.find(settings["agent"])
    sampler = sampler_class(pair.source.sampler)
    env_config = validate(sampler.Config, section(settings, "env"), "env.", RESERVED)
    own = env_config.model_dump(exclude=set(RESERVED))
    family = build_sampler(pair.source.sampler, own | {"split": "train"})
    spec = family.spec
    sampler(**own, split="val")
    target = sampler_class(pair.target.sampler)
    shared = {k: v for k, v in own.items() if k in target.Config.model_fields}
    target_config = validate(target.Config, shared, "env.", RESERVED)
    pair.check(spec, target(**target_config.model_dump(exclude=set(RESERVED)), split="test").spec)

    agent_class = agent_spec.load()
    n_shot, _ = ends(getattr(env_config, "n_shot", 1))
    defaults = agent_class.Config.paper(spec, n_shot) | dict(agent_spec.settings)
    chosen = section(settings, "agent")
    validate(agent_class.Config, chosen, "agent.")
    agent_config = validate(agent_class.Config, defaults | chosen, "agent.")
    protocol = paper_protocol(spec, n_shot) | (quick_protocol(spec) if preset == "quick" else {})
    fixed: Settings = {"env": str(pair)} | ({} if agent_class.learns else {"train_tasks": 0})
    run = validate(RunConfig, protocol | {k: v for k, v in settings.items() if "." not in k} | fixed)
    return Plan(run, pair, env_config, target_config, agent_class, agent_config, spec, varies(family))


def stores_of(settings: Settings) -> str | None:
    """Where prepared stores lie (None: the default); raises SettingError where `env.data_dir` is no folder's name."""
    folder = settings.get("env.data_dir")
    if not (folder is None or isinstance(folder, str)):
        raise SettingError("env.data_dir", f"env.data_dir is {folder!r}, but must be the name of a folder")
    return folder


def side_by_side(plan: Plan) -> bool:
    """Whether runs of a plan that differ in their seeds can be trained at once: small agents on tasks of one shape."""
    return not plan.varies and can_stack(plan.make_agent())


def load_plugins() -> None:
    """Register what installed packages offer."""
    env_registry.load_plugins()
    agent_registry.load_plugins()


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {name: version(name) for name in ("fewshot", "torch", "gymnasium", "numpy")}
