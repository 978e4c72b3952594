"""Parameters that are trained in another way than the rest of a model: ``optim.groups`` of a configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from fnmatch import fnmatchcase
from typing import Annotated, Any

from odyssey_core.errors import ConfigError, shortened
from odyssey_core.fitting import Check, Misfit, describe, fit
from odyssey_core.ranges import Count, Size, annotations_of


@dataclass(frozen=True)
class Group:
    """Some parameters, and what is other for them.

    Attributes:
        match: a pattern of their names, in which * stands for any text: ``*.bias``.
        lr: factor of the learning rate; with 0 they stay as they were drawn, and have neither gradient nor slots.
        weight_decay: factor of the optimizer's weight decay.
        epochs: how many of them they are trained for; their learning rate is 0 after that. None for all.
    """

    match: str
    lr: Size = 1.0
    weight_decay: Size = 1.0
    epochs: Count | None = None

    def factor(self, epoch: int) -> float:
        """What the learning rate is multiplied with in an epoch, counted from 0."""
        return self.lr if self.epochs is None or epoch < self.epochs else 0.0


def read(values: Sequence[Any], path: str) -> tuple[tuple[Group, ...], list[str]]:
    """Groups as a configuration has them.

    Args:
        values: mappings with the fields of `Group`, or groups.
        path: of them in the configuration, for messages.

    Returns:
        The groups that are right, and a line for each fault.
    """
    known, groups, faults = annotations_of(Group), [], []
    for i, value in enumerate(values):
        value = vars(value) if isinstance(value, Group) else value
        if not isinstance(value, Mapping):
            faults.append(f"{path}[{i}]: expected a mapping of {', '.join(known)}, got {shortened(str(value))}")
            continue
        wrong, given = (
            [f"{path}[{i}].{key}: unknown key; a group has {', '.join(known)}" for key in value.keys() - known],
            {},
        )
        for field in fields(Group):
            try:
                if field.name in value or field.default is MISSING:
                    given[field.name] = fit(value.get(field.name), known[field.name])
            except Misfit:
                expected, got = describe(known[field.name]), value.get(field.name, "nothing")
                wrong.append(f"{path}[{i}].{field.name}: expected {expected}, got {shortened(str(got))}")
        faults += wrong
        groups += [] if wrong else [Group(**given)]
    return tuple(groups), faults


Groups = Annotated[Sequence[Any], Check(lambda values, path: read(values, path)[1])]


def assigned(groups: Sequence[Group], names: Iterable[str]) -> dict[str, int]:
    """For each parameter the number of its group, counted from 1: the first whose pattern its name matches, else 0.

    Raises:
        ConfigError: a pattern that matches no parameter, or none that an earlier group has not.
    """
    found = {name: next((i for i, g in enumerate(groups, 1) if fnmatchcase(name, g.match)), 0) for name in names}
    for i, group in enumerate(groups, 1):
        if i not in found.values():
            before = any(fnmatchcase(name, group.match) for name in found)
            why = (
                "earlier groups have all that it matches" if before else f"the model has {shortened(', '.join(found))}"
            )
            raise ConfigError(f"optim.groups[{i - 1}].match: {group.match} matches no parameter; {why}")
    return found
