"""What a finished run leaves for people to look at and use: pictures and a report, a model for MLflow, a note."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset
from odyssey_core.files import write_atomic
from odyssey_run.config import claims
from odyssey_run.config.claims import ClaimRow
from odyssey_run.config.request import Request
from odyssey_run.reports import summary
from odyssey_run.reports.outputs import csv_of
from odyssey_run.reports.scores import Scores
from odyssey_run.runs.events import Outcome
from odyssey_run.runs.folder import REPORT
from odyssey_run.runs.recorder import RunRecorder
from odyssey_run.tracking import model_folder
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import RunRecords

if TYPE_CHECKING:
    from odyssey_run.runs.console import Screen

EXAMPLES = 2  # images shown with the model
PLOTS = "plots"  # the folder of the pictures


def load() -> None:
    """Imports what `draw` needs, about half a second: best done while the run waits for something else."""
    from odyssey_run.reports import confusion, curves, images, report  # noqa: F401


@contextmanager
def harmless(screen: "Screen") -> Iterator[None]:
    """A block that shows a run: an error costs a warning and does not change how the run ends."""
    try:
        yield
    except Exception as error:  # of whatever draws or writes
        screen.stop_bar()
        screen.trace(error)
        why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        screen.say(f"not all of the description, the model and the report could be made: {why}", "yellow")


def present(request: Request, recorder: RunRecorder, dataset: Dataset, weights: Path, outcome: Outcome) -> None:
    """Makes all of it from what was written, the journal and the weights file, and from the answers in the test."""
    run = recorder.records()
    rows = claims.report(request.expect, run.last)
    recorder.tags({Tag.NOTE.value: summary.note(run, rows, request.plots.enabled)})
    examples = dataset.upright_test.pixels[:EXAMPLES]
    images = dataset.preparation.images(dataset.input_shape[0])
    model = model_folder.write(recorder.path, weights, examples, images, dataset.classes, request.backend.name)
    recorder.model(model, outcome.step)
    if request.plots.enabled and outcome.answers:
        with recorder.screen.waiting("drawing pictures and report"):
            classifier = Classifier(*load_weights(weights), request.backend.build())
            scores = Scores.of(outcome.answers, classifier, dataset.upright_test, dataset)
            draw(recorder, run, classifier, scores, rows)


def draw(
    recorder: RunRecorder, run: RunRecords, classifier: Classifier, scores: Scores, rows: Sequence[ClaimRow] = ()
) -> None:
    """Draws what there is to see of a training, and records it: the folder of pictures and tables, and the report with
    the rows of ``claims.report``."""
    from odyssey_run.reports import confusion, curves, images, report, style

    points, names, folder = run.metrics, scores.class_names, recorder.path / PLOTS
    with style.styled():
        pictures = {
            "loss": curves.loss(points, classifier.loss.label),
            "accuracy": curves.accuracy(points),
            "learning_rate": curves.learning_rate(points),
            "weight_norms": curves.norms(points, "weight_norm", "Norm of the weights"),
            "gradient_norms": curves.norms(points, "weight_grad_norm", "Norm of the gradient"),
            "confusion": confusion.matrix(scores.confusion, names),
            "classes": confusion.classes(scores.confusion, names),
            "mistakes": images.mistakes(scores),
            "first_layer": images.first_layer(classifier, scores.pixels[0]),
        }
        files = {k: style.save(drawn, folder / f"{k}.png") if drawn else None for k, drawn in pictures.items()}
    write_atomic(folder / "classes.csv", csv_of(report.rows_of_classes(scores)))
    recorder.artifact(folder)
    recorder.write(REPORT, report.page(run, scores, rows, files).encode())
    recorder.screen.field("report", str(recorder.path / REPORT))
