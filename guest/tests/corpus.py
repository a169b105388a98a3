"""Seeds for the fuzzers: one whole, right example of everything, and a few that are almost right."""

import struct
import sys
from pathlib import Path


def tlv(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, 0, len(value)) + value


def frame(kind: int, payload: bytes = b"", stream: int = 0) -> bytes:
    return struct.pack("<BBHI", kind, stream, 0, len(payload)) + payload


MINIMAL = tlv(1, b"true") + tlv(3, b"/") + tlv(4, struct.pack("<II", 0, 0))
FULL = b"".join(
    (
        *(tlv(1, b"sh"), tlv(1, b"-c"), tlv(1, b"id"), tlv(2, b"A=b"), tlv(2, b"PATH=/bin"), tlv(3, b"/home/pat")),
        *(
            tlv(4, struct.pack("<4I", 1000, 1000, 4, 5)),
            tlv(5, b"pat:x:1000:1000:Pat:/home/pat:/bin/sh"),
            tlv(6, b"pat:x:1000:"),
        ),
        *(
            tlv(7, struct.pack("<I", 0o22)),
            tlv(8, struct.pack("<IIQQ", 7, 0, 1024, 2**64 - 1)),
            tlv(9, struct.pack("<4H", 24, 80, 0, 0)),
        ),
        *(
            tlv(10, b""),
            tlv(11, struct.pack("<I", 1) + b"tag\0/data"),
            tlv(12, b"node.example"),
            tlv(13, bytes(32)),
            tlv(14, bytes(8)),
        ),
        *(tlv(15, b"10.0.2.15/24 10.0.2.2 10.0.2.3"), tlv(16, b"0" * 32), tlv(17, bytes.fromhex("525400123456"))),
        *(tlv(18, bytes(16)), tlv(19, b"\1"), tlv(20, b"/home\0net/home")),
    )
)
STARTS = (
    MINIMAL,
    FULL,
    FULL[:-1],
    FULL + tlv(21, b""),
    MINIMAL + tlv(7, b""),
    MINIMAL + tlv(11, bytes(4) + b"\0/"),
    MINIMAL + tlv(17, bytes(6)),
)
FRAMES = (
    *(
        frame(0x41, FULL),
        frame(0x42, b"stdin"),
        frame(0x43),
        frame(0x44, bytes(4), 1),
        frame(0x45, stream=2),
        frame(0x46, b"\x0f"),
    ),
    *(
        frame(0x47, bytes(8)),
        frame(0x48, bytes(8)),
        frame(0x49),
        frame(0x41, MINIMAL) + frame(0x41, MINIMAL),
        frame(0x42, bytes(65536)),
        frame(0x4A),
        frame(0x4B),
    ),
)

if __name__ == "__main__":
    which, folder = sys.argv[1:]
    for number, seed in enumerate(STARTS if which == "start" else [b"\x07" + one for one in (*FRAMES, b"".join(FRAMES))]):
        (Path(folder) / f"seed{number}").write_bytes(seed)
