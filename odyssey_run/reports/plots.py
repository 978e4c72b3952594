"""The pictures of a run and its report. Matplotlib is imported when they are drawn and not before."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey_core.files import write_atomic
from odyssey_run.config.claims import ClaimRow
from odyssey_run.reports.outputs import csv_of
from odyssey_run.tracking.records import RunRecords

if TYPE_CHECKING:
    from odyssey_core.classifier import Classifier
    from odyssey_run.reports.scores import Scores

FOLDER, REPORT = "plots", "report.html"


def load() -> None:
    """Imports what `draw` needs, about half a second: best done while the run waits for something else."""
    from odyssey_run.reports import confusion, curves, images, report  # noqa: F401


def draw(
    folder: Path,
    run: RunRecords,
    classifier: "Classifier",
    scores: "Scores",
    sample: Any,
    claims: Sequence[ClaimRow] = (),
) -> list[Path]:
    """Draws what there is to see of a run.

    Args:
        folder: of the run.
        run: the journal of the training.
        classifier: the trained model.
        scores: its answers on the test images.
        sample: (C, H, W) uint8, upright: an image to show the first layer's answers to.
        claims: rows of ``claims.report``.

    Returns:
        What was written: the folder of pictures and tables, and the report.
    """
    from odyssey_run.reports import confusion, curves, images, report, style

    points, names = run.metrics, scores.class_names
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
            "first_layer": images.first_layer(classifier, sample),
        }
        files = {name: style.save(drawn, folder / FOLDER / f"{name}.png") for name, drawn in pictures.items() if drawn}
    write_atomic(folder / FOLDER / "classes.csv", csv_of(report.rows_of_classes(scores)))
    page = report.page(run, scores, claims, files)
    write_atomic(folder / REPORT, page.encode())
    return [folder / FOLDER, folder / REPORT]
