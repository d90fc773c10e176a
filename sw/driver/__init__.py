"""The host's side of an accelerator: load an image, infer, change how lazy it is, read what it counted.

    from sw.driver import Description, Driver
    from sw.driver.pynq import PynqDevice

    description = Description.load("driver.json")
    driver = Driver(PynqDevice("accelerator.bit", description), description)
    driver.load("weights.bin")
    answers = driver.infer(images)

Needs numpy and nothing else of Penstock.
"""

from sw.driver.description import Description, DescriptionError
from sw.driver.device import Device
from sw.driver.driver import Answers, Counters, Driver, DriverError, LayerCounters

__all__ = [
    "Answers",
    "Counters",
    "Description",
    "DescriptionError",
    "Device",
    "Driver",
    "DriverError",
    "LayerCounters",
]
