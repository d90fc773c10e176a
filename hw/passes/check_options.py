"""Refuse options for layers that do not exist, and misspelt options."""

from __future__ import annotations

from typing import Any

from hls4ml.model.optimizer import ModelOptimizerPass

from hw.options import check_names


class CheckOptions(ModelOptimizerPass):
    """Afterwards: every Penstock option of `hls_config` is spelt as documented and names a layer with weights."""

    def __init__(self) -> None:
        super().__init__("check_options", check)


def check(model: Any) -> bool:
    """Raise `DesignError` for an option of the `ModelGraph`'s configuration that nothing will read."""
    weighted = [node.name for node in model.graph.values() if node.class_name in ("Conv", "MatMul", "Conv2D", "Dense")]
    check_names(model.config.config["HLSConfig"], weighted)
    return False
