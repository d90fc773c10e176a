// What an accelerator's parts share: one step of the layer program, what registers say, and rounding.
//
// Written for Vitis HLS and for g++ (C++14); ap_int is Xilinx's, the copy that hls4ml ships.
#ifndef PEN_TYPES_H_
#define PEN_TYPES_H_

#include "ap_int.h"
#include "hls_stream.h"

namespace pen {

enum Mode { MODE_ALL = 0, MODE_TOP = 1, MODE_THRESHOLD = 2 };
enum Kind { KIND_NONE = 0, KIND_LINEAR = 1, KIND_LOW_RANK = 2, KIND_PATHS = 3, KIND_CLASSES = 4 };

const int HEADER_BYTES = 64; // of a weight image

// What the registers of one step say. Steps that are not lazy look at none of it.
struct Control {
    int mode;
    int keep;
    int threshold;
};

// What one step has done in the latest frame.
struct Counter {
    int chosen; // filters computed
    int bytes;  // fetched from external memory
};

// One layer of the tail. `first_...` are places in tables that all steps share (see the generated config).
struct Step {
    // The input map. A channel lies in `words` words of as many pixels as there are pixel lanes.
    int channels, height, width, words;
    bool in_signed;
    // The output map, after pooling.
    int filters, out_width, out_pixels, out_words;
    bool out_signed;
    int low, high; // of an output
    bool last;     // accumulators leave as they are
    // Outputs are anchored at input pixels (row * stride, column * stride); windows walk the flat input map.
    int limit_y, limit_x; // one past the last row and column that anchor an output
    int log_stride, log_pool;
    int windows, window_y, window_x; // and rows and columns from one to the next
    int first_tap, taps;
    int first_kept; // one bit per channel (in the record's order) and tap; -1: all are kept
    // Records in the weight image.
    int first_channel; // order of channels, and their offsets in bytes
    int image_word, record_words;
    int pinned, first_pinned; // filters whose records are on chip; in words
    int first_filter;         // bias, shift, and the order in which filters are computed
    // Branches; places are words of the store, -1 for none.
    int loaded;            // the input, where it is not what the step before leaves
    int kept;              // where the output goes, for steps that come later
    int added;             // what is added to the sums: a map of as many pixels as the input, a channel for each filter
    bool added_signed;
    int added_shift;       // its shift up to the accumulators is a filter's shift and this
    // Laziness.
    bool lazy;
    Kind kind;
    int first_weight, first_second; // linear and low rank: int8 tables, filters padded to whole groups of lanes
    int rank, shift, hidden_low, hidden_high;
    int first_vote;                // paths and classes: Boolean tables
    int first_bias, first_theta;   // bias or tau of each filter; theta of each channel or bias of each hidden value
};

struct Tap {
    int y, x; // of a tap's pixel, from an output's anchor
    int flat; // the same in the flat map
};

// round_half_even(value * 2**-shift)
template <int BITS> ap_int<BITS> round_shift(ap_int<BITS> value, ap_uint<6> shift) {
    #pragma HLS INLINE
    if (shift == 0)
        return value;
    const ap_int<BITS> quotient = value >> shift; // towards minus infinity, so what is left is never negative
    const ap_int<BITS + 1> half = ap_int<BITS + 1>(1) << (shift - 1);
    const ap_int<BITS + 1> left = ap_int<BITS + 1>(value) - (ap_int<BITS + 1>(quotient) << shift);
    const bool up = left > half || (left == half && quotient[0] == 1);
    return up ? ap_int<BITS>(quotient + 1) : quotient;
}

// saturate(round_half_even(value * 2**-shift)); the lower bound 0 is a ReLU
template <int BITS> int requantise(ap_int<BITS> value, ap_uint<6> shift, int low, int high) {
    #pragma HLS INLINE
    const ap_int<BITS> rounded = round_shift<BITS>(value, shift);
    if (rounded < low)
        return low;
    return rounded > high ? high : int(rounded);
}

} // namespace pen

#endif
