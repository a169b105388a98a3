"""Files that give privileges to whoever runs them: set-uid, set-gid, capabilities. Pure."""

from __future__ import annotations

import struct

from dayfly.values import dataclass

CAPABILITY = b"security.capability"
_REVISIONS = {0x01000000: 1, 0x02000000: 2, 0x03000000: 2}
"""Words of 32 bits in each of the two sets (linux/capability.h)."""
_NAMES = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
)


@dataclass(frozen=True)
class SetId:
    """A file with a set-uid or set-gid bit. `mode` is in octal digits: `4755`."""

    path: str
    mode: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Capable:
    """A file with capabilities, by their names: `cap_net_raw`."""

    path: str
    capabilities: tuple[str, ...]


def capabilities(raw: bytes) -> tuple[str, ...]:
    """The names in an attribute `security.capability`, permitted or inheritable; `unknown` if it is malformed."""
    if len(raw) < 4:
        return ("unknown",)
    (magic,) = struct.unpack_from("<I", raw)
    words = _REVISIONS.get(magic & 0xFF000000, 0)
    if not words or len(raw) < 4 + 8 * words:
        return ("unknown",)
    sets = struct.unpack_from(f"<{2 * words}I", raw, 4)
    bits = sum((sets[2 * word] | sets[2 * word + 1]) << 32 * word for word in range(words))
    return tuple(f"cap_{_NAMES[bit]}" if bit < len(_NAMES) else f"cap_{bit}" for bit in range(32 * words) if bits >> bit & 1)
