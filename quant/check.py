"""Does the exported file compute what the network computes? Compared as integers, with ``==``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from quant.layers import QuantNetwork
from sw.data import FloatArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Integer logits (frames, classes) of both executions."""

    brevitas: IntArray
    qonnx: IntArray

    @property
    def equal_frames(self) -> int:
        """Frames on which every logit is equal."""
        return int((self.brevitas == self.qonnx).all(axis=1).sum())

    @property
    def equal(self) -> bool:
        """Whether every logit of every frame is equal."""
        return self.equal_frames == len(self.brevitas)


def compare(network: QuantNetwork, path: Path, frames: FloatArray) -> Comparison:
    """Run `frames` (n, c, h, w) through Brevitas and through the QONNX file at `path` (channels last)."""
    return Comparison(
        brevitas=network.integer_logits(torch.tensor(frames)).numpy(),
        qonnx=qonnx_logits(path, frames, network.accumulator_exponent),
    )


def qonnx_logits(path: Path, frames: FloatArray, exponent: int) -> IntArray:
    """The QONNX file's outputs (n, classes) for `frames` (n, c, h, w), in units of ``2**exponent``.

    Executed by the qonnx package on all frames at once. ArithmeticError if an output is no integer.
    """
    model = ModelWrapper(str(path))
    _set_batch(model, len(frames))
    inputs = {model.graph.input[0].name: np.ascontiguousarray(np.moveaxis(frames, 1, -1), dtype=np.float32)}
    onnxruntime.set_default_logger_severity(3)  # it warns of the opset in which qonnx wraps channels-last nodes
    try:
        outputs = execute_onnx(model, inputs)[model.graph.output[0].name]
    finally:
        onnxruntime.set_default_logger_severity(2)
    scaled = outputs.astype(np.float64) * 2.0**-exponent
    if not (scaled == np.rint(scaled)).all():
        raise ArithmeticError(f"'{path}': outputs are not multiples of 2**{exponent}")
    integers: IntArray = scaled.astype(np.int64)
    return integers


def _set_batch(model: ModelWrapper, frames: int) -> None:
    """Let a model of one frame per batch take `frames` (qonnx's own ChangeBatchSize loses channels-last shapes)."""
    batched = {model.graph.input[0].name}
    for node in model.graph.node:
        if batched.intersection(node.input):
            batched.update(node.output)
    for tensor in batched:
        model.set_tensor_shape(tensor, [frames, *model.get_tensor_shape(tensor)[1:]])
