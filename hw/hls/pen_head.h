// Between hls4ml's convolution and its pooling in a head stage: accumulators become activations.
//
// hls4ml's own activations know one scale per tensor; here every filter has a shift of its own.
#ifndef PEN_HEAD_H_
#define PEN_HEAD_H_

#include "pen_types.h"

namespace pen {

// One pixel of all filters per beat, II = 1.
template <class sums_T, class out_T, class CONFIG> void requantise_stage(hls::stream<sums_T> &sums, hls::stream<out_T> &out) {
Pixels:
    for (int pixel = 0; pixel < CONFIG::pixels; pixel++) {
        #pragma HLS PIPELINE II=1
        const sums_T given = sums.read();
        out_T result;
    Filters:
        for (int filter = 0; filter < CONFIG::filters; filter++) {
            #pragma HLS UNROLL
            result[filter] = requantise<CONFIG::sum_bits>(given[filter], CONFIG::shift[filter], CONFIG::low, CONFIG::high);
        }
        out.write(result);
    }
}

} // namespace pen

#endif
