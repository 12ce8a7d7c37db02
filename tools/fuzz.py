"""Fuzzes decoders with coverage guidance: `make fuzz TARGET=request SECONDS=60`.

Owns building the Rust targets with coverage and starting each target for its time. Needs stable
Rust and a C++ compiler; atheris for the Python targets is installed if there is a build of it, and
without it their inputs are changed at random. Finds end up in `target/fuzz-found/<target>/`; read
`fuzz/README.md` for what to do with one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOUND: Final = ROOT / "target" / "fuzz-found"
PYTHON_TARGETS: Final = ("callback", "callback_body", "policy_file", "settings_file")
SHARED_PYTHON: Final = "request-python"
INPUT_BYTES_MAX: Final = 4096
SLOW_INPUT_SECONDS: Final = 10
MEMORY_MEGABYTES_MAX: Final = 2048
# Stable options of the compiler: LLVM counts edges and comparisons, libFuzzer reads the counters.
# No sanitizer: it would need a nightly compiler, and there is no unsafe code here for it to watch.
COVERAGE: Final = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
)


def rust_targets() -> list[str]:
    """Returns the names in the table of targets."""
    return re.findall(r'name: "(\w+)"', (ROOT / "fuzz" / "src" / "lib.rs").read_text())


def build() -> Path:
    """Builds the Rust targets with coverage and returns the program."""
    host = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    triple = host.split("host: ")[1].split()[0]
    # With --target the flags reach our code and its dependencies, but no build script.
    command = ["cargo", "build", "--locked", "--profile", "fuzz", "--target", triple]
    command += ["-p", "lastunit-fuzz", "--features", "libfuzzer"]
    environment = os.environ | {"RUSTFLAGS": " ".join(COVERAGE)}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    output = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return output / triple / "fuzz" / "lastunit-fuzz"


def run_rust(program: Path, name: str, seconds: int, seed: int) -> bool:
    """Fuzzes one Rust target; tells whether nothing was found."""
    found = FOUND / name
    (found / "corpus").mkdir(parents=True, exist_ok=True)
    command = [str(program), str(found / "corpus"), str(ROOT / "fuzz" / "corpus" / name)]
    command += [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-seed={seed}"]
    command += [f"-timeout={SLOW_INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MEGABYTES_MAX}"]
    command += [f"-artifact_prefix={found}/", "-print_final_stats=1"]
    environment = os.environ | {"LASTUNIT_FUZZ_TARGET": name}
    return _run(name, command, environment)


def run_python(name: str, seconds: int, seed: int) -> bool:
    """Fuzzes one Python target; tells whether nothing was found."""
    target = name.removesuffix("-python")
    command = [sys.executable, "-m", "tests.fuzz.drive", target, str(seconds), str(FOUND / name)]
    command += [str(seed)]
    return _run(name, command, dict(os.environ))


def _run(name: str, command: list[str], environment: dict[str, str]) -> bool:
    log = FOUND / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    text = log.read_text(errors="replace")
    runs = re.findall(r"Done (\d+) runs|: (\d+) inputs", text)
    count = next((number for pair in runs for number in pair if number), "?")
    coverage = re.findall(r"cov: (\d+)", text)
    reached = f", {coverage[-1]} edges reached" if coverage else ""
    if code == 0:
        print(f"{name}: {count} inputs{reached}, nothing found", flush=True)
        return True
    print(text[-4000:])
    print(f"{name}: FOUND something (exit {code}): input in {FOUND / name}, log in {log}")
    return False


def install_atheris() -> None:
    """Installs atheris where there is a build of it."""
    wanted = str(ROOT / "fuzz" / "requirements.txt")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "-r", wanted], check=False, capture_output=True
    )
    if done.returncode:
        print("atheris has no build for this machine; Python inputs are changed at random")


def main() -> None:
    """Fuzzes one target, or all of them one after the other."""
    rust = rust_targets()
    names = [*rust, *PYTHON_TARGETS, SHARED_PYTHON]
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--target", default="", help=f"one of: {', '.join(names)}; default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of the changes; 0: another each time")
    arguments = parser.parse_args()
    chosen = [arguments.target] if arguments.target else names
    if unknown := set(chosen) - set(names):
        sys.exit(f"fuzz: no target {', '.join(unknown)}; use one of: {', '.join(names)}")
    program = build() if set(chosen) & set(rust) else Path()
    if set(chosen) - set(rust):
        install_atheris()
    clean = [
        run_rust(program, name, arguments.seconds, arguments.seed)
        if name in rust
        else run_python(name, arguments.seconds, arguments.seed)
        for name in chosen
    ]
    if not all(clean):
        sys.exit(1)


if __name__ == "__main__":
    main()
