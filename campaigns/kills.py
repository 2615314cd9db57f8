"""Kill runs at random moments, resume them, compare the results: `python campaigns/kills.py [KILLS] [SEED]`.

A thread inside `fsl` waits a random CPU time, notes what the main thread does, and sends SIGKILL. The run is resumed
until it ends and must then equal the uninterrupted one: weights, optimizer, random state, rows and scores bit for bit,
or to 1e-4 for two processes. `fsl reproduce` is killed in the same way and must end with the runs and report of the
uninterrupted grid; `fsl data prepare` must leave a complete data set or none.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  imported by runs: forked processes then need not import it
import torch
import torch._dynamo
import torch.utils.tensorboard
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from fewshot_env import prepare  # noqa: E402
from runners.cli import main as cli  # noqa: E402
from runners.config.settings import read_pairs  # noqa: E402
from runners.reproduce import registry, shared  # noqa: E402
from runners.reproduce.machinery import grid  # noqa: E402
from runners.training import trainer as train  # noqa: E402
from tests.helpers.images import write_mini  # noqa: E402
from tests.helpers.runs import assert_close_runs, everything, same  # noqa: E402

SETS = ["train_tasks=120", "val_every=24", "val_tasks=24", "test_tasks=24", "eval_batch=8", "log_every=8"]
GLYPHS = ["--env", "glyphs", "--n-query", "2", "--set", "agent.filters=4"]
CASES = {
    "turtle, sine": ["--env", "sine", "--agent", "turtle"],
    "lstm, sine": ["--env", "sine", "--agent", "lstm"],
    "maml, sine, 3 seeds": ["--env", "sine", "--agent", "maml", "--meta-batch", "2", "--seeds", "3"],
    "maml, Conv4 of 4 filters on glyphs": [
        *GLYPHS,
        "--agent",
        "maml",
        "--meta-batch",
        "2",
        "--set",
        "agent.bn=running",
    ],
    "baseline++, the same": [*GLYPHS, "--agent", "baseline++"],
    "maml, sine, 2 processes": ["--env", "sine", "--agent", "maml", "--meta-batch", "4", "--processes", "2"],
}
PHASES = {
    "validate": "validation", "test": "test", "save_last": "checkpoint", "save": "checkpoint", "_log_means": "log",
    "open_logs": "log", "close": "log", "outer_step": "training step", "prepare": "data prepare",
    "create_named": "making folders", "draw": "report", "_markdown": "report", "_as_json": "report",
}  # fmt: skip


def phase(names: list[str]) -> str:
    """What a killed process was doing, from its stack, innermost first; a checkpoint in a validation counts as such."""
    return next((PHASES[name] for name in names if PHASES.get(name) == "checkpoint"), None) or next(
        (PHASES[name] for name in names if name in PHASES), "between"
    )


def kill_after(seconds: float, notes: Path) -> None:
    """After `seconds` of CPU time write down the main thread's stack and kill the process."""
    main, start = threading.main_thread().ident, time.process_time()
    while time.process_time() - start < seconds:
        time.sleep(0.001)
    frame, names = sys._current_frames()[main or 0], []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    with notes.open("a") as out:
        out.write(json.dumps(names) + "\n")
    os.kill(os.getpid(), signal.SIGKILL)


