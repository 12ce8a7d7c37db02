"""What is committed names no machine, no registry, and one version."""

from __future__ import annotations

import re
import tomllib

from . import sources

# Written in pieces, so that this file does not name what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        ["/" + "work/", "/" + "root/", "files" + r"\.pythonhosted", "static" + r"\.crates\.io"]
    )
)
# Cargo writes the name of the default registry's index by itself; it is a name, not a host in use.
EXEMPT = {"Cargo.lock"}
BINARY_ENDINGS = {".png", ".ico", ".gz", ".bin", ".woff2"}


def test_no_machine_path_and_no_registry_host() -> None:
    """No tracked text holds a path of a building machine or a registry's download host."""
    found = [
        f"{path}: {match[0]}"
        for path in sources.tracked()
        if path.name not in EXEMPT and path.suffix not in BINARY_ENDINGS
        for match in [FORBIDDEN.search(sources.text_of(path))]
        if match
    ]

    assert found == []


def test_python_lock_has_hashes_and_no_host() -> None:
    """Each locked Python package has a hash, and no line names a host."""
    text = (sources.ROOT / "requirements" / "dev.txt").read_text()
    packages = re.findall(r"^[a-z0-9][\w.\-]*==.*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)

    assert "://" not in text
    assert len(packages) > 20
    assert all("--hash=sha256:" in package for package in packages)


def test_one_version_everywhere() -> None:
    """Cargo workspace and Python distribution have the same version."""
    cargo = tomllib.loads((sources.ROOT / "Cargo.toml").read_text())
    clients = tomllib.loads((sources.ROOT / "clients" / "pyproject.toml").read_text())

    assert cargo["workspace"]["package"]["version"] == clients["project"]["version"]


def test_stub_floors_equal_the_generator() -> None:
    """The lowest grpcio and protobuf we accept are those that the committed stubs demand."""
    clients = tomllib.loads((sources.ROOT / "clients" / "pyproject.toml").read_text())
    floors = dict(entry.split(">=") for entry in clients["project"]["dependencies"])
    stubs = sorted((sources.ROOT / "clients" / "lastunit").rglob("*_pb2_grpc.py"))
    generated = {
        match[1]
        for stub in stubs
        if (match := re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", stub.read_text()))
    }

    assert generated == {floors["grpcio"]}
