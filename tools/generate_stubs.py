"""Owns the Python stubs: generates them from `proto/`, or checks the committed ones for drift.

Must not edit what the generators write: the path of a stub equals the path of its proto, so that
nothing needs rewriting. Next: `proto/README.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO_ROOT: Final = ROOT / "proto"
STUB_ROOT: Final = ROOT / "clients"
# Only these endings are ever written or removed below STUB_ROOT.
STUB_ENDINGS: Final = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def list_protos() -> list[str]:
    """Lists the protos to generate from, as paths below `proto/`, sorted."""
    return sorted(path.relative_to(PROTO_ROOT).as_posix() for path in PROTO_ROOT.rglob("*.proto"))


def run_protoc(protos: list[str], *options: str) -> None:
    """Runs the compiler that grpcio-tools carries, with the plugins of this environment.

    Args:
        protos: Paths below `proto/`, at least one.
        options: What to generate, and where.

    Raises:
        SystemExit: The compiler refused; it has said why on standard error.
    """
    scripts = Path(sys.executable).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{PROTO_ROOT}",
        f"-I{resources.files('grpc_tools').joinpath('_proto')}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *options,
        *protos,
    ]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def generate(target: Path) -> None:
    """Generates every stub below `target`: messages for all protos, stubs for services."""
    protos = list_protos()
    services = [proto for proto in protos if proto.endswith("_service.proto")]
    run_protoc(protos, f"--python_out={target}", f"--mypy_out=quiet:{target}")
    run_protoc(services, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}")


def read_stubs(root: Path) -> dict[str, bytes]:
    """Reads every stub below `root`, by its path from there."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*_pb2*"))
        if path.name.endswith(STUB_ENDINGS)
    }


def find_drift(made: dict[str, bytes], kept: dict[str, bytes]) -> list[str]:
    """Names the stubs that are missing, stale or different, one sentence each."""
    missing = [f"{name} is missing" for name in made if name not in kept]
    stale = [f"{name} has no proto" for name in kept if name not in made]
    other = [f"{name} differs" for name in made if name in kept and made[name] != kept[name]]
    return sorted(missing + stale + other)


def write_stubs(made: dict[str, bytes], kept: dict[str, bytes]) -> None:
    """Makes the stubs below `clients/` be exactly `made`; touches no file that is as it should."""
    for name in kept.keys() - made.keys():
        (STUB_ROOT / name).unlink()
    for name, text in made.items():
        if kept.get(name) != text:
            path = STUB_ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)


def main() -> int:
    """Generates or checks, and says what it found.

    Returns:
        0, or 1 if `--check` found drift.
    """
    parser = argparse.ArgumentParser(description="Generate the Python stubs from proto/.")
    parser.add_argument("--check", action="store_true", help="compare only, and fail on a drift")
    is_check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory)
        generate(target)
        made = read_stubs(target)
    kept = read_stubs(STUB_ROOT)
    drift = find_drift(made, kept)
    if not is_check:
        write_stubs(made, kept)
        print(f"{len(made)} stubs, {len(drift)} changed")
        return 0
    for line in drift:
        print(f"clients/{line}; run `make proto` and commit what it writes", file=sys.stderr)
    return 1 if drift else 0


if __name__ == "__main__":
    raise SystemExit(main())
