"""``task=evaluate run_id=... data=...``: scores a trained model on a data set's test images, as a child of its run."""

from dataclasses import replace

import numpy as np

from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset, Images
from odyssey_core.data.dataset import listed
from odyssey_core.errors import DataError
from odyssey_run.config.request import Request, check
from odyssey_run.reports import presentation
from odyssey_run.reports.scores import Scores
from odyssey_run.runs import provenance, recorded
from odyssey_run.runs.recorder import plan_run
from odyssey_run.tracking.names import Status


def evaluate(request: Request, run_id: str) -> int:
    """Records accuracy and loss, with the pictures and the report, under the run that trained the model."""
    run = recorded.find(run_id, request.tracking)
    if not any(text.lstrip("+").startswith(("data=", "data.")) for text in request.overrides):
        request = check({**request.config, "data": run.config["data"]}, request.overrides)
    if store := run.start.store:  # where its parent is, to be shown under it
        request = replace(request, tracking=replace(request.tracking, experiment=store["experiment"]))
    with plan_run(request) as plan:
        backend = request.backend.build()
        dataset = request.data.build()
        classifier = run.classifier(backend)
        images = fitted(dataset, classifier)
        scores = Scores.of(classifier.evaluate(images), classifier, images, dataset)
        loss = float(np.mean(scores.losses, dtype=np.float64))
        step = max((points[-1][0] for points in run.metrics.values()), default=0)
        tags = provenance.data_tags(dataset, backend.describe())
        with replace(plan, parent=run.key).begin(f"{run.name}-on-{dataset.name}", tags) as recorder:
            recorder.metrics(step, {"test/accuracy": scores.accuracy, "test/loss": loss})
            screen = recorder.screen
            screen.field("model", run.name, f"{run.config['model']['name']}, trained on {run.about['dataset']}")
            screen.field("data", dataset.name, f"{len(dataset.test):,} test images")
            correct = f"{scores.correct:,} of {len(dataset.test):,}, loss {loss:.4f}"
            screen.field("test", f"accuracy {scores.accuracy:.2%}", correct)
            if request.plots.enabled:
                with presentation.harmless(screen):
                    presentation.draw(recorder, run, classifier, scores)
            recorder.end(Status.FINISHED)
    return recorder.code(0)


def fitted(dataset: Dataset, classifier: Classifier) -> Images:
    """The test images as the model takes them: upright, with its numbers for the classes. Raises DataError: another
    size of image, or images of a class that the model does not know."""
    if dataset.input_shape != classifier.input_shape:
        raise DataError(
            f"data {dataset.name}: the model takes images (C, H, W) = {classifier.input_shape}, got "
            f"{dataset.input_shape}; choose the data it was trained on"
        )
    known = {name: i for i, name in enumerate(classifier.class_names)}
    numbers = np.array([known.get(name, -1) for name in dataset.class_names])
    images = dataset.upright_test
    present = np.unique(images.labels)
    if unknown := [dataset.class_names[label] for label in present if numbers[label] < 0]:
        raise DataError(
            f"data {dataset.name}: the model knows the classes {listed(known)}, not {listed(unknown)}; "
            "choose data with classes that it knows"
        )
    return Images(images.pixels, numbers[images.labels])
