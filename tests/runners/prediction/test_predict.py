"""fsl predict: what it answers, on what that depends, and what it says where it cannot."""

import csv
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import agents
import runners
from fewshot_env.episode import Split
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from runners.prediction.images import read_images
from tests.helpers.cli import main
from tests.helpers.photos import AGENTS, NAMES, draw


def pixels(files):
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def by_hand(file, photos, new, **changes):
    """Probabilities, from agents.load and the agent's own two methods."""
    agent = agents.load(file, **changes)
    support = [sorted((photos / "support" / name).iterdir()) for name in NAMES]
    x = torch.from_numpy(pixels([f for files in support for f in files])).permute(0, 3, 1, 2).float() / 255
    y = torch.tensor([label for label, files in enumerate(support) for _ in files])
    query = torch.from_numpy(pixels(new)).permute(0, 3, 1, 2).float() / 255
    return agent.predict(agent.adapt(Split(x[None], y[None])), query[None])[0].softmax(-1)


def rows_of(file):
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_the_csv_holds_what_the_agent_predicts(runs, photos, capsys):
    run, out = runs("maml"), photos / "out.csv"
    assert main("predict", run, "--support", photos / "support", "--images", photos / "new", "--out", out) == 0
    rows, new = rows_of(out), sorted((photos / "new").iterdir())
    assert [row["file"] for row in rows] == list(map(str, new))
    expected = by_hand(run / "best.pt", photos, new, bn="support")
    found = torch.tensor([[float(row[f"p({name})"]) for name in NAMES] for row in rows])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert [row["predicted"] for row in rows] == [NAMES[i] for i in expected.argmax(-1)]
    said = capsys.readouterr().out
    assert "12 images" in said
    assert "maml adapted to 3 classes with 2 images each" in said
    assert "uses the statistics of the support images: no answer depends on the other images" in said


@pytest.mark.parametrize("agent", AGENTS)
def test_an_answer_never_depends_on_the_other_images(agent, runs, photos):
    run = runs(agent)
    whole = runners.predict(run, photos / "support", photos / "new")
    assert len(whole.predictions) == 12
    one_class = [p for p in whole.predictions if p.file.name.startswith("bee")]
    for some in ([whole.predictions[0]], one_class, whole.predictions[::-1]):
        again = runners.predict(run, photos / "support", [p.file for p in some])
        for one, other in zip(some, again.predictions, strict=True):
            assert one.file == other.file
            assert one.predicted == other.predicted or one.unsure
            assert [*one.probabilities.values()] == pytest.approx([*other.probabilities.values()], abs=1e-4)


def test_transductive_predictions_depend_on_them_and_say_so(runs, photos):
    run = runs("maml")
    files = sorted((photos / "new").iterdir())
    whole = runners.predict(run, photos / "support", files, transductive=True)
    expected = by_hand(run / "best.pt", photos, files, bn="transductive")
    found = torch.tensor([[*p.probabilities.values()] for p in whole.predictions])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    (alone,) = runners.predict(run, photos / "support", files[0], transductive=True).predictions
    assert max(abs(alone.probabilities[n] - whole.predictions[0].probabilities[n]) for n in NAMES) > 1e-3
    assert any("an answer depends on the others" in note for note in whole.notes)


