"""fsl export: the trained agent as one file, and classifiers for other programs that answer as fsl predict does."""

import json
import re
import sys

import numpy as np
import pytest
import torch

import agents
import runners
from fewshot_env.data.pixels import decode
from fewshot_env.errors import FewShotError
from tests.helpers.cli import main, result_of
from tests.helpers.photos import AGENTS


def inputs(predictions, size):
    images = np.stack([decode(p.file, size=size).rgb for p in predictions])
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 255


@pytest.mark.parametrize("agent", [name for name in AGENTS if name != "transductive-finetuning"])
def test_onnx_and_torch_export_answer_as_predict_does(agent, runs, photos, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    run = runs(agent)
    found = runners.predict(run, photos / "support", photos / "new")
    expected = np.array([[*p.probabilities.values()] for p in found.predictions])
    x = inputs(found.predictions, 28)
    for ending in ("onnx", "pt2"):
        file = photos / f"classifier.{ending}"
        capsys.readouterr()
        assert main("export", run, file, "--support", photos / "support", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["classes"] == ["ant", "bee", "cat"]
        assert said["size"] == 28
        if ending == "onnx":
            session = onnxruntime.InferenceSession(file)

            def answer(images, session=session):
                return session.run(["probabilities"], {"images": images})[0]
        else:
            module = torch.export.load(file).module()

            def answer(images, module=module):
                return module(torch.from_numpy(images)).detach().numpy()

        for part in (slice(0, 1), slice(3, 6), slice(None)):  # any number of images
            np.testing.assert_allclose(answer(x[part]), expected[part], rtol=0, atol=1e-5)
        assert [f.name for f in photos.glob(".*")] == []


def test_what_answers_all_images_together_is_no_classifier_of_single_ones(runs, photos, capsys):
    run = runs("transductive-finetuning")
    assert main("export", run, photos / "classifier.onnx", "--support", photos / "support") == 2
    assert "does not say that it answers every image by itself" in capsys.readouterr().err
    assert [f.name for f in photos.glob("*.onnx")] == []


@pytest.mark.parametrize(
    "agent", ["maml", "turtle", "protonet", "simpleshot", "baseline++", "leo", "transductive-finetuning"]
)
def test_an_exported_agent_predicts_and_is_tested_as_its_run(agent, runs, photos, capsys):
    run, file = runs(agent), photos / "agent.safetensors"
    assert main("export", run, file) == 0
    whole, again = (runners.predict(source, photos / "support", photos / "new") for source in (run, file))
    assert whole == again
    assert runners.evaluate(file)["scores"] == runners.evaluate(run)["scores"] == result_of(run)["scores"]
    loaded = agents.load(file)
    state = agents.load(run / "best.pt").state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    capsys.readouterr()
    assert main("eval", file, "--env", "textures", "--tasks", "4", "--device", "cpu", "--quiet") == 0
    assert "test on glyphs->textures: accuracy" in capsys.readouterr().out


def test_the_header_says_what_it_is_in_plain_words(runs, photos):
    from safetensors import safe_open

    run, file = runs("maml"), photos / "agent.safetensors"
    assert main("export", run, file, "--quiet") == 0
    with safe_open(file, "pt") as content:
        header = content.metadata()
    trained, about = json.loads(header["trained"]), json.loads(header["about"])
    assert trained["agent"] == "maml"
    assert trained["spec"]["in_shape"] == [3, 28, 28]
    assert about["settings"]["env"] == "glyphs"
    assert about["result"]["mean"] == result_of(run)["mean"]
    assert about["run"] == run.name


def test_settings_may_change(runs, photos):
    file = photos / "long.safetensors"
    assert main("export", runs("maml"), file, "--set", "agent.eval_steps=7", "--quiet") == 0
    assert agents.load(file).config.eval_steps == 7


def test_a_file_never_imports_code(runs, photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "evil.py").write_text("from agents.maml import MAML\nclass Mine(MAML):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"env.n_way": 3, "train_tasks": 4, "val_tasks": 2, "test_tasks": 2, "agent.filters": 4}
    done = runners.run("glyphs", "evil:Mine", settings, log_dir=tmp_path / "runs")
    file = tmp_path / "mine.safetensors"
    assert main("export", done.folder, file) == 0
    sys.modules.pop("evil")
    images = ["--support", photos / "support", "--images", photos / "new"]
    for words in (["predict", file, *images], ["eval", file], ["predict", done.folder, *images], ["eval", done.folder],
                  ["export", done.folder, tmp_path / "x.safetensors"]):  # fmt: skip
        capsys.readouterr()
        assert main(*words) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(
            r"fsl: .* names evil:Mine, and neither a file nor .*allow it by name: --agent evil:Mine\n", said
        )
        assert "evil" not in sys.modules
    assert main("report", done.folder) == 0
    assert "evil" not in sys.modules
    assert "allow it by name: --agent evil:Mine" in (done.folder / "report.html").read_text()
    with pytest.raises(FewShotError, match="neither a file nor the folder of a run imports code"):
        runners.load(done.folder)
    assert main("predict", file, *images, "--agent", "evil:Mine") == 0
    assert main("report", done.folder, "--agent", "evil:Mine") == 0
    assert "imports code by itself" not in (done.folder / "report.html").read_text()
    assert type(runners.load(done.folder)).__name__ == "Mine"  # it is imported now
    assert main("eval", file, "--agent", "evil:Mine") == 0


def test_damaged_and_foreign_files_are_refused_in_one_line(runs, photos, capsys):
    from safetensors.torch import save_file

    file = photos / "agent.safetensors"
    assert main("export", runs("maml"), file, "--quiet") == 0
    whole = file.read_bytes()
    images = ["--support", photos / "support", "--images", photos / "new"]
    (photos / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (photos / "other.safetensors").write_bytes(b"\x00" * 100)
    save_file({"conv.weight": torch.zeros(2)}, photos / "weights.safetensors")
    capsys.readouterr()
    for name, message in (
        ("cut", "is damaged"),
        ("other", "is damaged"),
        ("weights", "holds weights, but not of an agent that fsl export wrote"),
        ("none", "there is no"),
    ):
        assert main("predict", photos / f"{name}.safetensors", *images) == 2
        assert re.fullmatch(f"fsl: .*{message}.*\n", capsys.readouterr().err)


def test_bad_exports_are_refused_and_leave_nothing(runs, photos, capsys):
    run, support = runs("maml"), photos / "support"
    for words, message in (
        ([photos / "a.bin"], "ends in '.bin', but must end in .safetensors"),
        ([photos / "a.onnx"], "is a classifier of given classes: name their images with --support"),
        ([photos / "a.safetensors", "--support", support], "adapts to any support; leave out --support"),
        ([photos / "no" / "a.onnx", "--support", support], "there is no folder"),
    ):
        before = sorted(photos.rglob("*"))
        assert main("export", run, *words) == 2
        assert re.fullmatch(f"fsl: .*{message}.*\n", capsys.readouterr().err)
        assert sorted(photos.rglob("*")) == before


def test_a_state_that_is_more_than_tensors_needs_another_format(tmp_path):
    from agents.maml import MAML
    from fewshot_env.sine import SineSampler

    class More(MAML):
        def state(self):
            return {**super().state(), "more": 1}

    agent = agents.make(More, SineSampler().spec)
    with pytest.raises(FewShotError, match="more than named tensors"):
        agents.save(agent, tmp_path / "a.safetensors")
    agents.save(agent, tmp_path / "a.pt")
    assert not (tmp_path / "a.safetensors").exists()


def test_agents_save_writes_such_files_too(tmp_path):
    from fewshot_env.sine import SineSampler

    agent = agents.make("maml", SineSampler().spec, inner_steps=3)
    agents.save(agent, tmp_path / "a.safetensors")
    loaded = agents.load(tmp_path / "a.safetensors")
    assert loaded.config == agent.config
    assert torch.equal(loaded.initialization, agent.initialization)


def test_changed_settings_are_those_that_are_tested(runs, photos, capsys):
    run, file = runs("maml"), photos / "none.safetensors"
    assert main("export", run, file, "--set", "agent.eval_steps=0", "--quiet") == 0
    assert runners.evaluate(file)["scores"] == runners.evaluate(run, settings={"agent.eval_steps": 0})["scores"]
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        assert json.loads(content.metadata()["about"])["result"] is None


def test_a_checkpoint_without_its_run_can_be_exported(runs, photos):
    import shutil

    shutil.copy(runs("maml") / "best.pt", photos / "alone.pt")
    assert main("export", photos / "alone.pt", photos / "alone.safetensors", "--quiet") == 0
    found = runners.predict(photos / "alone.safetensors", photos / "support", photos / "new")
    assert found.predictions == runners.predict(runs("maml"), photos / "support", photos / "new").predictions


@pytest.mark.parametrize("header", [
    {"trained": {}}, {"trained": []}, {"about": "text"}, {"about": {"settings": [1]}},
    {"trained": {"agent": "maml", "settings": {}, "spec": {"odd": 1}, "spec_class": None}},
])  # fmt: skip
def test_headers_that_fsl_did_not_write_are_refused_in_one_line(header, photos, capsys):
    from safetensors.torch import save_file

    plain = {"format": "fewshot-agent", "version": "1", "trained": "{}", "about": "{}"}
    file = photos / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, file, plain | {k: json.dumps(v) for k, v in header.items()})
    images = ["--support", photos / "support", "--images", photos / "new"]
    for words in (["predict", file, *images], ["eval", file, "--env", "glyphs"]):
        assert main(*words) == 2
        assert re.fullmatch(r"fsl: .*(damaged|does not say).*\n", capsys.readouterr().err)