def killed(seconds: float, notes: Path, words: list[object]) -> bool:
    """Run `fsl` in a forked process (nothing is imported again) with a timer; True where that killed it."""
    child = os.fork()
    if not child:
        said = os.open(notes.with_name("said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        for owner, name in TIMED:
            setattr(owner, name, with_timer(getattr(owner, name), seconds, notes))
        sys.argv = ["fsl", *map(str, words)]
        code = 1
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), notes.with_name("said").read_text()
    return status != 0


def with_timer(real: Callable[..., Any], seconds: float, notes: Path) -> Callable[..., Any]:
    """A function that first starts the timer."""

    def act(*arguments: Any, **more: Any) -> Any:
        threading.Thread(target=kill_after, args=(seconds, notes), daemon=True).start()
        return real(*arguments, **more)

    return act


def folders(of: Path) -> list[Path]:
    """The runs in a log directory, by name."""
    return sorted(file.parent for file in of.rglob("config.json"))


def moments(rng: random.Random, length: float) -> Iterator[float]:
    """CPU times to kill at: `length` seconds on average at first, then longer each time, so that every run ends."""
    while True:
        yield rng.expovariate(1 / length)
        length *= 1.15


def kill_until_done(case: str, times: Iterator[float], whole: Path, place: Path, notes: Path) -> int:
    """Kill one run until it ends; returns the number of kills."""
    log, kills = place / "cut", 0
    words: list[object] = ["run", *CASES[case], *(w for s in SETS for w in ("--set", s)), "--log-dir", log]
    if "processes" in case:
        kills += kill_group(words, next(times), notes)
    elif killed(next(times), notes, words):
        kills += 1
    while not (found := folders(log)):  # killed before the folder got its name
        if not killed(next(times), notes, words):
            break
        kills += 1
    group = found[0] if len(found) == 1 else found[0].parent
    while not all((run / "result.json").exists() for run in found):
        kills += killed(next(times), notes, ["run", "--resume", group])
    for a, b in zip(folders(whole), found, strict=True):
        for file in ("config.json", "result.json"):
            json.loads((b / file).read_text())
        if "processes" in case:
            assert_close_runs(a, b)
        else:
            assert all(same(x, y) for x, y in zip(everything(a), everything(b), strict=True)), (case, b)
    return kills


def kill_group(words: list[object], seconds: float, notes: Path) -> int:
    """Start a run of two processes and kill both at once."""
    command = [sys.executable, "-m", "runners", *map(str, words)]
    log = Path(str(words[-1]))
    with subprocess.Popen(command, cwd=ROOT, stdout=-3, stderr=-3, start_new_session=True) as process:
        wait_until(lambda: bool(list(log.glob("*/last.pt"))) or process.poll() is not None)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            notes.open("a").write('["both processes of a group"]\n')
            return 1
    return 0


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until `true()` holds."""
    while not true():
        time.sleep(0.01)


def reproduction(out: Path) -> list[object]:
    """The command for a grid of six runs in `out`."""
    return ["reproduce", "fig4", "--out", out]


def kill_grid(whole: Path, times: Iterator[float], out: Path, notes: Path) -> int:
    """Kill one grid until it ends; returns the number of kills. Its report is complete or absent at every moment."""
    kills = 0
    while killed(next(times), notes, reproduction(out)):
        kills += 1
        for file in out.glob("*.json"):
            json.loads(file.read_text())
        for file in out.glob("*.png"):
            Image.open(file).load()
    assert report_of(out) == report_of(whole)
    a, b = folders(whole), folders(out)
    assert [f.relative_to(whole) for f in a] == [f.relative_to(out) for f in b], "runs were lost or made twice"
    for x, y in zip(a, b, strict=True):
        assert all(same(v, w) for v, w in zip(everything(x), everything(y), strict=True)), y
    return kills


def report_of(out: Path) -> dict[str, Any]:
    """The grid's report without its times."""
    content: dict[str, Any] = json.loads((out / "fig4-quick.json").read_text())
    for cell in content["cells"]:
        for timed in (cell, *cell["runs"]):
            timed |= {"hours": None, "mean_hours": None}
    return content


def kill_preparation(source: Path, whole: dict[str, bytes], times: Iterator[float], place: Path) -> int:
    """Kill one preparation until it is done; the data set is complete or absent at every moment."""
    words: list[object] = ["data", "prepare", "mini", "--source", source, "--data-dir", place]
    kills = 0
    while killed(next(times), place.parent / "notes", words):
        kills += 1
        visible = [f.name for f in place.glob("[!.]*")]
        assert visible in ([], ["mini"]), visible
        assert not visible or store(place) == whole
    assert store(place) == whole
    return kills


def store(folder: Path) -> dict[str, bytes]:
    """The bytes of the prepared data set `mini`."""
    return {file.name: file.read_bytes() for file in (folder / "mini").iterdir()}


def main(wanted: int = 60, seed: int = 0) -> None:
    """Repeat until `wanted` kills are done, with at least one run of each case."""
    rng, counts = random.Random(seed), Counter[str]()
    shared.SINE_SCALES["quick"] = grid.Scale("quick", 2, dict(read_pairs(SETS)))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        notes = place / "notes"
        notes.touch()
        whole: dict[str, Path] = {}
        write_mini(place / "source", n_images=40)
        prepare = ["data", "prepare", "mini", "--source", place / "source", "--data-dir", place / "stores"]
        killed(NEVER, notes, prepare)
        prepared = store(place / "stores")
        killed(NEVER, notes, reproduction(place / "grid"))
        number = 0
        while sum(counts.values()) < wanted or len(counts) <= len(CASES):
            number += 1
            for case, words in CASES.items():
                if case not in whole:
                    whole[case] = place / "whole" / case
                    alone = [w for w in words if w not in ("--processes", "2")] if "processes" in case else words
                    begin = ["run", *alone, *(w for s in SETS for w in ("--set", s)), "--log-dir", whole[case]]
                    killed(NEVER, notes, begin)
                counts[case] += kill_until_done(
                    case,
                    moments(rng, LENGTH["Conv4" in case or "same" in case]),
                    whole[case],
                    place / f"{number}-{case}",
                    notes,
                )
                print(f"{sum(counts.values())} kills; {case}: equal", flush=True)
            grid_cut = place / f"{number}-grid"
            counts["reproduce fig4, 6 runs"] += kill_grid(
                place / "grid", moments(rng, 4 * LENGTH[False]), grid_cut, notes
            )
            print(f"{sum(counts.values())} kills; reproduce: equal", flush=True)
            counts["data prepare"] += kill_preparation(
                place / "source", prepared, moments(rng, LENGTH[False]), place / f"{number}-stores"
            )
            print(f"{sum(counts.values())} kills; data prepare: complete", flush=True)
        print("| run | kills |\n|---|---|")
        print("\n".join(f"| {case} | {kills} |" for case, kills in counts.items()))
        where = Counter(phase(json.loads(line)) for line in notes.read_text().splitlines())
        print("killed in: " + ", ".join(f"{name} {count}" for name, count in where.most_common()))


TIMED: list[tuple[Any, str]] = [(train, "run_to_the_end"), (prepare, "prepare"), (registry, "experiments_named")]
LENGTH = {True: 3.0, False: 0.3}  # mean CPU seconds until the first kill, with images or without
NEVER = 1e9

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