def test_an_agent_of_which_nothing_is_known_answers_one_image_at_a_time(photos, tmp_path, monkeypatch):
    (tmp_path / "of_mine.py").write_text(
        "from agents.base import Agent\n"
        "class Mine(Agent):\n"
        "    learns = False\n"
        "    def adapt(self, support):\n"
        "        return support\n"
        "    def predict(self, support, x):  # the mean over the images of a call: it depends on all of them\n"
        "        near = (support.x.mean((2, 3, 4)) - x.mean((1, 2, 3, 4))[:, None]).abs()\n"
        "        return -near[:, None, ::2].expand(-1, x.shape[1], -1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = runners.run("glyphs", "of_mine:Mine", {"env.n_way": 3, "test_tasks": 2}, log_dir=tmp_path / "runs")
    found = runners.predict(done.folder, photos / "support", photos / "new")
    (alone,) = runners.predict(done.folder, photos / "support", found.predictions[5].file).predictions
    assert alone.probabilities == pytest.approx(found.predictions[5].probabilities)
    assert any("one by one" in note for note in found.notes)


def test_other_numbers_of_classes(runs, tmp_path, capsys):
    five, two = draw(tmp_path / "5", n_way=5), draw(tmp_path / "2", n_way=2)
    found = runners.predict(runs("protonet"), five / "support", five / "new")
    assert found.classes == ("ant", "bee", "cat", "dog", "eel")
    assert set(found.support.values()) == {2}
    assert all(len(p.probabilities) == 5 for p in found.predictions)
    assert len(runners.predict(runs("finetuning"), five / "support", five / "new").predictions) == 20
    cut = runners.predict(runs("maml"), two / "support", two / "new")
    assert all(sum(p.probabilities.values()) == pytest.approx(1) for p in cut.predictions)
    assert "maml was trained with 3 classes; of its outputs the first 2 are used" in cut.notes
    assert main("predict", runs("maml"), "--support", five / "support", "--images", five / "new") == 2
    assert re.fullmatch(
        r"fsl: maml was trained with outputs for 3 classes, but the support has 5; give at most 3, or train with "
        r"--n-way 5, or an agent .*\n",
        capsys.readouterr().err,
    )


def test_classes_may_have_different_numbers_of_images(runs, photos):
    shutil.copy(next((photos / "support" / "ant").iterdir()), photos / "support" / "ant" / "third.png")
    found = runners.predict(runs("maml"), photos / "support", photos / "new")
    assert found.support == {"ant": 3, "bee": 2, "cat": 2}
    assert "maml adapted to 3 classes with 2 to 3 images each" in found.notes


def test_unreadable_images_are_listed_and_the_rest_is_answered(runs, photos, capsys):
    (photos / "new" / "a_broken.png").write_bytes(b"\x89PNG nothing")
    (photos / "new" / "b.psd").write_bytes(b"8BPS")
    (photos / "support" / "cat" / "broken.jpg").write_text("no")
    out = photos / "out.csv"
    words = ["predict", runs("protonet"), "--support", photos / "support", "--images", photos / "new", "--out", out]
    assert main(*words, "--json") == 0
    result = json.loads((said := capsys.readouterr()).out)
    assert len(result["predictions"]) == 12
    assert sorted(name.rpartition("/")[2] for name in result["unreadable"]) == ["a_broken.png", "b.psd"]
    assert [name.rpartition("/")[2] for name in result["left_out_of_support"]] == ["broken.jpg"]
    assert said.err.count("fsl: not answered: ") == 2
    assert said.err.count("fsl: left out of the support: ") == 1
    rows = rows_of(out)
    assert len(rows) == 14
    assert [row["predicted"] for row in rows[12:]] == [""] * 2


BAD = [
    (["support", "nowhere"], "there is no .*nowhere; --images takes files and folders of images"),
    (["missing", "new"], "there is no folder .*missing; --support takes one with a folder of images for each class"),
    (["new", "new"], "holds the image ant_.*put every image into the folder of its class"),
    (["one", "new"], "holds fewer than two folders, but a task needs one for each of its classes"),
    (["hollow", "new"], "empty holds no images; add some, or remove the folder"),
    (["broken", "new"], "no image of .*bad can be read .*; replace them"),
    (["support", "bad"], "none of the 1 images can be answered .*: it is no image of a known format"),
    (["support", "void"], "there are no images in .*void; name files or folders of images"),
]


@pytest.mark.parametrize(("places", "message"), BAD, ids=lambda v: "-".join(v) if isinstance(v, list) else "")
def test_bad_folders_are_refused_in_one_line(places, message, runs, photos, capsys):
    for folder in ("one/a", "hollow/a", "hollow/empty", "broken/a", "broken/bad", "bad", "void"):
        (photos / folder).mkdir(parents=True)
    for folder in ("one/a", "hollow/a", "broken/a"):
        shutil.copy(next((photos / "new").iterdir()), photos / folder)
    (photos / "broken/bad/x.png").write_text("no")
    (photos / "bad/x.png").write_text("no")
    words = ["--support", photos / places[0], "--images", photos / places[1], "--out", photos / "o.csv"]
    assert main("predict", runs("protonet"), *words) == 2
    assert re.fullmatch(f"fsl: .*{message}.*\n", capsys.readouterr().err)
    assert not (photos / "o.csv").exists()


def test_what_else_is_refused(runs, photos, tmp_path, capsys):
    images = ["--support", photos / "support", "--images", photos / "new"]
    for words, message in (
        ([runs("maml"), *images, "--out", tmp_path / "no" / "o.csv"], "there is no folder .*no to write o.csv into"),
        ([runs("maml"), *images, "--set", "env.n_way=3"], "env.n_way is no setting of the agent"),
        (
            [runs("maml"), *images, "--set", "agent.eval_step=3"],
            "unknown setting 'agent.eval_step' .did you mean 'agent.eval_steps'",
        ),
        ([runs("maml"), *images, "--device", "tpu"], "device 'tpu' cannot be used"),
        ([runs("maml"), *images, "--background", "blurple"], "--background is 'blurple', but must be a colour"),
        ([runs("maml"), *images, "--set", "agent.bn=foo"], "agent.bn is 'foo'"),
        ([runs("maml"), *images, "--set", "agent.bn=running"], "agent.bn=running needs running statistics, which this"),
        ([runs("maml"), *images, "--set", "agent.bn=transductive"], "contradicts the missing --transductive"),
        (
            [runs("maml"), *images, "--transductive", "--set", "agent.bn=support"],
            "agent.bn=support contradicts --trans",
        ),
        ([runs("maml"), *images, "--out", next((photos / "new").iterdir())], "but must end in .csv"),
        ([runs("maml"), *images, "--html", tmp_path / "page.csv"], "but must end in .html"),
        ([runs("maml"), *images, "--out", photos / "new"], "but must end in .csv"),
        ([runs("maml"), "--support", photos / "support", "--images", ""], "--images is empty"),
        ([tmp_path / "none", *images], "there is no .*none; name one of a run"),
        ([photos, *images], "is not the folder of a run"),
    ):
        assert main("predict", *words) == 2
        assert re.search(f"^fsl: .*{message}.*$", capsys.readouterr().err, re.MULTILINE), message
    done = runners.run("sine", "maml", {"train_tasks": 2, "val_tasks": 2, "test_tasks": 2}, log_dir=tmp_path / "sine")
    with pytest.raises(FewShotError, match="was trained for regression of items 1, not for classification of RGB"):
        runners.predict(done.folder, photos / "support", photos / "new")


def test_images_are_read_as_data_prepare_reads_them(tmp_path):
    """Grey, transparent, turned and large ones: one function reads them for both."""
    rng = np.random.default_rng(0)
    for i, mode in enumerate(["L", "RGBA", "P", "I;16", "RGB"] * 2):
        folder = tmp_path / "set" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, (30, 50), dtype=np.uint16))
        else:
            image = Image.fromarray(rng.integers(0, 256, (30, 50, 4), dtype=np.uint8), "RGBA").convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(folder / f"{i}.png", exif=exif)
    from fewshot_env.data.source import PrepareOptions

    options = PrepareOptions(split="test", background="#336699", size=32)
    store = prepare("odd", tmp_path / "set", tmp_path / "stores", options=options)
    files = [tmp_path / "set" / c.name / store.index["files"][i] for c in store.classes
             for i in range(c.start, c.start + c.count)]  # fmt: skip
    parts = read_images(files, 32, (0x33, 0x66, 0x99), {})
    assert np.array_equal(np.concatenate([images for _, images in parts]), store.images)


