// The streaming head: pixels to rows, and stages between row streams (pen_pixel_in, pen_conv_stage).
//
// Beats are given from a sender to its receiver in order. A receiver does all that the beats so far allow before it
// returns, so that it knows when it takes the next one.
#ifndef PEN_HEAD_H
#define PEN_HEAD_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "contracts.h"
#include "datapath.h"

namespace pen {

// The receiving end of a row stream.
class Rows {
public:
    virtual ~Rows() = default;
    // A beat that is offered from cycle `offered` on; the cycle in which it is taken.
    virtual int64_t take(int64_t channel, int64_t word, int64_t offered) = 0;
};

// The pixels of one frame after another, each offered as soon as the one before is taken.
class PixelIn {
public:
    PixelIn(int64_t channels, int64_t frame_pixels, int64_t pixels, Rows& next)
        : channels_(channels), frame_pixels_(frame_pixels), pixels_(pixels), next_(next) {}

    // A frame whose first pixel is offered in cycle `offered`, or as soon as the frame before is in.
    void frame(int64_t offered, int64_t& first_in, int64_t& last_in) {
        taken_ = std::max(taken_, offered - 1);
        for (int64_t pixel = 0; pixel < frame_pixels_; ++pixel) {
            const bool word_end = pixel == frame_pixels_ - 1 || pixel % pixels_ == pixels_ - 1;
            ++taken_;
            if (word_end) taken_ = std::max(taken_, out_end_);
            if (pixel == 0) first_in = taken_;
            if (!word_end) continue;
            int64_t cycle = taken_ + contract::kPixelToWord;
            for (int64_t channel = 0; channel < channels_; ++channel) {
                out_end_ = next_.take(channel, pixel / pixels_, cycle);
                cycle = out_end_ + 1;
            }
        }
        last_in = taken_;
    }

private:
    int64_t channels_, frame_pixels_, pixels_;
    Rows& next_;
    int64_t taken_ = kLongAgo, out_end_ = kLongAgo;
};

struct StageShape {
    int64_t channels, filters, lane_filters, pixels;
    int64_t words;                  // of one channel's map
    int64_t first_word, last_word;  // before and after a window's own that it reaches
    int64_t ring_words;
    Walk walk;
    const int32_t* steps;  // (classes,) of a pass
};

class Stage : public Rows {
public:
    // `begin` is the first cycle after the reset.
    Stage(const StageShape& shape, int64_t begin, Rows& next)
        : shape_(shape),
          groups_((shape.filters + shape.lane_filters - 1) / shape.lane_filters),
          next_(next),
          drain_(shape.pixels),
          freed_(static_cast<size_t>((shape.ring_words / shape.words + 3) * shape.walk.windows), kLongAgo) {
        windows_.start(begin + 1, shape.walk.taps);
    }

    int64_t take(int64_t channel, int64_t word, int64_t offered) override {
        const int64_t last_read = std::min(shape_.walk.windows + shape_.last_word, shape_.words) - 1;
        const int64_t place = frame_ * shape_.words + word;
        int64_t taken = offered;
        if (word <= last_read) taken = std::max(taken, freed(place - shape_.ring_words + 1));
        if (channel == shape_.channels - 1) {
            if (word == shape_.words - 1) ++frame_;
            run(place + 1, taken + contract::kWordToPass);
        }
        return taken;
    }

    int64_t busy() const { return busy_; }  // cycles in which the array works

private:
    // When the ring's oldest word is the one at `place`, counted through all frames, or a later one.
    int64_t freed(int64_t place) const {
        if (place <= 0) return kLongAgo;
        const int64_t frame = place / shape_.words, word = place % shape_.words;
        int64_t window = frame * shape_.walk.windows - 1;
        if (word > 0) window += std::min(word + shape_.first_word, shape_.walk.windows);
        return window < 0 ? kLongAgo : freed_[static_cast<size_t>(window) % freed_.size()];
    }

    // All passes that the first `words` words allow, from cycle `begin` on.
    void run(int64_t words, int64_t begin) {
        const Walk& walk = shape_.walk;
        for (;;) {
            const int64_t frame = window_ / walk.windows, window = window_ % walk.windows;
            if (frame * shape_.words + std::min(window + shape_.last_word + 1, shape_.words) > words) return;
            const int64_t first = walk.first_word[window], completed = walk.first_word[window + 1] - first;
            const int64_t steps = shape_.steps[walk.window_class[window]];
            for (int64_t group = 0; group < groups_; ++group) {
                const int64_t taken = std::max({windows_.ready(), begin, step_});
                step_ = std::max(taken + steps, drain_.room());
                busy_ += steps;
                const int64_t base = group * shape_.lane_filters;
                drain_.pass(step_, walk.word_lane + first, completed, std::min(shape_.lane_filters, shape_.filters - base),
                            [&](int64_t word, int64_t beat, int64_t cycle) { return next_.take(base + beat, first + word, cycle); });
            }
            windows_.next(step_);
            freed_[static_cast<size_t>(window_) % freed_.size()] = step_ + contract::kStepToFree;
            ++window_;
        }
    }

    StageShape shape_;
    int64_t groups_;
    Rows& next_;
    Windows windows_;
    Drain drain_;
    std::vector<int64_t> freed_;   // by window, counted through all frames, in a ring
    int64_t frame_ = 0;            // that arrives
    int64_t window_ = 0;           // next to be computed, counted through all frames
    int64_t step_ = kLongAgo;      // last step of the pass before
    int64_t busy_ = 0;
};

}  // namespace pen

#endif
