"""Characters that a person cannot always tell apart without the word around them, and why."""

from odyssey_core.data.dataset import Alike

_REASONS = {
    "one closed curve": ("0O", "0D", "DO", "0Q", "OQ", "DQ"),
    "one upright stroke; the class L holds the small l, I holds the small i": (
        "1I",
        "1L",
        "IL",
        "17",
        "1J",
        "IJ",
        "1T",
    ),
    "one path with sharp or round corners": ("2Z", "5S", "UV", "VY", "UW", "7Z", "27"),
    "a ring or hook with a tail below": ("9g", "9q", "gq", "9Y", "4Y", "gY", "5g", "8g", "Yg", "Sg", "Jg"),
    "a ring with a stroke above": ("6G", "6b", "bh", "ad", "0a", "Oa", "Qa", "ae", "Ca", "Da", "Ga"),
    "the capital and its small letter, or nearly": ("Ff", "Tt", "Rr", "Hh", "Nn", "Bb", "Dd", "Ee", "Aa", "Qq", "Gg"),
    "one crossing stroke more or less": ("4A", "4q", "49", "79", "7T", "7Y", "FP", "EF", "ft", "It", "Xx", "1t", "Lt"),
    "arches that differ by one stem": ("nr", "hn", "MN", "HN", "Mn", "Wn", "Kh", "Vr", "Yr", "Tr", "Ir", "rv", "CG"),
    "two loops": ("8B", "3B", "38", "35", "8S", "68", "89"),
    "an open curve that is nearly closed": ("Ce", "CE", "CL", "Cc", "0C", "06", "OU", "6C", "CO"),
}
LOOKALIKES = Alike(
    {frozenset(pair): reason for reason, pairs in _REASONS.items() for pair in pairs},
    "characters that look alike and that a reader tells apart by the word around them",
)
