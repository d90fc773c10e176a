"""The hls4ml backend: `backend="Penstock"`."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from hls4ml.backends import FPGABackend
from hls4ml.model.attributes import ConfigurableAttribute
from hls4ml.model.flow import register_flow
from hls4ml.model.layers import Conv, Conv2D, Dense, MatMul
from hls4ml.model.optimizer import model_optimizer
from numpy.typing import NDArray

from hw import vitis
from hw.control import Changes
from hw.design import DesignError
from hw.options import AUTO, LAYER_KNOBS
from hw.pipeline import BACKEND_NAME, CHECK_PASSES, LOWER_PASSES, WRITE_PASSES
from hw.synthesis import SynthesisReport, Target, synthesise, tools
from hw.vitis import Step, VitisReport


class PenstockBackend(FPGABackend):
    """Lowers a `ModelGraph` to a `Design` on conversion; writes, builds and runs its RTL when asked to.

    Options are those of `hw.options`. Precisions in `hls_config` are not read: the network's own quantisers say them.
    """

    def __init__(self) -> None:
        super().__init__(BACKEND_NAME)
        # ONNX nodes are Conv and MatMul when options are listed, Conv2D and Dense when they are read.
        for layer in (Conv, Conv2D, MatMul, Dense):
            options = [
                ConfigurableAttribute(knob.attribute, value_type=object, default=AUTO, description=knob.accepted)
                for knob in LAYER_KNOBS.values()
            ]
            self.attribute_map[layer] = [*self.attribute_map.get(layer, []), *options]
        check = register_flow("check", list(CHECK_PASSES), requires=[], backend=self.name)
        lower = register_flow("lower", list(LOWER_PASSES), requires=[check, "optimize"], backend=self.name)
        self._default_flow = register_flow("ip", None, requires=[lower], backend=self.name)
        self._writer_flow = register_flow("write", list(WRITE_PASSES), requires=[self._default_flow], backend=self.name)

    def get_default_flow(self) -> str:
        """Flow of a conversion."""
        return self._default_flow

    def get_writer_flow(self) -> str:
        """Flow of `write()`."""
        return self._writer_flow

    def create_initial_config(
        self,
        io_type: str = "io_stream",
        simulator: str | None = None,
        hls: str | None = None,
        part: str | None = None,
        **_: object,
    ) -> dict[str, object]:
        """Configuration from the keyword arguments of a conversion; those of other backends are ignored.

        With `hls` "vitis", `write()` adds the same design as a Vitis HLS project, which `compile()` and `predict()`
        then use, and `build()` runs Vitis HLS on it for the device `part`. `simulator` names the entry point (group
        `penstock.simulators`) that they use otherwise.
        """
        if io_type != "io_stream":
            raise DesignError(
                f"io_type is '{io_type}'; accepted: 'io_stream' (frames stream through the accelerator pixel by pixel, "
                "weights come from memory, so there is no fully parallel form)"
            )
        if hls not in (None, "vitis"):
            raise DesignError(f"hls is '{hls}'; accepted: 'vitis', or None for SystemVerilog alone")
        return {"IOType": io_type, "Simulator": simulator or hls, "HLS": hls, "Part": part, "HLSConfig": {}}

    @model_optimizer()
    def write_design(self, model: Any) -> bool:
        """Pass `penstock:write_design`."""
        self.writer.write_hls(model)
        return True

    def compile(self, model: Any) -> None:
        """Build the emitted RTL for simulation.

        hls4ml loads the library whose name it is given here; the simulator has loaded its own, so there is no name
        (to the loader that means the running program, and changes nothing).
        """
        config = model.config
        model.penstock.compile(Path(config.get_output_dir()), config.get_config_value("Simulator"))

    def predict(self, model: Any, x: NDArray[np.floating], keep: Changes = None) -> NDArray[np.floating]:
        """Run the RTL; see `hw.accelerator.Accelerator.predict`."""
        logits: NDArray[np.floating] = model.penstock.predict(x, keep)
        return logits

    def build(self, model: Any, **options: Any) -> SynthesisReport | VitisReport:
        """Synthesise the RTL with open tools, or the C++ with Vitis HLS where the conversion has said `hls="vitis"`.

        Open tools: `targets`, `frequency` (MHz) and `seed`, see `hw.synthesis.synthesise`; it takes minutes. Vitis HLS:
        `csim`, `synth`, `cosim`, `export`, as hls4ml's own backend calls its steps. Options of other backends are
        ignored, so that scripts made for them run. The report is also written to ``synthesis.json`` or ``vitis.json``
        in the output folder, with logs and netlists in ``synthesis/`` or ``hls/``. Raises `SynthesisError` where the
        extra `synthesis` is not installed, `VitisError` where Vitis HLS is not there, or fails.
        """
        builder = _vitis if model.config.get_config_value("HLS") == "vitis" else _open_tools
        return builder(model, **{name: x for name, x in options.items() if name in signature(builder).parameters})


def _open_tools(
    model: Any, targets: Sequence[str] = tuple(Target), frequency: float = 100.0, seed: int = 1
) -> SynthesisReport:
    tools()
    wanted = [_target(name) for name in targets]
    folder = Path(model.config.get_output_dir())
    model.write()
    name = model.penstock.design.name
    report = synthesise(name, folder / "rtl", folder / "synthesis", targets=wanted, frequency=frequency, seed=seed)
    (folder / "synthesis.json").write_text(report.to_json())
    return report


def _vitis(model: Any, csim: bool = True, synth: bool = True, cosim: bool = False, export: bool = False) -> VitisReport:
    vitis.tool()
    asked = {Step.CSIM: csim, Step.CSYNTH: synth, Step.COSIM: cosim, Step.EXPORT: export}
    folder = Path(model.config.get_output_dir())
    model.write()
    steps = [step for step, wanted in asked.items() if wanted]
    report = vitis.run(model.penstock.design.name, folder / "hls", steps, model.config.get_config_value("Part"))
    (folder / "vitis.json").write_text(report.to_json())
    return report


def _target(name: str) -> Target:
    if name not in tuple(Target):
        raise DesignError(f"build(): target '{name}'; accepted: {', '.join(Target)}")
    return Target(name)
