"""The measurements: ours, the machine's peak and the peers' in turns, so that a busy minute is everybody's."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
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
class Round:
    """What was measured of a case side by side."""

    peak: float  # the machine's GFLOP/s on as many threads as the case
    scaling: float  # how many times as much as on one thread that is, the less of before and after the case
    ours: float  # images/s
    peers: dict[str, float]  # images/s by "peer mode"


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
    flops: dict[str, int]  # of useful work in one image, by kind
    parameters: int
    rounds: dict[Case, list[Round]] = field(default_factory=dict)
    rows: list[RowTime] = field(default_factory=list)

    def counted(self, case: Case) -> list[Round]:
        """The rounds whose threads had a core each; one where they had not measures fewer threads."""
        return [each for each in self.rounds[case] if each.scaling >= WHOLE * case.threads]

    def lines(self) -> list[Line]:
        """A line for each case, in the order in which they were measured, but for those of which no round counts."""
        return [self._line(case, rounds) for case in self.rounds if (rounds := self.counted(case))]

    def peaks(self) -> dict[int, float]:
        """GFLOP/s by number of threads."""
        found: dict[int, list[float]] = {}
        for case, rounds in self.rounds.items():
            found.setdefault(case.threads, []).extend(each.peak for each in rounds)
        return {threads: median(found[threads]) for threads in sorted(found)}

    def _line(self, case: Case, rounds: list[Round]) -> Line:
        work, rates = self.flops[case.kind] / 1e9, [each.ours for each in rounds]
        peers = {name: median(each.peers[name] for each in rounds) for name in rounds[0].peers}
        best = max(peers, key=peers.__getitem__, default=None)
        ratio = median(each.ours / each.peers[best] for each in rounds) if best else None
        of_peak = work * median(each.ours / each.peak for each in rounds)
        beside = best, peers.get(best or ""), ratio
        return Line(case, median(rates), min(rates), max(rates), work * median(rates), of_peak, *beside)


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
        with ThreadPoolExecutor(max(1, len(peers))) as pool:
            working = [*pool.map(lambda peer: list(_working(peer, cases, say)), peers)]
        modes = {case: [(peer, mode) for each in working for of, peer, mode in each if of == case] for case in cases}
        for _ in track(range(config.rounds), "measuring", console=Console(stderr=True), transient=True):
            for case in cases:
                alone, together = (peaks[n].measure(config.seconds / 2) for n in (1, case.threads))
                rate, others = ours.measure(case, config.seconds), dict[str, float]()
                for peer, mode in modes[case]:
                    time.sleep(PAUSE_S)
                    others[f"{peer.name} {mode}"] = peer.measure(case, mode, config.seconds)
                time.sleep(PAUSE_S if others else 0)
                after = peaks[case.threads].measure(config.seconds / 2) if case.threads > 1 else alone
                scaling = min(together, after) / alone if case.threads > 1 else 1.0
                figures.rounds.setdefault(case, []).append(Round(together, scaling, rate, others))
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


def _working(peer: Peer, cases: list[Case], say: Callable[[str], None]) -> Iterator[tuple[Case, Peer, str]]:
    """The cases of a peer in each of its modes that works, after everything was run, and so compiled, once."""
    own = [case for case in cases if case.threads == peer.threads and case.kind in KINDS[peer.name]]
    for mode in MODES[peer.name]:
        try:
            for case in own:
                peer.measure(case, mode, 0.0)
        except PeerFault as fault:
            say(f"left out: {fault}")
        else:
            yield from ((case, peer, mode) for case in own)
