"""Fuzz targets: everything that reads input from users, publishers or crashed runs, with small valid inputs."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agents import registry as agent_registry
from agents.saved import describe
from fewshot_env.data import cub, folders, mini
from fewshot_env.data.archive import Budget, unpack
from fewshot_env.data.inventory import take_stock
from fewshot_env.data.pixels import formats
from fewshot_env.data.read import read_source
from fewshot_env.data.source import PrepareOptions, SourceImage
from fewshot_env.data.splits import split_list
from fewshot_env.data.unpickle import read_pickle
from fewshot_env.images import ImageSampler
from fewshot_env.pair import EnvPair
from fewshot_env.store import ImageStore
from runners.cli import replay
from runners.config.plan import make_plan
from runners.config.settings import read_file, read_pairs
from runners.distributed.process_group import SINGLE_PROCESS
from runners.loggers.json_lines import JSONLines, read_rows, write_csv
from runners.reporting import compare, report, report_figures
from runners.reporting.runs import list_runs
from runners.reproduce.machinery.collect import collect
from runners.reproduce.machinery.earlier import EarlierReports
from runners.reproduce.machinery.experiment import Experiment
from runners.reproduce.machinery.report import write
from runners.reproduce.machinery.runs import Runs
from runners.reproduce.machinery.summary import CountedRun
from runners.reproduce.registry import EXPERIMENTS
from runners.storage.lock import HOLDER, _holder
from runners.storage.schemas import ChartLine, RowLine, read_result, read_settings
from runners.training import trainer
from runners.training.run_state import RunState


@dataclass(frozen=True)
class Target:
    """Something that reads: valid inputs, and how to pass it one (in an empty folder)."""

    seeds: list[bytes]
    read: Callable[[bytes, Path], Any]
    weight: int = 1
    is_file: bool = True


def text_of(data: bytes) -> str:
    """Bytes as the text that a shell passes on."""
    return data.decode(errors="surrogateescape")


def put(name: str, data: bytes, folder: Path) -> Path:
    """Write a file of the case."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pickles() -> list[bytes]:
    """Small pickles in the formats of miniImageNet."""
    name = next(w for w, s in split_list("mini").split_of.items() if s == "train")
    data = {"image_data": np.zeros((2, 8, 8, 3), np.uint8), "class_dict": {name: [0, 1]}}
    other = {"data": data["image_data"], "labels": [0, 0], "catname2label": {name: 0}}
    return [pickle.dumps(d, protocol) for d in (data, other) for protocol in (0, 2, 4)]


