"""What must be in the environment before numba and its threads start.

Compiled kernels are kept in a folder per user, named by the digest of this package's source: numba's own cache does not
see an edited callee in another file; with the digest in the path an edit takes effect at the next run.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path


def source_digest() -> str:
    """SHA-256 over the files of odyssey_core, in order of path: hexadecimal."""
    root = Path(__file__).parents[2]
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(f"{path.relative_to(root)}\n".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


def cache_folder() -> Path:
    """The folder for this source; a temporary one where the user's is not writable."""
    base = Path(os.environ.get("ODYSSEY_CACHE") or Path.home() / ".cache" / "ml-odyssey")
    folder = base / "kernels" / source_digest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError:
        return Path(tempfile.gettempdir()) / f"ml-odyssey-{os.getuid()}" / folder.name


def set_up() -> None:
    """Points numba at the folder, and bounds how long idle threads spin, unless the user has chosen otherwise."""
    # Without a bound, two jobs on the same cores wait for each other's spinning threads: 78,000 images/s alone and
    # 10,000 each for two at once, where 3,000 turns give 73,000 and 30,000 (LeNet-5, batch 32, two cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())
        if "numba" in sys.modules:
            sys.modules["numba"].config.reload_config()


set_up()
