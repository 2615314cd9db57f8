"""Hostile input for everything that reads: `python campaigns/fuzz.py [CASES] [SEED]`, 100,000 by default.

Each target has a few good inputs; a case is one of them with some bytes changed, cut, doubled or replaced by what has
broken parsers before. It must be read, or refused in one printable line: anything else, also a case that takes 20
seconds, is a finding. While files are read, an audit hook watches that nothing is executed, connected to, or written
outside the case's own folder.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from agents import registry as agent_registry  # noqa: E402
from fewshot_env.data import cub, folders, mini  # noqa: E402
from fewshot_env.data.archive import unpack  # noqa: E402
from fewshot_env.data.source import SourceImage, Wish  # noqa: E402
from fewshot_env.data.splits import split_list  # noqa: E402
from fewshot_env.data.unpickle import read_pickle  # noqa: E402
from fewshot_env.errors import FewShotError  # noqa: E402
from fewshot_env.images import ImageSampler  # noqa: E402
from fewshot_env.pair import EnvPair  # noqa: E402
from fewshot_env.store import ImageStore  # noqa: E402
from runners import compare, replay, report, report_figures  # noqa: E402
from runners.lock import HOLDER, _holder  # noqa: E402
from runners.loggers import JSONLines, read_rows, write_csv  # noqa: E402
from runners.past import past_runs  # noqa: E402
from runners.plan import make_plan  # noqa: E402
from runners.records import ChartLine, RowLine, read_result, read_settings  # noqa: E402
from runners.settings import read_file, read_pairs  # noqa: E402
from runners.team import ALONE  # noqa: E402
from runners.track import Track  # noqa: E402

TOKENS = [
    b"", b"\0", b"\xff" * 8, b"-1", b"0", b"1e999", b"nan", b"-.inf", b"9" * 400, b"null", b"~", b"true", b"''", b'"',
    b"[", b"]", b"{", b"}", b"[" * 2000, b"{a: " * 500, b"&a [*a]", b"*a", b"!!python/object/apply:os.system [id]",
    b"!!binary x", b"2001-99-99", b"0x", b"0b2", b"1:99:99", b"<<: 1", b"? ", b"- ", b"\t", b"\r\n", b"\n", b",",
    b"=", b":", b"->", "\u2192".encode(), b"../", b"/", b"..", b"\xc3\x28", "\u202e\U0001f600".encode(), b"%s%n",
    b"__class__", b"os", b"os:system", b"cposix\nsystem\n(S'touch owned'\ntR.", b"\x80\x05", b"PK\x03\x04", b"\x1f\x8b",
]  # fmt: skip
WORD = re.compile(rb'-?[0-9][0-9.e+-]*|"[^"]*"|[a-z]+')
ODD = [
    b"null", b"true", b"-1", b"0", b"3", b"1.5", b"-0.0", b"1e308", b"1e400", b"NaN", b"9" * 400, b"9" * 30, b"[]",
    b"{}", b'""', b'"x"', b"[[1]]", b'{"a": 1}', b'"\\ud800"', b'"$x^{"', b'"<script>"', b'"../a"', b"[" * 20000,
]  # fmt: skip
"""What stands in place of a whole word or number."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork")


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """The seed with one to four changes."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 4)):
        at, until = sorted((dice.randint(0, len(data)), dice.randint(0, len(data))))
        until = min(until, at + dice.choice((1, 2, 8, 100, 10**6)))
        match dice.randrange(11):
            case 0 | 1 if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
            case 2 if data:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case 3:
                del data[at:until]
            case 4:
                data[at:at] = data[at:until]
            case 5:
                data[at:at] = dice.choice(TOKENS)
            case 6:
                data[at:until] = dice.choice(TOKENS)
            case 7 | 8 | 9 if words := list(WORD.finditer(data)):
                word = dice.choice(words)
                data[word.start() : word.end()] = dice.choice(ODD)
            case _:
                del data[at if dice.random() < 0.3 else len(data) :]
    return bytes(data)


@dataclass(frozen=True)
class Target:
    """Something that reads: good inputs, and how to give it one (in an empty folder of its own)."""

    seeds: list[bytes]
    read: Callable[[bytes, Path], Any]
    weight: int = 1
    is_file: bool = True


def text_of(data: bytes) -> str:
    """As the shell hands it over."""
    return data.decode(errors="surrogateescape")


def put(name: str, data: bytes, folder: Path) -> Path:
    """A file of the case."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pickles() -> list[bytes]:
    """The forms of miniImageNet's pickles, small."""
    name = next(w for w, s in split_list("mini").split_of.items() if s == "train")
    data = {"image_data": np.zeros((2, 8, 8, 3), np.uint8), "class_dict": {name: [0, 1]}}
    other = {"data": data["image_data"], "labels": [0, 0], "catname2label": {name: 0}}
    return [pickle.dumps(d, protocol) for d in (data, other) for protocol in (0, 2, 4)]


