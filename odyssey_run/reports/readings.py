"""What a model says of the pictures that a person has, as `task=predict` writes it and `reports.images` draws it."""

from dataclasses import dataclass
from pathlib import Path

from odyssey_core.data.preparation import Box, Looked, Seen


@dataclass(frozen=True)
class Answer:
    """What a model says of one image."""

    seen: Seen  # what it was shown, and where that lies
    answers: list[tuple[str, float]]  # (class name, probability), the likeliest first


@dataclass(frozen=True)
class Reading:
    """What a model says of one picture."""

    path: Path
    looked: Looked | None  # what there is to see in it; None where nothing is
    answers: list[Answer]
    fault: str = ""  # why there is none; "" where there is one

    @property
    def left_out(self) -> list[tuple[Box, str]]:
        """Boxes of what the model was not shown, and why."""
        return self.looked.left_out if self.looked else []

    def box(self, box: Box) -> list[int]:
        scale = self.looked.scale if self.looked else 1
        return [round(scale * edge) for edge in box]
