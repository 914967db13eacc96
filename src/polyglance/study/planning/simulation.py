"""A study of published sizes, simulated on a cluster: queueing, preemption, checkpoints, data, cost.

A discrete-event simulation. The cluster is divided into places for runs of `machine.devices` GPUs. A run waits for a
place, starts, trains from one checkpoint to the next, and stops while it writes one. Runs that read and write more than
the store gives share its bandwidth evenly. A preempted run loses its steps since the last checkpoint, and waits for a
place again; its place is unavailable for a while. Steps take as long as `study plan` says, which counts the messages
between a run's devices. Everything is extrapolated from such pieces: no cluster was measured.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

import numpy as np

from polyglance.languages import did_you_mean
from polyglance.model.rates import KNOWN_PEAKS_TFLOPS
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.grid.published import count_published
from polyglance.study.places.job_queue import sum_longest_chains
from polyglance.study.planning.simulation_config import SimulatedClusterConfig

__all__ = [
    "ClusterPlan",
    "SimulatedJob",
    "Simulation",
    "count_places",
    "place_on_cluster",
    "run_simulation",
    "simulate_cluster",
]

_DECODED_PER_CORE_S = {"exact": 320.0, "reduced": 560.0}
"""Images of 500 px that a core decodes in a second, by `mixture.decode` (benchmarks/cluster_pieces.py, 2026-11-28)."""
_READ_BYTES_PER_CORE_S = 500e6
"""Bytes that a process reads from shards over HTTP in a second of its core (benchmarks/cluster_pieces.py)."""
_NODE_BYTES_PER_S = 5e9
"""Bytes that a node sends to the store in a second: assumed, a link of 50 Gbit/s of which four fifths are reached."""
_BYTES_PER_TRAINED = 12
"""Bytes of a checkpoint for each trained parameter: it and two moments of the optimiser, in float32."""
_MAX_PREEMPTIONS = 8.0
"""Mean number of preemptions between two checkpoints from which on a run is refused: it would never end."""


@dataclass(frozen=True, kw_only=True)
class SimulatedJob:
    """A run or trunk as the simulation sees it."""

    id: str
    needs: frozenset[str] = frozenset()
    """Jobs that it waits for."""
    num_steps: int
    step_s: float
    """Seconds of a step whose images have been read."""
    bytes_per_step: float = 0.0
    """Bytes that a step reads from the store."""
    save_every: int
    """Steps between checkpoints."""
    save_s: float = 0.0
    """Seconds in which a checkpoint is written and no step is made, with the store to itself."""
    save_bytes: float = 0.0
    """Bytes of a checkpoint; 0: it does not slow others down."""
    start_s: float = 0.0
    """Seconds from the start on its devices to the first step."""
    priority: float = 0.0
    """Order of those that wait: the highest is first."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Result of one simulation, in seconds of places."""

    wall_s: float
    work_s: float
    """Time of steps whose result was kept, including waits for the store."""
    lost_s: float
    """Time of steps that a preemption has undone."""
    save_s: float
    """Time in which checkpoints were written."""
    start_s: float
    """Time of starting."""
    held_s: float
    """Time that runs have held places, added up at their ends: the sum of the four above."""
    away_s: float
    """Time that places were away after preemptions, within `wall_s`."""
    store_wait_s: float
    """Part of `work_s` and `lost_s` in which a step waited for the store."""
    num_preemptions: int
    first_start_s: Mapping[str, float]
    end_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """Expected course of a study on a cluster: means over the trials. Hours are those of GPUs."""

    cluster: str
    num_gpus: int
    gpus_per_run: int
    places: int
    """Runs that are at work at the same time, at most."""
    wall_hours: float
    wall_hours_range: tuple[float, float]
    """Shortest and longest trial."""
    work_gpu_hours: float
    """Steps whose result was kept, including waits for data."""
    lost_gpu_hours: float
    """Steps that were done again after a preemption."""
    checkpoint_gpu_hours: float
    start_gpu_hours: float
    gpu_hours: float
    """Time that runs have held: the sum of the four above."""
    utilisation: float
    """Share of the cluster's GPUs, over the wall time, that made steps whose result was kept."""
    preemptions: float
    money: float | None
    """Price of `gpu_hours`; None without a price."""
    reserved_money: float | None
    """Price of the whole cluster for the wall time."""
    currency: str
    limits: tuple[str, ...]
    """Limits of the wall time, the most important first, one sentence each."""
    assumptions: tuple[str, ...]
    """Sources of the numbers, one sentence each."""
    end_hours: Mapping[str, float] = field(default_factory=dict)
    """Run id -> hours after the begin at which it ends, in the first trial."""


