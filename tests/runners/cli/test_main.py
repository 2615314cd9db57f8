"""What the command line says: usage errors, help, JSON, quiet and verbose, completion, a foreign `agents` package."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.helpers.cli import MAML, ROOT, TINY, fsl, main, only_run, result_of, sets


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --envv sine", "fsl run has no option --envv (did you mean '--env'?); fsl run --help lists them"),
        ("run --n-query x", "--n-query is 'x', but: it must be a whole number; see fsl run --help"),
        ("run --n-query=x", "--n-query is 'x', but: it must be a whole number; see fsl run --help"),
        ("run --seeds 0", "--seeds is '0', but: it must be a whole number of at least 1; see fsl run --help"),
        ("run --env", "option '--env' requires an argument; see fsl run --help"),
        ("rum", "fsl has no command 'rum' (did you mean 'run'?); fsl --help lists them"),
        ("data prep", "fsl data has no command 'prep' (did you mean 'prepare'?); fsl data --help lists them"),
        ("list more", "fsl list takes no argument 'more'; see fsl list --help"),
        ("eval", "missing argument 'RUN'; see fsl eval --help"),
        ("show turtl", "'turtl' is no agent and no environment (did you mean 'turtle'?); see fsl list"),
        ("show resnet", "'resnet' is no agent and no environment; see fsl list"),
        ("run --quiet --verbose", "--quiet and --verbose contradict each other; give one of them"),
        ("runs /no/such", "there is no folder /no/such"),
    ],
)
def test_wrong_command_lines(line, message, capsys):
    assert main(*line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"fsl: {message}")


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("words", [[], ["run"], ["eval"], ["bench"], ["show"], ["data", "prepare"]])
def test_help_fits_and_needs_no_colour(words, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(*words, "--help") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert "\x1b" not in out
    assert "…" not in out


def test_help_names_the_defaults_that_runs_have(capsys, monkeypatch):
    from runners.config.plan import make_plan

    monkeypatch.setenv("COLUMNS", "1000")
    main("run", "--help")
    told = capsys.readouterr().out
    assert re.findall(r"─ ([A-Z]\w+) ─", told) == [
        "Options", "Tasks", "Training", "Machine", "Settings", "Folders", "Output",
    ]  # fmt: skip

    def plan(env, agent, **more):
        found = make_plan({"env": env, "agent": agent, **more}).settings
        return {key: found[key] for key in ("env.n_shot", "env.n_query", "train_tasks", "agent.meta_batch", "seed")}

    image = {"env.n_way": 5}
    sine, glyphs = plan("sine", "maml"), plan("glyphs", "maml", **image)
    shots = plan("glyphs", "maml", **{"env.n_shot": 5})
    assert f"default sine {sine['env.n_shot']} (Sect. 5.2), images {glyphs['env.n_shot']} " in told
    assert f"default sine {sine['env.n_query']}, images {glyphs['env.n_query']} " in told
    tasks = [each["train_tasks"] for each in (sine, glyphs, shots)]
    assert "default sine {} (Sect. 5.2), images {}, or {} from 5 shots on".format(*tasks) in told
    batches = [each["agent.meta_batch"] for each in (plan("sine", "turtle"), glyphs, shots, sine)]
    assert "default turtle {}, maml on images {}, with 5 shots {}, else {} (Appendix)".format(*batches) in told


def test_json_is_alone_on_stdout(tmp_path, capsys):
    assert main(*MAML, "--log-dir", tmp_path, "--json", *sets(*TINY)) == 0
    out, err = capsys.readouterr()
    run = only_run(tmp_path)
    assert json.loads(out) == result_of(run) | {"folder": str(run)}
    assert "maml on sine, 24 tasks, seed 0" in err
    assert main("eval", run, "--json", "--tasks", 5) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["tasks"], len(again["scores"])) == (5, 5)
    assert json.loads((tmp_path / again["file"]).read_text())["mean"] == again["mean"]
    assert main("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"name": "sine", "id": "FewShot/Sine-v0", "ready": True}.items() <= found["environments"][0].items()
    assert [a["name"] for a in found["agents"]][:2] == ["turtle", "fo-turtle"]
    assert main("show", "lstm-enhanced", "--json") == 0
    settings = {s["key"]: s.get("default") for s in json.loads(capsys.readouterr().out)["settings"]}
    assert (settings["agent.inner_steps"], settings["agent.first_order"]) == (8, False)


def test_what_an_agent_prints_does_not_spoil_the_json(tmp_path, monkeypatch, capsys):
    source = "from agents.chance import Chance\nclass Loud(Chance):\n    def adapt(self, s):\n"
    (tmp_path / "loud_agent.py").write_text(source + "        print('hello')\n        return super().adapt(s)\n")
    monkeypatch.chdir(tmp_path)
    assert main("run", "--env", "sine", "--agent", "loud_agent:Loud", "--json", *sets(*TINY)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["agent"] == "loud_agent:Loud"
    assert "hello" in err


def test_seeds_as_json_and_bests_of_different_ages(tmp_path, capsys):
    assert main(*MAML, "--log-dir", tmp_path, "--seeds", 3, "--json", *sets(*TINY)) == 0
    found = json.loads(capsys.readouterr().out)
    means = [r["mean"] for r in found["runs"]]
    assert len({r["best_at_tasks"] for r in found["runs"]}) > 1  # else this shows nothing
    assert found["mean"] == pytest.approx(sum(means) / 3)
    assert (found["lowest"], found["highest"], found["seeds"]) == (min(means), max(means), 3)


def test_quiet_and_verbose(tmp_path, capsys):
    assert main(*MAML, "--log-dir", tmp_path / "a", "--quiet", *sets(*TINY)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("test on sine: mse")
    assert (out.count("\n"), err) == (1, "")
    assert main(*MAML, "--log-dir", tmp_path / "b", "--verbose", *sets(*TINY)) == 0
    err = capsys.readouterr().err
    rows = [json.loads(line) for line in (only_run(tmp_path / "b") / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert [float(x) for x in re.findall(r"train/loss ([\d.]+)", err)] == pytest.approx(losses, rel=1e-3)
    assert "  agent.inner_lr = 0.01\n" in err
    assert main(*MAML, "--verbose", "--device", "toaster") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_tell_one_result(tmp_path):
    done = fsl(*MAML, "--meta-batch", 2, "--processes", 2, "--quiet", "--json", "--log-dir", tmp_path, *sets(*TINY))
    assert json.loads(done.stdout)["folder"] == str(only_run(tmp_path))
    assert done.stderr == ""


def completion(shell, words):
    """A script that asks the shell what it offers for the last word of a command line."""
    if shell == "fish":
        return f"fsl --show-completion fish | source; complete -C {shlex.quote('fsl ' + words)}"
    parts = ["fsl", *words.split(" ")]
    return "; ".join([
        'eval "$(fsl --show-completion bash)"',
        f"COMP_WORDS=({shlex.join(parts)}) COMP_CWORD={len(parts) - 1}",
        "_fsl_completion fsl",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ])  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("run --env mi", ["mini"]),
        ("eval runs/x --env tex", ["textures"]),
        ("run --env 'mini->c", ["mini->cub"]),
        ("run --env 'glyphs-", [f"glyphs->{name}" for name in ("cub", "mini", "omniglot", "sine", "textures")]),
        ("run --agent fo", ["fo-maml", "fo-turtle"]),
        ("show baseline", ["baseline++"]),
    ],
)
def test_completion(shell, words, offered, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    (tmp_path / "fsl").write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n")
    with (tmp_path / "fsl").open("a") as file:
        file.write("from runners.cli.main import main\ntry: main()\nfinally: assert 'torch' not in sys.modules\n")
    (tmp_path / "fsl").chmod(0o755)
    place = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    place |= {"FSL_HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [shell, "-c", completion(shell, words)], env=place, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert sorted(line.partition("\t")[0] for line in done.stdout.splitlines()) == offered


@pytest.mark.slow
@pytest.mark.parametrize("content", ["class Agent: pass\n", "import no_such_module\n"])
def test_a_foreign_agents_package_is_reported(content, tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text(content)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; from runners.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("fsl: the package `agents` that Python finds is not fewshot's (")
    assert done.stderr.count("\n") == 1
