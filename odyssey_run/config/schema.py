"""The run-level groups. Components have none: their constructors' annotations are their schema.

No field has a default, nor is it explained here: both are in the files of conf/, and only there.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from odyssey_core.optim.optimizer import ClipNorm, Lookahead, StepRule
from odyssey_core.ranges import Count, Range, Share
from odyssey_core.views import TestViews

SEEDS = Range(0, 2**63 - 1)


@dataclass(frozen=True)
class TrainerConfig:
    epochs: Count
    batch_size: Count
    max_steps: Count | None
    log_every: Count
    validation_size: Annotated[int, Range(0)] | None
    train_size: Count | None
    clip_norm: ClipNorm | None
    ema: Share | None
    lookahead: Lookahead | None
    tta: TestViews | None
    monitor: Literal["val/accuracy", "val/loss"]
    keep: Literal["last", "best"]
    patience: Count | None
    time_budget_s: Annotated[float, Range(0.001)] | None
    checkpoint_s: Annotated[float, Range(0)] | None

    @property
    def step_rule(self) -> StepRule:
        """What a step does beside the optimizer's rule. Raises ConfigError for two averages."""
        return StepRule(self.clip_norm, self.ema, self.lookahead)


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run is recorded beside its own folder."""

    name: Literal["mlflow", "none"]
    uri: str | None
    experiment: str | None
    register: str | None


@dataclass(frozen=True)
class FolderConfig:
    name: str | None
    dir: str | None


@dataclass(frozen=True)
class PlotsConfig:
    enabled: bool


@dataclass(frozen=True)
class SweepConfig:
    """How many runs come of one command with ``-m``; no part of any one run."""

    strategy: Literal["grid", "random", "tpe"]
    name: str | None
    trials: Annotated[int, Range(1, 10_000)] | None
    metric: Literal["val/accuracy", "val/loss", "test/accuracy", "test/loss", "train/loss"]
    direction: Literal["maximize", "minimize"] | None
    seed: Annotated[int, Range(0, 2**32 - 1)]
    prune: bool
    jobs: Count | None
    executor: Literal["local", "dask"]
    address: str | None
    dry_run: bool
    rerun: bool
    fail_fast: bool

    @property
    def maximizes(self) -> bool:
        return (self.direction or ("minimize" if self.metric.endswith("loss") else "maximize")) == "maximize"


@dataclass(frozen=True)
class VerifyConfig:
    steps: Count | None
    any_code: bool


@dataclass(frozen=True)
class BenchmarkConfig:
    peers: tuple[Literal["torch", "onnxruntime", "openvino"], ...]
    batch_sizes: tuple[Count, ...]
    threads: tuple[Count, ...] | None
    rounds: Count
    seconds: Annotated[float, Range(0.001)]


@dataclass(frozen=True)
class RunConfig:
    """The root of a configuration; components stay mappings here, and are bound to their constructors afterwards."""

    seed: Annotated[int, SEEDS]
    seeds: Annotated[int, Range(1, 1000)]
    resume: str | None
    hooks: list[Any]
    expect: dict[str, Any]
    run: FolderConfig
    plots: PlotsConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    model: dict[str, Any]
    data: dict[str, Any]
    loss: dict[str, Any]
    optim: dict[str, Any]
    scheduler: dict[str, Any]
    backend: dict[str, Any]
    task: dict[str, Any]
