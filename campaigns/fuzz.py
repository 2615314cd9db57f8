"""Malformed input for everything that reads: `python campaigns/fuzz.py [CASES] [SEED] [TARGET ...]`.

100,000 cases of all targets by default. Each target has a few valid inputs. A case is one of them with some bytes
changed, deleted, repeated or replaced by what has broken parsers before. It must be read, or refused in one printable
line; anything else is a finding, as is a case that takes 20 seconds. While files are read, an audit hook checks that
nothing is executed, connected to, or written outside the folder of the case.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from campaigns.fuzz_targets import Target, targets  # noqa: E402
from fewshot_env.errors import FewShotError  # noqa: E402

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
"""Replacements for a whole word or number."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork")


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """The seed with one to four changes."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        at, until = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        until = min(until, at + rng.choice((1, 2, 8, 100, 10**6)))
        match rng.randrange(11):
            case 0 | 1 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 2 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 3:
                del data[at:until]
            case 4:
                data[at:at] = data[at:until]
            case 5:
                data[at:at] = rng.choice(TOKENS)
            case 6:
                data[at:until] = rng.choice(TOKENS)
            case 7 | 8 | 9 if words := list(WORD.finditer(data)):
                word = rng.choice(words)
                data[word.start() : word.end()] = rng.choice(ODD)
            case _:
                del data[at if rng.random() < 0.3 else len(data) :]
    return bytes(data)


class Watch:
    """Records what reading a file must not do."""

    def __init__(self) -> None:
        self.place: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Audit hook: check every event while a file is read."""
        if self.place is None:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {args}")
        if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            file = Path(str(args[0])).absolute()
            if not file.is_relative_to(self.place) and not str(file).startswith("/dev/"):
                self.seen.append(f"open {file} {args[1]}")


def verdict(target: Target, data: bytes, place: Path, watch: Watch) -> str:
    """The outcome of a case: "read", "refused", or a finding, which is the end of its traceback."""
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


def fuzz(
    cases: int, seed: int, say: Callable[[str], None] = print, only: Sequence[str] = ()
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Run `cases` cases over all targets, or those named; returns counts by target and outcome, and the findings."""
    known, watch = {name: target for name, target in targets().items() if name in (only or [name])}, Watch()
    whole = sum(t.weight for t in known.values())
    counts: Counter[tuple[str, str]] = Counter()
    findings: dict[str, str] = {}
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("it took 20 seconds")))
    with tempfile.TemporaryDirectory() as temporary:
        for name, target in known.items():
            rng, start = random.Random(f"{seed} {name}"), time.monotonic()
            for number in range(max(1, cases * target.weight // whole)):
                data = mutated(rng.choice(target.seeds), rng)
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


def main(cases: int | str = 100_000, seed: int | str = 0, *only: str) -> None:
    """Fuzz, and print a table."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    said = sys.stdout
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # what is read may print
        counts, findings = fuzz(int(cases), int(seed), lambda line: print(line, file=said, flush=True), only)
    print("| what reads | read | refused in one line | findings |\n|---|---|---|---|")
    for name in dict.fromkeys(name for name, _ in counts):
        print(f"| {name} | " + " | ".join(str(counts[name, v]) for v in ("read", "refused", "finding")) + " |")
    print(f"{sum(counts.values())} cases, {len(findings)} kinds of findings")
    print("\n".join(findings))
    sys.exit(bool(findings))


if __name__ == "__main__":
    main(*sys.argv[1:])
