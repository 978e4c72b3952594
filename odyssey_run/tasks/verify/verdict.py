"""What a verification came to, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from odyssey_run.reports.outputs import MARK
from odyssey_run.tasks.verify.evidence import Evidence

REPRODUCED, DIFFERS, CANNOT = "REPRODUCED", "DIFFERS", "CANNOT"
EXIT_CODES = {REPRODUCED: 0, DIFFERS: 3, CANNOT: 4}
COLOURS = {REPRODUCED: "#007a5a", DIFFERS: "#b84a00", CANNOT: "#6b7280"}


@dataclass(frozen=True)
class Verdict:
    word: str  # REPRODUCED, DIFFERS or CANNOT
    name: str
    where: str  # its id in MLflow, or its folder
    lines: Sequence[str] = ()  # why: what was compared, what differs first, or what is missing
    digest: str = ""  # of all that the run states; empty where that could not be read
    held: Mapping[str, int] = field(default_factory=dict)  # how many statements were held, by how
    stated: Sequence[str] = ()  # the names of those that are only stated
    evidence: Evidence | None = field(default=None, repr=False, compare=False)  # what was found of the run
    steps: int | None = None  # how many were trained again, if not all

    @property
    def title(self) -> str:
        """The word, and up to which step it holds if the run was not trained to its end again."""
        return self.word if self.steps is None or self.word != REPRODUCED else f"{self.word} to step {self.steps:,}"

    def summary(self) -> list[str]:
        """The lines, how many statements were held, and what is only stated."""
        lines = list(self.lines)
        if self.held:
            ways = ", ".join(f"{count} {way}" for way, count in self.held.items())
            lines.append(f"{sum(self.held.values())} statements held: {ways}; run digest {self.digest[:16]}")
            lines.append(f"only stated, not verified: {', '.join(dict.fromkeys(map(_group, self.stated)))}")
        return lines

    def __str__(self) -> str:
        head = f"{self.title:<11} {self.name}  {self.where}"
        return "\n".join([head, *(f"{'':<12}{line}" for line in self.summary())])

    def markdown(self) -> str:
        """For a run's description in MLflow."""
        head = f"**{self.title}** {self.name} `{self.where}`"
        return "\n".join([head, "", *(f"- {line}" for line in self.summary())])

    def badge(self) -> bytes:
        """An SVG, to show beside a claim."""
        from odyssey_run.reports.page import filled  # beside Jinja's import

        wide = 114 + 6 * (len(self.title) - len(self.word))  # about the width of a small letter
        sizes = {"word": wide, "all": wide + 36, "middle": 36 + wide // 2}
        return filled("badge.svg", title=self.title, colour=COLOURS[self.word], **sizes).encode()


def _group(name: str) -> str:
    """``metrics/time/run_s`` and its like as ``time/*``, ``tags/odyssey.process.pid`` as ``odyssey.process.*``."""
    short = name.partition("/")[2] or name
    head, _, rest = short.rpartition("/" if "/" in short else ".")
    return f"{head}{short[len(head)]}*" if rest and head not in ("", "odyssey", "mlflow") else short


def as_json(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts for programs; the last is on the run that was asked for, the others on those under it."""
    rows = [
        {
            "verdict": each.word,
            "steps": each.steps,
            "exit_code": EXIT_CODES[each.word],
            "run": each.name,
            "where": each.where,
            "run_digest": each.digest or None,
            "why": list(each.lines),
            "held": dict(each.held),
            "only_stated": list(each.stated),
        }
        for each in verdicts
    ]
    return f"{json.dumps({'made_by': MARK, **rows[-1], 'below': rows[:-1]}, indent=2)}\n".encode()
