"""Refuse options for layers that do not exist, and misspelt options."""

from __future__ import annotations

from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hw.options import check_names

DERIVED = ("Conv1D_", "Conv2D_", "Dense_")  # what hls4ml puts before a node's name when it makes its own layer of it


class CheckOptions(ModelOptimizerPass):
    """Afterwards: every Penstock option of `hls_config` is spelt as documented and names a layer with weights.

    And the graph's own copy of `hls_config` is what hls4ml extends by the layers that it makes, not the user's.
    """

    def __init__(self) -> None:
        super().__init__("check_options", check)


def check(model: Any) -> bool:
    """Raise `DesignError` for an option of the `ModelGraph`'s configuration that nothing will read."""
    weighted = [node.name for node in model.graph.values() if node.class_name in ("Conv", "MatMul", "Conv2D", "Dense")]
    config = _copied(model.config.config["HLSConfig"])
    made = {f"{prefix}{name}" for prefix in DERIVED for name in weighted}  # by a conversion with the same configuration
    config["LayerName"] = {name: x for name, x in (config.get("LayerName") or {}).items() if name not in made}
    check_names(config, weighted)
    model.config.config["HLSConfig"] = config
    return False


def _copied(config: Any) -> Any:
    """Dictionaries anew, all the way down; what they hold is shared."""
    return {name: _copied(value) for name, value in config.items()} if isinstance(config, dict) else config
