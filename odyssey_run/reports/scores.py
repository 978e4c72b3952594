"""What a classifier says of labelled images, in numbers, and of the pictures that a person has: nothing here draws."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset, Images
from odyssey_core.data.dataset import Alike
from odyssey_core.data.preparation import Box, Looked, Seen


@dataclass(frozen=True)
class Scores:
    """A classifier's answers on labelled images."""

    pixels: np.ndarray  # (N, C, H, W) uint8, upright
    labels: np.ndarray  # (N,) int64, the truth
    logits: np.ndarray  # (N, K) float32
    losses: np.ndarray  # (N,) float32, as evaluation reports them
    class_names: tuple[str, ...]
    data: str
    alike: Alike | None  # which of its classes a person, too, takes for each other
    light_on_dark: bool  # whether its images are negatives, light ink on dark paper

    @classmethod
    def of(
        cls, answers: tuple[np.ndarray, np.ndarray], classifier: Classifier, images: Images, dataset: Dataset
    ) -> "Scores":
        """Of what a classifier answered to upright images of a data set, labelled with the classifier's classes."""
        logits, losses = answers
        names = classifier.class_names
        about = (names, dataset.name, dataset.alike, dataset.preparation.light_on_dark)
        return cls(images.pixels, images.labels, logits, losses, *about)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N,) int64."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def correct(self) -> int:
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        return self.correct / len(self.labels)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(N,) probability of the answer."""
        apart = self.logits - self.logits.max(axis=1, keepdims=True)
        return np.asarray(1 / np.exp(apart, dtype=np.float64).sum(axis=1))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K, K) int64 counts: row the truth, column the answer."""
        classes = len(self.class_names)
        return np.bincount(self.labels * classes + self.predicted, minlength=classes**2).reshape(classes, classes)

    def mistakes(self, count: int) -> np.ndarray:
        """Indices of the wrong answers given with most confidence, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order = np.argsort(-self.confidence[wrong], kind="stable")
        return np.asarray(wrong[order[:count]])


@dataclass(frozen=True)
class Answer:
    """What a model says of one image."""

    seen: Seen  # what it was shown, and where that lies
    answers: list[tuple[str, float]]  # (class name, probability), the likeliest first


@dataclass(frozen=True)
class Reading:
    """What a model says of one picture."""

    path: Path
    looked: Looked  # what there is to see in it
    answers: list[Answer]
    fault: str = ""  # why there is none; "" where there is one

    def box(self, box: Box) -> list[int]:
        """The same in pixels of the file."""
        return [round(self.looked.scale * edge) for edge in box]


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, (K,) float64 in [0, 1].

    nan where they are undefined: all three for a class without images, precision for one that is never answered.
    """
    right, given, answered = np.diag(confusion).astype(np.float64), confusion.sum(axis=1), confusion.sum(axis=0)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.asarray(np.divide(part, whole, out=np.full(len(right), np.nan), where=(whole > 0) & (given > 0)))

    precision, recall, f1 = share(right, answered), share(right, given), share(2 * right, given + answered)
    return {"precision": precision, "recall": recall, "f1": f1}


def confused_pairs(confusion: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """(class, class, images of either taken for the other), the most confused first, none without any."""
    both = np.triu(confusion + confusion.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:count]
    pairs = np.column_stack(np.unravel_index(order, both.shape)).tolist()
    return [(a, b, int(both[a, b])) for a, b in pairs if both[a, b]]
