"""The experiment for simple models: [mix -> fit -> sample -> measure] on many independent chains, in arrays.

The order and the policies are those of `loop.py`. A generation of a simple model takes less time than to write down
that it is done, so that what is made atomically here is a span of generations. Chains are worked on in blocks that fit
a processor's cache, each block with random streams of its own, so that neither the number of threads nor where a run
was resumed changes a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmcollapse import processes
from lmcollapse.catalog import find
from lmcollapse.config import Config
from lmcollapse.metrics.words import words
from lmcollapse.policies.rows import every, is_forgetful
from lmcollapse.store import step_seed
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import HUMAN, Documents, Floats, Ints, Pool, Selection, State, UserError

BLOCK = 2**15
"""Numbers that a block of chains writes in a generation, as far as it has more than one chain."""
SPAN = 2 * 10**8
"""Numbers that all chains write in a span of generations."""
MEASURED = 2**20
"""Numbers in the models that are measured at once."""
ENDLESS = 2**62
"""Human rows in reserve, where they come from a distribution."""


@dataclass(frozen=True)
class Trace:
    """What was read off the models of a span, generation by generation.

    first : the first generation.
    measures : `(generations, chains)` each.
    collapsed_at : `(chains,)` the generation in which a chain's model was first degenerate, -1 for never so far.
    models : models of generations that were asked for, by generation.
    """

    first: int
    measures: Mapping[str, Floats]
    collapsed_at: Ints
    models: Mapping[int, State] = field(default_factory=dict)

    @property
    def generations(self) -> range:
        """The generations of the span."""
        return range(self.first, self.first + len(next(iter(self.measures.values()))))


@dataclass
class Block:
    """Some chains, and all that their next generation may read.

    human : `(chains, rows, …)` what generation 0 read.
    newest : what the last generation wrote; None before generation 0.
    history : all rows so far, human ones first, where a policy may pick any of them; only `generation` of them written.
    model : of the last generation.
    merged_of, merged : the statistic of all rows of these origins, from which the next one is reached by one merge.
    reserve_used : human rows beyond those of generation 0 that were read.
    """

    number: int
    chains: int
    generation: int = 0
    human: Floats = field(default_factory=lambda: np.empty(0))
    newest: Floats | None = None
    history: Floats | None = None
    model: State | None = None
    merged_of: tuple[int, ...] = ()
    merged: State | None = None
    reserve_used: int = 0
    collapsed_at: Ints = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True)
class Experiment:
    """A configuration of chains, ready to be run."""

    config: Config
    substrate: ChainSubstrate

    def check(self) -> None:
        """Raise UserError for a policy that cannot work, and for rows that would not fit into memory."""
        if self.substrate.chains % self._members:
            raise UserError(
                f"chains is {self.substrate.chains} and population.members {self._members}: chains must be a multiple "
                "of it"
            )
        generations, rows = self.config.generations, self.substrate.rows
        for generation in {1, generations - 1} - {0}:
            self._choose(generation, 1, np.random.default_rng(0))
        if not self._forgetful:
            import psutil

            needed = 8 * self.substrate.chains * rows * self.substrate.width * (generations + 1)
            if needed > psutil.virtual_memory().available:
                raise UserError(
                    f"policy {self.config.section('policy')[0]} may pick any row of the past, and all rows of "
                    f"{self.substrate.chains:,} chains and {generations:,} generations take {needed / 2**30:,.1f} GiB, "
                    "more than there is; lower chains, rows or generations"
                )

    def spans(self) -> list[range]:
        """The generations, in spans that are made at once."""
        work = self.substrate.chains * self.substrate.rows * self.substrate.width
        length = min(self.config.generations, max(1, SPAN // work))
        return [
            range(first, min(first + length, self.config.generations))
            for first in range(0, self.config.generations, length)
        ]

    def blocks(self) -> list[Block]:
        """All chains, before generation 0."""
        size = max(1, BLOCK // (self.substrate.rows * self.substrate.width))
        size = -(-size // self._members) * self._members  # chains that exchange are in one block
        sizes = [min(size, self.substrate.chains - first) for first in range(0, self.substrate.chains, size)]
        return [Block(number, chains) for number, chains in enumerate(sizes)]

    def advance(
        self,
        blocks: Sequence[Block],
        span: range,
        *,
        kept: Sequence[int] = (),
        watch: Callable[[int], object] = lambda units: None,
    ) -> Trace:
        """Take all blocks through a span of generations; they are changed in place.

        kept : generations whose models are wanted.
        watch : is told of chains that have got a generation further, from any thread.
        """
        with ThreadPoolExecutor(processes.cores()) as pool:
            traces = list(pool.map(lambda block: self._advance(block, span, kept, watch), blocks))
        return Trace(
            span.start,
            {name: np.concatenate([trace.measures[name] for trace in traces], 1) for name in traces[0].measures},
            np.concatenate([trace.collapsed_at for trace in traces]),
            {generation: _joined([trace.models[generation] for trace in traces]) for generation in traces[0].models},
        )

    def _advance(self, block: Block, span: range, kept: Sequence[int], watch: Callable[[int], object]) -> Trace:
        with np.errstate(all="ignore"):  # what becomes infinite or NaN is recorded as that
            return self._through(block, span, kept, watch)

    def _through(self, block: Block, span: range, kept: Sequence[int], watch: Callable[[int], object]) -> Trace:
        substrate, rows = self.substrate, self.substrate.rows
        streams = {name: self._stream(name, block, span) for name in ("human", "train", "model", "corpus", "exchange")}
        reader = _Reader(substrate, block.chains)
        models: dict[int, State] = {}
        shares = []
        if span.start == 0:
            block.human = substrate.human(streams["human"], block.chains, rows)
            block.collapsed_at = np.full(block.chains, -1, np.int64)
            if not self._forgetful:
                shape = (block.chains, rows * (self.config.generations + 1), *block.human.shape[2:])
                block.history = np.empty(shape, block.human.dtype)
                block.history[:, :rows] = block.human
        for generation in span:
            chosen = self._choose(generation, block.chains, streams["train"], block.number)
            shares.append(_human_share(chosen, rows, block.chains))
            statistic = self._read(block, chosen, streams["human"])
            block.model = substrate.fit(statistic, block.model, streams["model"])
            wrote = substrate.sample(block.model, rows, streams["corpus"], block.human)
            block.newest = self._exchanged(wrote, streams["exchange"])
            if block.history is not None:
                block.history[:, rows * (generation + 1) : rows * (generation + 2)] = block.newest
            block.generation = generation + 1
            reader.put(block.model)
            if generation in kept:
                models[generation] = block.model
            watch(block.chains)
        measures, degenerate = reader.read()
        measures["human_fraction"] = np.array(shares)
        for step, generation in enumerate(span):
            block.collapsed_at[degenerate[step] & (block.collapsed_at < 0)] = generation
        return Trace(span.start, measures, block.collapsed_at, models)

    @property
    def _members(self) -> int:
        return 1 if self.config.population is None else self.config.population.members

    def _exchanged(self, wrote: Floats, rng: np.random.Generator) -> Floats:
        """What each chain is offered of what was written: its own, its neighbour's, or a draw from all members."""
        if self.config.population is None:
            return wrote
        chains, rows = wrote.shape[:2]
        groups = wrote.reshape(-1, self._members, *wrote.shape[1:])
        if self.config.population.exchange == "ring":
            return np.roll(groups, 1, axis=1).reshape(wrote.shape)
        together = groups.reshape(len(groups), -1, *wrote.shape[2:])
        places = np.array([rng.choice(together.shape[1], rows, replace=False, shuffle=False) for _ in range(chains)])
        offered: Floats = together[np.arange(chains)[:, None] // self._members, places]
        return offered

    def _read(self, block: Block, chosen: Selection, humans: np.random.Generator) -> State:
        """What the fit needs of the rows that were chosen."""
        parts = [self._whole(block, chosen.whole)] if chosen.whole else []
        if len(chosen):
            parts.append(self.substrate.statistic(self._picked(block, chosen, humans)))
        statistic = parts[0]
        for part in parts[1:]:
            statistic = self.substrate.merge(statistic, part)
        return statistic

    def _whole(self, block: Block, origins: tuple[int, ...]) -> State:
        """The statistic of all rows of these origins; of one more than last time, it takes one merge."""
        if block.merged is not None and len(origins) > 1 and block.merged_of == origins[:-1]:
            merged = self.substrate.merge(block.merged, self.substrate.statistic(self._rows(block, origins[-1])))
        else:
            merged = self.substrate.statistic(self._rows(block, origins[0]))
            for origin in origins[1:]:
                merged = self.substrate.merge(merged, self.substrate.statistic(self._rows(block, origin)))
        if origins[0] == HUMAN:  # else it is of no use to the next generation
            block.merged_of, block.merged = origins, merged
        return merged

    def _rows(self, block: Block, origin: int) -> Floats:
        """All rows of one origin."""
        if origin == HUMAN:
            return block.human
        if origin == block.generation - 1:
            assert block.newest is not None
            return block.newest
        assert block.history is not None, f"a forgetful policy reads generation {origin} before {block.generation}"
        rows = self.substrate.rows
        return block.history[:, rows * (origin + 1) : rows * (origin + 2)]

    def _picked(self, block: Block, chosen: Selection, humans: np.random.Generator) -> Floats:
        """`(chains, picks, …)` the rows that were chosen one by one."""
        rows = self.substrate.rows
        origins, row = np.atleast_2d(chosen.generation), np.atleast_2d(chosen.row)
        if not (origins == origins[:1]).all():  # each chain has picked from other origins than the next one
            assert block.history is not None, "a forgetful policy picks from other origins in each chain"
            return _take(block.history, rows * (origins.astype(np.int64) + 1) + row)
        parts = []
        for origin in np.unique(origins[0]).tolist():
            wanted = row[:, origins[0] == origin]
            new = wanted[0] >= rows if origin == HUMAN else np.zeros(wanted.shape[1], bool)
            if new.any():
                count = int(new.sum())
                expected = rows + block.reserve_used + np.arange(count)
                assert (wanted[:, new] == expected).all(), "human rows in reserve are read once, in their order"
                block.reserve_used += count
                parts.append(self.substrate.human(humans, block.chains, count))
            if not new.all():
                parts.append(_take(self._rows(block, origin), wanted[:, ~new]))
        return np.concatenate(parts, axis=1)

    def _choose(self, generation: int, chains: int, rng: np.random.Generator, block: int = 0) -> Selection:
        rows, seed = self.substrate.rows, (step_seed(self.config.seed, HUMAN, "train"), block)
        pool = Pool(rows, (rows,) * generation, reserve=ENDLESS, chains=chains, seed=seed)
        kind, options = self.config.section("policy")
        chosen: Selection = find("policy", kind)(pool, rng, **options) if generation else every(pool, HUMAN)
        if chosen.same_steps:
            raise UserError(
                f"policy {kind}: same_steps has no effect on {self.config.substrate}, which is not fitted in steps; "
                "leave it out"
            )
        return chosen

    @property
    def _forgetful(self) -> bool:
        return is_forgetful(find("policy", self.config.section("policy")[0]))

    def _stream(self, name: str, block: Block, span: range) -> np.random.Generator:
        """The random numbers of one purpose: no two blocks, spans or purposes share any."""
        return np.random.default_rng([step_seed(self.config.seed, span.start, name), block.number])


class _Reader:
    """Reads measures off models, many generations at once."""

    def __init__(self, substrate: ChainSubstrate, chains: int) -> None:
        self.substrate, self.chains = substrate, chains
        self.waiting: list[State] = []
        self.size = 0
        self.found: list[tuple[dict[str, Floats], Any]] = []

    def put(self, model: State) -> None:
        """The models of one more generation."""
        if self.waiting and any(model[name].shape != array.shape for name, array in self.waiting[0].items()):
            self._flush()  # models that hold their rows grow
        self.waiting.append(model)
        self.size += sum(array.size for array in model.values())
        if self.size > MEASURED:
            self._flush()

    def read(self) -> tuple[dict[str, Floats], Any]:
        """`(generations, chains)` of each measure, and whether models are degenerate."""
        self._flush()
        names = self.found[0][0]
        measures = {name: np.concatenate([found[name] for found, _ in self.found]) for name in names}
        return measures, np.concatenate([degenerate for _, degenerate in self.found])

    def _flush(self) -> None:
        if not self.waiting:
            return
        models = _joined(self.waiting)
        shape = (len(self.waiting), self.chains)
        measures = {name: values.reshape(shape) for name, values in self.substrate.measure(models).items()}
        self.found.append((measures, self.substrate.collapsed(models).reshape(shape)))
        self.waiting, self.size = [], 0


def trajectories(config: Config, text: Documents | None = None) -> Trace:
    """Run chains in memory: every measure of every chain in every generation.

    The numbers are those of `lmcollapse run`, bit for bit. Raises UserError for a configuration that cannot work.
    """
    experiment = experiment_of(config, text)
    blocks = experiment.blocks()
    traces = [experiment.advance(blocks, span) for span in experiment.spans()]
    measures = {name: np.concatenate([trace.measures[name] for trace in traces]) for name in traces[0].measures}
    return Trace(0, measures, traces[-1].collapsed_at)


def experiment_of(config: Config, text: Documents | None = None) -> Experiment:
    """A configuration of chains as an experiment that can work.

    text : the human text, for a substrate that takes its distribution from it.
    """
    substrate = config.build_substrate()
    assert isinstance(substrate, ChainSubstrate), f"{config.substrate} is no substrate of many chains"
    substrate.check(config.start)
    experiment = Experiment(config, substrate.settle(None if text is None else word_counts(text)))
    experiment.check()
    return experiment


def word_counts(text: Documents) -> Ints:
    """Occurrences of each word, the most frequent first."""
    counts = Counter(word for document in text.texts for word in words(document))
    return np.sort(np.fromiter(counts.values(), np.int64, len(counts)))[::-1]


def _take(values: Floats, rows: Ints) -> Floats:
    """`(chains, rows, …)` values at `(chains or 1, picks)` places."""
    chains = np.arange(len(values))[:, None]
    return values[chains, rows]


def _human_share(chosen: Selection, rows: int, chains: int) -> Floats:
    """`(chains,)` share of the rows that were chosen that is human."""
    humans = np.sum(chosen.generation == HUMAN, axis=-1) + rows * (HUMAN in chosen.whole)
    share: Floats = np.broadcast_to(humans / (len(chosen) + rows * len(chosen.whole)), chains)
    return share


def _joined(states: Sequence[State]) -> State:
    """The chains of all states, one after the other."""
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}
