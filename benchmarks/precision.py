"""The effect of bfloat16 convolutions: `python benchmarks/precision.py`.

For Conv4-64 on random 84x84 images (5-way 1-shot, 15 queries per class), the cosine between the meta-gradient in
float64 and those of `--precision fp32` and bf16, second-order, medians over tasks with the lowest; and the CPU seconds
of a meta-gradient, interleaved, one thread.
"""

from __future__ import annotations

import statistics
import time

import torch

import agents
from agents.gradient_based import GradientBased
from fewshot_env.episode import Episode, Split, TaskSpec
from runners.config.machine import tune

MINI = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))
TASKS = 5


def task(seed: int, dtype: torch.dtype) -> Episode:
    """Random images, channels last in memory."""
    g = torch.Generator().manual_seed(seed)

    def split(items: int) -> Split:
        x = torch.rand(1, items, 84, 84, 3, generator=g).permute(0, 1, 4, 2, 3).to(dtype)
        return Split(x, torch.arange(items).remainder(5)[None])

    return Episode(split(5), split(75))


def build(name: str, steps: int, precision: str, dtype: torch.dtype) -> GradientBased:
    """An agent with the same first weights at every call."""
    torch.manual_seed(0)
    return agents.make(name, MINI, inner_steps=steps, precision=precision).to(dtype).train()


def gradient(agent: GradientBased, episode: Episode) -> torch.Tensor:
    """The meta-gradient of one task, of all meta-parameters."""
    predictions = agent.predict(agent.adapt(episode.support), episode.query.x)
    loss = agent.spec.loss(predictions, episode.query.labels).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))])


def main() -> None:
    """Print the table."""
    tune(1)
    head = ["agent", "T", "cosine, fp32", "cosine, bf16", "gradient, fp32, s", "gradient, bf16, s", "fp32 / bf16"]
    print(f"| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    for name, steps in (("maml", 1), ("maml", 5), ("turtle", 5)):
        cosines: dict[str, list[float]] = {"fp32": [], "bf16": []}
        seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for seed in range(TASKS):
            exact = gradient(build(name, steps, "fp32", torch.float64), task(seed, torch.float64))
            for precision in cosines:
                agent, episode = build(name, steps, precision, torch.float32), task(seed, torch.float32)
                start = time.process_time()
                found = gradient(agent, episode).double()
                seconds[precision].append(time.process_time() - start)
                cosines[precision].append(float(torch.cosine_similarity(found, exact, dim=0)))
        shown = [f"{statistics.median(c):.4f} (lowest {min(c):.4f})" for c in cosines.values()]
        slow, fast = (statistics.median(s[1:]) for s in seconds.values())
        print(f"| {name} | {steps} | {' | '.join(shown)} | {slow:.2f} | {fast:.2f} | {slow / fast:.2f} |", flush=True)


if __name__ == "__main__":
    main()
