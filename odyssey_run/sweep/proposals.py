"""Where the points of a sweep come from: a list, or Optuna, which asks what became of those before."""

import contextlib
import logging
import statistics
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_run.config import sources
from odyssey_run.config.schema import SweepConfig
from odyssey_run.sweep.plan import Composer, Trial
from odyssey_run.sweep.results import PointStatus
from odyssey_run.sweep.space import Assignment, Axis

HISTORY = "optuna.db"
# A run is judged from its second epoch on, and not before five have come to their end.
STARTUP, WARMUP = 5, 2


class Proposals:
    """Trials that are known from the start, in their order."""

    def __init__(self, trials: list[Trial]):
        self.total = len(trials)
        self._left: Iterator[Trial] = iter(trials)

    def ask(self) -> Trial | None:
        """The next, or None where there is none."""
        return next(self._left, None)

    def should_prune(self, trial: Trial, epoch: int, value: float) -> bool:
        """Whether a run with this value after so many epochs should stop; asked from any thread."""
        return False

    def tell(self, trial: Trial, status: PointStatus, value: float | None) -> None:
        """Reports how a trial ended; KILLED where the sweep was stopped."""


class Tpe(Proposals):
    """Points that Optuna's tree-structured Parzen estimator proposes, with its history in a file of the sweep's.

    A trial that an earlier command left unfinished is proposed again first; one that failed is replaced.

    A run is stopped where its value after an epoch is worse than the median of what finished runs had after as many.
    Optuna's MedianPruner would take a run's best value so far: one that was good once would never be stopped.

    Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; Optuna's TPESampler. The median rule is
    that of Golovin et al., "Google Vizier", KDD 2017, section 3.2.2, with the values after the epoch in
    place of the best one and of running means.
    """

    def __init__(self, folder: Path, config: SweepConfig, composer: Composer):
        self._optuna = _import_optuna()
        self._config, self._composer = config, composer
        self.total = config.trials or 0
        self._lock = threading.Lock()
        self._axes = {axis.key: axis for axis in composer.axes}
        with _quiet():
            self._study = self._open(folder / HISTORY)
            self._begun, self._again = self._earlier()
        self._fresh = self.total - len(self._begun) - len(self._again)
        self._trials: dict[int | None, Any] = {}

    def _earlier(self) -> tuple[list[Any], list[Any]]:
        """Trials that an earlier command began, and those it finished; what failed is to be asked for once more."""
        states, study = self._optuna.trial.TrialState, self._study
        trials = study.get_trials(deepcopy=False)
        replaced = study.user_attrs.get("replaced", [])
        for proposed in trials:
            whole = proposed.params.keys() == self._axes.keys()
            if proposed.state == states.RUNNING and not whole:  # killed while it was being made
                study.tell(proposed.number, state=states.FAIL)
            elif proposed.state == states.FAIL and whole and proposed.number not in replaced:
                study.enqueue_trial(proposed.params)
                replaced.append(proposed.number)
        study.set_user_attr("replaced", replaced)
        begun = [t for t in trials if t.state == states.RUNNING and t.params.keys() == self._axes.keys()]
        return begun, [t for t in trials if t.state in (states.COMPLETE, states.PRUNED)]

    def _open(self, file: Path) -> Any:
        optuna, config = self._optuna, self._config
        storage = f"sqlite:///{file.absolute()}"
        name = sources.digest()[:12]  # what other code made of a point says little
        direction = "maximize" if config.maximizes else "minimize"
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction=direction)
        # A study that goes on must not draw once more what it drew first.
        seed = (config.seed + len(study.get_trials(deepcopy=False))) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
        return study

    def ask(self) -> Trial | None:
        with self._lock, _quiet():
            if self._again:
                proposed = self._again.pop(0)
            elif self._begun:
                proposed = self._optuna.trial.Trial(self._study, self._begun.pop(0)._trial_id)
            elif self._fresh > 0:
                self._fresh -= 1
                proposed = self._study.ask({key: self._distribution(axis) for key, axis in self._axes.items()})
            else:
                return None
            self._trials[proposed.number] = proposed
        return self._composer.trial(self._assignment(proposed.params), proposed.number)

    def should_prune(self, trial: Trial, epoch: int, value: float) -> bool:
        if len(trial.points) > 1:  # the runs of several seeds have one value together
            return False
        with self._lock, _quiet():
            self._trials[trial.number].report(value, epoch)
            finished = self._study.get_trials(deepcopy=False, states=[self._optuna.trial.TrialState.COMPLETE])
            others = [t.intermediate_values[epoch] for t in finished if epoch in t.intermediate_values]
            if not self._config.prune or epoch < WARMUP or len(finished) < STARTUP or not others:
                return False
            median = statistics.median(others)
            return not (value >= median if self._config.maximizes else value <= median)

    def tell(self, trial: Trial, status: PointStatus, value: float | None) -> None:
        names = {PointStatus.FINISHED: "COMPLETE", PointStatus.PRUNED: "PRUNED", PointStatus.FAILED: "FAIL"}
        if status == PointStatus.FINISHED and value is None:  # nothing to compare it by
            status = PointStatus.FAILED
        if status in names:
            value = value if status == PointStatus.FINISHED else None
            state = self._optuna.trial.TrialState[names[status]]
            with self._lock, _quiet():
                self._study.tell(trial.number, value, state, skip_if_finished=True)

    def _distribution(self, axis: Axis) -> Any:
        make = self._optuna.distributions
        if axis.ordered:
            return make.IntDistribution(0, len(axis.values) - 1)
        if axis.values:
            return make.CategoricalDistribution(axis.values)
        if axis.integer:
            return make.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return make.FloatDistribution(axis.low, axis.high, log=axis.log)

    def _assignment(self, params: dict[str, Any]) -> Assignment:
        texts = []
        for key, axis in self._axes.items():
            value = params[key]
            texts.append((key, axis.values[value] if axis.ordered else value if axis.values else axis.text(value)))
        return tuple(texts)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("sweep=tpe: needs Optuna; pip install 'ml-odyssey[tpe]', or choose sweep=random") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings, of what is experimental and of a value that a resumed run reports again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
