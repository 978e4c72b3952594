"""``task=predict run_id=... inputs=photos/*.jpg``: what a trained model says of pictures that a person has."""

import json
import sys
from collections.abc import Iterable, Sequence
from glob import glob
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_core.classifier import Classifier
from odyssey_core.data.preparation import Looked, Reader, Seen
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.files import write_atomic
from odyssey_core.places import expanded
from odyssey_run.config.request import Request
from odyssey_run.reports.outputs import MARK, csv_of, replaceable, writing
from odyssey_run.reports.scores import Answer, Reading
from odyssey_run.reports.summary import counted
from odyssey_run.runs import recorded

NOTHING = Looked(np.zeros((1, 1, 3), np.uint8), 1.0, [], [])  # of a picture that cannot be looked at
EDGES = ("left", "top", "right", "bottom")
TOP, BAR = 5, 30  # answers shown, characters of the longest bar
SURE = 0.99  # of the probability is shown, in at most ``TOP`` answers


def predict(request: Request, run_id: str, inputs: str | list[str], out: str) -> int:
    """Prints what the model says of each picture and draws it, or writes a table; code 2 where one has no answer."""
    paths = matching([inputs] if isinstance(inputs, str) else inputs)
    run = recorded.find(run_id, request.tracking)
    classifier = run.classifier(request.backend.build())
    reader = classifier.preparation.reader()
    found = _told(read(classifier, reader, path) for path in paths)
    place = expanded(out)
    if table := {".csv": _csv, ".json": _json}.get(place.suffix.lower()):
        with writing(place):
            readings = [*found]
            write_atomic(place, table(readings, reader.part, run.name, classifier.class_names))
        answers = counted(sum(len(r.answers) for r in readings), reader.part or "answer")
        print(f"{place}: {answers} in {counted(len(readings), 'picture')}")
    else:
        readings = [*_drawn(place, paths, found, classifier.preparation.light_on_dark)]
    return 2 if any(r.fault for r in readings) else 0


def matching(patterns: Sequence[str]) -> list[Path]:
    """The files that names, folders and patterns mean, each once; a name that exists is no pattern, whatever is in
    it. Raises ConfigError: one that means none."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        given = expanded(pattern)
        if given.is_dir():
            from PIL import Image

            Image.init()
            known = Image.registered_extensions()
            found = [path for path in sorted(given.iterdir()) if path.suffix.lower() in known]
        elif given.exists():
            found = [given]
        else:
            found = [Path(name) for name in sorted(glob(str(given), recursive=True))]
        if not (found := [path for path in found if path.is_file()]):
            if "://" in pattern:
                raise ConfigError(f"inputs: {pattern!r} is an address; download it, and name the file")
            below = f"'{pattern}/**/*.png' names those in folders below it"
            none = f"the folder {pattern!r} itself holds no pictures; {below}"
            raise ConfigError(f"inputs: {none if given.is_dir() else f'no file matches {pattern!r}'}")
        paths |= dict.fromkeys(found)
    if not paths:
        raise ConfigError("inputs: expected a file, a folder or a pattern, got none")
    return list(paths)


def read(classifier: Classifier, reader: Reader, path: Path) -> Reading:
    """What a model says of a picture, or why it says nothing."""
    try:
        looked = reader.look(path, classifier.input_shape)
    except DataError as error:
        return Reading(path, NOTHING, [], str(error).removeprefix(f"{path}: "))
    except Exception as error:  # one picture never takes the others with it
        return Reading(path, NOTHING, [], f"cannot be looked at: {type(error).__name__}: {error}")
    return Reading(path, looked, [answered(classifier, reader, seen) for seen in looked.found])


def answered(classifier: Classifier, reader: Reader, seen: Seen) -> Answer:
    """The mean of what a model says of an image and of views that are as good."""
    probabilities = classifier.probabilities(np.ascontiguousarray(reader.variants(seen.image))).mean(axis=0)
    order = np.argsort(-probabilities, kind="stable")
    return Answer(seen, [(classifier.class_names[i], float(probabilities[i])) for i in order])


def _told(readings: Iterable[Reading]) -> Iterable[Reading]:
    """The readings; faults, and ink that is not read, are printed as they come."""
    for reading in readings:
        if reading.fault:
            print(f"odyssey-run: {reading.path}: {reading.fault}", file=sys.stderr)
        for box, why in reading.looked.left_out:
            left, top, *_ = reading.box(box)
            print(f"odyssey-run: {reading.path}: ink at ({left}, {top}) is not read: {why}", file=sys.stderr)
        yield reading


def _drawn(folder: Path, inputs: Sequence[Path], readings: Iterable[Reading], light_on_dark: bool) -> Iterable[Reading]:
    from odyssey_run.reports import style
    from odyssey_run.reports.images import reading as picture

    taken = {path.resolve() for path in inputs}
    for reading in readings:
        if not reading.fault:
            path = _free(folder, reading.path.stem, taken)
            taken.add(path.resolve())
            with writing(path), style.styled():
                style.save(picture(reading, light_on_dark), path)
            print(f"\n{reading.path}  (the model's input: {path})")
            for number, answer in enumerate(reading.answers, 1):
                _print(answer, f"{number}: " if len(reading.answers) > 1 else "")
        yield reading


def _free(folder: Path, stem: str, taken: set[Path]) -> Path:
    """A name for a picture that is no input, no other's, and replaces nothing that was not made here."""
    names = (folder / f"{stem}{'' if n == 1 else f'-{n}'}.png" for n in count(1))
    return next(path for path in names if path.resolve() not in taken and replaceable(path))


