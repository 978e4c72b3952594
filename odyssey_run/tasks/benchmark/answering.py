"""What the processes of all peers do: answer each measurement that they are asked for."""

import time
from collections.abc import Callable
from typing import Any

from odyssey_core.child_process import Parent


def answer(measure: Callable[[dict[str, Any]], float]) -> None:
    """Answers with images/s to questions with kind, batch, mode and seconds, until nothing more is asked."""
    parent = Parent()
    for question in parent:
        try:
            parent.say({"images_per_s": measure(question)})
        except Exception as error:  # such as no compiler for torch.compile, or an unknown operation
            parent.say({"fault": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]})


def rate(step: Callable[[], object], images: int, seconds: float) -> float:
    """Images/s of steps of so many images, over about so many seconds, after one that may compile."""
    step()
    steps, begun = 0, time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        step()
        steps += 1
    return steps * images / now if steps else 0.0