def test_the_page_groups_by_prediction_and_marks_what_is_unsure(runs, photos):
    strange = photos / "new" / "<b>&amp;.png"
    shutil.copy(next((photos / "new").iterdir()), strange)
    page = photos / "page.html"
    words = ["--support", photos / "support", "--images", photos / "new", "--html", page, "--json"]
    assert main("predict", runs("protonet"), *words, "--quiet") == 0
    text, found = page.read_text(), runners.predict(runs("protonet"), photos / "support", photos / "new")
    assert "<b>&amp;.png" not in text
    assert "&lt;b&gt;&amp;amp;.png" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    for name in found.classes:
        section = text.split(f"<h2>{name}: ")[1].split("<h2>")[0]
        shown = [int(percent) for percent in re.findall(r"<strong>(\d+) %", section)]
        assert shown == sorted(shown, reverse=True)
        assert len(shown) == sum(p.predicted == name for p in found.predictions)
    assert text.count('class="unsure"') == sum(p.unsure for p in found.predictions)
    assert text.count("data:image/jpeg;base64,") == 13 + 6


def test_shell_patterns_and_a_list_on_the_terminal(runs, photos, capsys):
    bees = sorted((photos / "new").glob("bee*.png"))
    assert main("predict", runs("protonet"), "--support", photos / "support", "--images", *bees, "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:4]] == list(map(str, bees))
    assert re.fullmatch(r".*bee_\d+.png: (ant|bee|cat) \(0\.\d\d(, unsure)?\)", lines[0])


def test_a_prediction_is_unsure_where_another_class_is_almost_as_probable():
    from pathlib import Path

    from runners.prediction.predictions import Prediction

    assert Prediction(Path("a"), "x", {"x": 0.5, "y": 0.3, "z": 0.2}).unsure
    assert not Prediction(Path("a"), "x", {"x": 0.5, "y": 0.25, "z": 0.25}).unsure
    assert not Prediction(Path("a"), "x", {"x": 0.9, "y": 0.1}).unsure


def test_a_folder_of_a_run_may_name_a_network_of_ones_own(photos, tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def tiny(shape):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(3), "
        "nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"env.n_way": 3, "train_tasks": 4, "val_tasks": 2, "test_tasks": 2, "agent.network": "my_nets:tiny"}
    done = runners.run("glyphs", "protonet", settings, log_dir=tmp_path / "runs")
    found = runners.predict(done.folder, photos / "support", photos / "new")
    assert len(found.predictions) == 12
    file = tmp_path / "file.safetensors"
    assert main("export", done.folder, file) == 0
    sys.modules.pop("my_nets")
    with pytest.raises(FewShotError, match="names my_nets:tiny, and neither a file nor"):
        runners.predict(file, photos / "support", photos / "new")
    assert "my_nets" not in sys.modules
    again = runners.predict(file, photos / "support", photos / "new", network="my_nets:tiny")
    assert again.predictions == found.predictions


def test_nothing_new_is_left_where_one_of_two_files_cannot_be_written(runs, photos, monkeypatch, capsys):
    from runners.prediction import command

    whole = command.write_text

    def write(file, text):
        if file.suffix == ".html":
            raise PermissionError(13, "Permission denied", str(file))
        whole(file, text)

    monkeypatch.setattr(command, "write_text", write)
    words = ["--support", photos / "support", "--images", photos / "new", "--out", photos / "o.csv", "--html",
             photos / "o.html"]  # fmt: skip
    assert main("predict", runs("maml"), *words) == 2
    assert re.search(r"o\.html cannot be written \(Permission denied\); choose another file", capsys.readouterr().err)
    assert not (photos / "o.csv").exists()


def test_an_image_given_twice_is_answered_once(runs, photos):
    files = sorted((photos / "new").iterdir())
    found = runners.predict(runs("protonet"), photos / "support", [files[3], photos / "new", files[0], photos / "new"])
    assert [p.file for p in found.predictions] == [files[3], *files[:3], *files[4:]]


def test_answers_that_are_not_finite_are_listed(runs, photos, capsys):
    words = ["--support", photos / "support", "--images", photos / "new", "--set", "agent.inner_lr=1e30"]
    assert main("predict", runs("maml"), *words, "--json") == 2
    assert "12 images can be answered" in (said := capsys.readouterr().err)
    assert "its scores are not finite: the adaptation diverged" in said


def test_a_subclass_that_mixes_the_query_is_answered_image_by_image(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "mixes.py").write_text(
        "from agents.protonet import ProtoNet\n"
        "class Mixed(ProtoNet):\n"
        "    def predict(self, adapted, x):\n"
        "        scores = super().predict(adapted, x)\n"
        "        return scores - scores.mean(1, keepdim=True) / 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"env.n_way": 3, "train_tasks": 4, "val_tasks": 2, "test_tasks": 2, "agent.filters": 4}
    run = runners.run("glyphs", "mixes:Mixed", settings, log_dir=tmp_path / "runs").folder
    whole = runners.predict(run, photos / "support", photos / "new")
    (alone,) = runners.predict(run, photos / "support", whole.predictions[4].file).predictions
    assert alone.probabilities == pytest.approx(whole.predictions[4].probabilities, abs=1e-5)
    assert "images are answered one by one, so that no answer depends on the other images" in whole.notes
    assert main("export", run, photos / "a.onnx", "--support", photos / "support") == 2
    assert "Mixed does not say that it answers every image by itself" in capsys.readouterr().err


def test_several_seeds_and_unfinished_runs_are_explained(photos, tmp_path, capsys):
    words = [
        "--env",
        "glyphs",
        "--n-way",
        "3",
        "--agent",
        "protonet",
        "--tasks",
        "2",
        "--seeds",
        "2",
        "--quiet",
        "--set",
    ]
    tiny = ["val_tasks=2", "--set", "test_tasks=2", "--set", "agent.filters=4", "--log-dir", tmp_path / "runs"]
    assert main("run", *words, *tiny) == 0
    (group,) = (tmp_path / "runs").iterdir()
    images = ["--support", photos / "support", "--images", photos / "new"]
    capsys.readouterr()
    assert main("predict", group, *images) == 2
    assert "holds 2 runs; name one of them, for example" in capsys.readouterr().err
    (group / "seed0" / "best.pt").unlink()
    assert main("predict", group / "seed0", *images) == 2
    assert "has no weights yet; finish it with: fsl run --resume" in capsys.readouterr().err
