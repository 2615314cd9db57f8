"""Export a trained agent: its weights as a file, or, adapted to labelled images, a classifier for other programs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.exported import SUFFIX
from agents.saved import save
from fewshot_env import durable
from fewshot_env.errors import FewShotError, said
from runners.prediction.classifier import Classifier, make_classifier, probabilities
from runners.prediction.trained import Trained
from runners.storage.schemas import read_preset, read_result, read_settings

OPSET = 18


class Adapted(nn.Module):
    """A classifier as a plain module: probabilities [Q, N] of images [Q, 3, size, size] in [0, 1]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.agent = classifier.agent
        self.adapted, self.n = classifier.adapted, len(classifier.classes)

    def forward(self, images: Tensor) -> Tensor:
        """The probability of every class for each image."""
        return probabilities(self.agent, self.adapted, images, self.n)


def export(
    trained: Trained, out: Path, support: Path | None, settings: Mapping[str, Any], background: str = "white"
) -> dict[str, Any]:
    """Write a trained agent (.safetensors), or its classifier of the support's classes (.onnx, .pt2).

    Args:
        trained: the agent.
        out: the file to write; its ending decides what.
        support: a folder of images for each class, for a classifier.
        settings: of the agent, where they differ from those of its training.
        background: what transparent parts of the support are laid over, a colour.

    Returns:
        The file, its format, its size in bytes, and for a classifier its classes, the image size and the notes.

    Raises:
        FewShotError: for another ending, a missing or superfluous support, and what cannot be exported.
    """
    makers: dict[str, Callable[[Adapted, Tensor, Path], None]] = {".onnx": _write_onnx, ".pt2": _write_pt2}
    if out.suffix not in (SUFFIX, *makers):
        raise FewShotError(f"{out} ends in {out.suffix!r}, but must end in {SUFFIX} (the trained agent), or .onnx or "
                           ".pt2 (a classifier, with --support)")  # fmt: skip
    if out.is_dir():
        raise FewShotError(f"{out} is a folder; name a file")
    if not out.absolute().parent.is_dir():
        raise FewShotError(f"there is no folder {out.absolute().parent} to write {out.name} into; make it")
    if out.suffix == SUFFIX:
        if support is not None:
            raise FewShotError(f"a {SUFFIX} file holds the trained agent, which adapts to any support; leave out "
                               "--support, or export to .onnx or .pt2")  # fmt: skip
        agent = trained.make(trained.spec, torch.device("cpu"), settings)
        save(agent, out, _about(trained, settings))
        return {"file": str(out), "format": "agent", "bytes": out.stat().st_size}
    if support is None:
        raise FewShotError(f"a {out.suffix} file is a classifier of given classes: name their images with --support")
    unreadable: dict[Path, str] = {}
    classifier = make_classifier(trained, support, False, torch.device("cpu"), background, settings, unreadable)
    if classifier.alone:
        raise FewShotError(
            f"{classifier.agent.name} does not say that it answers every image by itself (answers_alone), as a "
            f"{out.suffix} file would have to; export it to {SUFFIX}"
        )
    module, images = Adapted(classifier).eval(), torch.rand(2, 3, classifier.size, classifier.size)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as folder:
        part = Path(folder) / out.name
        with torch.no_grad():
            try:
                makers[out.suffix](module, images, part)
            except FewShotError:
                raise
            except Exception as error:  # of the exporter, whose kinds are many
                raise FewShotError(
                    f"{classifier.agent.name} cannot be exported to {out.suffix} ({said(error)}); a .safetensors file "
                    "holds any agent"
                ) from error
        durable.write(out, part.read_bytes())
    return {
        "file": str(out), "format": out.suffix[1:], "bytes": out.stat().st_size, "classes": list(classifier.classes),
        "size": classifier.size, "notes": list(classifier.notes),
        "unreadable": {str(file): reason for file, reason in unreadable.items()},
    }  # fmt: skip


def _about(trained: Trained, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain facts about a run, where they are known: its settings, and its result if these weights were tested."""
    if "about" in trained.content:
        return dict(trained.content["about"]) | ({"result": None} if settings else {})
    folder = trained.file.parent
    if not (folder / "config.json").exists():
        return {}
    of_run = read_settings(folder)
    about: dict[str, Any] = {"settings": of_run, "run": folder.resolve().name, "preset": read_preset(folder)}
    about |= {"tasks_seen": trained.content.get("tasks_seen"), "result": None, "checkpoint": trained.file.name}
    if trained.file.name == "best.pt" and not settings:
        with suppress(FewShotError):  # it is not finished
            result = read_result(folder)
            about["result"] = {k: result[k] for k in ("env", "metric", "mean", "ci95", "tasks", "trained_tasks")}
    return about


def _program(module: Adapted, images: Tensor) -> torch.export.ExportedProgram:
    shapes = {"images": {0: torch.export.Dim("images", min=1)}}
    return torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)


def _write_pt2(module: Adapted, images: Tensor, file: Path) -> None:
    torch.export.save(_program(module, images), file)


def _write_onnx(module: Adapted, images: Tensor, file: Path) -> None:
    try:
        import onnx  # type: ignore[import-not-found,unused-ignore] # noqa: F401
        import onnxscript  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ModuleNotFoundError as error:
        raise FewShotError("an .onnx file needs two more packages: pip install 'fewshot[onnx]'") from error
    quiet = logging.getLogger("onnxscript")
    level, before = quiet.level, logging.root.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _program(module, images), (images,), input_names=["images"], output_names=["probabilities"],
                opset_version=OPSET, dynamo=True, verbose=False,
            )  # fmt: skip
    finally:
        quiet.setLevel(level)
        logging.root.setLevel(before)
    assert program is not None
    program.save(str(file), external_data=False)
