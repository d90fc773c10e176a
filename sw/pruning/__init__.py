"""Static pruning: criteria, what is removed at a time, schedules, and the smaller network that results.

A layer's weights are seen as its matrix in the accelerator's form, (filters, channels, kh, kw); a dense layer after a
flattened map has that map as its kernel. A *mask* of that shape tells which weights stay, whatever was removed: single
weights, kernels, columns or filters. `shrink` turns masks into a network without the removed filters; removed columns
stay as zeros that `masks.columns` lists, and that become missing taps in the hardware (`Taps` in `hw.options`).
"""
