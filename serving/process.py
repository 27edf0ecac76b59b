"""The allocator, the garbage collector and the interpreter of a process that serves for weeks."""

import ctypes
import gc
import sys

YOUNG = 20_000  # objects made before a collection of the young ones: about 100 requests

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 32 << 20  # bytes, the most that glibc takes
TURN = 0.001  # seconds that a thread keeps the interpreter's lock while another waits for it


def configure_process() -> None:
    """Set what has to be set before anything is computed."""
    keep_large_buffers()
    # The default, 5 ms, is as long as dozens of requests: the device would stand still meanwhile.
    sys.setswitchinterval(TURN)


def keep_large_buffers() -> None:
    """Let glibc keep freed buffers of up to 32 MB, and use them again.

    By itself it decides anew with what is freed: scratch space of 7 to 17 MB a batch sometimes goes
    back to the system, which must clear its pages before the next batch has them, and sometimes
    stays; memory then grows for minutes. Other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, 32 * LARGEST)


def keep_out_of_collections() -> None:
    """Let the collector pass over what is there now, such as modules and models, which stays.

    Otherwise every full collection walks through millions of objects while requests wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
