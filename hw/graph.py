"""What several readers of hls4ml's `ModelGraph` ask of its nodes.

hls4ml loads our plugin while it is imported, so only the plugin's own modules (backend and passes) may import it at
their top; this one, and others that anybody may import first, do not.
"""

from __future__ import annotations

from typing import Any


def label(node: Any) -> str:
    """The layer's class as its author knows it."""
    if node.class_name == "Activation":
        return str(node.get_attr("activation"))
    return str(node.get_attr("class_name", node.class_name))


def constant(node: Any) -> bool:
    """Whether the node's value is known at conversion: a constant, or a constant that is quantised."""
    if node.class_name == "Constant":
        return True
    if node.class_name != "Quant":
        return False
    source = node.get_input_node(node.inputs[0])
    return source is not None and constant(source)


def describe(node: Any) -> str:
    """Who a quantiser belongs to, as the opening of a message."""
    users = node.get_output_nodes()
    if constant(node) and users:
        return f"layer '{users[0].name}': quantiser '{node.name}' of its {role(node)}"
    source = node.get_input_node(node.inputs[0])
    return f"layer '{source.name}': quantiser '{node.name}' of its output"


def role(node: Any) -> str:
    """Whether a constant is used as `weights` or as `bias`."""
    user = next(iter(node.get_output_nodes()), None)
    weighted = user is not None and user.class_name in ("Conv", "MatMul") and user.inputs[1] in node.outputs
    return "weights" if weighted else "bias"