def place_on_cluster(config: StudyConfig, options: SimulatedClusterConfig) -> StudyConfig:
    """Return the study with the cluster's card.

    Raises:
        ValueError: a study of micro models, a card without a known peak, or a run that needs more GPUs than there are.
    """
    num_gpus, card = options.parse()
    if config.is_micro:
        raise ValueError("`cluster` is for studies of published sizes; micro models run on the cores of one machine")
    machine = config.machine
    known = {name.lower(): name for name in (*KNOWN_PEAKS_TFLOPS, machine.card)}
    if card.lower() not in known:
        raise ValueError(
            f"`cluster` {options.cluster!r}: unknown GPU {card!r}; {did_you_mean(card, tuple(known.values()))}, or "
            "--set machine.card and machine.peak_tflops to those of another"
        )
    card = known[card.lower()]
    if card != machine.card:
        machine = replace(machine, card=card, peak_tflops=KNOWN_PEAKS_TFLOPS[card])
    if count_places(num_gpus, machine.devices, machine.network.devices_per_node) < 1:
        raise ValueError(
            f"`cluster` {options.cluster!r}: a run needs {machine.devices} GPUs on nodes of "
            f"{machine.network.devices_per_node}, more than the cluster has; lower machine.devices"
        )
    return replace(config, machine=machine)


