"""Plan: what one run will do, completely resolved and checked before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Literal

import gymnasium
import torch
from pydantic import Field

from agents import registry as agent_registry
from agents.base import Agent, AgentConfig, paper_settings
from agents.engine.stack import can_stack
from fewshot_env import registry as env_registry
from fewshot_env.conformance import verify
from fewshot_env.episode import TaskSpec
from fewshot_env.errors import FewShotError, SettingError, is_out_of_memory, said, suggest
from fewshot_env.pair import EnvPair
from fewshot_env.registry import EnvEntry
from fewshot_env.rng import task_seeds
from fewshot_env.sampler import EmptySplit, TaskConfig, TaskSampler, build_sampler, sampler_class
from fewshot_env.settings import SettingsModel, did_you_mean, fields_of, validate
from fewshot_env.shapes import bounds, varies
from fewshot_env.store import expanded
from fewshot_env.vector import FewShotVectorEnv
from runners.config.machine import usable_device
from runners.config.settings import Settings, section

RESERVED = ("split", "minibatch")  # what the runner itself sets on an environment


NON_SEMANTIC_KEYS = (
    "device", "threads", "eval_batch", "log_every", "env.data_dir", "agent.at_once", "loggers", "on_nan",
)  # fmt: skip
"""Settings that change no score beyond its rounding: where and how fast a run is computed, and what is logged of it."""

PRESETS = ("paper", "quick")

QUICK_STEPS = 3
"""Inner steps of the quick preset where the paper has fewer: with T = 1 ten thousand tasks of sine show little."""

MAX_TRAINED, MAX_TESTED = 10**9, 10**6
"""Tasks that a run may train on, and frozen tasks of a split, whose seeds and scores are lists in memory."""


class RunConfig(SettingsModel):
    """Settings of a run."""

    env: str = Field(description="NAME, or 'SOURCE->TARGET': train on the source, test on the target")
    agent: str = Field(description="a registered name, or module:Class")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the initial weights and of the training tasks")
    train_tasks: int = Field(60_000, ge=0, le=MAX_TRAINED, description="tasks (or pre-training minibatches) in all")
    val_every: int = Field(2500, ge=1, le=MAX_TRAINED, description="tasks between validations")
    val_tasks: int = Field(
        600,
        ge=0,
        le=MAX_TESTED,
        description="frozen validation tasks; 0: no validation, the last weights are tested (so also where the data "
        "have no validation classes)",
    )
    test_tasks: int = Field(600, ge=2, le=MAX_TESTED, description="frozen test tasks")
    eval_batch: int = Field(10, ge=1, le=MAX_TESTED, description="tasks evaluated at once; changes speed alone")
    log_every: int = Field(500, ge=1, le=MAX_TRAINED, description="tasks between rows of the training log")
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
    if math.prod(spec.in_shape) <= 3 * 32**2:  # synthetic images
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
    preset: str = "paper"

    @property
    def settings(self) -> Settings:
        """Every setting with its value, as flat dotted keys of plain types."""
        flat: Settings = self.run.model_dump(mode="json")
        for config in (self.target_config, self.env_config):
            flat |= {f"env.{k}": v for k, v in config.model_dump(mode="json", exclude=set(RESERVED)).items()}
        return flat | {f"agent.{k}": v for k, v in self.agent_config.model_dump(mode="json").items()}

    @property
    def learns(self) -> bool:
        """Whether the agent has something to train with these settings."""
        return self.agent_class.learns_with(self.spec, self.agent_config)

    @cached_property
    def device(self) -> torch.device:
        """Where to compute; raises FewShotError where that cannot be."""
        return usable_device(self.run.device)

    def make_env(self, split: str, batch: int) -> FewShotVectorEnv:
        """The environment of a split ("test" is the target's) with `batch` tasks at once."""
        at_test = split == "test"
        entry, config = (self.pair.target, self.target_config) if at_test else (self.pair.source, self.env_config)
        minibatch = self.agent_config.minibatch if split == "train" else 0
        own = config.model_dump(exclude=set(RESERVED))
        return make_vec(entry, batch, self.device, own | {"split": split, "minibatch": minibatch})

    def make_agent(self) -> Agent:
        """The agent with its initial weights, which `run.seed` decides; raises FewShotError where it cannot be."""
        device = self.device
        torch.manual_seed(self.run.seed)
        try:
            agent = self.agent_class(self.spec, self.agent_config).to(device)
        except Exception as error:  # of a custom agent, too
            raise FewShotError(
                f"the agent {self.run.agent!r} cannot be built with these settings ({said(error)})"
            ) from error
        agent.name = self.run.agent
        return agent


def make_vec(entry: EnvEntry, batch: int, device: torch.device, settings: Settings) -> FewShotVectorEnv:
    """The vector environment of an entry, through Gymnasium's registry."""
    env = gymnasium.make_vec(
        entry.id, num_envs=batch, vectorization_mode="vector_entry_point", device=device, **settings
    ).unwrapped
    assert isinstance(env, FewShotVectorEnv)
    return env


def make_plan(settings: Settings, preset: str = "paper") -> Plan:
    """Resolve and check a run's settings; what they leave open is the paper's (or the preset's) choice.

    Args:
        settings: flat, with "env" and "agent".
        preset: "paper" for the published numbers of tasks, "quick" for a first look.

    Raises:
        FewShotError: for unknown keys, wrong values, unknown names, missing data, tasks that the data do not hold or
            that are not what their spec says, and pairs of different spaces.
    """
    if preset not in PRESETS:
        hint = suggest(str(preset), PRESETS)
        raise FewShotError(f"the preset is {preset!r}, but must be {' or '.join(PRESETS)}{hint}")
    for key in ("env", "agent"):
        if settings.get(key) is None:
            raise SettingError(key, f"--{key} is missing; `fsl list` shows what there is")
        if not isinstance(settings[key], str):
            raise SettingError(key, f"--{key} is {settings[key]!r}, but must be a name; `fsl list` shows what there is")
    load_plugins()
    if folder := data_dir_of(settings):
        settings = settings | {"env.data_dir": str(expanded(folder).absolute())}
    pair = EnvPair.parse(settings["env"], folder)
    agent_spec = agent_registry.find(settings["agent"])
    agent_class = agent_spec.load()
    keys = _keys(pair, agent_class)
    for key in map(str, settings):
        if "." in key and not key.startswith(("env.", "agent.")):
            hint = did_you_mean(key, keys)
            raise SettingError(
                key, f"unknown setting {key!r}{hint}; it must begin with 'env.' or 'agent.', or have no dot"
            )
    env_config, target_config, family, validates = _tasks(
        pair, section(settings, "env"), keys, settings.get("val_tasks") != 0
    )
    if not validates and settings.get("val_tasks"):
        raise SettingError("val_tasks", f"val_tasks is {settings['val_tasks']}, but {pair.source.name} has no "
                           "validation classes; leave it out, or set it to 0")  # fmt: skip
    spec = family.spec
    n_shot, _ = bounds(getattr(env_config, "n_shot", 1))
    chosen, quick = section(settings, "agent"), preset == "quick"
    validate(agent_class.Config, chosen, "agent.", elsewhere=keys)
    defaults = paper_settings(agent_class, spec, n_shot) | dict(agent_spec.settings)
    agent_config = validate(agent_class.Config, defaults | chosen, "agent.")
    if quick and "inner_steps" not in chosen and 0 < getattr(agent_config, "inner_steps", 0) < QUICK_STEPS:
        agent_config = validate(agent_class.Config, defaults | chosen | {"inner_steps": QUICK_STEPS}, "agent.")
    learns = agent_class.learns_with(spec, agent_config)
    fixed: Settings = {"env": str(pair)} | ({} if learns else {"train_tasks": 0})
    fixed |= {} if validates else {"val_tasks": 0}
    protocol = paper_protocol(spec, n_shot) | (quick_protocol(spec) if quick else {})
    of_run = protocol | {k: v for k, v in settings.items() if "." not in str(k)} | fixed
    run = validate(RunConfig, of_run, elsewhere=keys)
    agent_config = agent_config.for_run(-(-run.train_tasks // agent_config.tasks_per_step))
    return Plan(run, pair, env_config, target_config, agent_class, agent_config, spec, varies(family), preset)


def _keys(pair: EnvPair, agent: type[Agent]) -> list[str]:
    """The keys of all settings of a run."""
    of_env = [fields_of(sampler_class(end.sampler).Config, "env.", RESERVED) for end in (pair.source, pair.target)]
    return [*fields_of(RunConfig), *of_env[0], *of_env[1], *fields_of(agent.Config, "agent.")]


def _tasks(
    pair: EnvPair, chosen: Settings, keys: list[str], validates: bool
) -> tuple[TaskConfig, TaskConfig, TaskSampler, bool]:
    """The settings of source and target, the training tasks, one of which is verified, and whether to validate.

    A setting that both have is for both; one that only the target has is for it alone.
    """
    source, target = sampler_class(pair.source.sampler), sampler_class(pair.target.sampler)
    of_target = [k for k in fields_of(target.Config, hidden=RESERVED) if k not in source.Config.model_fields]
    config = validate(source.Config, {k: v for k, v in chosen.items() if k not in of_target}, "env.", RESERVED, keys)
    own = config.model_dump(exclude=set(RESERVED))
    family = build_sampler(pair.source.sampler, own | {"split": "train"})
    try:
        verify(family, family.sample(task_seeds(0, "train", 0, 1)))
    except FewShotError:
        raise
    except Exception as error:  # of a custom sampler
        if is_out_of_memory(error):
            raise
        raise FewShotError(f"the environment {pair.source.name!r} fails at its first task: {said(error)}") from error
    if validates:
        try:
            build_sampler(pair.source.sampler, own | {"split": "val"})
        except EmptySplit:
            validates = False
        except FewShotError as error:
            raise FewShotError(f"{error}, or leave out validation with --set val_tasks=0") from error
    shared = {k: v for k, v in own.items() if k in target.Config.model_fields}
    shared |= {k: chosen[k] for k in of_target if k in chosen}
    target_config = validate(target.Config, shared, "env.", RESERVED)
    tested = build_sampler(pair.target.sampler, target_config.model_dump(exclude=set(RESERVED)) | {"split": "test"})
    ends = {"source": source, "target": target}
    pair.check(family.spec, tested.spec, [end for end, cls in ends.items() if "size" in cls.Config.model_fields])
    return config, target_config, family, validates


def data_dir_of(settings: Settings) -> str | None:
    """The folder of the prepared data sets (None: the default); raises SettingError where it is not a name."""
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
