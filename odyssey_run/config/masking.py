"""Passwords and tokens in addresses, taken out of whatever is written or shown. They are used, and never kept.

An address is masked wherever it leaves the program: by the journal, the screen, the log, an error's text. What needs
the password again, to send a run that a crash left behind, gets it from the command or the environment of that moment.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# As SQLAlchemy reads them, a user's name may hold an @ (maria@server), and a password anything but white space: it goes
# to the last @ of the word.
_PASSWORD = re.compile(r"([A-Za-z][\w+.-]*://[^\s:/]*):\S*@")
# A user without a password, where there are no users: a token.
_TOKEN = re.compile(r"(https?://)[^\s:/?#]+@(?![^\s/]*@)")
# A value ends at & or white space alone; quotes at the end of a word are the shell's, or those of a sentence.
_QUERY = re.compile(
    r"([?&;][\w.-]*(?:pass|pwd|token|secret|key|credential|signature|auth|odbc_connect)[\w.-]*=)"
    r"[^\s&]+?(?=(?:['\"]+[\]}),;.:]*)?(?:[\s&]|$))",
    re.IGNORECASE,
)


def masked(value: Any) -> Any:
    """The same text, or mapping or list of texts, with ``***`` for every password or token in an address:
    ``http://maria:***@host``."""
    if isinstance(value, str):
        value = _PASSWORD.sub(rf"\1:{HIDDEN}@", value) if "@" in value else value
        value = _TOKEN.sub(rf"\1{HIDDEN}@", value) if "@" in value else value
        return _QUERY.sub(rf"\1{HIDDEN}", value) if "=" in value else value
    if isinstance(value, Mapping):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(masked, value))
    return value
