"""A sample of the profile is counted for the part that it belongs to."""

from __future__ import annotations

import pytest
from bench.cpu_profile import KERNEL_OTHER, OTHER, part_of, samples

KERNEL, OURS, LIBC = "[kernel.kallsyms]", "/a/_native.abi3.so", "/lib/libc.so.6"

SCRIPT = """
\tffffffff81 _raw_spin_unlock_irqrestore ([kernel.kallsyms])
\tffffffff82 __x64_sys_fdatasync ([kernel.kallsyms])
\t    7f0001 fdatasync (/lib/libc.so.6)

\t    7f0002 lastunit_engine::table::IdTable::find (/a/_native.abi3.so)

"""


def test_samples_are_read_one_by_one() -> None:
    """Each is the innermost call first."""
    assert list(samples(SCRIPT)) == [
        [
            ("_raw_spin_unlock_irqrestore", KERNEL),
            ("__x64_sys_fdatasync", KERNEL),
            ("fdatasync", LIBC),
        ],
        [("lastunit_engine::table::IdTable::find", OURS)],
    ]


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ([("up", KERNEL), ("__x64_sys_fdatasync", KERNEL)], "flush and write of the journal"),
        ([("tcp_v4_rcv", KERNEL), ("__x64_sys_fdatasync", KERNEL)], "sockets"),
        ([("sock_sendmsg", KERNEL), ("__x64_sys_sendmsg", KERNEL)], "sockets"),
        ([("futex_wait", KERNEL), ("__x64_sys_futex", KERNEL)], "waits and wake-ups"),
        ([("exc_page_fault", KERNEL), ("f", OURS)], KERNEL_OTHER),
        ([("_int_malloc", LIBC)], "memory: allocate and free"),
        ([("__memmove_avx512_unaligned_erms", LIBC)], "memory: copy, compare, clear"),
        ([("lastunit_journal::journal::Journal::append", OURS)], "journal"),
        ([("<h2::frame::Iter as core::iter::Iterator>::next", OURS)], "gRPC"),
        ([("alloc::vec::Vec<T,A>::push", OURS)], OTHER),
    ],
)
def test_a_sample_belongs_to_one_part(frames: list[tuple[str, str]], part: str) -> None:
    """By the system call in the kernel, else by the function that ran."""
    assert part_of(frames).startswith(part)
