"""Exchange two names for ever, as fast as the kernel can: swap.py UID ONE OTHER. Says "swapping" first."""

import ctypes
import os
import sys

uid, one, other = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
os.setgroups([])
os.setgid(int(uid))
os.setuid(int(uid))
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def exchange():
    if libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


exchange()
print("swapping", flush=True)
while os.getppid() != 1:
    exchange()
