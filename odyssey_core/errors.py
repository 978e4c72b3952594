"""Every error that is the user's to mend; the runner prints each as one line and exits with code 2.

OdysseyError
├── ConfigError    a name, key, type or value in the configuration
├── ShapeError     operands that do not fit an operation
├── DataError      a data file that is missing, corrupt, or does not fit the model
└── ProgramError   an instruction table that fails its check
"""

import traceback

LONGEST = 100  # characters of what a user wrote that a message repeats


class OdysseyError(Exception):
    """Base of all errors whose message says what, expected, got and what to do."""


class ConfigError(OdysseyError):
    """An unknown name or key, a wrong type, or a value out of range."""


class ShapeError(OdysseyError):
    """Operands whose shapes or dtypes do not fit the operation that was asked for."""


class DataError(OdysseyError):
    """A data file that is missing, corrupt or out of range, or data that a model cannot take."""


class ProgramError(OdysseyError):
    """An instruction that would leave the arena or contradict a shape; names the row."""


def located(error: BaseException) -> str:
    """An error in one line with the file and the line that it was raised in, which are not the program's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    text = " ".join(str(error).split())
    return place + (text if isinstance(error, OdysseyError) else f"{type(error).__name__}: {text}".removesuffix(": "))


def shortened(text: str) -> str:
    """What a user wrote, as far as a message repeats it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]} ... {text[-15:]}"
