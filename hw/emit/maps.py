"""Where the engine keeps maps between layers: regions of the map memory, and the tape of what is added later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hw.design import Design
from hw.emit.geometry import QUARTERS, quarter_words

MIN_REGIONS = 2  # a layer's input and its output


@dataclass(frozen=True)
class Maps:
    """The maps of `design`'s tail, whose words have `pixels` pixels; steps are places in the tail.

    A map that a later layer reads gets one of `regions` regions of `region_words` words, in quarters where only layers
    of stride 2 read it (`quartered`). A map that a later layer adds is recorded: an entry per group of filters and
    word, in the order in which the layer drains, in one of the equal parts of a tape of `tape_entries`. The layer that
    plays it back may record over it.
    """

    design: Design
    pixels: int

    @cached_property
    def _added(self) -> tuple[int | None, ...]:
        """The step whose output each step adds."""
        places = {layer.name: index for index, layer in enumerate(self.design.tail)}
        return tuple(None if x.residual is None else places[x.residual.layer] for x in self.design.tail)

    def words(self, step: int) -> int:
        """Words of one channel of the output of step."""
        output = self.design.tail[step].output
        if self.quartered(step):
            return QUARTERS * quarter_words(output, self.pixels)
        return -(-output.pixels // self.pixels)

    # -- quarters
    def quartered(self, step: int) -> bool:
        """Whether step leaves its output in quarters: all that read it are of stride 2, its rows and columns are even.

        What is added later is not: the tape takes words in the order in which they are added.
        """
        output, tail = self.design.tail[step].output, self.design.tail
        reads = {x.stride for x, source in zip(tail, self.design.tail_sources, strict=True) if source == step}
        return reads == {2} and output.height % 2 == 0 and output.width % 2 == 0 and step not in self._added

    def reads_quarters(self, step: int) -> bool:
        """Whether step reads a map that lies in quarters."""
        source = self.design.tail_sources[step]
        return source >= 0 and self.quartered(source)

    @cached_property
    def quarters(self) -> bool:
        """Whether any map lies in quarters."""
        return any(self.quartered(step) for step in self._steps)

    # -- regions
    def _last_use(self, uses: Sequence[int | None]) -> list[int | None]:
        """For every step, the last one that uses its output; `uses` are the steps whose outputs the steps use."""
        return [max((i for i, use in enumerate(uses) if use == step), default=None) for step in self._steps]

    @cached_property
    def _regions(self) -> tuple[int | None, ...]:
        return slots(self._last_use(self.design.tail_sources))

    @property
    def _steps(self) -> range:
        return range(len(self.design.tail))

    @cached_property
    def regions(self) -> int:
        """How many regions there are."""
        return max(MIN_REGIONS, *(region + 1 for region in self._regions if region is not None), 0)

    @cached_property
    def region_words(self) -> int:
        """Words of one region: the largest map that a step leaves to be read."""
        read = [step for step in self._steps if self._regions[step] is not None]
        return max([1, *(self.words(step) * self.design.tail[step].filters for step in read)])

    def stored(self, step: int) -> int | None:
        """The region that step writes; None if nothing reads its output (the last one's, or one that is added only)."""
        return self._regions[step]

    def read(self, step: int) -> int | None:
        """The region that step reads; None for the tail's input."""
        source = self.design.tail_sources[step]
        return None if source < 0 else self._regions[source]

    def replayed(self, step: int) -> bool:
        """Whether step reads a map that was there before the step before it began, other than as the first one."""
        return step > 0 and not self.design.chained[step]

    @cached_property
    def replays(self) -> bool:
        """Whether strengths of a region are asked for after the step that wrote it."""
        return any(self.replayed(step) and self.design.tail_sources[step] >= 0 for step in self._steps)

    # -- tape
    @cached_property
    def _parts(self) -> tuple[int | None, ...]:
        return slots(self._last_use(self._added), over=True)

    @cached_property
    def _part_entries(self) -> int:
        lanes = self.design.engine.lanes.filters
        sizes = [
            (-(-len(x.pinned) // lanes) - (len(x.pinned) - x.filters) // lanes) * self.words(step)
            for step, x in enumerate(self.design.tail)
            if self._parts[step] is not None
        ]
        return max(sizes, default=0)

    @cached_property
    def tape_entries(self) -> int:
        """Entries of the tape, each a word of every filter lane; 0 if nothing is added."""
        return self._part_entries * max((part + 1 for part in self._parts if part is not None), default=0)

    def recorded(self, step: int) -> int | None:
        """The entry from which step records its output; None if nothing adds it."""
        part = self._parts[step]
        return None if part is None else part * self._part_entries

    def played(self, step: int) -> int | None:
        """The entry from which step plays back what it adds; None if it adds nothing."""
        added = self._added[step]
        return None if added is None else self.recorded(added)


def slots(uses: Sequence[int | None], *, over: bool = False) -> tuple[int | None, ...]:
    """The lowest free slot for what each step makes, which its last use frees; `uses` are the steps of those.

    With `over`, the step of the last use may already write what it makes into the slot.
    """
    until: list[int] = []  # by slot
    found: list[int | None] = []
    for step, use in enumerate(uses):
        if use is None:
            found.append(None)
            continue
        free = (slot for slot, last in enumerate(until) if last < step + int(over))
        slot = next(free, len(until))
        until[slot : slot + 1] = [use]
        found.append(slot)
    return tuple(found)
