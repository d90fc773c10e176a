"""Small Brevitas networks with random weights, for tests of what is converted from them."""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Int16Bias,
    Uint8ActPerTensorFixedPoint,
)
from numpy.typing import NDArray
from onnx import ModelProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from torch import nn

from hw.qonnx import prepare

QUANTISED: dict[str, Any] = {"bias": True, "weight_quant": Int8WeightPerTensorFixedPoint, "bias_quant": Int16Bias}


def conv(channels: int, filters: int, kernel: int | tuple[int, int] = 3, **options: Any) -> nn.Module:
    return qnn.QuantConv2d(channels, filters, kernel, **(QUANTISED | {"return_quant_tensor": True} | options))


def linear(inputs: int, outputs: int, **options: Any) -> nn.Module:
    return qnn.QuantLinear(inputs, outputs, **(QUANTISED | options))


def relu(**options: Any) -> nn.Module:
    return qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, return_quant_tensor=True, **options)


def identity(**options: Any) -> nn.Module:
    return qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, return_quant_tensor=True, **options)


class Net:
    """A network whose activation scales are set from random frames of `shape` (c, h, w) or (values,)."""

    def __init__(self, *layers: nn.Module, shape: tuple[int, ...], seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        self.module = nn.Sequential(*layers)
        with torch.no_grad():
            for layer in self.module:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.normal_(0.0, 0.5)
                    if layer.bias is not None:
                        layer.bias.normal_(0.0, 0.1)
            self.module.train()
            self.module(torch.from_numpy(self.frames(32)))
            self.module.eval()

    def frames(self, number: int) -> NDArray[np.float32]:
        """Random frames (n, *shape), some of them beyond what the input quantiser holds."""
        return self.rng.normal(0.0, 1.0, (number, *self.shape)).astype(np.float32)

    def qonnx(self) -> ModelProto:
        """As `hw.qonnx.prepare` makes it: cleaned, channels last, nodes called Conv_0, Conv_1, MatMul_0 ..."""
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            model = export_qonnx(self.module, args=torch.zeros(1, *self.shape), dynamo=False)
            return prepare(cleanup_model(ModelWrapper(model)))

    def outputs(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        """What Brevitas answers, (n, outputs), computed in float64, which holds every sum exactly."""
        with torch.no_grad():
            result = self.module.double()(torch.from_numpy(frames).double())
        self.module.float()
        value = result.value if hasattr(result, "value") else result
        return value.reshape(len(frames), -1).numpy()


def execute(model: ModelProto, frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """What executing the QONNX graph answers, (n, outputs)."""
    wrapper = ModelWrapper(model)
    source, target = wrapper.graph.input[0].name, wrapper.graph.output[0].name
    if frames.ndim == 4:
        frames = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    answers = [execute_onnx(wrapper, {source: frame[np.newaxis]})[target] for frame in frames]
    return np.stack(answers).reshape(len(frames), -1).astype(np.float64)
