"""The layer program: parameters and tables of pen_engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw.crc import POLYNOMIALS
from hw.design import Design, Layer, LowRankPredictor, PathPredictor
from hw.emit.bits import Table, array, clog2, field, index_bits, pack, power_of_two, table
from hw.emit.geometry import QUARTERS, Geometry, quarter_words
from hw.emit.maps import Maps
from hw.emit.predictor import PredictorTables, in_lanes, predictor_tables
from hw.emit.stage import MIN_ACC_BITS, head_stages
from hw.image import IDENTITY_BYTES, RecordLayout, identity, layout, weights_in_place

SHIFT_BITS = 5
MIN_HIDDEN_BITS = 2
NO_PREDICTOR = PredictorTables(1, (), (), ())


@dataclass(frozen=True)
class Program:
    """The tail of `design` as the engine reads it."""

    design: Design

    # -- sizes that all steps share
    @property
    def steps(self) -> tuple[Layer, ...]:
        """The layers in program order."""
        return self.design.tail

    @property
    def pixels(self) -> int:
        """Pixel lanes of the array, which is also the pixels of a map word."""
        return self.design.engine.lanes.pixels

    @property
    def bus_bytes(self) -> int:
        """Width of the memory port."""
        return self.design.engine.bus_bytes

    @cached_property
    def geometries(self) -> tuple[Geometry, ...]:
        """Every step walked by the engine's windows."""
        return tuple(Geometry(layer, self.pixels, self.maps.reads_quarters(i)) for i, layer in enumerate(self.steps))

    @cached_property
    def records(self) -> tuple[RecordLayout, ...]:
        """Where every step's weights lie in the image."""
        return layout(self.design)

    @cached_property
    def coord_bits(self) -> int:
        """Signed width of rows and columns."""
        return max(g.coord_bits for g in self.geometries)

    @cached_property
    def pixel_bits(self) -> int:
        """Signed width of places in a flat map."""
        return max(g.pixel_bits for g in self.geometries)

    @cached_property
    def acc_bits(self) -> int:
        """Width of the accumulators: no step's sums can leave it."""
        return max(MIN_ACC_BITS, *(layer.accumulator_bits for layer in self.steps))

    @cached_property
    def max_taps(self) -> int:
        """Taps of the largest kernel."""
        return max(len(g.taps) for g in self.geometries)

    @cached_property
    def record_words(self) -> int:
        """Bus words of one half of a weight bank: the longest record, as a power of two."""
        return power_of_two(max(2, *(record.stride // self.bus_bytes for record in self.records)))

    @cached_property
    def index_bits(self) -> int:
        """Width that counts the channels and filters of any step."""
        return max(max(layer.input.channels, layer.filters) for layer in self.steps).bit_length()

    @cached_property
    def maps(self) -> Maps:
        """Where maps are kept between steps."""
        return Maps(self.design, self.pixels)

    @property
    def map_words(self) -> int:
        """Words of the map memory, all regions."""
        return self.maps.regions * self.maps.region_words

    @cached_property
    def word_bits(self) -> int:
        """Width of a word address in either map memory."""
        inputs = self.geometries[0].words * self.steps[0].input.channels
        return max(2, clog2(inputs) + 1, clog2(-(-self.map_words // 2)) + 1)

    @property
    def region_bits(self) -> int:
        """Width of a region's number."""
        return index_bits(self.maps.regions)

    @property
    def tape_bits(self) -> int:
        """Width of an entry's number on the tape."""
        return index_bits(self.maps.tape_entries)

    @property
    def predict_lanes(self) -> int:
        """Scores updated per cycle, which is also the scores of a word."""
        return self.design.engine.predictor_lanes

    @cached_property
    def score_bits(self) -> int:
        """Signed width that no score can leave, for the largest strengths that the formats allow."""
        bits = (x.predictor.score_bits(x.strength_high) for x in self.steps if x.predictor is not None)
        return max(4, self.hidden_bits, *bits)

    @cached_property
    def strength_bits(self) -> int:
        """Width that no activation strength can leave."""
        return max(layer.strength_high.bit_length() for layer in self.steps)

    @cached_property
    def mark_depth(self) -> int:
        """Frames that may have come and not started: in the tail's input, and as many as the stages' rings hold."""
        return 4 + sum(stage.ring_words // stage.geometry.words + 2 for stage in head_stages(self.design))

    def score_words(self, layer: Layer) -> int:
        """Words that hold the scores of `layer`."""
        return -(-layer.filters // self.predict_lanes)

    def bases(self, sizes: list[int]) -> list[int]:
        """Where each step's rows begin in a table that all share."""
        return [sum(sizes[:i]) for i in range(len(sizes))]

    @cached_property
    def tap_sizes(self) -> list[int]:
        """Words of each step in the tap table."""
        return [len(g.taps) for g in self.geometries]

    @cached_property
    def channel_sizes(self) -> list[int]:
        """Words of each step in the channel table."""
        return [layer.input.channels for layer in self.steps]

    @cached_property
    def filter_sizes(self) -> list[int]:
        """Words of each step in the filter table."""
        return [layer.filters for layer in self.steps]

    @cached_property
    def predictors(self) -> tuple[PredictorTables | None, ...]:
        """What each step's predictor consists of."""
        return tuple(predictor_tables(layer, self.predict_lanes) for layer in self.steps)

    @cached_property
    def predict_sizes(self) -> list[int]:
        """Words of each step in the table of predictor weights."""
        return [0 if tables is None else len(tables.rows) for tables in self.predictors]

    @cached_property
    def bias_sizes(self) -> list[int]:
        """Words of each step in the table of initial scores."""
        return [0 if tables is None else tables.sum_words for tables in self.predictors]

    @property
    def has_paths(self) -> bool:
        """Whether a predictor looks at which channels are active rather than how strong they are."""
        return any(isinstance(layer.predictor, PathPredictor) for layer in self.steps)

    @property
    def _low_rank(self) -> list[LowRankPredictor]:
        return [layer.predictor for layer in self.steps if isinstance(layer.predictor, LowRankPredictor)]

    @property
    def hidden_words(self) -> int:
        """Words of the most hidden values of a step."""
        return max((-(-predictor.rank // self.predict_lanes) for predictor in self._low_rank), default=0)

    @property
    def hidden_bits(self) -> int:
        """Signed width of the widest hidden value."""
        return max((predictor.hidden_bits for predictor in self._low_rank), default=MIN_HIDDEN_BITS)

    # -- derived widths, as pen_engine derives them
    @property
    def record_bits(self) -> int:
        """Width of a word's place in a record."""
        return clog2(self.record_words)

    @property
    def byte_bits(self) -> int:
        """Width of a weight's address in its bank, both halves."""
        return clog2(2 * self.record_words) + clog2(self.bus_bytes)

    @property
    def predict_depth(self) -> int:
        """Words of the table of predictor weights; one where there are none."""
        return max(1, sum(self.predict_sizes))

    @property
    def bias_depth(self) -> int:
        """Words of the table of initial scores; one where there are none."""
        return max(1, sum(self.bias_sizes))

    @cached_property
    def pinned_sizes(self) -> list[int]:
        """Rows of each step in the table of pinned weights: groups of filters x bytes of a record."""
        groups = (-(-len(layer.pinned) // self.design.engine.lanes.filters) for layer in self.steps)
        return [count * int(record.channel_offset[-1]) for count, record in zip(groups, self.records, strict=True)]

    @property
    def pinned_rows(self) -> int:
        """Rows of the table of pinned weights; one where there are none."""
        return max(1, sum(self.pinned_sizes))

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the instance, as SystemVerilog text; tables are named apart."""
        engine, first = self.design.engine, self.steps[0]
        numbers = {
            "Steps": len(self.steps),
            "Filters": engine.lanes.filters,
            "Pixels": self.pixels,
            "BusBytes": self.bus_bytes,
            "PredictLanes": self.predict_lanes,
            "Outstanding": engine.outstanding,
            "MaxBurst": engine.max_burst,
            "GapWords": engine.gap_words,
            "JoinWords": engine.join_words,
            "InChannels": first.input.channels,
            "InWords": self.geometries[0].words,
            "InSigned": int(first.input_format.signed),
            "Regions": self.maps.regions,
            "RegionWords": self.maps.region_words,
            "Replays": int(self.maps.replays),
            "TapeEntries": self.maps.tape_entries,
            "Quarters": int(self.maps.quarters),
            "MaxChannels": max(self.channel_sizes),
            "MaxFilters": max(self.filter_sizes),
            "MaxTaps": self.max_taps,
            "MaxOutWidth": max(layer.output.width for layer in self.steps),
            "MarkDepth": self.mark_depth,
            "RecordWords": self.record_words,
            "AccBits": self.acc_bits,
            "StrengthBits": self.strength_bits,
            "ScoreBits": self.score_bits,
            "CoordBits": self.coord_bits,
            "PixelBits": self.pixel_bits,
            "IndexBits": self.index_bits,
            "WordBits": self.word_bits,
            "TapDepth": sum(self.tap_sizes),
            "ChannelDepth": sum(self.channel_sizes),
            "FilterDepth": sum(self.filter_sizes),
            "PredictDepth": self.predict_depth,
            "BiasDepth": self.bias_depth,
            "PinnedRows": self.pinned_rows,
            "Paths": int(self.has_paths),
            "Classes": self.design.classes,
            "HiddenWords": self.hidden_words,
            "HiddenBits": self.hidden_bits,
        }
        header = int.from_bytes(identity(self.design), "little")
        crc = self.design.engine.crc_bits
        return {
            "CrcBits": str(crc),
            "CrcPolynomial": f"32'h{POLYNOMIALS.get(crc, 0):08x}",
            "Header": f"{8 * IDENTITY_BYTES}'h{header:0{2 * IDENTITY_BYTES}x}",
            **{name: str(value) for name, value in numbers.items()},
        }

    # -- tables
    @property
    def tables(self) -> dict[str, Table]:
        """ROM contents by the parameter that names their file."""
        return {
            "ProgramFile": table("engine_program", [self._step(i) for i in range(len(self.steps))]),
            "TapFile": table(
                "engine_taps", [word for g in self.geometries for word in g.tap_words(self.coord_bits, self.pixel_bits)]
            ),
            "ChannelFile": table("engine_channels", [w for i in range(len(self.steps)) for w in self._channels(i)]),
            "FilterFile": table("engine_filters", [w for i in range(len(self.steps)) for w in self._filters(i)]),
            "PredictFile": table("engine_predictor", self._predictor() or [field(0, 8 * self.predict_lanes)]),
            "BiasFile": table("engine_scores", self._bias() or [field(0, self.score_bits * self.predict_lanes)]),
            "BarredFile": table("engine_barred", self._barred() or [field(0, self.predict_lanes)]),
            "OrderFile": table("engine_order", [field(f, self.index_bits) for x in self.steps for f in x.order]),
            "PinnedFile": table("engine_pinned", self._pinned() or [field(0, 8 * self.design.engine.lanes.filters)]),
        }

    def _step(self, i: int) -> tuple[int, int]:
        """Word `i` of the program: the fields of step_t of pen_engine, in its order."""
        layer, g, record = self.steps[i], self.geometries[i], self.records[i]
        coord, pixel = self.coord_bits, self.pixel_bits
        lane_y, lane_x = g.lanes
        step_y, step_x = g.steps
        limit_y, limit_x = g.limits
        raw = layer.shift is None
        out = layer.output_format
        predictor = self.predictors[i] or NO_PREDICTOR
        return pack(
            (
                field(g.height, coord),
                field(g.width, coord),
                array(lane_y, coord),
                array(lane_x, coord),
                field(step_y, coord),
                field(step_x, coord),
                field(g.windows, pixel),
                field(len(g.taps) - 1, index_bits(self.max_taps)),
                field(self.bases(self.tap_sizes)[i], index_bits(sum(self.tap_sizes))),
                field(int(self.maps.read(i) is None), 1),
                field(int(layer.input_format.signed), 1),
                field(limit_y, coord),
                field(limit_x, coord),
                field(g.log_stride, 1),
                field(g.log_pool, 2),
                field(g.out_pixels // (QUARTERS if self.maps.quartered(i) else 1) - 1, pixel),
                field(int(self.maps.quartered(i)), 1),
                field(quarter_words(layer.output, self.pixels) if self.maps.quartered(i) else 0, pixel),
                field(0 if raw else out.low, 9),
                field(0 if raw else out.high, 9),
                field(int(raw), 1),
                *self._branches(i),
                field(layer.filters, self.index_bits),
                field(self.bases(self.filter_sizes)[i], index_bits(sum(self.filter_sizes))),
                field(record.offset, 32),
                field(record.stride // self.bus_bytes, self.record_bits + 1),
                field(int(layer.lazy), 1),
                field(len(layer.pinned), self.index_bits),
                field(self.bases(self.pinned_sizes)[i] if layer.pinned else 0, index_bits(self.pinned_rows)),
                field(self._pinned_step(i), index_bits(self.pinned_rows)),
                field(layer.input.channels, self.index_bits),
                field(self.bases(self.channel_sizes)[i], index_bits(sum(self.channel_sizes))),
                field(self.score_words(layer) - 1, index_bits(-(-max(self.filter_sizes) // self.predict_lanes))),
                field(self.bases(self.bias_sizes)[i] if layer.lazy else 0, index_bits(self.bias_depth)),
                field(int(predictor.boolean), 1),
                field(int(predictor.by_class), 1),
                field(predictor.rank, self.index_bits),
                field(predictor.shift, SHIFT_BITS),
                field(self._second_row(i), index_bits(self.predict_depth)),
            )
        )

    def _branches(self, i: int) -> tuple[tuple[int, int], ...]:
        """The fields of step `i` that tell which maps it keeps, reads and adds; most of them matter with branches."""
        maps, layer = self.maps, self.steps[i]
        played, recorded, replayed = maps.played(i), maps.recorded(i), maps.replayed(i)
        residual = layer.residual
        less = 0 if residual is None else layer.output_format.exponent - residual.format.exponent
        return (
            field(int(replayed), 1),
            field((maps.read(i) or 0) if replayed else 0, self.region_bits),
            field((maps.stored(i) or 0) if maps.replays else 0, self.region_bits),
            field(int(maps.stored(i) is not None or layer.shift is None), 1),
            field(int(recorded is not None), 1),
            field(recorded or 0, self.tape_bits),
            field(int(played is not None), 1),
            field(played or 0, self.tape_bits),
            field(int(residual is not None and residual.format.signed), 1),
            field(less % (1 << SHIFT_BITS), SHIFT_BITS),
        )

    def _second_row(self, i: int) -> int:
        """First word of the rows of step i's classes or hidden values in the table of predictor weights."""
        predictor = self.predictors[i]
        return self.bases(self.predict_sizes)[i] + predictor.other_row if predictor and predictor.others else 0

    def _pinned_step(self, i: int) -> int:
        """Rows from one group of pinned filters to the next; 0 where there is no next one."""
        more = len(self.steps[i].pinned) > self.design.engine.lanes.filters
        return int(self.records[i].channel_offset[-1]) if more else 0

    def _region_base(self, region: int | None) -> int:
        """First word of a region; 0 where there is none."""
        return (region or 0) * self.maps.region_words

    def _channels(self, i: int) -> list[tuple[int, int]]:
        """Step i's rows of the channel table (channel_t of pen_present)."""
        g, record = self.geometries[i], self.records[i]
        row_bits, run_bits = index_bits(self.predict_depth), self.record_bits + 1
        firsts, ends = record.fetched
        predictor = self.predictors[i] or NO_PREDICTOR
        theta_bits = self.strength_bits if self.has_paths else 1
        places = {channel: place for place, channel in enumerate(record.order)}
        words = []
        for channel, mask in enumerate(g.tap_masks()):
            place = places[channel]
            start = int(record.channel_offset[place])
            row = self.bases(self.predict_sizes)[i] + predictor.channel_row(channel) if predictor.channels else 0
            theta = min(predictor.theta[channel], (1 << theta_bits) - 1) if predictor.theta else 0
            words.append(
                pack(
                    (
                        field(self._region_base(self.maps.read(i)) + channel * g.words, self.word_bits),
                        field(start, self.byte_bits),
                        field(mask, self.max_taps),
                        field(int(firsts[place]), run_bits),
                        field(int(ends[place]), run_bits),
                        field(row, row_bits),
                        field(theta, theta_bits),
                    )
                )
            )
        return words

    def _filters(self, i: int) -> list[tuple[int, int]]:
        """Step i's rows of the filter table (filter_t of pen_fetch)."""
        layer = self.steps[i]
        stored = self.maps.stored(i)
        out_words = 0 if stored is None else self.maps.words(i)
        base = self._region_base(stored)
        shift = [0] * layer.filters if layer.shift is None else layer.shift.tolist()
        return [
            pack(
                (
                    field(base + index * out_words, self.word_bits),
                    field(int(layer.bias[index]), self.acc_bits),
                    field(int(shift[index]), SHIFT_BITS),
                )
            )
            for index in range(layer.filters)
        ]

    def _predictor(self) -> list[tuple[int, int]]:
        """Rows of predictor weights, of words of `predict_lanes` bytes, of one lazy layer after another."""
        return [word for tables in self.predictors if tables is not None for word in tables.rows]

    def _bias(self) -> list[tuple[int, int]]:
        """Initial scores and hidden sums: lazy layer, word of `predict_lanes`."""
        return [word for x in self.predictors if x is not None for word in x.first_sums(self.score_bits)]

    def _barred(self) -> list[tuple[int, int]]:
        """Filters that no selection may choose, in the words of the initial scores."""
        words: list[tuple[int, int]] = []
        for layer, size in zip(self.steps, self.bias_sizes, strict=True):
            barred = [int(f in layer.pinned) for f in range(layer.filters)] if size else []
            words += [array(lanes, 1) for lanes in in_lanes(barred, self.predict_lanes)]
            words += [field(0, self.predict_lanes)] * (size - self.score_words(layer) if size else 0)
        return words

    def _pinned(self) -> list[tuple[int, int]]:
        """Rows of pinned weights: step, group of filters, place in the record; one weight per lane."""
        lanes = self.design.engine.lanes.filters
        words = []
        for layer, record in zip(self.steps, self.records, strict=True):
            weights = weights_in_place(layer, record, layer.pinned)[:, : record.channel_offset[-1]]
            for first in range(0, len(layer.pinned), lanes):
                group = np.zeros((lanes, weights.shape[1]), np.int64)
                rows = weights[first : first + lanes]
                group[: len(rows)] = rows
                words += [array(column, 8) for column in group.T.tolist()]
        return words
