"""What the registers say at run time: which filters lazy layers compute. Changed without a new design."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hw.design import ClassPredictor, Design, Layer, Mode, Selection


class UnknownLayerError(KeyError, ValueError):
    """A layer name that the design does not have, or not as a lazy layer."""

    def __str__(self) -> str:  # KeyError would show the sentence in quotes
        return str(self.args[0])


@dataclass(frozen=True)
class Control:
    """The registers of every lazy layer of a design, by layer name; for each of its classes whether it is wanted."""

    selections: Mapping[str, Selection]
    classes: tuple[bool, ...]

    @staticmethod
    def reset(layers: Iterable[Layer]) -> Control:
        """What `layers` say: the state after reset. All classes are wanted."""
        lazy = [layer for layer in layers if layer.lazy]
        classes = {x.predictor.classes for x in lazy if isinstance(x.predictor, ClassPredictor)}
        return Control({layer.name: layer.selection for layer in lazy}, (True,) * max(classes, default=0))

    @staticmethod
    def of(design: Design, changes: Changes = None, classes: Iterable[int] | None = None) -> Control:
        """The state after reset with `changes`, and with the `classes` that are wanted.

        `UnknownLayerError` (a `KeyError` and a `ValueError`) for a name that is not a lazy layer's, `DesignError` (a
        `ValueError`) for what its registers do not hold, `ValueError` for classes that the design does not know.
        """
        reset = Control.reset(design.tail)
        given: Mapping[str, Selection | int] = changes.selections if isinstance(changes, Control) else changes or {}
        wanted = changes.classes if isinstance(changes, Control) else reset.classes
        if len(wanted) != design.classes:
            raise ValueError(f"{len(wanted)} classes for '{design.name}'; accepted: {design.classes}")
        if classes is not None:
            named = set(classes)
            if not named <= set(range(design.classes)):
                raise ValueError(
                    f"classes {sorted(named)} for '{design.name}'; accepted: "
                    + (f"some of 0 to {design.classes - 1}" if design.classes else "none, it has no class masks")
                )
            wanted = tuple(index in named for index in range(design.classes))
        lazy = {layer.name: layer for layer in design.lazy_layers}
        selections = dict(reset.selections)
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
        return Control(selections, wanted)


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
