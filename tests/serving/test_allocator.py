"""Large pieces go back to the system, whatever was freed before."""

import platform
import subprocess
import sys

import pytest

# Says how many bytes of a piece of 2 MiB lie outside the heap, after a larger one was freed.
PROGRAM = """
import ctypes, sys
from lastgood.serving.allocator import return_large

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
if sys.argv[1] == "returned":
    return_large()
larger = bytearray(24 << 20)
del larger
before = libc.mallinfo2().hblkhd
piece = bytearray(2 << 20)
print(libc.mallinfo2().hblkhd - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(("how", "outside"), [("returned", 2 << 20), ("left", 0)])
def test_a_large_piece_lies_outside_the_heap_even_after_a_larger_one_was_freed(how: str, outside: int) -> None:
    """And without it, inside: that is what makes the heap grow."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    assert outside <= int(done.stdout) < outside + (1 << 20)
