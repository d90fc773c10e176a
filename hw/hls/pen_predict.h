// Which filters of a lazy layer matter for this frame: scores from activation strengths, and the choice among them.
#ifndef PEN_PREDICT_H_
#define PEN_PREDICT_H_

#include "pen_types.h"

namespace pen {

// scores[j] += sum over rows of operands[row] * int8[first + row * padded + j], `CONFIG::score_lanes` filters at a time.
template <class CONFIG, class operand_T>
void add_products(const operand_T *operands, int rows, int first, int filters, typename CONFIG::score_t *scores) {
    const int groups = (filters + CONFIG::score_lanes - 1) / CONFIG::score_lanes;
Rows:
    for (int row = 0; row < rows; row++) {
        const operand_T operand = operands[row];
        if (operand == 0)
            continue;
    Groups:
        for (int group = 0; group < groups; group++) {
            #pragma HLS PIPELINE II=1
        Lanes:
            for (int lane = 0; lane < CONFIG::score_lanes; lane++) {
                #pragma HLS UNROLL
                const int place = group * CONFIG::score_lanes + lane;
                scores[place] += operand * CONFIG::int8[first + row * groups * CONFIG::score_lanes + place];
            }
        }
    }
}

// Leroux et al., "Lazy Evaluation of Convolutional Filters"; low rank: two thin products, requantised in between.
template <class CONFIG>
void predict(const Step &step, const typename CONFIG::strength_t *strengths, const bool *wanted,
             typename CONFIG::score_t *scores) {
Bias:
    for (int filter = 0; filter < CONFIG::max_filters; filter++) {
        #pragma HLS PIPELINE II=1
        scores[filter] = 0;
        if (filter < step.filters) {
            const typename CONFIG::score_t bias = CONFIG::numbers[step.first_bias + filter];
            scores[filter] = step.kind == KIND_PATHS ? typename CONFIG::score_t(-bias) : bias;
        }
    }
    if (CONFIG::has_linear && step.kind == KIND_LINEAR) {
        add_products<CONFIG>(strengths, step.channels, step.first_weight, step.filters, scores);
    }
    if (CONFIG::has_low_rank && step.kind == KIND_LOW_RANK) {
        typename CONFIG::score_t sums[CONFIG::max_rank];
        ap_int<17> hidden[CONFIG::max_rank];
    HiddenBias:
        for (int value = 0; value < CONFIG::max_rank; value++) {
            #pragma HLS PIPELINE II=1
            sums[value] = value < step.rank ? CONFIG::numbers[step.first_theta + value] : 0;
        }
        add_products<CONFIG>(strengths, step.channels, step.first_weight, step.rank, sums);
    Hidden:
        for (int value = 0; value < step.rank; value++) {
            #pragma HLS PIPELINE II=1
            hidden[value] = requantise<CONFIG::score_bits>(sums[value], step.shift, step.hidden_low, step.hidden_high);
        }
        add_products<CONFIG>(hidden, step.rank, step.first_second, step.filters, scores);
    }
    // Votes: of channels that are active, or of classes that are wanted.
    if (CONFIG::has_votes && (step.kind == KIND_PATHS || step.kind == KIND_CLASSES)) {
        const int voters = step.kind == KIND_PATHS ? step.channels : CONFIG::classes;
    Voters:
        for (int voter = 0; voter < voters; voter++) {
            const bool votes = step.kind == KIND_PATHS ? strengths[voter] > CONFIG::numbers[step.first_theta + voter]
                                                       : wanted[voter];
            if (!votes)
                continue;
        Ballots:
            for (int filter = 0; filter < step.filters; filter++) {
                #pragma HLS PIPELINE II=1
                if (CONFIG::votes[step.first_vote + voter * step.filters + filter])
                    scores[filter] += 1;
            }
        }
    }
}

// The filters to compute, as places in the layer's order: pinned ones, then by index. Returns how many.
//
// Top: the highest scores, ties to the lower index. The score of the last that is taken is found bit by bit, so the
// time does not depend on how many are taken.
template <class CONFIG>
int select(const Step &step, const Control &control, const typename CONFIG::score_t *scores, int *list) {
    typedef ap_uint<CONFIG::score_bits> rank_T; // scores with the sign bit turned: they compare as unsigned numbers
    const rank_T sign = rank_T(1) << (CONFIG::score_bits - 1);
    const int need = control.keep - step.pinned;
    rank_T level = 0;
    int ties = 0; // of score `level`, that may still be taken
    if (step.lazy && control.mode == MODE_TOP && need > 0) {
    Bits:
        for (int bit = CONFIG::score_bits - 1; bit >= 0; bit--) {
            const rank_T trial = level | (rank_T(1) << bit);
            int reached = 0;
        Count:
            for (int place = step.pinned; place < step.filters; place++) {
                #pragma HLS PIPELINE II=1
                if ((rank_T(scores[CONFIG::order[step.first_filter + place]]) ^ sign) >= trial)
                    reached++;
            }
            if (reached >= need)
                level = trial;
        }
        ties = need;
    Above:
        for (int place = step.pinned; place < step.filters; place++) {
            #pragma HLS PIPELINE II=1
            if ((rank_T(scores[CONFIG::order[step.first_filter + place]]) ^ sign) > level)
                ties--;
        }
    }
    int count = 0;
Take:
    for (int place = 0; place < step.filters; place++) {
        #pragma HLS PIPELINE II=1
        const int filter = CONFIG::order[step.first_filter + place];
        bool taken = !step.lazy || control.mode == MODE_ALL || place < step.pinned;
        if (!taken && control.mode == MODE_THRESHOLD)
            taken = scores[filter] > control.threshold;
        if (!taken && control.mode == MODE_TOP && need > 0) {
            const rank_T rank = rank_T(scores[filter]) ^ sign;
            taken = rank > level || (rank == level && ties > 0);
            if (rank == level && ties > 0)
                ties--;
        }
        if (taken)
            list[count++] = place;
    }
    return count;
}

} // namespace pen

#endif
