// The shared engine: runs the layers of the tail one after another on one multiplier array.
//
// Filters are computed in groups of `lane_filters`, the map in windows of `lane_pixels` neighbouring pixels; channels and
// taps are walked in time, those of absent channels left out. Fetching the next group's weights, computing and draining
// overlap (dataflow). A feature map lies in `lane_pixels` banks, pixel p of a channel in bank p % lane_pixels, so that
// any unaligned window is one word of each bank. Steps read and write two maps in turn; what a later step reads or adds is
// kept in a store meanwhile.
#ifndef PEN_ENGINE_H_
#define PEN_ENGINE_H_

#include "pen_predict.h"
#include "pen_trace.h"
#include "pen_types.h"

namespace pen {

template <class CONFIG> struct Sums {
    typename CONFIG::sum_t value[CONFIG::lane_filters][CONFIG::lane_pixels];
};

// One column of the layer's matrix that this frame needs.
struct Column {
    int channel, tap;
    int byte; // of its weight in a record
};

// Neighbouring bus words of a record that are fetched.
struct Run {
    int first, words;
};

// Rows and columns of a window's lanes.
template <class CONFIG> struct Lanes {
    int y[CONFIG::lane_pixels], x[CONFIG::lane_pixels];
};

template <class CONFIG> Lanes<CONFIG> first_lanes(const Step &step) {
    #pragma HLS INLINE
    Lanes<CONFIG> lanes;
    int y = 0, x = 0;
    for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
        #pragma HLS UNROLL
        lanes.y[lane] = y;
        lanes.x[lane] = x;
        x++;
        if (x == step.width) {
            x = 0;
            y++;
        }
    }
    return lanes;
}

template <class CONFIG> void next_lanes(const Step &step, Lanes<CONFIG> &lanes) {
    #pragma HLS INLINE
    for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
        #pragma HLS UNROLL
        lanes.y[lane] += step.window_y;
        lanes.x[lane] += step.window_x;
        if (lanes.x[lane] >= step.width) {
            lanes.x[lane] -= step.width;
            lanes.y[lane]++;
        }
    }
}

inline int activation(ap_uint<8> raw, bool is_signed) {
    #pragma HLS INLINE
    return is_signed ? int(ap_int<8>(raw)) : int(raw);
}

inline int magnitude(int value) {
    #pragma HLS INLINE
    return value < 0 ? -value : value;
}

// The columns of present channels, and the runs of words that hold their weights; gaps of up to `gap_words` between runs
// are fetched along. Returns numbers of columns and runs.
template <class CONFIG>
void plan(const Step &step, const typename CONFIG::strength_t *strengths, Column *columns, int &column_count, Run *runs,
          int &run_count) {
    int count = 0, made = 0, reached = -1; // last word that is fetched so far
Channels:
    for (int place = 0; place < step.channels; place++) {
        const int channel = CONFIG::channel_order[step.first_channel + place];
        const int first = CONFIG::channel_word[step.first_channel + place];
        const int last = CONFIG::channel_end[step.first_channel + place] - 1;
        if (strengths[channel] == 0 || last < first)
            continue;
        if (made > 0 && first - reached - 1 <= CONFIG::gap_words) {
            runs[made - 1].words = last - runs[made - 1].first + 1;
        } else {
            runs[made].first = first;
            runs[made].words = last - first + 1;
            made++;
        }
        reached = last;
        int byte = CONFIG::channel_offset[step.first_channel + place];
    Taps:
        for (int tap = 0; tap < step.taps; tap++) {
            #pragma HLS PIPELINE II=1
            if (step.first_kept < 0 || CONFIG::kept[step.first_kept + place * step.taps + tap]) {
                columns[count].channel = channel;
                columns[count].tap = tap;
                columns[count].byte = byte;
                count++;
                byte++;
            }
        }
    }
    column_count = count;
    run_count = made;
}

