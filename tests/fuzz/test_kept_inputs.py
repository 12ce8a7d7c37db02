"""The kept inputs of Python's decoders, and some changes of each, in the everyday tests.

LASTUNIT_SEED=7 takes other changes, LASTUNIT_FUZZ_CHANGES=1000 more of them.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from tests.fuzz import drive
from tests.fuzz.targets import TARGETS

CHANGES = 20
INPUT_BYTES_MAX = 4096
INPUTS_MAX = 60


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_for_its_kept_inputs_and_for_changes_of_them(name: str) -> None:
    """Every kept input and every change of one keeps the target's promise."""
    seed = int(os.environ.get("LASTUNIT_SEED", "1"))
    changes = int(os.environ.get("LASTUNIT_FUZZ_CHANGES", str(CHANGES)))
    sys.stdout.write(f"LASTUNIT_SEED={seed}\n")
    source = random.Random(seed)
    for kept in drive.kept_inputs(name):
        TARGETS[name](kept)
        for _ in range(changes):
            TARGETS[name](drive.changed(kept, source))


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_are_few_and_small(name: str) -> None:
    """A kept input is minimised first; what is larger slows every test run."""
    kept = drive.kept_inputs(name)

    assert 1 <= len(kept) <= INPUTS_MAX
    assert max(map(len, kept)) <= INPUT_BYTES_MAX


def test_every_folder_of_kept_inputs_belongs_to_a_target() -> None:
    """A folder that nobody reads would only look like a test."""
    folders = {folder.name for folder in Path(drive.CORPUS).iterdir()}

    assert folders | {"request"} == set(TARGETS)


def test_a_forged_callback_that_is_believed_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target fails when signatures are not checked: it can find what it is there for."""
    monkeypatch.setattr("lastunit.payment.signature.is_signed", lambda *_a, **_k: True)
    signed = (drive.CORPUS / "callback" / "seed-signed.bin").read_bytes()
    # Flag 1 is what makes the target sign as the provider does.
    forged = bytes([signed[0] & ~1]) + signed[1:]

    with pytest.raises(AssertionError):
        TARGETS["callback"](forged)
