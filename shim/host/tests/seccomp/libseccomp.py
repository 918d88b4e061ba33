"""Makes filters with libseccomp, as runc does: the reference for ours.

Reads one request a line, in JSON, and answers with one line each:
  {"resolve": [name, ...], "archs": [token, ...]}
      -> for each name its numbers on the architectures; below 0 for none
  {"default": action, "archs": [token, ...], "optimize": level,
   "rules": [[name, action, [[index, operator, value, value_two], ...]], ...]}
      -> the program in hexadecimal digits, or "error: ..."
Actions are the kernel's SECCOMP_RET_*, operators libseccomp's enum scmp_compare.
"""

import ctypes
import errno
import json
import os
import sys

ATTRIBUTE_OPTIMIZE = 8
UNKNOWN = -1


class Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_release.argtypes = [ctypes.c_void_p]
lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(Compare),
]
lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
lib.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]


def check(what, result):
    if result < 0:
        raise OSError(f"{what}: {errno.errorcode.get(-result, result)}")


def make(request):
    filter = lib.seccomp_init(request["default"])
    if not filter:
        raise OSError("seccomp_init")
    try:
        for token in request["archs"]:
            result = lib.seccomp_arch_add(filter, token)
            check("seccomp_arch_add", 0 if result == -errno.EEXIST else result)
        level = request["optimize"]
        check("optimize", lib.seccomp_attr_set(filter, ATTRIBUTE_OPTIMIZE, level))
        for name, action, conditions in request["rules"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                raise OSError(f"{name}: unknown")
            array = (Compare * len(conditions))(*(Compare(*item) for item in conditions))
            result = lib.seccomp_rule_add_array(filter, action, number, len(conditions), array)
            check(name, result)
        file = os.memfd_create("filter")
        try:
            check("seccomp_export_bpf", lib.seccomp_export_bpf(filter, file))
            return os.pread(file, 1 << 20, 0).hex()
        finally:
            os.close(file)
    finally:
        lib.seccomp_release(filter)


def resolve(request):
    number = lib.seccomp_syscall_resolve_name_arch
    names = [name.encode() for name in request["resolve"]]
    return [[number(arch, name) for arch in request["archs"]] for name in names]


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = resolve(request) if "resolve" in request else make(request)
    except OSError as error:
        answer = f"error: {error}"
    print(json.dumps(answer), flush=True)
