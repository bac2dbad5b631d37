"""How this process's memory is kept between two predictions (docs/adr/0009)."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MIB = 2**20


def reuse_freed_memory() -> bool:
    """Have the C library keep what a prediction frees for the next one; return whether it does. Call it first of all.

    By default tensors go back to the kernel, and every prediction waits for thousands of pages to be handed out anew.
    Up to 128 MiB are kept at the end of the one arena, and what is free between two tensors that are in use. One arena,
    so that it is not once more for every few threads. For glibc; others are let be.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):  # another C library
        return False
    wanted = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: 32 * _MIB, _M_TRIM_THRESHOLD: 128 * _MIB}
    taken = [mallopt(option, value) == 1 for option, value in wanted.items()]
    return all(taken)
