"""What the registers say at run time: which filters lazy layers compute. Changed without a new design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hw.design import Design, Layer, Mode, Selection


class UnknownLayerError(KeyError, ValueError):
    """A layer name that the design does not have, or not as a lazy layer."""

    def __str__(self) -> str:  # KeyError would show the sentence in quotes
        return str(self.args[0])


@dataclass(frozen=True)
class Control:
    """The registers of every lazy layer of a design, by layer name."""

    selections: Mapping[str, Selection]

    @staticmethod
    def of(design: Design, changes: Changes = None) -> Control:
        """The design's own registers with `changes`.

        `UnknownLayerError` (a `KeyError` and a `ValueError`) for a name that is not a lazy layer's, `DesignError` (a
        `ValueError`) for what its registers do not hold.
        """
        given = changes.selections if isinstance(changes, Control) else changes or {}
        lazy = {layer.name: layer for layer in design.lazy_layers}
        selections = {name: layer.selection for name, layer in lazy.items()}
        for name, change in given.items():
            if name not in lazy:
                raise UnknownLayerError(
                    f"keep is given for '{name}', which is not a lazy layer of '{design.name}'; "
                    f"lazy layers: {', '.join(lazy) or 'none'}"
                )
            if not isinstance(change, Selection):
                change = Selection(Mode.TOP, change, lazy[name].threshold)
            lazy[name].verify_selection(change)
            selections[name] = change
        return Control(selections)


Changes = Mapping[str, Selection | int] | Control | None
"""By layer name; an int is the k of a top-k selection. Layers that are not named stay as the design says."""


def ranks(layer: Layer, selection: Selection) -> bool:
    """Whether scores of the lazy `layer` are looked at: not where all of its filters, or only pinned ones, are due."""
    pinned = len(layer.pinned)
    match selection.mode:
        case Mode.ALL:
            return False
        case Mode.TOP:
            return pinned < selection.keep < layer.filters
        case Mode.THRESHOLD:
            return pinned < layer.filters
