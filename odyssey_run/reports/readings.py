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
    looked: Looked  # what there is to see in it
    answers: list[Answer]
    fault: str = ""  # why there is none; "" where there is one

    def box(self, box: Box) -> list[int]:
        """The same in pixels of the file."""
        return [round(self.looked.scale * edge) for edge in box]
