"""QONNX files on their way into hls4ml: read, checked, and brought into the form that hls4ml converts exactly."""

from __future__ import annotations

import os
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import hls4ml
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.util.cleanup import cleanup_model

from hw.design import DesignError
from hw.pipeline import BACKEND_NAME
from hw.plugin import ensure_registered
from hw.rewrite import rewrite
from hw.support import SUPPORTED, refused

CHANNELS_LAST = "qonnx.custom_op.channels_last"


def load(path: str | os.PathLike[str]) -> ModelProto:
    """Read an ONNX file; raises FileNotFoundError, and `DesignError` for a file that is none."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"QONNX file '{file}' does not exist")
    try:
        model = onnx.load(file)
    except Exception as error:  # protobuf raises classes of its own
        raise DesignError(f"'{file}' is not an ONNX file ({error})") from None
    if not model.graph.node:
        raise DesignError(f"'{file}' is not an ONNX file, or has no layers")
    return model


def prepare(source: str | os.PathLike[str] | ModelProto | ModelWrapper) -> ModelProto:
    """A copy of a QONNX network, cleaned and with channels last, that ``convert_from_onnx_model`` takes.

    A network that has this form already keeps the names of its layers. Raises `DesignError` naming the first layer
    that is not supported.
    """
    if isinstance(source, ModelWrapper):
        source = source.model
    given = source if isinstance(source, ModelProto) else load(source)
    model = ModelProto()
    model.CopyFrom(given)
    for node in model.graph.node:
        _check(node)
    if any(node.domain == CHANNELS_LAST for node in model.graph.node):
        return model
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")  # GemmToMatMul warns of every opset but 9
        wrapper = cleanup_model(ModelWrapper(model))
    if rewrite(wrapper):
        wrapper = _cleaned(wrapper)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        if len(wrapper.get_tensor_shape(wrapper.graph.input[0].name) or ()) == 4:
            wrapper = wrapper.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
        _add_missing_biases(wrapper)
        wrapper = cleanup_model(wrapper.transform(GemmToMatMul()))
    return wrapper.model


def convert(
    source: str | os.PathLike[str] | ModelProto | ModelWrapper,
    output_dir: str | os.PathLike[str],
    project_name: str = "accelerator",
    hls_config: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """hls4ml's `ModelGraph` of a QONNX network by the Penstock backend, without hls4ml's chatter; `.penstock` is ours.

    `hls_config` and `options` are those of ``hls4ml.converters.convert_from_onnx_model``.
    """
    ensure_registered()
    model = prepare(source)
    with redirect_stdout(StringIO()):
        return hls4ml.converters.convert_from_onnx_model(
            model,
            output_dir=str(output_dir),
            project_name=project_name,
            backend=BACKEND_NAME,
            hls_config=hls_config,
            **options,
        )


def _cleaned(wrapper: ModelWrapper) -> ModelWrapper:
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        return cleanup_model(wrapper)


def _check(node: NodeProto) -> None:
    reason = refused(node.op_type)
    if reason is not None:
        raise DesignError(f"layer '{node.name}' ({node.op_type}) {reason}; supported: {SUPPORTED}")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    dilation = tuple(attributes.get("dilations", ()))
    if any(size != 1 for size in dilation):
        raise DesignError(f"layer '{node.name}' ({node.op_type}) has dilation {dilation}; supported: {SUPPORTED}")
    if attributes.get("ceil_mode", 0):
        raise DesignError(
            f"layer '{node.name}' ({node.op_type}) rounds its size up (ceil_mode); accepted: rounded down"
        )
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise DesignError(
            f"layer '{node.name}' ({node.op_type}) has auto_pad {attributes['auto_pad'].decode()}; "
            "accepted: explicit pads"
        )


def _add_missing_biases(wrapper: ModelWrapper) -> None:
    """Give every Gemm without bias one of zeros, which GemmToMatMul needs."""
    for node in wrapper.get_nodes_by_op_type("Gemm"):
        if len(node.input) < 3:
            filters = wrapper.get_tensor_shape(node.output[0])[-1]
            name = f"{node.output[0]}_zero_bias"
            wrapper.graph.initializer.append(numpy_helper.from_array(np.zeros(filters, np.float32), name))
            node.input.append(name)
