"""Plants each defect of `defects.toml` in a copy of the sources and waits for an oracle to notice.

Run it as `make sim-defects`, or `python -m tests.defects.run --only "reply before flush"`. It
fails when a defect survives, or when the text that it changes is no longer found exactly once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFECTS = Path(__file__).with_name("defects.toml")
PARTS = ("Cargo.toml", "Cargo.lock", "core_rs", "fuzz", "proto")
FAILED = re.compile(r"^FAILED seed (\d+) \[([^\]]+)\]", re.MULTILINE)
"""The line by which the simulator tells of a broken promise."""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One change of the sources that breaks a promise."""

    name: str
    file: str
    find: str
    replace: str
    why: str
    oracle: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Who noticed a defect, and after how many seeds; empty if nobody did."""

    oracle: str
    seed_count: int
    seconds: float


class PlantError(Exception):
    """A defect cannot be planted or built: its text changed, or it does not compile."""


def load(path: Path = DEFECTS) -> list[Defect]:
    """Reads every defect; raises TypeError for one with a field that is missing or unknown."""
    return [Defect(**entry) for entry in tomllib.loads(path.read_text())["defect"]]


def planted(defect: Defect, text: str) -> str:
    """Returns the source with the defect in it; raises PlantError if its text is not there once."""
    count = text.count(defect.find)
    if count != 1:
        message = f"{defect.file} has the text {count} times, not once: write the defect anew"
        raise PlantError(message)
    return text.replace(defect.find, defect.replace)


def copy_changed(source: str, target: str) -> None:
    """Copies a file that differs, as of now: an old time would keep a planted build from going."""
    there = Path(target)
    if not there.exists() or there.read_bytes() != Path(source).read_bytes():
        shutil.copyfile(source, target)


def copy_sources(target: Path) -> None:
    """Brings the copy up to date, and leaves what is right alone, so that little is built again."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, dirs_exist_ok=True, copy_function=copy_changed)
        elif source.exists():
            copy_changed(str(source), str(target / part))


def build(tree: Path, target: Path) -> Path:
    """Builds the simulator of a tree and returns its path; raises PlantError if it does not."""
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(target),
        "CARGO_INCREMENTAL": "1",
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    }
    command = ["cargo", "build", "--release", "--quiet", "-p", "lastunit-sim"]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        message = f"the tree does not compile: {done.stderr[-2000:]}"
        raise PlantError(message)
    return target / "release" / "lastunit-sim"


def run(simulator: Path, seeds: int) -> Finding:
    """Runs seeds until one fails, or all have passed."""
    start = time.monotonic()
    command = [str(simulator), "--seeds", str(seeds), "--threads", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = FAILED.search(done.stdout)
    return Finding(
        oracle=found.group(2) if found else "",
        seed_count=int(found.group(1)) if found else seeds,
        seconds=time.monotonic() - start,
    )


def try_one(defect: Defect, tree: Path, target: Path, seeds: int) -> Finding:
    """Plants one defect, runs it, and takes it out again."""
    path = tree / defect.file
    whole = path.read_text()
    path.write_text(planted(defect, whole))
    try:
        return run(build(tree, target), seeds)
    finally:
        path.write_text(whole)


def tell(line: str) -> None:
    """Prints a line at once, so that a long run shows where it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Tries every defect, prints a table, and returns how the process should end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="seeds before one survives")
    parser.add_argument("--only", default="", help="names that contain this text")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "defects")
    parser.add_argument("--target", type=Path, help="a directory of an earlier build to use")
    options = parser.parse_args()
    tree, target = options.work / "tree", options.target or options.work / "build"
    tree.mkdir(parents=True, exist_ok=True)
    copy_sources(tree)
    survivors = []
    tell("| defect | noticed by | seed | what would happen |\n|---|---|---|---|")
    for defect in load():
        if options.only not in defect.name:
            continue
        try:
            finding = try_one(defect, tree, target, options.seeds)
        except PlantError as error:
            finding = Finding(oracle="", seed_count=0, seconds=0.0)
            tell(f"{defect.name}: {error}")
        if not finding.oracle:
            survivors.append(defect.name)
        noticed = finding.oracle or "NOBODY"
        tell(f"| {defect.name} | {noticed} | {finding.seed_count} | {defect.why} |")
    if survivors:
        tell(f"not caught: {', '.join(survivors)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