def images() -> list[bytes]:
    """A small picture in every format."""
    pixels, found = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8), []
    for form in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        Image.fromarray(pixels).save(out := io.BytesIO(), form)
        found.append(out.getvalue())
    return found


def archives() -> list[bytes]:
    """A zip, a tar and a tar.gz."""
    with zipfile.ZipFile(zipped := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as out:
        for i in range(3):
            out.writestr(f"d/{i}.txt", bytes(50 * i))
    found = [zipped.getvalue()]
    for mode in ("w", "w:gz"):
        with tarfile.open(fileobj=(tarred := io.BytesIO()), mode=mode) as tar:  # type: ignore[call-overload]
            for i in range(3):
                info = tarfile.TarInfo(f"d/{i}.txt")
                info.size = 50 * i
                tar.addfile(info, io.BytesIO(bytes(info.size)))
        found.append(tarred.getvalue())
    return found


def saved_run() -> tuple[bytes, bytes, dict[str, Any]]:
    """last.pt of a small run, a saved episode of it, and its settings."""
    from fewshot_env.sine import SineSampler
    from runners import faults

    plan = make_plan({"env": "sine", "agent": "maml", "agent.hidden": [3]})
    agent = plan.make_agent().train()
    task = SineSampler().sample([1, 2])
    agent.meta_update(agent.predict(agent.adapt(task.support), task.query.x), task.query.labels)
    with tempfile.TemporaryDirectory() as place:
        track = Track(plan, Path(place), ALONE)
        track.open_logs()
        track.save("last.pt", agent.state())
        assert track.loggers is not None
        track.loggers.close()
        fault = faults.save(faults.Place.of(track), agent, SineSampler(), "train", 3)
        assert fault is not None
        return (Path(place) / "last.pt").read_bytes(), fault.read_bytes(), plan.settings


def targets() -> dict[str, Target]:
    """Everything that reads what a user, a publisher or a crash gives it."""
    warnings.simplefilter("ignore")
    last, fault, settings = saved_run()
    plan = make_plan({"env": "sine", "agent": "maml", "agent.hidden": [3]})
    sine = {"env": "sine", "agent": "maml"}
    pairs = [b"agent.inner_lr=0.1", b"seed=3", b"agent.hidden=[40, 40]", b"env.amplitude=[0.1, 5]", b"agent.clip=null"]
    yaml = [b"env: sine\nagent: maml\nagent.inner_lr: 1e-3\nseed: 4\n", json.dumps(settings).encode()]
    rows = b'{"tasks": 4, "train/loss": 1.5}\n{"tasks": 8, "val/mse": 2.0, "val/low": 1.5, "val/high": 2.5}\n'
    rows += b'{"tasks": 8, "inner/loss_0": 2.0, "inner/loss_1": 1.0}\n'
    kept = {"env": "sine", "agent": "maml", "seed": 0, "train_tasks": 8, "env.n_shot": 5}
    result = {
        "env": "sine", "agent": "maml", "metric": "mse", "mean": 2.0, "ci95": 0.5, "median": None, "tasks": 3,
        "diverged": 1, "episode_hash": "0" * 16, "scores": [1.0, 3.0, None], "settings": kept,
        "versions": {"torch": "2.9"}, "trained_tasks": 8, "best_at_tasks": 8, "seconds": {"train": 1.5},
        "side_by_side": 1, "device": "cpu",
    }  # fmt: skip
    chart = {"tasks": 4, "name": "rate", "x_label": "step", "y_label": "rate", "x": [1.0, 2.0], "lines": {"a": [1, 2]}}
    charts = "".join(json.dumps(chart | {"tasks": n, "bands": {"a": [[0, 1], [2, 3]]}}) + "\n" for n in (4, 8, 12))
    wnids = {s: [w for w, split in split_list("mini").split_of.items() if split == s] for s in ("train", "val", "test")}
    table = "filename,label\n" + "".join(f"{w}{i}.jpg,{w}\n" for w in wnids["train"][:2] for i in range(2))
    index = {
        "format": "fewshot-store", "version": 1, "name": "own", "sha256": "0" * 64, "skipped": [], "files": [],
        "classes": [
            {"name": f"c{i}", "split": ("train", "val", "test")[i // 2], "start": 3 * i, "count": 3} for i in range(6)
        ],
    }  # fmt: skip
    np.save(array := io.BytesIO(), np.zeros((18, 9, 9, 3), np.uint8))

    def csv(data: bytes, folder: Path) -> Any:
        put("train.csv", data, folder)
        for split in ("val", "test"):
            put(f"{split}.csv", f"filename,label\na.jpg,{wnids[split][0]}\n".encode(), folder)
        return mini.read_csv(folder, Wish())

    def split_file(data: bytes, folder: Path) -> Any:
        for name in "abc":
            put(f"{name}/1.png", b"", folder)
        return folders.read_classes(folder, Wish(str(put("split.csv", data, folder))))

    def birds(data: bytes, folder: Path) -> Any:
        head, _, tail = data.partition(b"|")
        put("images.txt", head, folder)
        put("bounding_boxes.txt", tail, folder)
        return cub.LAYOUTS[0].read(folder, Wish("cub", crop=True))

    def cache(data: bytes, folder: Path) -> Any:
        read_pickle(put("a.pkl", data, folder))
        for split in ("train", "val", "test"):
            put(f"mini-imagenet-cache-{split}.pkl", data, folder)
            put(f"miniImageNet_category_split_{split}.pickle", data, folder)
        return [layout.read(folder, Wish()) for layout in mini.LAYOUTS[1:3]]

    def run_of(data: bytes, folder: Path) -> Any:
        put("last.pt", data, folder)
        track = Track(plan, folder, ALONE)
        assert track.content is not None
        from runners.train import Run

        Run([plan], [folder])
        return track

    def store(data: bytes, folder: Path, name: str) -> Any:
        good = {"index.json": json.dumps(index).encode(), "images.npy": array.getvalue()} | {name: data}
        for file, content in good.items():
            put(f"own/{file}", content, folder)
        opened = ImageStore.open(folder / "own")
        opened.holdings()
        return ImageSampler(opened, n_way=2, n_shot=1, n_query=1).sample([1])

    def run_in(folder: Path, **files: bytes) -> Path:
        good = {"config": json.dumps({"settings": kept}).encode(), "result": json.dumps(result).encode()}
        for name, content in ({"metrics": rows, "charts": charts.encode()} | good | files).items():
            put(f"r/{name}.json{'l' * (name in ('metrics', 'charts'))}", content, folder)
        return folder / "r"

    def listed(folder: Path) -> Any:
        return [json.dumps(run.plain()) + "".join(run.row()) for run in past_runs(folder)]

    def finished(data: bytes, folder: Path) -> Any:
        run = run_in(folder, result=data)
        listed(folder)
        compare.numbers(compare.read_all([run, run]))
        return report.render(run, read_result(run))

    def logged(data: bytes, folder: Path) -> Any:
        run = run_in(folder, metrics=data)
        (run / "result.json").unlink()
        listed(folder)
        report_figures.learning(read_rows(run), result)
        write_csv(run)

    def known(data: bytes, folder: Path) -> Any:
        listed(run_in(folder, config=data).parent)
        return read_settings(folder / "r")

    def resumed(data: bytes, folder: Path) -> Any:
        for model in (RowLine, ChartLine):
            JSONLines(put("m.jsonl", data, folder), 8, 2, model).close()
        JSONLines(put("metrics.jsonl", data, folder), 8, 2).close()
        write_csv(folder)

    def saved(data: bytes, folder: Path) -> Any:
        return replay.replay(put("fault.pt", data, folder))

    return {
        "--set": Target(pairs, lambda d, _: make_plan(sine | read_pairs([text_of(d)])), 4, False),
        "--config": Target(yaml, lambda d, f: make_plan(read_file(put("c.yaml", d, f))), 3),
        "--env": Target([b"mini->cub", b"sine", b"a_module:FewShot/Own-v0", b"mini:cub"],
                        lambda d, f: EnvPair.parse(text_of(d), f), 12, False),
        "--agent": Target([b"maml", b"a_module:Agent", b"agents.maml:MAML"],
                          lambda d, _: agent_registry.find(text_of(d)).load(), 8, False),
        "config.json": Target([json.dumps({"settings": settings}).encode()],
                              lambda d, f: make_plan(read_settings(put("config.json", d, f).parent)), 3),
        "config.json, listed": Target([json.dumps({"settings": kept}).encode()], known, 4),
        "result.json": Target([json.dumps(result).encode()], finished, 4),
        "metrics.jsonl": Target([rows], logged, 4),
        "charts.jsonl": Target([charts.encode()], lambda d, f: report_figures.learned(run_in(f, charts=d)), 4),
        "logs, resumed": Target([rows, charts.encode()], resumed, 8),
        "holder": Target([b'{"pid": 1, "host": "a", "since": "now"}'],
                         lambda d, f: _holder(put(HOLDER, d, f).parent), 3),
        "mini CSV": Target([table.encode()], csv, 12),
        "split CSV": Target([b"class,split\na,train\nb,val\nc,test\n"], split_file, 10),
        "CUB lists": Target([b"1 001.Black_footed_Albatross/b0.jpg\n|1 10.0 5.0 20.0 10.0\n"], birds, 10),
        "image": Target(images(), lambda d, f: SourceImage("a", "c", "train", put("a", d, f)).read(), 20),
        "archive": Target(archives(), lambda d, f: unpack(put("a.zip", d, f), f / "in"), 14),
        "pickle": Target([*pickles(), b"cposix\nsystem\n(S'touch owned'\ntR."], cache, 16),
        "checkpoint": Target([last, pickle.dumps(Evil())], run_of, 4),
        "saved episode": Target([fault], saved, 4),
        "index.json": Target([json.dumps(index).encode()], lambda d, f: store(d, f, "index.json"), 4),
        "images.npy": Target([array.getvalue()], lambda d, f: store(d, f, "images.npy"), 4),
    }  # fmt: skip


class Evil:
    """Would run a command where a pickle is trusted."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch owned",)


class Watch:
    """Counts what a reader of files has no business doing."""

    def __init__(self) -> None:
        self.place: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """See every event while a file is read."""
        if self.place is None:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {args}")
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            file = Path(str(args[0])).absolute()
            if not file.is_relative_to(self.place) and not str(file).startswith("/dev/"):
                self.seen.append(f"open {file} {args[1]}")


def verdict(target: Target, data: bytes, place: Path, watch: Watch) -> str:
    """What came of a case: "read", "refused", or a finding: the last lines of its traceback."""
    watch.place, watch.seen = (place if target.is_file else None), []
    signal.alarm(20)
    try:
        target.read(data, place)
        found = "read"
    except (FewShotError, OSError) as error:
        found = "refused" if str(error).isprintable() or isinstance(error, OSError) else f"unprintable: {error!r}"
    except BaseException:
        found = "".join(traceback.format_exc().splitlines(keepends=True)[-5:])
    finally:
        signal.alarm(0)
        watch.place = None
    return found if not watch.seen else f"did more than read: {watch.seen}"


def fuzz(cases: int, seed: int, say: Callable[[str], None] = print) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Run so many cases over all targets; counts by target and verdict, and the findings."""
    known, watch = targets(), Watch()
    whole = sum(t.weight for t in known.values())
    counts: Counter[tuple[str, str]] = Counter()
    findings: dict[str, str] = {}
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("it took 20 seconds")))
    with tempfile.TemporaryDirectory() as temporary:
        for name, target in known.items():
            dice, start = random.Random(f"{seed} {name}"), time.monotonic()
            for number in range(max(1, cases * target.weight // whole)):
                data = mutated(dice.choice(target.seeds), dice)
                place = Path(temporary) / "case"
                place.mkdir()
                found = verdict(target, data, place, watch)
                shutil.rmtree(place)
                counts[name, found if found in ("read", "refused") else "finding"] += 1
                if found not in ("read", "refused"):
                    kind = f"{name}: {found.splitlines()[-1][:60]}"
                    findings.setdefault(kind, f"{name} #{number}: {data[:300]!r}\n{found}")
            of_it = {v: count for (n, v), count in counts.items() if n == name}
            say(f"{name}: {of_it}, {time.monotonic() - start:.0f} s")
    return counts, list(findings.values())


def main(cases: int = 100_000, seed: int = 0) -> None:
    """Fuzz, and print a table."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    said, sys.stdout = sys.stdout, io.StringIO()  # `fsl replay` and modules named by chance print
    counts, findings = fuzz(cases, seed, lambda line: print(line, file=said, flush=True))
    sys.stdout = said
    print("| what reads | read | refused in one line | findings |\n|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in counts):
        print(f"| {name} | " + " | ".join(str(counts[name, v]) for v in ("read", "refused", "finding")) + " |")
    print(f"{sum(counts.values())} cases, {len(findings)} kinds of findings")
    print("\n".join(findings))
    sys.exit(bool(findings))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
