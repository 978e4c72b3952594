"""What a model says of the pictures that a person has, as `task=predict` writes it and `reports.images` draws it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odyssey_core.data.preparation import Box, Looked, Seen


@dataclass(frozen=True)
class Answer:
    """What a model says of one image.

    Args:
        seen: what it was shown, and where that lies.
        answers: (class name, probability), the likeliest first.
    """

    seen: "Seen"
    answers: list[tuple[str, float]]


@dataclass(frozen=True)
class Reading:
    """What a model says of one picture.

    Args:
        looked: what there is to see in it; None where nothing is.
        fault: why there is none; "" where there is one.
    """

    path: Path
    looked: "Looked | None"
    answers: list[Answer]
    fault: str = ""

    @property
    def left_out(self) -> "list[tuple[Box, str]]":
        """Boxes of what the model was not shown, and why."""
        return self.looked.left_out if self.looked else []

    def box(self, box: "Box") -> list[int]:
        """A box in pixels of the file."""
        scale = self.looked.scale if self.looked else 1
        return [round(scale * edge) for edge in box]
