"""The stubs are what the protos say, and load cleanly."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT: Final = Path(__file__).resolve().parents[3]
CLIENTS: Final = ROOT / "clients"
SERVICES: Final = sorted(
    path.relative_to(CLIENTS).with_suffix("").as_posix().replace("/", ".")
    for path in CLIENTS.glob("lastunit/*/v1/*_service_pb2_grpc.py")
)


def load_tool() -> ModuleType:
    """Loads `tools/generate_stubs.py`, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools/generate_stubs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SERVICES)
def test_a_stub_loads_without_a_warning_and_without_our_native_code(name: str) -> None:
    """Loading a stub first thing raises no warning and brings in no native module of ours."""
    program = f"import sys, {name}; print([m for m in sys.modules if m.startswith('lastunit_')])"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def test_every_service_file_has_its_stubs() -> None:
    """Each file that declares a service has messages, stubs and the types of both."""
    protos = ROOT.glob("proto/lastunit/*/v1/*_service.proto")
    stems = [path.relative_to(ROOT / "proto").with_suffix("") for path in protos]

    endings = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    missing = [f"{s}{e}" for s in stems for e in endings if not (CLIENTS / f"{s}{e}").is_file()]
    assert missing == []
    assert len(stems) == len(SERVICES)


def test_the_committed_stubs_are_those_of_the_protos(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generating anew finds no drift."""
    tool = load_tool()
    monkeypatch.setattr(sys, "argv", ["generate_stubs.py", "--check"])

    code = tool.main()

    assert (code, capfd.readouterr().err) == (0, "")


def test_drift_is_told_file_by_file() -> None:
    """A missing, a stale and a changed stub are each named; equal ones are not."""
    made = {"a_pb2.py": b"1", "b_pb2.py": b"2", "c_pb2.py": b"3"}
    kept = {"b_pb2.py": b"2", "c_pb2.py": b"4", "d_pb2.py": b"5"}

    drift = load_tool().find_drift(made, kept)

    expected = ["a_pb2.py is missing", "c_pb2.py differs", "d_pb2.py has no proto"]
    assert expected == drift
