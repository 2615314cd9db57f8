"""Bad input: one clear line, exit code 2, nothing left behind."""

import json
import os
import subprocess
import sys
import threading

import pytest
import torch

import runners
from fewshot_env.errors import FewShotError
from tests.helpers.cli import IMAGES, ROOT, TINY, main, only_run, sets
from tests.helpers.images import write_mini

SINE = ["--env", "sine", "--agent", "maml"]


def refused(capsys, message, *words, left=None):
    assert main(*words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("fsl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    if left is not None:
        assert not left.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "minni", "--agent", "maml"], "unknown environment 'minni' (did you mean 'mini'?)"),
        (["--env", "sine", "--agent", "mamll"], "unknown agent 'mamll' (did you mean 'maml'?)"),
        (["--env", "sine"], "--agent is missing"),
        (["--agent", "maml"], "--env is missing"),
        (["--env", "sine->", "--agent", "maml"], "must be NAME or 'SOURCE->TARGET'"),
        ([*SINE, *sets("agent.inner_lrr=1")], "unknown setting 'agent.inner_lrr' (did you mean 'agent.inner_lr'?)"),
        ([*SINE, *sets("agent.inner_lr=fast")], "agent.inner_lr is 'fast', but: it must be a number above 0"),
        ([*SINE, *sets("agent.inner_lr=-1")], "setting agent.inner_lr is -1, but: it must be a number above 0"),
        ([*SINE, *sets("env.n_way=3")], "unknown setting 'env.n_way'"),
        ([*SINE, *sets("env.split=test")], "unknown setting 'env.split'"),
        ([*SINE, *sets("sed=3")], "unknown setting 'sed' (did you mean 'seed'?)"),
        ([*SINE, *sets("inner_lr=3")], "unknown setting 'inner_lr' (did you mean 'agent.inner_lr'?)"),
        ([*SINE, *sets("n_shots=3")], "unknown setting 'n_shots' (did you mean 'env.n_shot'?)"),
        ([*SINE, *sets("agnet.inner_lr=3")], "(did you mean 'agent.inner_lr'?); it must begin with 'env.' or 'agent.'"),
        ([*SINE, *sets("agent.n_shot=3")], "unknown setting 'agent.n_shot' (did you mean 'env.n_shot'?)"),
        ([*SINE, *sets("env.trian_tasks=3")], "unknown setting 'env.trian_tasks' (did you mean 'train_tasks'?)"),
        ([*SINE, *sets("zzz=3")], "unknown setting 'zzz'; known: env, agent, seed"),
        ([*SINE, *sets("on_nan=skp")], "on_nan is 'skp', but: it must be one of 'skip', 'stop' (did you mean 'skip'?)"),
        ([*SINE, *sets("loggers=wandb")], "setting loggers is 'wandb', but: it must be a list of values, each text"),
        ([*SINE, *sets("loggers=[3]")], "setting loggers.0 is 3, but: it must be text"),
        ([*SINE, *sets("train_tasks=1e99")], "train_tasks is '1e99', but: it must be a whole number from 0 to"),
        ([*SINE, *sets("agent.first_order=perhaps")], "first_order is 'perhaps', but: it must be true or false"),
        ([*SINE, *sets("env=[3]")], "--env is [3], but must be a name"),
        ([*SINE, "--precision", "fp61"], "--precision: setting agent.precision is 'fp61', but: it must be one of"),
        ([*SINE, "--logger", "tensorbord"], "unknown logger 'tensorbord' (did you mean 'tensorboard'?)"),
        ([*SINE, "--preset", "quik"], "must be paper or quick (did you mean 'quick'?)"),
        ([*SINE, *sets("agent.inner_lr")], "must be KEY=VALUE"),
        ([*SINE, *sets("agent.inner_lr=[1")], "not valid YAML"),
        ([*SINE, *sets("seed=-1")], "setting seed is -1"),
        ([*SINE, "--preset", "fast"], "must be paper or quick"),
        ([*SINE, "--device", "cuda:9"], "device 'cuda:9' cannot be used"),
        ([*SINE, "--device", "toaster"], "device 'toaster' cannot be used"),
        ([*SINE, "--config", "/no/such/file"], "--config /no/such/file cannot be read"),
        (["--env", "sine", "--agent", "no_module:Agent"], "cannot be imported"),
        (["--env", "sine", "--agent", "json:loads"], "is not an agent"),
        (["--env", "sine", "--agent", ":X"], "the agent ':X' is named ':X', but must be module:Name"),
        (["--env", "sine", "--agent", ".a:X"], "cannot be imported"),
        (["--env", ":FewShot/Sine-v0", "--agent", "maml"], "must be NAME or"),
        ([*SINE, *sets("agent.hidden=[-1]")], "setting agent.hidden.0 is -1"),
        ([*SINE, "--device", "meta"], "device 'meta' cannot be used"),
        ([*SINE, *sets("agent.minibatch=16")], "unknown setting 'agent.minibatch'"),
        (["--env", "sine", "--agent", "agents.base:Agent"], "cannot be built with these settings"),
        (["--resume", "/no/such/run"], "there is no /no/such/run; name one of a run"),
        (["--resume", "/"], "/ is not the folder of a run"),
        ([*SINE, "--n-way", "3"], "--n-way: unknown setting 'env.n_way'; known: env.n_shot"),
        ([*SINE, "--n-shot", "5", *sets("env.n_shot=0")], "fsl: setting env.n_shot is 0"),
        ([*SINE, "--n-query", "0"], "--n-query: setting env.n_query is 0, but"),
        ([*SINE, "--device", "gpu"], "fsl: device 'gpu' cannot be used"),
    ],
)  # fmt: skip
def test_wrong_words(words, message, tmp_path, capsys):
    left = None if "--resume" in words else tmp_path / "runs"
    more = [] if left is None else ["--log-dir", left]
    refused(capsys, message, "run", *words, *more, left=left)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["bench", "--set", "inner_lr=1"],
            "inner_lr is not a setting of an agent (did you mean 'agent.inner_lr'?)",
        ),
        (["bench", "--set", "agent.inner_lrr=1"], "unknown setting 'agent.inner_lrr' (did you mean 'agent.inner_lr'?)"),
        (["bench", "--agent", "mamll"], "unknown agent 'mamll' (did you mean 'maml'?)"),
        (["bench", "--workload", "sinee"], "unknown workload 'sinee' (did you mean 'sine'?)"),
        (["bench", "--seconds", "long"], "--seconds is 'long', but: it must be a number; see fsl bench --help"),
        (["reproduce", "fig44"], "cannot reproduce 'fig44' (did you mean 'fig4'?)"),
        (["reproduce", "fig4", "--scale", "qick"], "must be quick or full (did you mean 'quick'?)"),
        (["reproduce", "fig4", "--executor", "locl"], "must be here, local or slurm (did you mean 'local'?)"),
        (["reproduce", "fig4", "--seeds", "0"], "--seeds is '0', but: it must be a whole number of at least 1"),
        (["show", "turtl"], "(did you mean 'turtle'?)"),
        (["show", "resnet"], "'resnet' is no agent and no environment; see fsl list"),
    ],
)
def test_wrong_words_of_other_commands(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, message, *words)
    assert list(tmp_path.iterdir()) == []


