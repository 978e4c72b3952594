"""What a finished run leaves for people to look at and use: pictures and a report, a model for MLflow, a note."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset
from odyssey_run.config import claims
from odyssey_run.config.claims import ClaimRow
from odyssey_run.config.request import Request
from odyssey_run.reports import plots, summary
from odyssey_run.reports.scores import Scores
from odyssey_run.runs.recorder import RunRecorder
from odyssey_run.tracking import model_folder
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import RunRecords

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


def present(request: Request, recorder: RunRecorder, dataset: Dataset, weights: Path, step: int) -> None:
    """Makes all of it from what was written, the journal and the weights file, and records it.

    Args:
        request: what was trained.
        recorder: of the run, which has not ended yet.
        dataset: its test images are what the pictures show.
        weights: the weights file.
        step: after how many optimizer steps.
    """
    run = recorder.records()
    rows = claims.report(claims.read(request.expect), run.last)
    recorder.tags({Tag.NOTE.value: summary.note(run, rows, request.plots.enabled)})
    examples = dataset.upright_test.pixels[:EXAMPLES]
    images = dataset.preparation.images(dataset.input_shape[0])
    model = model_folder.write(recorder.path, weights, examples, images, dataset.classes, request.backend.name)
    recorder.model(model, step)
    if request.plots.enabled:
        with recorder.screen.waiting("drawing pictures and report"):
            classifier = Classifier(*load_weights(weights), request.backend.build())
            scores = Scores.of(classifier, dataset.upright_test, dataset)
            draw(recorder, run, classifier, scores, dataset, rows)


def draw(
    recorder: RunRecorder,
    run: RunRecords,
    classifier: Classifier,
    scores: Scores,
    dataset: Dataset,
    rows: Sequence[ClaimRow] = (),
) -> None:
    """Draws the pictures and the report into the recorder's folder; arguments as `plots.draw` takes them."""
    for path in plots.draw(recorder.path, run, classifier, scores, dataset.upright_test.pixels[0], rows):
        recorder.artifact(path)
    recorder.screen.field("report", str(path))