// Records of one group of filters into `bank`: from external memory, or those of pinned filters from on chip.
template <class CONFIG>
void fetch(const Step &step, int group, const int *list, int count, const Run *runs, int run_count,
           const typename CONFIG::word_t *image,
           typename CONFIG::word_t bank[CONFIG::lane_filters][CONFIG::max_record_words]) {
Filters:
    for (int lane = 0; lane < CONFIG::lane_filters; lane++) {
        const int at = group * CONFIG::lane_filters + lane;
        if (at >= count)
            continue;
        const int place = list[at];
        const int filter = CONFIG::order[step.first_filter + place];
    Runs:
        for (int run = 0; run < run_count; run++) {
            const int first = runs[run].first, words = runs[run].words;
            if (place < step.pinned) {
            OnChip:
                for (int word = first; word < first + words; word++) {
                    #pragma HLS PIPELINE II=1
                    typename CONFIG::word_t value = 0;
                    const int from = step.first_pinned + place * step.record_words + word;
                    for (int byte = 0; byte < CONFIG::bus_bytes; byte++) {
                        #pragma HLS UNROLL
                        value.range(8 * byte + 7, 8 * byte) = ap_int<8>(CONFIG::pinned[from * CONFIG::bus_bytes + byte]);
                    }
                    bank[lane][word] = value;
                }
            } else {
            Burst:
                for (int word = first; word < first + words; word++) {
                    #pragma HLS PIPELINE II=1
                    bank[lane][word] = image[step.image_word + filter * step.record_words + word];
#ifndef __SYNTHESIS__
                    if (trace().wanted)
                        ++*trace().words;
#endif
                }
            }
        }
    }
}

template <class CONFIG>
void compute(const Step &step, const Column *columns, int column_count,
             const ap_uint<8> map[CONFIG::lane_pixels][CONFIG::map_words],
             const typename CONFIG::word_t bank[CONFIG::lane_filters][CONFIG::max_record_words],
             hls::stream<Sums<CONFIG>> &sums) {
    Lanes<CONFIG> lanes = first_lanes<CONFIG>(step);
Windows:
    for (int window = 0; window < step.windows; window++) {
        Sums<CONFIG> sum;
        #pragma HLS ARRAY_PARTITION variable=sum.value complete dim=0
        for (int lane = 0; lane < CONFIG::lane_filters * CONFIG::lane_pixels; lane++) {
            #pragma HLS UNROLL
            sum.value[lane / CONFIG::lane_pixels][lane % CONFIG::lane_pixels] = 0;
        }
    Columns:
        for (int at = 0; at < column_count; at++) {
            #pragma HLS PIPELINE II=1
            const Column column = columns[at];
            const Tap tap = CONFIG::tap[step.first_tap + column.tap];
            const int start = window * CONFIG::lane_pixels + tap.flat;
            int operand[CONFIG::lane_pixels];
        Banks: // bank b holds the pixel of lane (b - start) % lane_pixels
            for (int bank_index = 0; bank_index < CONFIG::lane_pixels; bank_index++) {
                #pragma HLS UNROLL
                const int lane = (bank_index - start) & (CONFIG::lane_pixels - 1);
                const int y = lanes.y[lane] + tap.y, x = lanes.x[lane] + tap.x;
                const bool inside = y >= 0 && y < step.height && x >= 0 && x < step.width;
                const int word = inside ? (start + lane) / CONFIG::lane_pixels : 0;
                const ap_uint<8> raw = map[bank_index][column.channel * step.words + word];
                operand[lane] = inside ? activation(raw, step.in_signed) : 0;
            }
        Products:
            for (int filter = 0; filter < CONFIG::lane_filters; filter++) {
                #pragma HLS UNROLL
                const typename CONFIG::word_t word = bank[filter][column.byte / CONFIG::bus_bytes];
                const int bit = 8 * (column.byte % CONFIG::bus_bytes);
                const ap_int<8> weight = ap_int<8>(word.range(bit + 7, bit));
                for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
                    #pragma HLS UNROLL
                    sum.value[filter][lane] += ap_int<9>(operand[lane]) * weight;
                }
            }
        }
        sums.write(sum);
        next_lanes<CONFIG>(step, lanes);
    }
}

