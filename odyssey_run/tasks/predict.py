"""``task=predict run_id=... inputs=letters/*.png``: what a trained model reads in images that a person has."""

import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from odyssey_core.classifier import Classifier
    from odyssey_run.assemble import Request
    from odyssey_run.handwriting import Prediction

TOP, BAR = 5, 30  # answers shown, characters of the longest bar


def predict(request: "Request", run_id: str, inputs: str | list[str], out: str) -> int:
    """Prints the likeliest classes of each image and writes a picture of what the net saw.

    Args:
        request: where runs are recorded, and the backend.
        run_id: a run's folder, name or MLflow id.
        inputs: file names or patterns.
        out: folder for the pictures.

    Returns:
        0, or 2 where an image could not be read; the others are answered all the same.

    Raises:
        OdysseyError: no such run, or no such file.
    """
    from odyssey_run import runs
    from odyssey_run.plots import style
    from odyssey_run.plots.images import prediction as picture

    paths = matching([inputs] if isinstance(inputs, str) else inputs)
    run = runs.find(run_id, request.tracking)
    classifier = run.classifier(request.backend.build())
    failed = 0
    for path in paths:
        try:
            found = of_file(classifier, path)
        except DataError as error:
            print(f"odyssey-run: {error}", file=sys.stderr)
            failed = 2
            continue
        with style.styled():
            drawn = style.save(picture(found), Path(out) / f"{path.stem}.png")
        print(f"\n{path}  (what the net saw: {drawn})")
        for name, probability in found.answers[:TOP]:
            print(f"  {name}  {probability:6.1%}  {'█' * round(BAR * probability)}")
    return failed


def matching(patterns: Sequence[str]) -> list[Path]:
    """The files that names and patterns mean, each once.

    Raises:
        ConfigError: one that means none.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = [Path(name) for name in sorted(glob(str(Path(pattern).expanduser()), recursive=True))]
        if not (found := [path for path in found if path.is_file()]):
            raise ConfigError(f"inputs: no file matches {pattern!r}")
        paths |= dict.fromkeys(found)
    return list(paths)


def of_file(classifier: "Classifier", path: Path) -> "Prediction":
    """Reads, prepares and classifies one image.

    Raises:
        DataError: a file that cannot be read, or shows nothing.
    """
    import numpy as np

    from odyssey_core.classifier import upright
    from odyssey_run import handwriting

    seen = handwriting.prepare(handwriting.read(path), classifier.input_shape[1:], str(path))
    stored = np.ascontiguousarray(np.broadcast_to(upright(seen, classifier.orientation), (1, *classifier.input_shape)))
    (probabilities,) = classifier.probabilities(stored)
    order = np.argsort(-probabilities, kind="stable")
    return handwriting.Prediction(path, seen, [(classifier.class_names[i], float(probabilities[i])) for i in order])
