"""The host driver, on the Verilated model: directly, and as PYNQ would show it."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw import image
from hw.control import Control
from hw.design import Design, Mode, Selection
from hw.frames import dequantise_input
from hw.registers import LayerRegister, Register, layer_register
from sim import golden
from sim.device import VerilatedDevice
from sim.verilated import build
from sw.driver import Description, DescriptionError, Device, Driver, DriverError
from tests.designs import built, random_design, random_frames

ROOT = Path(__file__).parent.parent
SEED = 106  # every kind of predictor
CORE_ADDRESS = 0xA000_0000


@cache
def emitted() -> tuple[Design, Path]:
    design = random_design(SEED)
    return design, built(design)[0]


def verilated() -> VerilatedDevice:
    design, folder = emitted()
    return VerilatedDevice(build(folder / "rtl", folder / "verilated", f"{design.name}_probed"), design)


def description() -> Description:
    return Description.load(emitted()[1] / "driver.json")


class Buffer(np.ndarray[Any, Any]):
    """An array of pynq's: contiguous memory that has to be flushed before hardware sees it."""

    physical_address = 0x4000_0000

    def flush(self) -> None:
        self.flushed = self.copy()

    def invalidate(self) -> None:
        pass


class FakeDma:
    """One frame at a time; received when both directions have been started."""

    def __init__(self, device: VerilatedDevice) -> None:
        self.device, self.answer = device, None
        self.sendchannel = types.SimpleNamespace(transfer=self.send, wait=lambda: None)
        self.recvchannel = types.SimpleNamespace(transfer=self.receive, wait=lambda: None)

    def receive(self, buffer: Any) -> None:
        self.answer = buffer

    def send(self, buffer: Any) -> None:
        assert self.answer is not None, "nobody receives"
        self.answer[:] = self.device.stream(np.asarray(buffer.flushed)[np.newaxis])[0][0]
        self.answer = None


def fake_pynq(device: VerilatedDevice) -> types.ModuleType:
    """A module `pynq` whose overlay is the Verilated model."""
    module: Any = types.ModuleType("pynq")

    class Mmio:
        def __init__(self, address: int, length: int) -> None:
            assert (address, length) == (CORE_ADDRESS, 4096)
            self.read, self.write = device.read, self._write

        def _write(self, address: int, value: int) -> None:
            if address == Register.IMAGE_BASE:  # the simulation has its memory elsewhere
                assert value == Buffer.physical_address
                value = device.place(module.image.flushed.tobytes())
            device.write(address, value)

    def allocate(shape: tuple[int, ...], dtype: Any) -> Buffer:
        buffer = np.zeros(shape, dtype).view(Buffer)
        if len(shape) == 1 and dtype == np.uint8:
            module.image = buffer
        return buffer

    module.MMIO, module.allocate = Mmio, allocate
    module.Overlay = lambda _: types.SimpleNamespace(
        ip_dict={f"{device.design.name}_0": {"phys_addr": CORE_ADDRESS}}, axi_dma_0=FakeDma(device)
    )
    return module