// Bias, what a branch adds, requantisation, max-pooling and strengths, on the way into the output map; a last layer's sums
// are the answer.
template <class CONFIG>
void drain(const Step &step, int group, const int *list, int count, hls::stream<Sums<CONFIG>> &sums,
           const ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words],
           ap_uint<8> map[CONFIG::lane_pixels][CONFIG::map_words], typename CONFIG::strength_t *strengths,
           typename CONFIG::logit_t *logits) {
    Lanes<CONFIG> lanes = first_lanes<CONFIG>(step);
    const int pool_mask = (1 << step.log_pool) - 1, stride_mask = (1 << step.log_stride) - 1;
Windows:
    for (int window = 0; window < step.windows; window++) {
        const Sums<CONFIG> sum = sums.read();
    Pixels:
        for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
        Filters:
            for (int index = 0; index < CONFIG::lane_filters; index++) {
                #pragma HLS PIPELINE
                const int y = lanes.y[lane], x = lanes.x[lane], at = group * CONFIG::lane_filters + index;
                if (at >= count || y >= step.limit_y || x >= step.limit_x || (y & stride_mask) || (x & stride_mask))
                    continue;
                const int filter = CONFIG::order[step.first_filter + list[at]];
                typename CONFIG::sum_t total = sum.value[index][lane] + CONFIG::bias[step.first_filter + filter];
                if (CONFIG::has_branches && step.added >= 0) {
                    const int from = y * step.width + x; // outputs are as many as inputs
                    const int word = step.added + filter * step.words + from / CONFIG::lane_pixels;
                    const int other = activation(store[from % CONFIG::lane_pixels][word], step.added_signed);
                    total += typename CONFIG::sum_t(other) << (CONFIG::shift[step.first_filter + filter] + step.added_shift);
                }
                if (step.last) {
                    logits[filter] = total;
                    continue;
                }
                const int row = y >> step.log_stride, column = x >> step.log_stride;
                const bool opens = !(row & pool_mask) && !(column & pool_mask);
                const bool closes = (row & pool_mask) == pool_mask && (column & pool_mask) == pool_mask;
                const int pixel = (row >> step.log_pool) * step.out_width + (column >> step.log_pool);
                const int bank = pixel % CONFIG::lane_pixels;
                const int word = filter * step.out_words + pixel / CONFIG::lane_pixels;
                int value = requantise<CONFIG::sum_bits>(total, CONFIG::shift[step.first_filter + filter], step.low, step.high);
                const int before = activation(map[bank][word], step.out_signed);
                if (!opens && before > value)
                    value = before;
                map[bank][word] = ap_uint<8>(value);
                if (closes)
                    strengths[filter] += magnitude(value);
            }
        }
        next_lanes<CONFIG>(step, lanes);
    }
}

// The chosen filters, a group at a time.
template <class CONFIG>
void groups(const Step &step, const int *list, int count, const Column *columns, int column_count, const Run *runs,
            int run_count, const typename CONFIG::word_t *image,
            const ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words],
            const ap_uint<8> input[CONFIG::lane_pixels][CONFIG::map_words],
            ap_uint<8> output[CONFIG::lane_pixels][CONFIG::map_words], typename CONFIG::strength_t *strengths,
            typename CONFIG::logit_t *logits) {
    const int number = (count + CONFIG::lane_filters - 1) / CONFIG::lane_filters;
Groups:
    for (int group = 0; group < number; group++) {
        #pragma HLS DATAFLOW
        typename CONFIG::word_t bank[CONFIG::lane_filters][CONFIG::max_record_words];
        #pragma HLS ARRAY_PARTITION variable=bank complete dim=1
        hls::stream<Sums<CONFIG>> sums("sums");
        #pragma HLS STREAM variable=sums depth=2
        fetch<CONFIG>(step, group, list, count, runs, run_count, image, bank);
        compute<CONFIG>(step, columns, column_count, input, bank, sums);
        drain<CONFIG>(step, group, list, count, sums, store, output, strengths, logits);
    }
}