def test_wrong_keys_in_a_file_and_for_a_test(tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("env: sine\nagent: maml\ntrian_tasks: 3\n")
    refused(
        capsys, "unknown setting 'trian_tasks' (did you mean 'train_tasks'?)", "run", "--config",
        tmp_path / "settings.yaml", "--log-dir", tmp_path / "runs", left=tmp_path / "runs",
    )  # fmt: skip
    assert main("run", *SINE, "--log-dir", tmp_path / "runs", *sets(*TINY, "loggers=[]")) == 0
    run = only_run(tmp_path / "runs")
    capsys.readouterr()
    refused(capsys, "unknown setting 'inner_lr' (did you mean 'agent.inner_lr'?)", "eval", run, *sets("inner_lr=1"))
    refused(capsys, "agent.eval_steps is 'x', but: it must be a whole number", "eval", run, *sets("agent.eval_steps=x"))
    refused(capsys, "--tasks is 'x', but: it must be a whole number; see fsl eval", "eval", run, "--tasks", "x")


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        ({"trian_tasks": 3}, {}, r"^unknown setting 'trian_tasks' \(did you mean 'train_tasks'\?\); known: "),
        ({"agent.inner_lr": []}, {}, r"^setting agent.inner_lr is \[\], but: it must be a number above 0$"),
        ({3: 3}, {}, r"^unknown setting '3'; known: "),
        ({}, {"preset": "quik"}, r"^the preset is 'quik', but must be paper or quick \(did you mean 'quick'\?\)$"),
        ({}, {"preset": None}, r"^the preset is None, but must be paper or quick$"),
    ],
)
def test_wrong_settings_from_python(settings, more, message, tmp_path):
    with pytest.raises(FewShotError, match=message):
        runners.run("sine", "maml", settings, log_dir=tmp_path / "runs", **more)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("env", "pairs", "message"),
    [
        ("mini", ["env.n_way=9"], "the train split of mini has 8 classes, but n_way is 9"),
        ("mini", ["env.n_way=7"], "the val split of mini has 6 classes, but n_way is 7"),
        ("mini->cub", ["env.n_query=7"], "cub has 7 images, but n_shot + n_query needs 1 + 7 = 8"),
        ("mini", ["env.n_shot=5", "env.n_query=4"], "has 8 images, but n_shot + n_query needs 5 + 4 = 9"),
        ("mini->sine", [], "mini->sine pairs different spaces"),
        ("sine->mini", ["env.n_query=2"], "sine->mini pairs different spaces"),
        ("mini", ["env.n_way=1"], "setting env.n_way is 1"),
    ],
)
def test_tasks_that_the_data_do_not_hold(env, pairs, message, tmp_path, data_dir, capsys):
    base = [] if env.startswith("sine") else [*IMAGES]
    words = ["run", "--env", env, "--agent", "maml", "--log-dir", tmp_path / "runs", *sets(*base, *pairs)]
    words += [] if env.startswith("sine") else ["--data-dir", data_dir]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSL_HOME", str(data_dir.parent / "as-home"))
        (data_dir.parent / "as-home").mkdir(exist_ok=True)
        if not (data_dir.parent / "as-home" / "data").exists():
            (data_dir.parent / "as-home" / "data").symlink_to(data_dir)
        refused(capsys, message, *words, left=tmp_path / "runs")


