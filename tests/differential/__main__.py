# ruff: noqa: T201 - it talks to the terminal.
"""Compares model and real ledger over many random histories, as long as you like.

    python -m tests.differential --seed 1 --operations 1000000

Prints the rate, and of a history that differs the first difference, the shrunk history and the line
that plays it again. Ends with 1 if there was a difference.
"""

from __future__ import annotations

import argparse
import sys
import time

from . import comparing, shrinking
from .histories import History


def main() -> int:
    """Runs as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first history")
    parser.add_argument("--operations", type=int, default=100_000, help="operations in all")
    parser.add_argument("--length", type=int, default=2_000, help="operations of one history")
    parser.add_argument("--no-reopen", action="store_true", help="never close and open a ledger")
    parser.add_argument("--no-journal", action="store_true", help="do not compare the events")
    parser.add_argument("--shrink-tries", type=int, default=600, help="0 leaves it as it is")
    arguments = parser.parse_args()
    began, cpu = time.monotonic(), time.process_time()
    done, seed = 0, arguments.seed
    while done < arguments.operations:
        history = History(seed, arguments.length, reopens=not arguments.no_reopen).operations()
        difference = comparing.run(history, is_journal_compared=not arguments.no_journal)
        if difference:
            report(arguments, seed, history, difference)
            return 1
        done += len(history)
        seed += 1
    took, used = time.monotonic() - began, time.process_time() - cpu
    print(
        f"{done} operations in {seed - arguments.seed} histories, no difference: "
        f"{done / took:.0f} a second, {used / done * 1e6:.0f} us of CPU each; "
        f"seeds {arguments.seed} to {seed - 1}"
    )
    return 0


def report(
    arguments: argparse.Namespace, seed: int, history: list[object], found: comparing.Difference
) -> None:
    """Prints a difference, the shortest history found for it, and how to play it again."""

    def differs(part: object) -> bool:
        return comparing.run(part) is not None  # type: ignore[arg-type]

    head = history[: found.index + 1]
    small = shrinking.shrink(head, differs, tries=arguments.shrink_tries)
    for operation in small:
        print(f"{type(operation).__name__}: {' '.join(str(operation).split())}")
    print(comparing.run(small) or found)
    print(
        f"replay: python -m tests.differential --seed {seed} --operations 1 "
        f"--length {arguments.length}{' --no-reopen' if arguments.no_reopen else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