def images() -> list[bytes]:
    """A small picture in every format and mode that is read."""
    pixels, found = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8), []
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    colours = picture.convert("RGB")
    for image, form, more in [
        *((colours, form, {}) for form in formats() if form not in ("MPO", "JXL")),
        (picture, "PNG", {}),
        (picture.convert("LA"), "PNG", {}),
        (colours.quantize(8), "PNG", {"transparency": 1}),
        (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG", {}),
        (Image.fromarray(pixels[..., 0] / np.float32(255)), "TIFF", {}),
        (colours.convert("CMYK"), "JPEG", {"exif": exif}),
        (colours, "GIF", {"save_all": True, "append_images": [colours]}),
    ]:
        image.save(out := io.BytesIO(), form, **more)
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
    from runners.evaluation import non_finite as faults

    plan = make_plan({"env": "sine", "agent": "maml", "agent.hidden": [3]})
    agent = plan.make_agent().train()
    task = SineSampler().sample([1, 2])
    agent.meta_update(agent.predict(agent.adapt(task.support), task.query.x), task.query.labels)
    with tempfile.TemporaryDirectory() as place:
        state = RunState(plan, Path(place), SINGLE_PROCESS)
        state.open_logs()
        state.save("last.pt", agent.state(), describe(agent))
        assert state.loggers is not None
        state.loggers.close()
        fault = faults.save(state.place, agent, SineSampler(), "train", 3)
        assert fault is not None
        return (Path(place) / "last.pt").read_bytes(), fault.read_bytes(), plan.settings


def report_of(experiment: Experiment, run: CountedRun) -> bytes:
    """The .json of a report whose every cell has one run."""
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(Path(place), None)
        found = collect(experiment, experiment.scales["full"], runs, EarlierReports([], [experiment], "full", runs))
    cells = [replace(summary, runs=[run]).as_json() for summary in found.values()]
    head = {"experiment": experiment.name, "scale": "full", "metric": "mse", "statistics": {"score": "test"}}
    return json.dumps(head | {"cells": cells}).encode()


def targets() -> dict[str, Target]:
    """Everything that reads input from users, publishers or crashed runs, by name."""
    warnings.simplefilter("ignore")
    last, fault, settings = saved_run()
    plan = make_plan({"env": "sine", "agent": "maml", "agent.hidden": [3]})
    sine = {"env": "sine", "agent": "maml"}
    pairs = [
        b"agent.inner_lr=0.1",
        b"seed=3",
        b"agent.hidden=[40, 40]",
        b"env.amplitude=[0.1, 5]",
        b"agent.inner_clip=null",
    ]
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
        return mini.read_csv(folder, PrepareOptions())

    def split_file(data: bytes, folder: Path) -> Any:
        for name in "abc":
            put(f"{name}/1.png", b"", folder)
        return folders.read_own(folder, PrepareOptions(str(put("split.csv", data, folder))))

    def labels(data: bytes, folder: Path) -> Any:
        for name in "abcd":
            put(f"images/{name}.png", b"", folder)
        put("labels.csv", data, folder)
        return [folders.read_own(folder, PrepareOptions(split, classes=c)) for split in (None, "test")
                for c in ("leaf", "top")]  # fmt: skip

    def tree(data: bytes, folder: Path) -> Any:
        """Files of these names; every image among them must be accounted for."""
        for name in text_of(data).splitlines():
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                place = (folder / "own" / name.lstrip("/")).resolve()
                if place.is_relative_to(folder / "own"):
                    put(str(place.relative_to(folder)), b"x", folder)
        (folder / "own").mkdir(exist_ok=True)
        account = read_source(folder / "own", folders.LAYOUTS, folder / "in", PrepareOptions("test"), "images")
        stock = take_stock(folder / "own")
        files = sum(map(len, (stock.images, stock.no_decoder, stock.hidden, stock.dangling)))
        assert len(account.images) + sum(account.left_out.values()) == files, (account, stock)
        return account

    def birds(data: bytes, folder: Path) -> Any:
        head, _, tail = data.partition(b"|")
        put("images.txt", head, folder)
        put("bounding_boxes.txt", tail, folder)
        return cub.LAYOUTS[0].read(folder, PrepareOptions("cub", crop=True))

    def cache(data: bytes, folder: Path) -> Any:
        read_pickle(put("a.pkl", data, folder))
        for split in ("train", "val", "test"):
            put(f"mini-imagenet-cache-{split}.pkl", data, folder)
            put(f"miniImageNet_category_split_{split}.pickle", data, folder)
        return [layout.read(folder, PrepareOptions()) for layout in mini.LAYOUTS[1:3]]

    def run_of(data: bytes, folder: Path) -> Any:
        put("last.pt", data, folder)
        state = RunState(plan, folder, SINGLE_PROCESS)
        assert state.checkpoint is not None
        trainer.begin([plan], [folder])
        return state

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
        return [json.dumps(run.as_plain()) + "".join(run.row()) for run in list_runs(folder)]

    def finished(data: bytes, folder: Path) -> Any:
        run = run_in(folder, result=data)
        listed(folder)
        compare.as_plain(compare.read_all([run, run]))
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

    fig4 = EXPERIMENTS["fig4"]
    counted = CountedRun(
        seed=0, score=0.5, median=0.25, diverged=0, hours=1.5, device="cpu", versions="torch 2.9", episodes="0" * 16,
        folder="cells/a/seed0",
    )  # fmt: skip

    def earlier(data: bytes, folder: Path) -> Any:
        runs = Runs(folder, None)
        known = EarlierReports([put("fig4.json", data, folder)], [fig4], "full", runs)
        return write(fig4, fig4.scales["full"], collect(fig4, fig4.scales["full"], runs, known), runs, known)

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
        "earlier report": Target([report_of(fig4, counted)], earlier, 2),
        "holder": Target([b'{"pid": 1, "host": "a", "since": "now"}'],
                         lambda d, f: _holder(put(HOLDER, d, f).parent), 3),
        "mini CSV": Target([table.encode()], csv, 12),
        "split CSV": Target([b"class,split\na,train\nb,val\nc,test\n"], split_file, 10),
        "labels CSV": Target([b"FILE_NAME,CATEGORY,SUPER_CATEGORY\na.png,x,s\nimages/b.png,y,s\n", b"file;label;split\n"
                              b"a.png;x;train\nb.png;y;val\nc.png;z;test\nd.png;z;test\n"], labels, 10),
        "names of files": Target([b"train/a/0.png\nval/b/1.jpg\ntest/c/2.png\n.x/3.png\n", b"s/a/0.png\ns/a/m/1.png\n",
                                  b"a/images/0.png\nb/images/1.heic\nlogo.gif\n@eaDir/2.png\n"], tree, 20),
        "CUB lists": Target([b"1 001.Black_footed_Albatross/b0.jpg\n|1 10.0 5.0 20.0 10.0\n"], birds, 10),
        "image": Target(images(), lambda d, f: SourceImage("a", "c", "train", put("a", d, f)).read(), 20),
        "archive": Target(archives(), lambda d, f: unpack(put("a.zip", d, f), f / "in", Budget()), 14),
        "pickle": Target([*pickles(), b"cposix\nsystem\n(S'touch owned'\ntR."], cache, 16),
        "checkpoint": Target([last, pickle.dumps(Evil())], run_of, 4),
        "saved episode": Target([fault], saved, 4),
        "index.json": Target([json.dumps(index).encode()], lambda d, f: store(d, f, "index.json"), 4),
        "images.npy": Target([array.getvalue()], lambda d, f: store(d, f, "images.npy"), 4),
    }  # fmt: skip


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch owned",)