// A map of the store back into the map that a step reads, and its strengths anew.
template <class CONFIG>
void load_map(int from, int channels, int words, bool is_signed,
          const ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words],
          ap_uint<8> map[CONFIG::lane_pixels][CONFIG::map_words], typename CONFIG::strength_t *strengths) {
Channels:
    for (int channel = 0; channel < channels; channel++) {
        typename CONFIG::strength_t strength = 0;
    Words:
        for (int word = channel * words; word < (channel + 1) * words; word++) {
            #pragma HLS PIPELINE II=1
            for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
                #pragma HLS UNROLL
                const ap_uint<8> raw = store[lane][from + word];
                map[lane][word] = raw;
                strength += magnitude(activation(raw, is_signed));
            }
        }
        strengths[channel] = strength;
    }
}

// `pixels` of each channel of a map into the store; the lanes behind them get zeros.
template <class CONFIG>
void store_map(int to, int channels, int words, int pixels, const ap_uint<8> map[CONFIG::lane_pixels][CONFIG::map_words],
          ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words]) {
Channels:
    for (int channel = 0; channel < channels; channel++) {
    Words:
        for (int word = 0; word < words; word++) {
            #pragma HLS PIPELINE II=1
            for (int lane = 0; lane < CONFIG::lane_pixels; lane++) {
                #pragma HLS UNROLL
                const bool inside = word * CONFIG::lane_pixels + lane < pixels;
                const int place = channel * words + word;
                store[lane][to + place] = inside ? map[lane][place] : ap_uint<8>(0);
            }
        }
    }
}

// One layer: its input from the store, if it lies there, which filters, which columns, then groups of filters, and its
// output into the store, if a later layer needs it. `before` and `after` are strengths of input and output.
template <class CONFIG>
void run_step(const Step &step, const Control &control, const bool *wanted, const typename CONFIG::word_t *image,
              ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words],
              ap_uint<8> input[CONFIG::lane_pixels][CONFIG::map_words],
              ap_uint<8> output[CONFIG::lane_pixels][CONFIG::map_words], typename CONFIG::strength_t *before,
              typename CONFIG::strength_t *after, typename CONFIG::logit_t *logits, Counter &counter) {
    typename CONFIG::score_t scores[CONFIG::max_filters];
    #pragma HLS ARRAY_PARTITION variable=scores cyclic factor=CONFIG::score_lanes
    int list[CONFIG::max_filters];
    Column columns[CONFIG::max_columns];
    Run runs[CONFIG::max_channels];
    int column_count = 0, run_count = 0;

    if (CONFIG::has_branches && step.loaded >= 0)
        load_map<CONFIG>(step.loaded, step.channels, step.words, step.in_signed, store, input, before);
    if (step.lazy && control.mode != MODE_ALL)
        predict<CONFIG>(step, before, wanted, scores);
    const int count = select<CONFIG>(step, control, scores, list);
    plan<CONFIG>(step, before, columns, column_count, runs, run_count);
Clear:
    for (int filter = 0; filter < CONFIG::max_filters; filter++) {
        #pragma HLS PIPELINE II=1
        after[filter] = 0;
    }
    groups<CONFIG>(step, list, count, columns, column_count, runs, run_count, image, store, input, output, after, logits);
    if (CONFIG::has_branches && step.kept >= 0)
        store_map<CONFIG>(step.kept, step.filters, step.out_words, step.out_pixels, output, store);

    int words = 0, fetched = 0;
Words:
    for (int run = 0; run < run_count; run++) {
        #pragma HLS PIPELINE II=1
        words += runs[run].words;
    }
    fetched = (count - step.pinned) * words * CONFIG::bus_bytes;
    counter.chosen = count;
    counter.bytes = fetched;

#ifndef __SYNTHESIS__
    Trace &told = trace();
    if (!told.wanted)
        return;
    for (int channel = 0; channel < step.channels; channel++)
        *told.strengths++ = (long long)before[channel];
    for (int filter = 0; filter < step.filters; filter++, told.scores++)
        if (step.lazy && control.mode != MODE_ALL)
            *told.scores = (long long)scores[filter];
    for (int at = 0; at < count; at++)
        told.chosen[CONFIG::order[step.first_filter + list[at]]] = 1;
    if (!step.last) {
        const int pixels = step.out_pixels;
        for (int at = 0; at < count; at++) {
            const int filter = CONFIG::order[step.first_filter + list[at]];
            for (int pixel = 0; pixel < pixels; pixel++)
                told.maps[filter * pixels + pixel] =
                    activation(output[pixel % CONFIG::lane_pixels][filter * step.out_words + pixel / CONFIG::lane_pixels],
                               step.out_signed);
        }
        told.maps += step.filters * pixels;
    }
    told.chosen += step.filters;
    ++told.words;
#endif
}

