"""SHA-256 of a file, with progress and a log: a script in a folder, named `f/reports/checksum`.

Its settings are in `checksum.script.yaml` beside it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import hotpath

BLOCK = 1 << 20  # bytes


def main(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of the file at `path`."""
    digest = hashlib.new(algorithm)
    size = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            hotpath.progress(done / max(size, done))
    print(f"read {done:,} bytes of {path.name}")
    return digest.hexdigest()
