"""The agents by name. Names are cheap: an agent's module is imported when the agent is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fewshot_env import plugins
from fewshot_env.errors import FewShotError, suggest

if TYPE_CHECKING:
    from agents.base import Agent


@dataclass(frozen=True)
class AgentSpec:
    """A registered agent: its class as "module:Class", one line about it, and settings that define it."""

    name: str
    where: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def load(self) -> type[Agent]:
        """Import the agent's class; raises FewShotError where there is none."""
        cls = plugins.load(self.where, f"agent {self.name!r}")
        from agents.base import Agent

        if not (isinstance(cls, type) and issubclass(cls, Agent)):
            raise FewShotError(f"{self.where!r} is not an agent: it must be a class derived from agents.base.Agent")
        return cls


AGENTS: dict[str, AgentSpec] = {}

UNUSED = {"agents.simpleshot:SimpleShot": ("adapt_steps", "adapt_batch", "adapt_lr", "check_every")}
"""By class, settings that older versions saved with its agents and that changed nothing."""


def without_unused(name: str, settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Saved settings of the agent called `name`, without those that changed nothing; prefix: of their keys."""
    where = AGENTS[name].where if name in AGENTS else name
    return {k: v for k, v in settings.items() if k not in {prefix + unused for unused in UNUSED.get(where, ())}}


def register(name: str, where: str, summary: str, **settings: Any) -> None:
    """Add an agent; raises FewShotError where the name is taken."""
    if name in AGENTS:
        raise FewShotError(f"the agent {name!r} is already registered ({AGENTS[name].where}); choose another name")
    AGENTS[name] = AgentSpec(name, where, summary, settings)


def find(name: str) -> AgentSpec:
    """The agent called `name`, or "module:Class" from the Python path or the current folder.

    Raises FewShotError with the nearest name for an unknown one.
    """
    if ":" in name:
        return AgentSpec(name, name, "a custom agent")
    if name not in AGENTS:
        raise FewShotError(
            f"unknown agent {name!r}{suggest(name, AGENTS)}; known: {', '.join(AGENTS)}, or module:Class"
        )
    return AGENTS[name]


def load_plugins() -> None:
    """Register the entry points `fsl.agents`, each once, without importing them (which takes torch and seconds).

    A taken name, or a package that is not installed, warns and is skipped; other faults are reported at the first use.
    """

    def add(point: EntryPoint) -> None:
        plugins.check_without_importing(point)
        register(point.name, point.value, f"plug-in {point.value}")

    plugins.register_new("fsl.agents", "agent", add)


register("turtle", "agents.turtle:Turtle", "a feed-forward network proposes every update (the paper's)")
register("fo-turtle", "agents.turtle:Turtle", "TURTLE, first-order", first_order=True)
register("maml", "agents.maml:MAML", "gradient descent from a learned initialization")
register("fo-maml", "agents.maml:MAML", "MAML, first-order", first_order=True)
register("lstm", "agents.meta_lstm:MetaLSTM", "meta-learner LSTM: an LSTM holds and updates the weights")
register(
    "lstm-enhanced",
    "agents.meta_lstm:MetaLSTM",
    "meta-learner LSTM with raw gradients, second order, 8 updates",
    raw_gradients=True,
    first_order=False,
    inner_steps=8,
)
register("linear-probe", "agents.linear_probe:LinearProbe", "logistic regression on pre-trained features")
register(
    "transductive-finetuning",
    "agents.transductive:TransductiveFinetuning",
    "all pre-trained weights adapt, to the query's entropy too",
)
register("scratch", "agents.transfer:TrainFromScratch", "TrainFromScratch: every task from the same random weights")
register("finetuning", "agents.transfer:Finetuning", "pre-trained frozen features, a new linear head per task")
register("baseline++", "agents.transfer:BaselinePlus", "pre-trained frozen features, a new cosine head per task")
register("anil", "agents.maml:MAML", "MAML that adapts the head alone, on meta-learned features", body="learned")
register("boil", "agents.boil:BOIL", "MAML that adapts the body alone, below a meta-learned head")
register("meta-sgd", "agents.meta_sgd:MetaSGD", "gradient descent with a learned rate for every weight")
register("meta-curvature", "agents.meta_curvature:MetaCurvature", "gradient descent with learned matrices on gradients")
register("alfa", "agents.alfa:ALFA", "gradient descent with rates and weight decay proposed for every layer and step")
register("maml++", "agents.maml_plus:MAMLPlus", "MAML with losses, rates and normalizations for every step")
register("cavia", "agents.cavia:CAVIA", "a context of few numbers adapts, the network does not")
register("t-net", "agents.mt_net:MTNet", "gradient descent below learned linear maps of every layer", masked=False)
register("mt-net", "agents.mt_net:MTNet", "T-net whose adapting rows are drawn by learned probabilities")
register("sap", "agents.sap:SAP", "operations behind every layer adapt, with learned strengths")
register("op-lstm", "agents.op_lstm:OPLSTM", "outer products of layer inputs and an LSTM's outputs change the weights")
register("plain-lstm", "agents.plain_lstm:PlainLSTM", "an LSTM reads the support and answers from its state")
register("reptile", "agents.reptile:Reptile", "the initialization moves towards the weights that tasks end at")
register("imaml", "agents.imaml:IMAML", "implicit meta-gradient at the optimum of a task, whatever way led there")
register("leo", "agents.leo:LEO", "gradient steps in a latent code that decodes to a classifier")
register("r2d2", "agents.r2d2:R2D2", "ridge regression on learned features, solved in closed form")
register("metaoptnet", "agents.metaoptnet:MetaOptNet", "a support vector machine on learned features")
register("metaoptnet-ridge", "agents.metaoptnet:MetaOptNet", "MetaOptNet with ridge regression", head="ridge")
register("matching", "agents.matching:Matching", "matching networks: attention over the support by cosine")
register("relation", "agents.relation:Relation", "a learned comparison of class means with the query")
register("protonet", "agents.protonet:ProtoNet", "prototypical networks: the class whose mean embedding is nearest")
register(
    "simpleshot", "agents.simpleshot:SimpleShot", "pre-trained features, centred and normalized; nearest class means"
)
register("chance", "agents.chance:Chance", "the chance baseline: equal scores, or the mean of the support")
