"""The allocator of a process that serves for weeks."""

import ctypes

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = 1 << 20  # bytes


def give_back_large_buffers() -> None:
    """Let glibc return buffers of a megabyte or more to the system whenever they are freed.

    By itself it keeps up to 64 MB in each thread's heap, and XLA's scratch space of 7 to 17 MB a
    batch, of every size, spreads over all of that. Other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
