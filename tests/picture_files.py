"""Small picture files for tests."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(path: Path, colour=RED, size: tuple[int, int] = (8, 8), **settings) -> Path:
    """A file of one colour; ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **settings)
    return path


def class_folders(root: Path, counts: dict[str, int], size: tuple[int, int] = (8, 8)) -> Path:
    """PNGs in class folders; each has its own red and its class's green."""
    for c, (name, count) in enumerate(counts.items()):
        for i in range(count):
            picture(root / name / f"{i:03d}.png", (i, 10 * c, 7), size)
    return root


def truncated(path: Path) -> Path:
    """A picture with half of its bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def giant(path: Path, side: int = 100_000) -> Path:
    """The header of a PNG that would need gigabytes, and next to nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))
    return path