@pytest.fixture(params=["verilated", "pynq"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    model = verilated()
    if request.param == "verilated":
        return model
    from sw.driver.pynq import PynqDevice

    monkeypatch.setitem(sys.modules, "pynq", fake_pynq(model))
    return PynqDevice("accelerator.bit", description())


@pytest.fixture
def driver(device: Device) -> Driver:
    result = Driver(device, description())
    result.load(emitted()[1] / "weights.bin")
    return result


def test_answers_are_the_golden_models(driver: Driver) -> None:
    design = emitted()[0]
    frames = random_frames(design, 4, 7)
    answers = driver.infer(frames.transpose(0, 2, 3, 1))
    assert np.array_equal(answers.logits, golden.run(design, frames).outputs)
    assert not answers.bad.any()
    real = driver.infer(dequantise_input(design, frames))
    assert np.array_equal(real.logits, answers.logits)
    assert np.array_equal(real.values, np.ldexp(answers.logits.astype(float), design.output_format.exponent))
    assert np.array_equal(answers.classes, answers.logits.argmax(axis=1))


def test_laziness_changes_at_run_time(driver: Driver) -> None:
    design = emitted()[0]
    frames = random_frames(design, 3, 8)
    settings: dict[str, Selection] = {}
    for index, layer in enumerate(design.lazy_layers):
        match index % 3:
            case 0:
                driver.keep(layer.name, 1)
                settings[layer.name] = Selection(Mode.TOP, 1, layer.threshold)
            case 1:
                driver.threshold(layer.name, -5)
                settings[layer.name] = Selection(Mode.THRESHOLD, layer.selection.keep, -5)
            case _:
                driver.keep(layer.name, None)
                settings[layer.name] = Selection(Mode.ALL, layer.selection.keep, layer.threshold)
    wanted = [0] if design.classes else []
    driver.classes(wanted)
    expected = golden.run(design, frames, Control.of(design, settings, wanted))
    assert np.array_equal(driver.infer(frames.transpose(0, 2, 3, 1)).logits, expected.outputs)
    counters = driver.counters()
    for known in counters.layers:
        trace = expected.layer(known.name)
        assert (known.chosen, known.bytes) == (trace.chosen[-1].sum(), trace.bytes[-1])
        assert known.cycles > 0


def test_shares_and_all_filters(driver: Driver) -> None:
    design = emitted()[0]
    layer = design.lazy_layers[0]
    index = design.tail.index(layer)
    driver.keep(layer.name, 0.5)
    assert driver.device.read(layer_register(index, LayerRegister.KEEP)) == max(1, int(layer.filters / 2 + 0.5))
    assert driver.read(f"layer{index}.MODE", "value") == Mode.TOP.code


def test_counters_add_up(driver: Driver) -> None:
    design = emitted()[0]
    frames = random_frames(design, 5, 9)
    driver.infer(frames.transpose(0, 2, 3, 1))
    counters = driver.counters()
    expected = golden.run(design, frames)
    assert (counters.frames, counters.bad_frames, counters.causes) == (5, 0, ())
    assert counters.bytes == sum(int(trace.bytes.sum()) for trace in expected.layers)
    assert counters.cycles > sum(layer.cycles for layer in counters.layers)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.keep("nobody", 1), "'nobody' is no lazy layer of 'random_106'; lazy layers: "),
        (lambda d: d.keep(d.lazy, 0), "keep is 0; accepted: 1 to "),
        (lambda d: d.keep(d.lazy, 1.5), "keep is 1.5; accepted: 1 to "),
        (lambda d: d.threshold(d.lazy, 1 << 31), "threshold is 2147483648; accepted: 32 bits"),
        (lambda d: d.classes({4000}), r"classes \[4000\]; accepted: "),
        (lambda d: d.infer(np.zeros((1, 2))), r"frames have shape \(1, 2\); accepted: \(n, "),
        (lambda d: d.infer(np.full(d.shape, np.nan)), "NaN values"),
        (lambda d: d.infer(np.full(d.shape, 1000)), "frames hold 1000 to 1000; accepted: "),
        (lambda d: d.infer(np.zeros(d.shape, bool)), "frames have dtype bool"),
    ],
)
def test_what_cannot_be_done_is_said(call: Callable[[Any], object], message: str) -> None:
    design, folder = emitted()
    driver: Any = Driver(verilated(), description())
    driver.load(folder / "weights.bin")
    driver.lazy = design.lazy_layers[0].name
    driver.shape = (1, design.input.height, design.input.width, design.input.channels)
    with pytest.raises(ValueError, match=message):
        call(driver)


def test_a_wrong_accelerator_and_a_wrong_image_are_refused() -> None:
    design, folder = emitted()
    content = json.loads((folder / "driver.json").read_text())
    other = Description.parse(content | {"fingerprint": f"{design.fingerprint ^ 1:016x}"})
    with pytest.raises(DriverError, match="the device has the design with fingerprint"):
        Driver(verilated(), other)
    driver = Driver(verilated(), description())
    with pytest.raises(DriverError, match="no weight image is loaded"):
        driver.infer(np.zeros((1, design.input.height, design.input.width, design.input.channels)))
    weights = bytearray(image.build(design))
    weights[16] ^= 1
    with pytest.raises(DriverError, match="the image starts with b'PENSTOCK' and has fingerprint"):
        driver.load(bytes(weights))


def test_a_description_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="does not exist"):
        Description.load(tmp_path / "driver.json")
    (tmp_path / "driver.json").write_text("{}")
    with pytest.raises(DescriptionError, match="describes no accelerator"):
        Description.load(tmp_path / "driver.json")


def test_the_descriptions_registers_are_the_librarys() -> None:
    registers = description().registers
    for register in Register:
        assert registers[register.name].address == register
    for index in range(len(emitted()[0].tail)):
        for own in LayerRegister:
            assert registers[f"layer{index}.{own.name}"].address == layer_register(index, own)


def test_the_driver_needs_no_pynq() -> None:
    assert "pynq" not in sys.modules
    from sw.driver.pynq import PynqDevice

    with pytest.raises(ModuleNotFoundError, match="pynq"):
        PynqDevice("accelerator.bit", description())
