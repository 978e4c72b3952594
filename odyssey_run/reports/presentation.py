"""What a finished run leaves for people to look at and use: pictures and a report, a model for MLflow, a note."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset
from odyssey_run.config import claims
from odyssey_run.config.request import Request
from odyssey_run.reports import plots, summary
from odyssey_run.reports.scores import Scores
from odyssey_run.runs.recorder import Session
from odyssey_run.tracking import model_folder
from odyssey_run.tracking.journal import FILE_NAME, read, series

if TYPE_CHECKING:
    from odyssey_run.runs.console import Screen

EXAMPLES = 2  # images shown with the model


@contextmanager
def harmless(screen: "Screen") -> Iterator[None]:
    """Where a run is shown: what fails here costs a warning, and does not decide what becomes of the run."""
    try:
        yield
    except Exception as error:  # of whatever draws or writes
        screen.stop_bar()
        screen.trace(error)
        screen.say(f"not all of the description, the model and the report could be made: {error!r}", "yellow")


def present(request: Request, session: Session, dataset: Dataset, weights: Path, step: int) -> None:
    """Makes all of it from what was written, the journal and the weights file, and records it.

    Args:
        request: what was trained.
        session: of the run, not yet ended.
        dataset: its test images are what the pictures show.
        weights: the weights file.
        step: after how many optimizer steps.
    """
    records = read(session.path / FILE_NAME)[0]
    last = {name: points[-1][1] for name, points in series(records).items()}
    rows = claims.report(claims.read(request.expect), last)
    session.tags({"mlflow.note.content": summary.note(records, rows, request.plots.enabled)})
    examples = dataset.upright_test.pixels[:EXAMPLES]
    images = dataset.preparation.images(dataset.input_shape[0])
    model = model_folder.write(session.path, weights, examples, images, dataset.classes, request.backend.name)
    session.model(model, step)
    if request.plots.enabled:
        with session.screen.waiting("drawing pictures and report"):
            classifier = Classifier(*load_weights(weights), request.backend.build())
            scores = Scores.of(classifier, dataset.upright_test, dataset)
            draw(session, records, classifier, scores, dataset, rows)


def draw(
    session: Session,
    records: list[dict[str, Any]],
    classifier: Classifier,
    scores: Scores,
    dataset: Dataset,
    rows: list[Mapping[str, Any]] = (),
) -> None:
    """Draws the pictures and the report into the session's folder; arguments as `plots.draw` takes them."""
    for path in plots.draw(session.path, records, classifier, scores, dataset.upright_test.pixels[0], rows):
        session.artifact(path)
    session.screen.field("report", str(path))