def count_places(num_gpus: int, gpus_per_run: int, gpus_per_node: int) -> int:
    """Return how many runs a cluster has room for at a time. A run of less than a node does not span two; a larger one
    takes whole nodes."""
    whole, rest = divmod(num_gpus, gpus_per_node)
    if gpus_per_run <= gpus_per_node:
        return whole * (gpus_per_node // gpus_per_run) + rest // gpus_per_run
    return whole // math.ceil(gpus_per_run / gpus_per_node)


def simulate_cluster(
    config: StudyConfig, options: SimulatedClusterConfig, jobs: Sequence[Job], *, done: Set[str]
) -> ClusterPlan:
    """Simulate the jobs that are not done.

    Args:
        config: result of `place_on_cluster`.
        jobs: each after those it needs.

    Raises:
        ValueError: preemptions so frequent that a run never ends.
    """
    num_gpus, _ = options.parse()
    machine = config.machine
    places = count_places(num_gpus, machine.devices, machine.network.devices_per_node)
    simulated = _describe_jobs(config, options, jobs, done)
    preemptions_per_s = options.preemption_rate * _count_nodes(config) / 3600
    for job in simulated:
        _check_progress(job, preemptions_per_s)
    results = [
        run_simulation(
            simulated,
            places=places,
            store_bytes_per_s=options.store_gb_s * 1e9,
            preemptions_per_s=preemptions_per_s,
            away_s=60 * options.away_minutes,
            seed=(options.seed, trial),
        )
        for trial in range(options.trials if preemptions_per_s else 1)
    ]
    hours = {
        name: fmean(getattr(one, name) for one in results) * machine.devices / 3600
        for name in ("work_s", "lost_s", "save_s", "start_s", "held_s", "store_wait_s")
    }
    walls = [one.wall_s / 3600 for one in results]
    wall = fmean(walls)
    price = machine.price_per_gpu_hour
    return ClusterPlan(
        cluster=f"{num_gpus:,} x {machine.card}",
        num_gpus=num_gpus,
        gpus_per_run=machine.devices,
        places=places,
        wall_hours=wall,
        wall_hours_range=(min(walls), max(walls)),
        work_gpu_hours=hours["work_s"],
        lost_gpu_hours=hours["lost_s"],
        checkpoint_gpu_hours=hours["save_s"],
        start_gpu_hours=hours["start_s"],
        gpu_hours=hours["held_s"],
        utilisation=hours["work_s"] / (wall * num_gpus) if wall else 0.0,
        preemptions=fmean(one.num_preemptions for one in results),
        money=None if price is None else hours["held_s"] * price,
        reserved_money=None if price is None else wall * num_gpus * price,
        currency="" if price is None else machine.currency,
        limits=_find_limits(config, options, simulated, places, wall, hours),
        assumptions=_list_assumptions(config, options),
        end_hours={name: seconds / 3600 for name, seconds in results[0].end_s.items()},
    )


def _describe_jobs(
    config: StudyConfig, options: SimulatedClusterConfig, jobs: Sequence[Job], done: Set[str]
) -> tuple[SimulatedJob, ...]:
    """Return the runs and trunks that are not done. The other jobs take no time: what waits for one of them waits for
    the runs and trunks that it waits for."""
    batch = config.mixture.batch_size
    bytes_per_s = min(options.store_gb_s * 1e9, _count_nodes(config) * _NODE_BYTES_PER_S)
    costs = {size: count_published(config, size) for size in dict.fromkeys(job.size for job in jobs if job.size)}
    image_bytes = 1e3 * options.image_kb
    images_per_s = _count_images_per_s(config, options)
    step_s = {size: max(batch / cost.samples_per_s, batch / images_per_s) for size, cost in costs.items()}
    seconds = {job.id: _steps_of(config, job) * step_s.get(job.size, 0.0) for job in jobs}
    chains = sum_longest_chains(jobs, seconds)
    before: dict[str, frozenset[str]] = {}
    simulated = []
    for job in jobs:
        needs = frozenset[str]().union(
            *({name} if seconds[name] else before[name] for name in (*job.needs, *job.after) if name not in done)
        )
        before[job.id] = needs
        if not seconds[job.id] or job.id in done:
            continue
        counts = costs[job.size].counts
        saved_bytes = 0 if config.save_in_background else _BYTES_PER_TRAINED * counts.num_trained
        read_bytes = 4 * counts.num_parameters + _BYTES_PER_TRAINED * counts.num_trained
        simulated.append(
            SimulatedJob(
                id=job.id,
                needs=needs,
                num_steps=_steps_of(config, job),
                step_s=step_s[job.size],
                bytes_per_step=batch * image_bytes,
                save_every=config.save_every_steps,
                save_s=saved_bytes / bytes_per_s,
                save_bytes=saved_bytes,
                start_s=60 * options.start_minutes + read_bytes / bytes_per_s,
                priority=chains[job.id],
            )
        )
    return tuple(simulated)


def _count_nodes(config: StudyConfig) -> int:
    """Return the nodes of a run."""
    return math.ceil(config.machine.devices / config.machine.network.devices_per_node)


def _count_images_per_s(config: StudyConfig, options: SimulatedClusterConfig) -> float:
    """Return the images that the loader processes of a run read and decode in a second."""
    return config.machine.devices * max(1, config.engine.num_workers) * _core_rate(config, options)


def _core_rate(config: StudyConfig, options: SimulatedClusterConfig) -> float:
    """Return the images that a core reads and decodes in a second."""
    decoded = _find_decode_rate(config, options)
    return 1 / (1 / decoded + 1e3 * options.image_kb / _READ_BYTES_PER_CORE_S)


def _find_decode_rate(config: StudyConfig, options: SimulatedClusterConfig) -> float:
    """Return the images that a core decodes in a second; where the mixture leaves it open, those of data that does not
    fit into memory."""
    return options.images_per_core_s or _DECODED_PER_CORE_S[config.mixture.decode or "reduced"]


def _steps_of(config: StudyConfig, job: Job) -> int:
    return (job.samples - job.begins_at) // config.mixture.batch_size if job.kind in ("run", "trunk") else 0


def _check_progress(job: SimulatedJob, preemptions_per_s: float) -> None:
    """Refuse a run that is preempted so often that it hardly ever reaches its next checkpoint."""
    needed_s = job.start_s + min(job.save_every, job.num_steps) * job.step_s + job.save_s
    if (num_preemptions := needed_s * preemptions_per_s) > _MAX_PREEMPTIONS:
        raise ValueError(
            f"{job.id}: needs {needed_s / 60:.0f} minutes from its start to its first checkpoint, in which it is "
            f"preempted {num_preemptions:.0f} times on average: it never ends; lower `preemption_rate` or "
            "save_every_steps"
        )


def _find_limits(
    config: StudyConfig,
    options: SimulatedClusterConfig,
    jobs: Sequence[SimulatedJob],
    places: int,
    wall_hours: float,
    hours: Mapping[str, float],
) -> tuple[str, ...]:
    """Say what the wall time is made of: each sentence with its share of it, or of the GPU hours."""
    if not jobs:
        return ("Nothing is left to do.",)
    found = []
    first = max(jobs, key=lambda job: job.priority)
    chain_share = first.priority / 3600 / wall_hours
    work_share = sum(job.num_steps * job.step_s for job in jobs) / 3600 / places / wall_hours
    if chain_share >= work_share:
        found.append(
            (
                chain_share,
                f"{_name_chain(first)} takes {first.priority / 3600:,.0f} hours on {config.machine.devices} GPUs; "
                "a larger machine.devices shortens it, more GPUs in the cluster do not",
            )
        )
    else:
        found.append(
            (work_share, f"the number of GPUs: {len(jobs)} runs on {places} places of {config.machine.devices}")
        )
    images_per_s, batch = _count_images_per_s(config, options), config.mixture.batch_size
    if slow := [job for job in jobs if job.step_s <= batch / images_per_s]:
        found.append(
            (
                sum(job.num_steps * job.step_s for job in slow) / sum(job.num_steps * job.step_s for job in jobs),
                f"decoding: {len(slow)} runs wait for their images ({config.engine.num_workers} loader processes a "
                f"GPU decode {images_per_s:,.0f} images/s); more engine.num_workers, or mixture.decode = 'reduced'",
            )
        )
    held = hours["held_s"]
    for name, what in (
        ("store_wait_s", "the store: waiting for its bandwidth"),
        ("lost_s", "preemption: steps that are done again"),
        ("start_s", "starting runs"),
        ("save_s", "writing checkpoints"),
    ):
        if held and (share := hours[name] / held) >= _WORTH_SAYING:
            found.append((share, f"{what}, {share:.0%} of the GPU hours"))
    return tuple(text for _, text in sorted(found, key=lambda one: -one[0]))


def _name_chain(first: SimulatedJob) -> str:
    """Describe the longest chain of jobs, each of which waits for the one before, by its first job."""
    if math.isclose(first.priority, first.num_steps * first.step_s):
        return f"the longest run: {first.id} alone"
    return f"the longest chain of jobs that need each other: {first.id} with those after it"


_WORTH_SAYING = 0.02
"""Share of the GPU hours from which on a loss is named."""


def _list_assumptions(config: StudyConfig, options: SimulatedClusterConfig) -> tuple[str, ...]:
    machine = config.machine
    decoded = _find_decode_rate(config, options)
    source = "as given" if options.images_per_core_s else "measured on two CPU cores, 2026-11-28"
    return (
        "Extrapolated from pieces (benchmarks/cluster_pieces.py, model/rates.csv, bandwidths of data sheets); no "
        "cluster was measured.",
        f"A core decodes {decoded:,.0f} images/s ({source}); every sample is decoded, of {options.image_kb:g} kB.",
        f"A run starts in {options.start_minutes:g} minutes and reads model and checkpoint at "
        f"{_NODE_BYTES_PER_S / 1e9:g} GB/s a node (assumed), as if no other run used the store; "
        + (
            "writing checkpoints takes no time, as with save_in_background."
            if config.save_in_background
            else "it makes no step while it writes a checkpoint."
        ),
        (
            f"Preemptions come at random, {options.preemption_rate:g} per node and hour; a place is then away for "
            f"{options.away_minutes:g} minutes."
            if options.preemption_rate
            else "No run is preempted (--preemption-rate)."
        ),
        "Time to measure a run is not counted, as in the plan.",
        f"Memory and price are those of the file: {machine.memory_gb:g} GB a GPU.",
    )


@dataclass
class _Running:
    """A run on its devices."""

    job: SimulatedJob
    started_s: float
    preempted_s: float
    """Time at which it is preempted."""
    saved: int
    """Steps of the last checkpoint."""
    phase: Literal["start", "work", "save"] = "start"
    left_s: float = 0.0
    """Time that is left of the phase; of work, without waits for images."""
    unsaved_s: float = 0.0
    """Time of the steps since the last checkpoint."""

    @property
    def bytes_per_s(self) -> float:
        """Bytes that it reads from the store or writes to it in a second, if the store gives them."""
        if self.phase == "work":
            return self.job.bytes_per_step / self.job.step_s
        return self.job.save_bytes / self.job.save_s if self.phase == "save" and self.job.save_s else 0.0

    @property
    def next_save(self) -> int:
        """Step of the next checkpoint; the last step has one too."""
        return min((self.saved // self.job.save_every + 1) * self.job.save_every, self.job.num_steps)


def run_simulation(
    jobs: Sequence[SimulatedJob],
    *,
    places: int,
    store_bytes_per_s: float = math.inf,
    preemptions_per_s: float = 0.0,
    away_s: float = 0.0,
    seed: tuple[int, ...] = (0,),
) -> Simulation:
    """Simulate jobs on a number of places; the same arguments give the same result.

    Args:
        jobs: what they need is among them.
        preemptions_per_s: preemptions of a run's place per second.
        away_s: time that a preempted place is away.
        seed: of the preemptions; when a run is preempted depends on it, the run's number and its try alone.
    """
    return _Cluster(jobs, places, store_bytes_per_s, preemptions_per_s, away_s, seed).run()


class _Cluster:
    """State of a simulation."""

    def __init__(
        self,
        jobs: Sequence[SimulatedJob],
        places: int,
        store_bytes_per_s: float,
        preemptions_per_s: float,
        away_s: float,
        seed: tuple[int, ...],
    ) -> None:
        self.store_bytes_per_s, self.preemptions_per_s, self.away_s = store_bytes_per_s, preemptions_per_s, away_s
        self.seed, self.numbers = seed, {job.id: number for number, job in enumerate(jobs)}
        self.waiting = sorted(jobs, key=lambda job: -job.priority)
        self.running: list[_Running] = []
        self.free = places
        """Number of places without a run."""
        self.away: list[float] = []
        """Times at which preempted places are available again."""
        self.now_s = 0.0
        self.saved: dict[str, int] = {}
        self.tries: dict[str, int] = {}
        self.first_start_s: dict[str, float] = {}
        self.end_s: dict[str, float] = {}
        self.sums = dict.fromkeys(("work", "lost", "save", "start", "held", "away", "store_wait"), 0.0)
        self.num_preemptions = 0

    def run(self) -> Simulation:
        """Go from event to event until all jobs have ended."""
        while self.waiting or self.running:
            self._start_jobs()
            self._advance()
            self._handle_events()
        self.sums["away"] -= sum(back_s - self.now_s for back_s in self.away)
        return Simulation(
            wall_s=self.now_s,
            num_preemptions=self.num_preemptions,
            first_start_s=self.first_start_s,
            end_s=self.end_s,
            **{f"{name}_s": seconds for name, seconds in self.sums.items()},
        )

    def _start_jobs(self) -> None:
        """Give free places to those that can start, the most urgent first."""
        for job in list(self.waiting):
            if not self.free:
                return
            if self.end_s.keys() >= job.needs:
                self.waiting.remove(job)
                self.free -= 1
                self.first_start_s.setdefault(job.id, self.now_s)
                preempted_s = self.now_s + self._draw_preemption(job)
                saved = self.saved.get(job.id, 0)
                self.running.append(_Running(job, self.now_s, preempted_s, saved, left_s=job.start_s))

    def _draw_preemption(self, job: SimulatedJob) -> float:
        if not self.preemptions_per_s:
            return math.inf
        number, attempt = self.numbers[job.id], self.tries.get(job.id, 0)
        self.tries[job.id] = attempt + 1
        return float(np.random.default_rng([*self.seed, number, attempt]).exponential()) / self.preemptions_per_s

    def _share_store(self) -> list[float]:
        """Return the speed of each run, as a share of that with the store to itself. No run gets more of the store than
        it asks for, and those that want more get equal parts."""
        wanted = [one.bytes_per_s for one in self.running]
        if sum(wanted) <= self.store_bytes_per_s:
            return [1.0] * len(wanted)
        left, part = self.store_bytes_per_s, 0.0
        for number, want in enumerate(sorted(wanted)):
            part = left / (len(wanted) - number)
            if want > part:
                break
            left -= want
        return [min(1.0, part / want) if want else 1.0 for want in wanted]

    def _advance(self) -> None:
        """Let the time pass until the next event."""
        speeds = self._share_store()
        ends = [self.now_s + one.left_s / speed for one, speed in zip(self.running, speeds, strict=True)]
        now_s = min((*ends, *(one.preempted_s for one in self.running), *self.away))
        passed_s = now_s - self.now_s
        for one, speed, end_s in zip(self.running, speeds, ends, strict=True):
            one.left_s = 0.0 if end_s <= now_s else one.left_s - passed_s * speed
            if one.phase == "work":
                one.unsaved_s += passed_s
                self.sums["store_wait"] += passed_s * (1 - speed)
            else:
                self.sums[one.phase] += passed_s
        self.now_s = now_s

    def _handle_events(self) -> None:
        self.free += sum(back_s <= self.now_s for back_s in self.away)
        self.away = [back_s for back_s in self.away if back_s > self.now_s]
        for one in list(self.running):
            if one.preempted_s <= self.now_s:
                self._preempt(one)
            elif one.left_s <= 0:
                self._enter_next_phase(one)

    def _enter_next_phase(self, one: _Running) -> None:
        job = one.job
        if one.phase == "work":
            one.phase, one.left_s = "save", job.save_s
            return
        if one.phase == "save":
            self.sums["work"] += one.unsaved_s
            one.unsaved_s, one.saved = 0.0, one.next_save
            self.saved[job.id] = one.saved
        one.phase, one.left_s = "work", (one.next_save - one.saved) * job.step_s
        if one.saved >= job.num_steps:
            self._leave(one)
            self.free += 1
            self.end_s[job.id] = self.now_s

    def _preempt(self, one: _Running) -> None:
        self._leave(one)
        self.num_preemptions += 1
        self.sums["lost"] += one.unsaved_s
        self.sums["away"] += self.away_s
        self.away.append(self.now_s + self.away_s)
        place = sum(other.priority >= one.job.priority for other in self.waiting)
        self.waiting.insert(place, one.job)

    def _leave(self, one: _Running) -> None:
        self.running.remove(one)
        self.sums["held"] += self.now_s - one.started_s
