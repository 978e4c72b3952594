#!/usr/bin/env bash
# One pooch.Unzip() or pooch.Untar() that serves two archives unpacks both into the folder of the first, because the
# first call stores the folder in the object. Where both hold a file of the same name, as train.zip and test.zip with a
# labels.csv do, the second overwrites the first, on disk and for good: a later program that makes a processor for each
# archive, and whose archives are verified by their SHA-256, is given the labels of the test for training. pooch does
# not unpack an archive again where files of those names are there.
#
# Seen with pooch 1.9.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pooch==1.9.0

cat > "$work/two_archives.py" <<'PYTHON'
import shutil
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pooch

folder = Path(sys.argv[1])
server = folder / "server"
server.mkdir()
for name in ("train", "test"):
    (folder / "labels.csv").write_text(f"labels of {name}\n")
    with zipfile.ZipFile(server / f"{name}.zip", "w") as archive:
        archive.write(folder / "labels.csv", "labels.csv")
    with tarfile.open(server / f"{name}.tar", "w") as archive:
        archive.add(folder / "labels.csv", "labels.csv")
data = pooch.create(
    path=folder / "cache",
    base_url="https://example.org/",
    registry={path.name: pooch.file_hash(path) for path in server.iterdir()},
)
pooch.get_logger().setLevel("ERROR")


def download(url, output_file, pooch):
    """Takes the place of pooch.HTTPDownloader: the file lies in the folder of the server."""
    shutil.copy(server / url.rpartition("/")[2], output_file)


def labels(name, processor) -> str:
    (path,) = data.fetch(name, processor=processor, downloader=download)
    found = Path(path)
    return f"{found.relative_to(folder / 'cache')}: {found.read_text().strip()}"


print(f"pooch {version('pooch')}")
as_told = True
for kind, unpack in (("zip", pooch.Unzip), ("tar", pooch.Untar)):
    shared = unpack()
    seen = {f"{name}.{kind}, shared processor": labels(f"{name}.{kind}", shared) for name in ("train", "test")}
    seen |= {f"{name}.{kind}, its own processor": labels(f"{name}.{kind}", unpack()) for name in ("train", "test")}
    for what, result in seen.items():
        print(f"{what}: {result}")
    as_told &= list(seen.values()) == [
        f"train.{kind}.un{kind}/labels.csv: labels of train",
        f"train.{kind}.un{kind}/labels.csv: labels of test",
        f"train.{kind}.un{kind}/labels.csv: labels of test",
        f"test.{kind}.un{kind}/labels.csv: labels of test",
    ]
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/two_archives.py" "$work" || {
    echo "pooch behaves otherwise than this file says" >&2
    exit 1
}
