"""Written-out derivatives against torch.func: `python benchmarks/derivatives.py`.

Times the inner gradient and the Hessian-vector product of both objectives for the MLP (sine, 5-shot, 25 tasks)
and Conv4-64 (84x84, 5-way 1-shot, one task), one thread, interleaved rounds; prints medians and their ratio.
"""

from __future__ import annotations

import statistics
import time

import torch

from agents.networks import LinearHead, Network, make_body
from agents.networks.objective import Objective
from fewshot_env.episode import Split, TaskSpec
from runners.config.machine import tune

ROUNDS = 15
SINE = TaskSpec("regression", (1,), 1, 1, (-5, 5), (-10, 10))
MINI = TaskSpec("classification", (3, 84, 84), 5, 64, (0, 1), (0, 4))


def objectives(name: str) -> tuple[Objective, Objective, torch.Tensor, torch.Tensor]:
    """The torch.func objective, the written-out one, weights and a direction [B, P]."""
    spec, tasks = (SINE, 25) if name == "MLP" else (MINI, 1)
    body = make_body("auto", spec.in_shape, (40, 40), 64, 0)
    net = Network(body, LinearHead(body.n_features, spec.n_outputs))
    if name == "MLP":
        support = Split(torch.randn(tasks, 5, 1), torch.randn(tasks, 5, 1))
    else:
        support = Split(torch.rand(tasks, 5, 84, 84, 3).permute(0, 1, 4, 2, 3), torch.arange(5)[None])
    params = torch.stack([net.init() for _ in range(tasks)])
    return Objective(net, spec, support, None), net.objective(spec, support, None), params, torch.randn_like(params)


def main() -> None:
    """Print the table."""
    tune(1)
    torch.manual_seed(0)
    print("| net | derivative | torch.func, ms | written out, ms | ratio |\n|---|---|---|---|---|")
    for name in ("MLP", "Conv4-64"):
        generic, fast, params, v = objectives(name)
        for derivative in ("gradient", "Hessian-vector product"):
            times: dict[Objective, list[float]] = {generic: [], fast: []}
            for i in range(ROUNDS + 2):
                for objective, taken in times.items():
                    start = time.perf_counter()
                    objective.gradient(params) if derivative == "gradient" else objective.hessian_vector(params, v)
                    if i >= 2:
                        taken.append(1000 * (time.perf_counter() - start))
            slow, quick = (statistics.median(taken) for taken in times.values())
            print(f"| {name} | {derivative} | {slow:.2f} | {quick:.2f} | {slow / quick:.1f} |")


if __name__ == "__main__":
    main()
