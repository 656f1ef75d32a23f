"""A process of UID whose environment seems to be GIB large, as any process may say of itself. Says "ready" and waits for its end."""

import ctypes
import os
import struct
import sys

uid, size = int(sys.argv[1]), int(sys.argv[2]) << 30
os.setgid(uid)
os.setuid(uid)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
libc.sbrk.restype = libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
PROT_READ, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE = 1, 2, 0x20, 0x4000
at = libc.mmap(None, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)

stat = open("/proc/self/stat").read()
fields = stat[stat.rindex(")") + 2 :].split()
start_code, end_code, start_stack = map(int, fields[23:26])
start_data, end_data, start_brk, arg_start, arg_end = map(int, fields[42:47])
prctl_mm_map = struct.pack(
    "=11QQII",
    *(start_code, end_code, start_data, end_data, start_brk, libc.sbrk(0), start_stack),
    *(arg_start, arg_end, at, at + size),
    *(0, 0, 0xFFFFFFFF),
)
text = ctypes.create_string_buffer(prctl_mm_map, len(prctl_mm_map))
PR_SET_MM, PR_SET_MM_MAP = 35, 14
if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(text), len(prctl_mm_map), 0) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.read()
