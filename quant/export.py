"""A quantised network as a QONNX file that hls4ml converts to the bit."""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from brevitas.export import export_qonnx
from brevitas.nn import QuantReLU
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.transformation.general import GiveReadableTensorNames
from qonnx.util.cleanup import cleanup_model
from torch import nn

from quant.layers import INPUT, QuantNetwork
from sw.train import write_atomically


def export(network: QuantNetwork, shape: tuple[int, int, int], path: Path) -> None:
    """Write `network`, for frames of `shape` (c, h, w), as QONNX: channels last, one frame per batch.

    Nodes bear the layers' names: `conv1` (Conv), `relu1` (Relu), `pool1` (MaxPool), `dense` (MatMul) and `dense_bias`
    (Add; `conv2_sum` where `conv2` adds another branch), with `<layer>_quant`, `<layer>_weight_quant` and
    `<layer>_bias_quant` for the Quant nodes. A dense layer after a flattened map takes its inputs in (h, w, c) order,
    as channels-last asks. The same network gives the same bytes, and no reader sees half a file.
    """
    write_atomically(path, to_qonnx(network, shape).model.SerializeToString(deterministic=True))


def to_qonnx(network: QuantNetwork, shape: tuple[int, int, int]) -> ModelWrapper:
    """What `export` writes."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")  # GemmToMatMul warns of any opset but 9; quant/check.py is the check
        # The graph by torch.onnx's first exporter: faster by far than the one by torch.export, and as exact.
        model = ModelWrapper(export_qonnx(network, args=torch.zeros(1, *shape), dynamo=False))
        model = cleanup_model(model)
        model = model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
        model = cleanup_model(model.transform(GemmToMatMul()))
    _name_nodes(model, network)
    return model.transform(GiveReadableTensorNames())


_OPERATORS: tuple[tuple[str, type[nn.Module] | tuple[type[nn.Module], ...]], ...] = (
    ("Conv", nn.Conv2d),
    ("MatMul", nn.Linear),
    ("MaxPool", nn.MaxPool2d),
    ("Relu", QuantReLU),
    ("Flatten", nn.Flatten),
)


def _name_nodes(model: ModelWrapper, network: QuantNetwork) -> None:
    """Give nodes the names of the layers they came from; their order tells which."""
    names = {
        operator: [n for n, layer in network.named_children() if isinstance(layer, kind)]
        for operator, kind in _OPERATORS
    }
    for operator, layers in names.items():
        nodes = model.get_nodes_by_op_type(operator)
        if len(nodes) != len(layers):
            raise RuntimeError(f"export made {len(nodes)} {operator} nodes of the layers {', '.join(layers)}")
        for node, name in zip(nodes, layers, strict=True):
            node.name = name
    for node in model.graph.node:
        if node.op_type == "Add":
            operands = [model.find_producer(name) for name in node.input]
            weighted = next(x.name for x in operands if x is not None and x.op_type in ("Conv", "MatMul"))
            node.name = f"{weighted}_{'sum' if weighted in network.adds else 'bias'}"
    for node in model.get_nodes_by_op_type("Quant"):
        node.name = _quantiser_name(model, node)


def _quantiser_name(model: ModelWrapper, quantiser: NodeProto) -> str:
    producer = model.find_producer(quantiser.input[0])
    if producer is not None:
        return f"{producer.name}_quant"
    if quantiser.input[0] == model.graph.input[0].name:
        return f"{INPUT}_quant"
    consumer = model.find_consumer(quantiser.output[0])
    if consumer.op_type == "Add":
        return f"{consumer.name}_quant"
    return f"{consumer.name}_{'weight' if consumer.input[1] == quantiser.output[0] else 'bias'}_quant"
