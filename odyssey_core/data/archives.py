"""Files out of published archives, ZIP and tar, each with its SHA-256 kept beside it."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from odyssey_core.data.download import checksum_of
from odyssey_core.errors import DataError
from odyssey_core.files import atomic_file

SUMS = "SHA256SUMS"


def unpack(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Unpacks members of an archive whose own checksum is right, and records the checksums of what it had.

    Args:
        archive: the file.
        members: paths in the archive to file names.
        folder: where they go.

    Raises:
        DataError: a member is missing, or the folder cannot be written.
    """
    sums: dict[str, str] = {}
    try:
        for name, source in _opened(archive, members):
            with atomic_file(folder / name, durable=False) as file:
                shutil.copyfileobj(source, file, 1 << 20)
            sums[name] = checksum_of(folder / name)
        if missing := [member for member, name in members.items() if name not in sums]:
            raise DataError(f"{archive}: expected {missing[0]} and its like, got none; delete it and run again")
        lines = sorted(f"{sha}  {name}\n" for name, sha in (recorded(folder) | sums).items())
        with atomic_file(folder / SUMS) as file:
            file.write("".join(lines).encode())
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); delete it and run again") from error
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or set ODYSSEY_CACHE elsewhere"
        ) from error


def _opened(archive: Path, members: Mapping[str, str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each member that there is, in the archive's own order: to seek in a tar is to read it all."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for member in (info.filename for info in packed.infolist() if info.filename in members):
                with packed.open(member) as source:
                    yield members[member], source
        return
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.name in members and (content := tar.extractfile(entry)):
                yield members[entry.name], content


def recorded(folder: Path) -> dict[str, str]:
    """File name to SHA-256 of what was unpacked from an archive after that archive's own checksum had been checked."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except OSError:
        return {}
    return {name: sha for sha, _, name in (line.partition("  ") for line in lines)}
