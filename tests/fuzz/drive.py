"""Drives one target for a time: `python -m tests.fuzz.drive TARGET SECONDS FOUND_FOLDER SEED`.

Owns the choice of inputs. With atheris (coverage guidance, `fuzz/requirements.txt`) it is LLVM's
fuzzer; where atheris has no build it changes kept inputs at random, and says so.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["CORPUS", "changed", "kept_inputs", "main"]

_ROOT: Final = Path(__file__).resolve().parents[2] / "fuzz"
CORPUS: Final = _ROOT / "corpus_python"
INPUT_BYTES_MAX: Final = 4096


def corpus_of(name: str) -> Path:
    """Returns the folder of a target's kept inputs; requests are shared with the Rust target."""
    return _ROOT / "corpus" / name if name == "request" else CORPUS / name


def kept_inputs(name: str) -> list[bytes]:
    """Returns the kept inputs of a target, by file name."""
    return [path.read_bytes() for path in sorted(corpus_of(name).iterdir())]


def changed(kept: bytes, source: random.Random) -> bytes:
    """Returns an input with one to four changes: a byte more, another byte, a piece less."""
    data = bytearray(kept)
    for _ in range(source.randint(1, 4)):
        place = source.randint(0, len(data))
        kind = source.randrange(4)
        if kind == 0:
            data.insert(place, source.randrange(256))
        elif kind == 1 and place < len(data):
            data[place] = source.randrange(256)
        elif kind == 2 and place < len(data):
            data[place] ^= 1 << source.randrange(8)
        else:
            del data[place : place + source.randint(1, 8)]
    return bytes(data)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _drive_plainly(name: str, seconds: float, found: Path, seed: int, *, why: str) -> None:
    from tests.fuzz.targets import TARGETS

    _say(f"{name}: {why}; changing kept inputs at random, without coverage")
    seed = seed or time.time_ns()
    source = random.Random(seed)
    kept = kept_inputs(name)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = changed(source.choice(kept), source)
        count += 1
        try:
            TARGETS[name](data)
        except BaseException:
            file = found / f"crash-{seed:x}-{count}"
            file.write_bytes(data)
            _say(f"{name}: the input is kept in {file}")
            raise
    _say(f"{name}: {count} inputs, nothing found")


def _drive_with_atheris(name: str, seconds: float, found: Path, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["lastunit", "lastunit_server", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS

    (found / "corpus").mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        str(found / "corpus"),
        str(corpus_of(name)),
        f"-max_total_time={seconds:.0f}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-seed={seed}",
        f"-artifact_prefix={found}/",
    ]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


def main() -> None:
    """Reads the command line and drives."""
    name, seconds, found = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    seed = int(sys.argv[4])
    found.mkdir(parents=True, exist_ok=True)
    if name == "request":
        # Both parsers are native code whose branches atheris cannot see: it would keep no input.
        _drive_plainly(name, seconds, found, seed, why="the parsers are native")
        return
    try:
        import atheris  # noqa: F401 - only whether it is there
    except ImportError:
        _drive_plainly(name, seconds, found, seed, why="atheris is not installed")
    else:
        _drive_with_atheris(name, seconds, found, seed)


if __name__ == "__main__":
    main()
