"""Quantised networks in Brevitas: layers, training, QONNX export, and the torch witness of lazy inference."""
