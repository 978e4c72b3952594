"""What the processes of all peers do: answer each measurement that they are asked for."""

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
