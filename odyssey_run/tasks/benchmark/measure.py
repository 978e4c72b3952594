"""The measurements: ours, the machine's peak and the peers' in turns, so that a busy minute is everybody's."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import compress
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track

from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.peak import Peak
from odyssey_core.backends.numba.timing import RowTime
from odyssey_core.data import Dataset
from odyssey_core.errors import ConfigError
from odyssey_run.config.request import Request
from odyssey_run.config.schema import BenchmarkConfig
from odyssey_run.tasks.benchmark.ours import Ours
from odyssey_run.tasks.benchmark.peers import INFER, KINDS, MODES, TRAIN, Case, Peer, PeerFault, installed

WHOLE = 0.85  # of as many cores: threads of one physical core make 1.0 to 1.3 of it, not 2
PAUSE_S = 0.02  # for the threads of the last one measured to stop spinning


@dataclass(frozen=True)
class Line:
    """What came of one case: medians of the rounds that count; ratios too are medians, of what stood side by side."""

    case: Case
    images_per_s: float
    low: float  # of the rounds
    high: float  # of the rounds
    gflops: float  # of useful work, GFLOP/s
    of_peak: float  # `gflops` as a part of the machine's on as many threads
    peer: str | None  # the fastest peer in its fastest mode, "torch eager"; None where none was measured
    peer_images_per_s: float | None
    ratio: float | None  # how many times as fast we are


@dataclass
class Figures:
    """Everything measured, one value a round."""

    flops: dict[str, int]  # of useful work in one image, by kind
    parameters: int
    # The machine's GFLOP/s on as many threads as a case, beside it.
    peak: dict[Case, list[float]] = field(default_factory=dict)
    # How many times as much as on one thread that is, the less of before and after the case.
    scaling: dict[Case, list[float]] = field(default_factory=dict)
    ours: dict[Case, list[float]] = field(default_factory=dict)  # images/s
    peers: dict[tuple[Case, str], list[float]] = field(default_factory=dict)  # images/s by case and "peer mode"
    rows: list[RowTime] = field(default_factory=list)

    def counts(self, case: Case) -> list[bool]:
        """For each round whether its threads had a core each; one where they had not measures fewer threads."""
        return [ratio >= WHOLE * case.threads for ratio in self.scaling[case]]

    def lines(self) -> list[Line]:
        """A line for each case, in the order in which they were measured, but for those of which no round counts."""
        return [self._line(case) for case in self.ours if any(self.counts(case))]

    def peaks(self) -> dict[int, float]:
        """GFLOP/s by number of threads."""
        counts = sorted({case.threads for case in self.peak})
        return {n: median(v for case, values in self.peak.items() if case.threads == n for v in values) for n in counts}

    def _line(self, case: Case) -> Line:
        def counted(rounds: list[float]) -> list[float]:
            return list(compress(rounds, self.counts(case)))

        rates, work = counted(self.ours[case]), self.flops[case.kind] / 1e9
        others = {name: counted(values) for (of, name), values in self.peers.items() if of == case}
        best = max(others, key=lambda name: median(others[name]), default=None)
        beside = (best, median(others[best]), _ratio(rates, others[best])) if best else (None, None, None)
        of_peak = work * _ratio(rates, counted(self.peak[case]))
        return Line(case, median(rates), min(rates), max(rates), work * median(rates), of_peak, *beside)


def _ratio(ours: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(ours, others, strict=True))


def measure(request: Request, dataset: Dataset, config: BenchmarkConfig, say: Callable[[str], None]) -> Figures:
    ours = Ours(request, dataset)
    counts = _threads(request, config)
    peaks = {threads: Peak(NumbaBackend().tiles, threads) for threads in {1, *counts}}
    cases = [Case(TRAIN, batch, t) for t in counts for batch in config.batch_sizes]
    cases += [Case(INFER, batch, t) for t in counts for batch in dict.fromkeys((1, *config.batch_sizes))]
    figures = Figures(ours.flops, ours.parameters)
    with ExitStack() as stack:
        for case in cases:
            ours.prepare(case)
        told = [(name, given, n) for name, given in _given(config, ours, say) for n in counts]
        peers = [stack.enter_context(closing(Peer(name, n, given))) for name, given, n in told]
        modes = _warm(peers, cases, say)
        for _ in track(range(config.rounds), "measuring", console=Console(stderr=True), transient=True):
            for case in cases:
                alone, together = (peaks[n].measure(config.seconds / 2) for n in (1, case.threads))
                figures.peak.setdefault(case, []).append(together)
                figures.ours.setdefault(case, []).append(ours.measure(case, config.seconds))
                for peer, mode in modes[case]:
                    time.sleep(PAUSE_S)
                    rate = peer.measure(case, mode, config.seconds)
                    figures.peers.setdefault((case, f"{peer.name} {mode}"), []).append(rate)
                time.sleep(PAUSE_S if modes[case] else 0)
                after = peaks[case.threads].measure(config.seconds / 2) if case.threads > 1 else alone
                figures.scaling.setdefault(case, []).append(min(together, after) / alone if case.threads > 1 else 1.0)
    figures.rows = ours.rows()
    return figures


def _threads(request: Request, config: BenchmarkConfig) -> list[int]:
    """Numbers of threads that the backend really uses."""
    most = NumbaBackend(**request.backend.arguments).threads
    wanted = config.threads or sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})
    return sorted({NumbaBackend(t, request.backend.arguments["groups"]).threads for t in wanted})


def _given(config: BenchmarkConfig, ours: Ours, say: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The peers that can be measured, and what each is told."""
    for name in config.peers:
        if not installed(name):
            say(f"{name} is not installed and left out; pip install {name} to measure beside it")
            continue
        try:
            yield name, ours.given(name)
        except ConfigError as error:
            say(f"{name} is left out: {error}")


def _warm(peers: list[Peer], cases: list[Case], say: Callable[[str], None]) -> dict[Case, list[tuple[Peer, str]]]:
    """The modes that work, by case, after everything was run, and so compiled, once."""
    modes: dict[Case, list[tuple[Peer, str]]] = {case: [] for case in cases}

    def warm_all(peer: Peer) -> list[str]:
        faults = []
        own = [case for case in cases if case.threads == peer.threads and case.kind in KINDS[peer.name]]
        for mode in MODES[peer.name]:
            try:
                for case in own:
                    peer.measure(case, mode, 0.0)
            except PeerFault as fault:
                faults.append(str(fault))
                continue
            for case in own:
                modes[case].append((peer, mode))
        return faults

    with ThreadPoolExecutor(max(1, len(peers))) as pool:
        for faults in pool.map(warm_all, peers):
            for fault in faults:
                say(f"left out: {fault}")
    return modes