def _print(answer: Answer, label: str) -> None:
    told, width = 0.0, max(len(name) for name, _ in answer.answers[:TOP])
    for name, probability in answer.answers[:TOP]:
        print(f"  {label}{name:<{width}}  {probability:6.1%}  {'█' * round(BAR * probability)}")
        label, told = " " * len(label), told + probability
        if told > SURE:
            break


def _rows(readings: Iterable[Reading], part: str | None) -> Iterable[dict[str, Any]]:
    for reading in readings:
        if reading.fault:
            yield {"file": reading.path, "note": reading.fault}
        for number, answer in enumerate(reading.answers, 1):
            first, second = (*answer.answers, ("", 0.0))[:2]
            row = {"file": reading.path, "answer": first[0], "probability": f"{first[1]:.4f}"}
            row |= {"second": second[0], "second_probability": f"{second[1]:.4f}"}
            yield row | ({part: number} | dict(zip(EDGES, reading.box(answer.seen.box), strict=True)) if part else {})
        for box, why in reading.looked.left_out:
            yield {"file": reading.path, "note": why} | dict(zip(EDGES, reading.box(box), strict=True))


def _csv(readings: Sequence[Reading], part: str | None, *_: Any) -> bytes:
    """One row for each answer; a picture of several parts has their numbers and places, too."""
    answers = ("answer", "probability", "second", "second_probability")
    columns = ("file", part, *answers, *EDGES) if part else ("file", *answers)
    return csv_of((row | {"made_by": MARK} for row in _rows(readings, part)), (*columns, "note", "made_by"))


def _json(readings: Sequence[Reading], part: str | None, run: str, classes: Sequence[str]) -> bytes:
    def answers(answer: Answer) -> dict[str, float]:
        return {name: round(p, 4) for name, p in answer.answers[:TOP]}

    images = []
    for r in readings:
        about: dict[str, Any] = {"file": str(r.path)}
        if part:
            about[f"{part}s"] = [{"box": r.box(a.seen.box), "answers": answers(a)} for a in r.answers]
            about["not_read"] = [{"box": r.box(box), "why": why} for box, why in r.looked.left_out]
        else:
            about["answers"] = answers(r.answers[0]) if r.answers else {}
        images.append(about | {"fault": r.fault or None})
    return json.dumps({"made_by": MARK, "run": run, "classes": list(classes), "images": images}, indent=1).encode()
