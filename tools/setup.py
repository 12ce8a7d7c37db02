"""Sets up a fresh clone: virtual environment, locked dependencies, Rust extension.

Owns: what `make` does before any verb. Uses the standard library only, because it runs before
anything is installed. Each step leaves a stamp with a digest of its inputs in the virtual
environment, so that a second call takes well under a second.

Must not: install anything outside the checkout, or name a package registry.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMPS = VENV / "stamps"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
PYTHON_FLOOR = (3, 11)
# The floor of the dependencies that need the newest compiler; equals rust-version in Cargo.toml.
CARGO_FLOOR = (1, 88)
# A package index may answer slowly once; a second try costs less than a failed set-up.
INSTALL_ATTEMPTS = 3


def stop(sentence: str) -> NoReturn:
    """Ends with a sentence that says what to install."""
    sys.exit(f"setup: {sentence}")


def say(sentence: str) -> None:
    """Tells what is being done, on standard error so that `--json` output stays clean."""
    print(f"setup: {sentence}", file=sys.stderr, flush=True)


def check_tools() -> None:
    """Checks Python, Cargo and a C linker; ends with what to install where one is missing."""
    if sys.version_info[:2] < PYTHON_FLOOR:
        found = ".".join(map(str, sys.version_info[:3]))
        stop(
            f"Python {found} is too old; install Python 3.11 or newer "
            "and run `make PYTHON=/path/to/python3.11 ...`"
        )
    cargo = shutil.which("cargo")
    if cargo is None:
        stop(
            "cargo is not on the PATH; install Rust 1.88 or newer with rustup, then run make again"
        )
    version = subprocess.run([cargo, "--version"], check=True, capture_output=True, text=True)
    numbers = re.search(r"(\d+)\.(\d+)", version.stdout)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < CARGO_FLOOR:
        stop(f"{version.stdout.strip()} is too old; run `rustup update` for Rust 1.88 or newer")
    if shutil.which("cc") is None:
        stop("no C linker `cc` on the PATH; install gcc and the C library's headers")


def digest(paths: list[Path]) -> str:
    """Returns a digest of names and contents of the files at and below `paths`."""
    result = hashlib.sha256(sys.version.encode())
    for top in paths:
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if file.is_file() and "target" not in file.parts:
                result.update(str(file.relative_to(ROOT)).encode())
                result.update(file.read_bytes())
    return result.hexdigest()


def is_done(step: str, inputs: str) -> bool:
    """Tells whether `step` was already done with the same inputs."""
    stamp = STAMPS / step
    return stamp.is_file() and stamp.read_text() == inputs


def mark_done(step: str, inputs: str) -> None:
    """Remembers that `step` was done with these inputs."""
    STAMPS.mkdir(exist_ok=True)
    (STAMPS / step).write_text(inputs)


def run(command: list[str], *, attempts: int = 1) -> None:
    """Runs a command of the set-up; ends with its output when it fails at the last attempt."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "VIRTUAL_ENV": str(VENV)}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    for attempt in range(1, attempts + 1):
        outcome = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if outcome.returncode == 0:
            return
        if attempt < attempts:
            say(f"`{' '.join(command[:4])} ...` failed, trying again")
            time.sleep(2 * attempt)
    sys.stderr.write(outcome.stdout)
    stop(f"`{' '.join(command)}` failed; its output is above")


def make_environment() -> None:
    """Creates the virtual environment."""
    if (BIN / "python").exists():
        return
    say("creating .venv")
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        stop(f"cannot create a virtual environment ({error}); on Debian install python3-venv")


def install_dependencies() -> None:
    """Installs exactly the locked dependencies, each checked by its hash."""
    inputs = digest([REQUIREMENTS])
    if is_done("dependencies", inputs):
        return
    say("installing locked dependencies")
    command = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    if not _has_pip():
        run([str(BIN / "python"), "-m", "ensurepip"])
    run([*command, "--requirement", str(REQUIREMENTS)], attempts=INSTALL_ATTEMPTS)
    mark_done("dependencies", inputs)


def _has_pip() -> bool:
    probe = subprocess.run(
        [str(BIN / "python"), "-c", "import pip"], check=False, capture_output=True
    )
    return probe.returncode == 0


def install_project() -> None:
    """Installs both distributions editable; builds the Rust extension in release mode."""
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--no-build-isolation", "--editable"]
    inputs = digest([ROOT / "clients" / "pyproject.toml"])
    if not is_done("clients", inputs):
        run([*pip, str(ROOT / "clients")])
        mark_done("clients", inputs)
    sources = [ROOT / "core_rs", ROOT / "proto", ROOT / "Cargo.toml", ROOT / "Cargo.lock"]
    inputs = digest([*sources, ROOT / "pyproject.toml"])
    native = list((ROOT / "server" / "lastunit_server").glob("_native*.so"))
    if native and is_done("server", inputs):
        return
    say("building the Rust extension in release mode (a few minutes the first time)")
    run([*pip, str(ROOT)], attempts=INSTALL_ATTEMPTS)
    mark_done("server", inputs)


def main() -> None:
    """Runs every step that is not done yet."""
    check_tools()
    make_environment()
    install_dependencies()
    install_project()


if __name__ == "__main__":
    main()
