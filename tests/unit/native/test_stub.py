"""The typed stub says what the extension has, no more and no less."""

from __future__ import annotations

import ast
import tomllib
import types
from pathlib import Path

import lastunit_server
from lastunit_server import _native

ROOT = Path(lastunit_server.__file__).parent
STUB = ast.parse((ROOT / "_native.pyi").read_text())


def public(names: list[str]) -> set[str]:
    """Names without an underscore."""
    return {name for name in names if not name.startswith("_")}


def test_module_has_the_names_of_the_stub() -> None:
    """Classes and functions agree."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    named = {node.name for node in STUB.body if isinstance(node, kinds)}

    assert named == public(dir(_native))


def test_classes_have_the_methods_of_the_stub() -> None:
    """Methods agree, class by class."""
    for node in STUB.body:
        if not isinstance(node, ast.ClassDef) or node.name == "NodeOpenError":
            continue
        named = {it.name for it in node.body if isinstance(it, ast.FunctionDef)}

        assert public(list(named)) == public(vars(getattr(_native, node.name)).keys()), node.name


def test_arguments_have_the_names_and_the_order_of_the_stub() -> None:
    """What the stub lets a caller name, the extension takes by that name."""
    for owner in STUB.body:
        if not isinstance(owner, ast.ClassDef) or owner.name == "NodeOpenError":
            continue
        for method in owner.body:
            if not isinstance(method, ast.FunctionDef) or method.name.startswith("_"):
                continue
            there = getattr(getattr(_native, owner.name), method.name)
            if is_property(method):
                assert isinstance(there, types.GetSetDescriptorType), f"{owner.name}.{method.name}"
                continue
            found = there.__text_signature__
            names = [it.arg for it in method.args.args[1:]]

            assert arguments(found) == names, f"{owner.name}.{method.name}"


def is_property(method: ast.FunctionDef) -> bool:
    """Tells what is read without a call."""
    return any(isinstance(it, ast.Name) and it.id == "property" for it in method.decorator_list)


def arguments(signature: str) -> list[str]:
    """Names in a text signature such as `($self, port, ticket=0)`."""
    parts = signature.strip("()").split(",")
    names = [part.strip().split("=")[0] for part in parts]
    return [name for name in names if name and name not in ("$self", "/")]


def test_version_is_that_of_the_workspace() -> None:
    """One version everywhere."""
    cargo = tomllib.loads((ROOT.parents[1] / "Cargo.toml").read_text())

    assert _native.__version__ == cargo["workspace"]["package"]["version"]