// Whether `image` starts with the header of this design's weight image.
template <class CONFIG> bool image_fits(const typename CONFIG::word_t *image) {
    bool fits = true;
Header:
    for (int word = 0; word < HEADER_BYTES / CONFIG::bus_bytes; word++) {
        #pragma HLS PIPELINE II=1
        const typename CONFIG::word_t value = image[word];
        for (int byte = 0; byte < CONFIG::bus_bytes; byte++) {
            #pragma HLS UNROLL
            const int place = word * CONFIG::bus_bytes + byte;
            if (value.range(8 * byte + 7, 8 * byte) != CONFIG::header[place])
                fits = false;
        }
    }
    return fits;
}

// One frame through all layers of the tail. An image that is not this design's is refused: `status` is 1, logits are 0.
template <class CONFIG, class in_T, class out_T>
void tail(hls::stream<in_T> &in, const typename CONFIG::word_t *image, const int *mode, const int *keep,
          const int *threshold, const bool *wanted, hls::stream<out_T> &out, int *chosen, int *bytes, int *status) {
    ap_uint<8> even[CONFIG::lane_pixels][CONFIG::map_words], odd[CONFIG::lane_pixels][CONFIG::map_words];
    #pragma HLS ARRAY_PARTITION variable=even complete dim=1
    #pragma HLS ARRAY_PARTITION variable=odd complete dim=1
    ap_uint<8> store[CONFIG::lane_pixels][CONFIG::store_words];
    #pragma HLS ARRAY_PARTITION variable=store complete dim=1
    typename CONFIG::strength_t even_strengths[CONFIG::max_channels], odd_strengths[CONFIG::max_channels];
    typename CONFIG::logit_t logits[CONFIG::outputs];
    #pragma HLS ALLOCATION function instances=run_step<CONFIG> limit=1

Clear:
    for (int channel = 0; channel < CONFIG::max_channels; channel++) {
        #pragma HLS PIPELINE II=1
        even_strengths[channel] = 0;
    }
    const Step &first = CONFIG::program[0];
Pixels:
    for (int pixel = 0; pixel < first.height * first.width; pixel++) {
        const in_T beat = in.read();
    Channels:
        for (int channel = 0; channel < first.channels; channel++) {
            #pragma HLS PIPELINE II=1
            const int value = int(beat[channel]);
            even[pixel % CONFIG::lane_pixels][channel * first.words + pixel / CONFIG::lane_pixels] = ap_uint<8>(value);
            even_strengths[channel] += magnitude(value);
        }
    }
    if (CONFIG::has_branches && CONFIG::input_kept >= 0)
        store_map<CONFIG>(CONFIG::input_kept, first.channels, first.words, first.height * first.width, even, store);
    const bool fits = image_fits<CONFIG>(image);
    *status = fits ? 0 : 1;
Steps:
    for (int index = 0; index < CONFIG::steps; index++) {
        const Step &step = CONFIG::program[index];
        const Control control = {mode[index], keep[index], threshold[index]};
        Counter counter = {0, 0};
        if (fits) {
            if (index % 2 == 0)
                run_step<CONFIG>(step, control, wanted, image, store, even, odd, even_strengths, odd_strengths, logits,
                                 counter);
            else
                run_step<CONFIG>(step, control, wanted, image, store, odd, even, odd_strengths, even_strengths, logits,
                                 counter);
        }
        chosen[index] = counter.chosen;
        bytes[index] = counter.bytes;
    }
    out_T answer;
Answer:
    for (int output = 0; output < CONFIG::outputs; output++) {
        #pragma HLS UNROLL
        answer[output] = fits ? logits[output] : typename CONFIG::logit_t(0);
    }
    out.write(answer);
}

} // namespace pen

#endif
