"""A Markdown table of finished runs: `python benchmarks/table.py runs/*`.

Runs with equal settings (apart from the seed) form a row: the score of each seed with its 95 % interval
over tasks, their mean with its 95 % interval over seeds (1.96 sd / sqrt(n), as in the paper), the mean of the
per-seed medians, and the number of diverged tasks.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any


def interval(values: list[float]) -> float:
    """Half the 95 % interval of the mean, 0 for a single value."""
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def table(results: list[dict[str, Any]]) -> str:
    """The rows of `results` (contents of result.json), best first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        settings = {k: v for k, v in result["settings"].items() if k not in ("seed", "env.data_dir")}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(result)
    sign = -1 if results[0]["metric"] == "accuracy" else 1
    rows = []
    for group in groups.values():
        group.sort(key=lambda r: r["settings"]["seed"])
        means, settings = [r["mean"] for r in group], group[0]["settings"]
        seeds = "; ".join(f"{r['settings']['seed']}: {r['mean']:.3f} ± {r['ci95']:.3f}" for r in group)
        whole = f"{statistics.mean(means):.3f}" + (f" ± {interval(means):.3f}" if len(means) > 1 else "")
        median = statistics.mean(r["median"] for r in group)
        diverged = f"{sum(r['diverged'] for r in group)} of {sum(r['tasks'] for r in group)}"
        steps = settings.get("agent.inner_steps", settings.get("agent.adapt_steps", ""))
        cells = [group[0]["agent"], steps, f"{group[0]['trained_tasks']:,}", whole, seeds, f"{median:.3f}", diverged]
        rows.append((sign * statistics.mean(means), "| " + " | ".join(map(str, cells)) + " |"))
    metric, env = results[0]["metric"], results[0]["env"]
    head = f"| agent | T | training tasks | {metric} on {env}, over seeds | each seed, over tasks | median | diverged |"
    return "\n".join([head, "|---" * 7 + "|", *[row for _, row in sorted(rows)]])


if __name__ == "__main__":
    found = [
        json.loads((Path(run) / "result.json").read_text())
        for run in sys.argv[1:]
        if (Path(run) / "result.json").exists()
    ]
    if not found:
        sys.exit("no finished runs: name folders that hold a result.json")
    hashes = {result["episode_hash"] for result in found}
    print(table(found))
    print(f"\nTest episodes: {', '.join(sorted(hashes))}.")
