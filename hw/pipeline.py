"""The conversion pipeline: which passes run, in which order, and what is true after each flow.

Names are hls4ml's: ``penstock:<snake case of the class>`` is a pass of `hw/passes/`, a name without prefix is one of
hls4ml's own flows.
"""

from __future__ import annotations

BACKEND_NAME = "Penstock"

# Before hls4ml touches the graph, while layers still carry the names of the ONNX nodes.
CHECK_PASSES = (
    "penstock:check_options",  # options are meant for layers that exist
    "penstock:check_layers",  # layers that can be lowered
    "penstock:read_quantisers",  # every quantiser is exact; its parameters are attributes
    "penstock:fold_constants",  # weights and biases lie on their integer grids
)

# After hls4ml's own `optimize` (shapes, bias fusion, Conv2D and Dense classes).
LOWER_PASSES = ("penstock:lower_to_design",)  # the model carries a verified `Design`

WRITE_PASSES = ("make_stamp", "penstock:write_design")
