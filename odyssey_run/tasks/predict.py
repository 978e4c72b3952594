"""``task=predict run_id=... inputs=letters/*.png``: what a trained model reads in pictures that a person has."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey_core.errors import ConfigError, DataError
from odyssey_core.places import expanded

if TYPE_CHECKING:
    import numpy as np

    from odyssey_core.classifier import Classifier
    from odyssey_run.assemble import Request
    from odyssey_run.handwriting import Seen

TOP, BAR = 5, 30  # answers shown, characters of the longest bar
SURE = 0.99  # of the probability is told, in at most ``TOP`` answers
TABLES = (".csv", ".json")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Answer:
    """What a model says of one character.

    Args:
        seen: what it was shown, and where that lies.
        answers: (class name, probability), the likeliest first.
    """

    seen: "Seen"
    answers: list[tuple[str, float]]


@dataclass(frozen=True)
class Reading:
    """What a model reads in one picture.

    Args:
        path: of the file.
        rgb: (h, w, 3) float32, the picture made small.
        scale: pixels of the file in one of ``rgb``; boxes are in pixels of ``rgb``.
        characters: row by row and from left to right.
        left_out: boxes of other ink, and why it is not read.
        fault: why nothing is read; "" where something is.
    """

    path: Path
    rgb: "np.ndarray | None"
    scale: float
    characters: list[Answer]
    left_out: list[tuple[Box, str]]
    fault: str = ""

    def box(self, box: Box) -> list[int]:
        """A box in pixels of the file."""
        return [round(self.scale * edge) for edge in box]


def predict(request: "Request", run_id: str, inputs: str | list[str], out: str) -> int:
    """Prints what is read in each picture and draws it, or writes a table.

    Args:
        request: where runs are recorded, and the backend.
        run_id: a run's folder, name or MLflow id.
        inputs: files, folders or patterns.
        out: a folder for the pictures of what the net saw, or a file that ends in .csv or .json.

    Returns:
        0, or 2 where a picture could not be read; the others are answered all the same.

    Raises:
        OdysseyError: no such run, no such file, or a place that cannot be written to.
    """
    from odyssey_core.checkpoint import write_atomic
    from odyssey_run import runs
    from odyssey_run.outputs import writing

    paths = matching([inputs] if isinstance(inputs, str) else inputs)
    run = runs.find(run_id, request.tracking)
    classifier = run.classifier(request.backend.build())
    place = expanded(out)
    if place.suffix.lower() not in TABLES:
        readings = [*_drawn(place, paths, _told(read(classifier, path) for path in paths))]
    else:
        with writing(place):
            readings = [*_told(read(classifier, path) for path in paths)]
            made = _csv(readings) if place.suffix.lower() == ".csv" else _json(readings, run.name, classifier)
            write_atomic(place, made)
        read_in_all = sum(len(r.characters) for r in readings)
        print(f"{place}: {_counted(read_in_all, 'character')} in {_counted(len(readings), 'picture')}")
    return 2 if any(r.fault for r in readings) else 0


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def matching(patterns: Sequence[str]) -> list[Path]:
    """The files that names, folders and patterns mean, each once; a name that exists is no pattern, whatever is in it.

    Raises:
        ConfigError: one that means none.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        given = expanded(pattern)
        if given.is_dir():
            found = [path for path in sorted(given.iterdir()) if path.suffix.lower() in _suffixes()]
        elif given.exists():
            found = [given]
        else:
            found = [Path(name) for name in sorted(glob(str(given), recursive=True))]
        if not (found := [path for path in found if path.is_file()]):
            if "://" in pattern:
                raise ConfigError(f"inputs: {pattern!r} is an address; download it, and name the file")
            what = f"the folder {pattern!r} holds no pictures" if given.is_dir() else f"no file matches {pattern!r}"
            raise ConfigError(f"inputs: {what}")
        paths |= dict.fromkeys(found)
    return list(paths)


def _suffixes() -> set[str]:
    from PIL import Image

    Image.init()
    return set(Image.registered_extensions())


def read(classifier: "Classifier", path: Path) -> Reading:
    """What a model reads in a picture, or why it reads nothing."""
    from odyssey_run import handwriting

    rgb, scale = None, 1.0
    try:
        rgb, scale = handwriting.read(path)
        looked = handwriting.look(rgb, classifier.preparation, classifier.input_shape[1:])
    except DataError as error:
        told = str(error)
        return Reading(path, rgb, scale, [], [], told if told.startswith(str(path)) else f"{path}: {told}")
    except Exception as error:  # one picture never takes the others with it
        return Reading(path, rgb, scale, [], [], f"{path}: cannot be looked at: {type(error).__name__}: {error}")
    return Reading(path, rgb, scale, [answered(classifier, seen) for seen in looked.found], looked.left_out)


