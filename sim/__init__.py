"""Models of an accelerator: golden, Verilated and cycle by cycle."""