def test_missing_data_says_how_to_get_it(tmp_path, capsys):
    words = [
        "run",
        "--env",
        "mini->cub",
        "--agent",
        "turtle",
        "--data-dir",
        tmp_path / "none",
        "--log-dir",
        tmp_path / "runs",
    ]
    message = "miniImageNet is not prepared in " + str(tmp_path / "none" / "mini")
    refused(capsys, message, *words, left=tmp_path / "runs")
    main(*words)
    assert "fsl data prepare mini --source PATH" in capsys.readouterr().err


def test_a_broken_image_file(tmp_path, capsys):
    source = write_mini(tmp_path / "mini", n_images=1)
    next((source / "images").iterdir()).write_bytes(b"\xff\xd8\xff\xe0broken")
    words = ["data", "prepare", "mini", "--source", source, "--data-dir", tmp_path / "stores"]
    assert main(*words) == 2
    err = capsys.readouterr().err
    assert "is not a readable image" in err
    assert [p.name for p in (tmp_path / "stores").iterdir()] == [".mini.lock"]


def test_unwritable_log_directory(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    refused(capsys, "cannot be written", "run", *SINE, "--log-dir", tmp_path / "file" / "runs")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None, "other"])
def test_corrupt_and_foreign_checkpoints(content, tmp_path, capsys):
    main("run", *SINE, "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    (run / "result.json").unlink()
    whole = (run / "last.pt").read_bytes()
    for name in ("last.pt", "best.pt"):
        if content == "other":
            torch.save({"weights": torch.zeros(3)}, run / name)
        else:
            (run / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    capsys.readouterr()
    before = sorted(p.name for p in run.iterdir())
    for words in (["run", "--resume", run], ["eval", run]):
        assert main(*words) == 2
        err = capsys.readouterr().err
        assert "checkpoint" in err
        assert err.count("\n") == 1
    assert sorted(p.name for p in run.iterdir()) == before


def test_a_checkpoint_of_another_agent(tmp_path, capsys):
    for agent in ("maml", "turtle"):
        main("run", "--env", "sine", "--agent", agent, "--log-dir", tmp_path / agent, *sets(*TINY))
    maml, turtle = only_run(tmp_path / "maml"), only_run(tmp_path / "turtle")
    (turtle / "result.json").unlink()
    whole = (turtle / "best.pt").read_bytes()
    (turtle / "last.pt").write_bytes((maml / "last.pt").read_bytes())
    (turtle / "best.pt").write_bytes((maml / "best.pt").read_bytes())
    capsys.readouterr()
    assert main("run", "--resume", turtle) == 2
    assert "was trained with agent=maml, but config.json there says turtle" in capsys.readouterr().err
    assert main("eval", turtle) == 2
    assert "do not fit" in capsys.readouterr().err
    (maml / "result.json").unlink()
    (maml / "best.pt").write_bytes(whole)
    assert main("run", "--resume", maml) == 2
    assert "belongs to another agent" in capsys.readouterr().err


def test_what_a_test_cannot_change(tmp_path, capsys):
    main("run", *SINE, "--log-dir", tmp_path, *sets(*TINY))
    run = only_run(tmp_path)
    for words, message in (
        (["--env", "sine->glyphs"], "a test has one environment"),
        (["--env", "sine:glyphs"], "a test has one environment"),
        (["--set", "agent=turtle"], "not the agent"),
        (["--set", "agent.hidden=[3]"], "do not fit what was changed (agent.hidden)"),
    ):
        assert main("eval", run, *words) == 2
        assert message in capsys.readouterr().err


def test_running_statistics_that_were_never_gathered(tmp_path, capsys):
    main("run", *SINE, "--log-dir", tmp_path, *sets(*TINY))
    assert main("eval", only_run(tmp_path), "--set", "agent.bn=running") == 2
    assert "did not gather" in capsys.readouterr().err


FAILS = """
import torch
from pydantic import field_validator
from agents.maml import MAML
from fewshot_env import EnvEntry, register
from fewshot_env.sine import SineSampler

class Adapts(MAML):
    def adapt(self, support):
        raise KeyError("an adaptation of my own")

class Shapes(MAML):
    def predict(self, adapted, query_x):
        return torch.zeros(3)

class Says(MAML):
    def meta_gradient(self, adapted, predictions, query_y):
        return None

class Samples(SineSampler):
    def sample(self, task_seeds):
        if self.config.split == "val":
            raise IndexError("a sampler of my own")
        return super().sample(task_seeds)

class First(SineSampler):
    def sample(self, task_seeds):
        raise IndexError("a sampler of my own")

class Built(SineSampler):
    def __init__(self, **settings):
        raise KeyError("a sampler of my own")

class Tests(SineSampler):
    def __init__(self, **settings):
        if settings.get("split") == "test":
            raise KeyError("a sampler of my own")
        super().__init__(**settings)

class Made(MAML):
    def __init__(self, spec, config):
        raise AttributeError("an agent of my own")

class OwnConfig(MAML.Config):
    @classmethod
    def paper(cls, spec, n_shot):
        raise KeyError("settings of my own")

class Paper(MAML):
    Config = OwnConfig

class RefusingConfig(MAML.Config):
    @field_validator("inner_lr")
    @classmethod
    def refuse(cls, value):
        raise KeyError("a validator of my own")

class Refuses(MAML):
    Config = RefusingConfig

if __name__ == "failing_samples":
    register(EnvEntry("samples", "FewShot/Samples-v0", "failing_samples:Samples", "fails"))
"""


@pytest.mark.parametrize("kind", ["Adapts", "Shapes", "Says", "Samples"])
def test_custom_code_that_fails_is_reported_in_one_line(kind, tmp_path, monkeypatch, capsys):
    module = f"failing_{kind.lower()}"  # modules are imported once
    (tmp_path / f"{module}.py").write_text(FAILS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    env, agent = (f"{module}:FewShot/Samples-v0", "maml") if kind == "Samples" else ("sine", f"{module}:{kind}")
    words = ["run", "--env", env, "--agent", agent, "--log-dir", tmp_path / "runs", *sets(*TINY)]
    assert main(*words) == 2
    err = capsys.readouterr().err
    (told,) = [line for line in err.splitlines() if line.startswith("fsl: ")]
    assert "Traceback" not in err
    assert f"{agent} on " in told
    if kind == "Says":  # after the first checkpoint
        assert f"; mend that, then continue with: fsl run --resume {only_run(tmp_path / 'runs')}" in told
    else:
        assert told.endswith("; mend that, and start the run again")
        assert list((tmp_path / "runs").iterdir()) == []
    if kind in ("Adapts", "Samples"):
        assert "of my own" in told
        assert f"({module}.py, line " in told
    assert main(*words, "--verbose") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_sampler_that_fails_at_once_is_reported_before_a_folder_is_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "failing_first.py").write_text(FAILS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["--env", "failing_first:First", "--agent", "maml", "--log-dir", tmp_path / "runs"]
    assert main("run", *words) == 2
    assert capsys.readouterr().err == (
        "fsl: the environment 'failing_first:First' fails at its first task: IndexError: a sampler of my own "
        "(failing_first.py, line 28)\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("env", "agent", "message"),
    [
        ("Built", "maml", "the sampler Built cannot be built: KeyError: 'a sampler of my own' ("),
        ("Tests", "maml", "the sampler Tests cannot be built: KeyError: 'a sampler of my own' ("),
        ("sine", "Made", "cannot be built with these settings (AttributeError: an agent of my own ("),
        ("sine", "Paper", "Paper.Config.paper fails: KeyError: 'settings of my own' ("),
        ("sine", "Refuses", "the settings of RefusingConfig cannot be checked: KeyError: 'a validator of my own' ("),
    ],
)
def test_own_classes_that_fail_before_a_run(env, agent, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "failing_early.py").write_text(FAILS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    env, agent = (name if name.islower() else f"failing_early:{name}" for name in (env, agent))
    words = ["run", "--env", env, "--agent", agent, "--log-dir", tmp_path / "runs", *sets("agent.inner_lr=0.1")]
    refused(capsys, message, *words, left=tmp_path / "runs")


def test_looking_at_a_folder_runs_no_code_that_it_names(tmp_path, monkeypatch, capsys):
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('OWNED').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    settings = {"env": "sine", "agent": "evil:X", "seed": 0, "train_tasks": 1}
    (run / "config.json").write_text(json.dumps({"settings": settings}))
    (run / "result.json").write_text(json.dumps({"env": "sine"}))
    torch.save({"settings": settings}, run / "x.pt")
    for words, code in (
        (["runs", run.parent], 0),
        (["replay", run / "x.pt"], 2),
        (["compare", run, run], 2),
        (["reproduce", "fig4", "--report-only", "--out", run.parent], 0),
    ):
        assert main(*words) == code, words
        assert not (tmp_path / "OWNED").exists(), words


@pytest.mark.slow
def test_what_a_terminal_cannot_show_is_written_with_backslashes(tmp_path):
    main("run", "--env", "sine", "--agent", "maml", "--log-dir", tmp_path, *sets(*TINY))
    done = subprocess.run(
        [sys.executable, "-m", "runners", "runs", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\xb1" in done.stdout  # plus or minus


def test_a_checkpoint_never_runs_code(tmp_path, capsys):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    main("run", *SINE, "--log-dir", tmp_path / "runs", *sets(*TINY))
    run = only_run(tmp_path / "runs")
    (run / "best.pt").write_bytes(pickle.dumps(Evil()))
    assert main("eval", run) == 2
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("size", [10**9 + 1, 10**23])
@pytest.mark.parametrize(
    "key",
    ["train_tasks", "val_every", "val_tasks", "test_tasks", "eval_batch", "log_every", "threads", "env.n_query",
     "env.n_shot", "agent.inner_steps", "agent.eval_steps", "agent.meta_batch", "agent.at_once"],
)  # fmt: skip
def test_counts_beyond_any_machine(key, size, tmp_path, capsys):
    words = ["run", *SINE, *sets(f"{key}={size}"), "--log-dir", tmp_path / "runs"]
    refused(capsys, f"setting {key} is {size}, but", *words, left=tmp_path / "runs")


def test_too_many_seeds(tmp_path, capsys):
    refused(capsys, "it must be a whole number of at most 10000", "run", *SINE, "--seeds", 10**9)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1 TiB"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nmore lines"),
    ],
)
def test_memory_that_does_not_suffice(error, tmp_path, capsys, monkeypatch):
    from runners.training import trainer as train

    def step(*_, **__):
        raise error

    monkeypatch.setattr(train, "outer_step", step)
    assert main("run", *SINE, *sets(*TINY, "loggers=[]"), "--log-dir", tmp_path) == 2
    (_, line) = capsys.readouterr().err.splitlines()
    assert line.startswith("fsl: out of memory (")
    assert line.endswith("); use a smaller eval_batch, env.n_query, agent.meta_batch or network")


def test_settings_from_what_is_no_file_of_settings(tmp_path, capsys):
    for place in ("/dev/zero", tmp_path):
        refused(capsys, f"--config {place} cannot be read (it is a folder or a device", "run", "--config", place)
    (tmp_path / "long").write_text("#" * 100_000)
    refused(capsys, "cannot be read (it is longer than 65536 bytes)", "run", "--config", tmp_path / "long")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=["env: sine\nagent: mamll\n"])
    writer.start()
    refused(capsys, "unknown agent 'mamll'", "run", "--config", tmp_path / "pipe")  # the shell's <(...)
    writer.join()