def answered(classifier: "Classifier", seen: "Seen") -> Answer:
    """The mean of what a model says of a character and of small distortions of it."""
    import numpy as np

    from odyssey_run.handwriting import variants

    images = variants(seen.image)[:, None]
    shown = np.ascontiguousarray(np.broadcast_to(images, (len(images), *classifier.input_shape)))
    probabilities = classifier.probabilities(shown).mean(axis=0)
    order = np.argsort(-probabilities, kind="stable")
    return Answer(seen, [(classifier.class_names[i], float(probabilities[i])) for i in order])


def _told(readings: Iterable[Reading]) -> Iterable[Reading]:
    """The readings; faults, and ink that is not read, are told as they come."""
    for reading in readings:
        if reading.fault:
            print(f"odyssey-run: {reading.fault}", file=sys.stderr)
        for box, why in reading.left_out:
            left, top, *_ = reading.box(box)
            print(f"odyssey-run: {reading.path}: ink at ({left}, {top}) is not read: {why}", file=sys.stderr)
        yield reading


def _drawn(folder: Path, inputs: Sequence[Path], readings: Iterable[Reading]) -> Iterable[Reading]:
    """The readings, each drawn and printed as it comes."""
    from odyssey_run.plots import style
    from odyssey_run.plots.images import reading as picture

    taken = {path.resolve() for path in inputs}
    for reading in readings:
        if not reading.fault:
            path = _free(folder, reading.path.stem, taken)
            taken.add(path.resolve())
            try:
                with style.styled():
                    style.save(picture(reading), path, made_here=True)
            except OSError as error:
                raise ConfigError(f"out: cannot write {path} ({error.strerror or error}); name another place") from None
            print(f"\n{reading.path}  (what the net saw: {path})")
            for number, character in enumerate(reading.characters, 1):
                _print(character, f"{number}: " if len(reading.characters) > 1 else "")
        yield reading


def _free(folder: Path, stem: str, taken: set[Path]) -> Path:
    """A name for a picture that is no input, no other's, and replaces nothing that was not made here."""
    from itertools import count

    from odyssey_run.outputs import replaceable

    names = (folder / f"{stem}{'' if n == 1 else f'-{n}'}.png" for n in count(1))
    return next(path for path in names if path.resolve() not in taken and replaceable(path))


def _print(character: Answer, label: str) -> None:
    told = 0.0
    for name, probability in character.answers[:TOP]:
        print(f"  {label}{name}  {probability:6.1%}  {'█' * round(BAR * probability)}")
        label, told = " " * len(label), told + probability
        if told > SURE:
            break


def _rows(readings: Iterable[Reading]) -> Iterable[dict[str, Any]]:
    for reading in readings:
        if reading.fault:
            yield {"file": reading.path, "note": reading.fault.removeprefix(f"{reading.path}: ")}
        for number, character in enumerate(reading.characters, 1):
            first, second = (*character.answers, ("", 0.0))[:2]
            answers = {"answer": first[0], "probability": f"{first[1]:.4f}"}
            answers |= {"second": second[0], "second_probability": f"{second[1]:.4f}"}
            yield {"file": reading.path, "character": number} | answers | _edges(reading.box(character.seen.box))
        for box, why in reading.left_out:
            yield {"file": reading.path, "note": why} | _edges(reading.box(box))


def _edges(box: Sequence[int]) -> dict[str, int]:
    return dict(zip(("left", "top", "right", "bottom"), box, strict=True))


COLUMNS = (
    *("file", "character", "answer", "probability", "second", "second_probability"),
    *("left", "top", "right", "bottom", "note", "made_by"),
)


def _csv(readings: Sequence[Reading]) -> bytes:
    from odyssey_run.outputs import MARK

    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"made_by": MARK} for row in _rows(readings))
    return out.getvalue().encode("utf-8", "surrogateescape")


def _json(readings: Sequence[Reading], run: str, classifier: "Classifier") -> bytes:
    from odyssey_run.outputs import MARK

    images = [
        {
            "file": str(r.path),
            "characters": [
                {"box": r.box(c.seen.box), "answers": {name: round(p, 4) for name, p in c.answers[:TOP]}}
                for c in r.characters
            ],
            "not_read": [{"box": r.box(box), "why": why} for box, why in r.left_out],
            "fault": r.fault.removeprefix(f"{r.path}: ") or None,
        }
        for r in readings
    ]
    whole = {"made_by": MARK, "run": run, "classes": list(classifier.class_names), "images": images}
    return json.dumps(whole, indent=1).encode()
