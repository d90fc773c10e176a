// What head stages and the engine share: windows prepared ahead, and the drain (pen_window, pen_drain).
#ifndef PEN_DATAPATH_H
#define PEN_DATAPATH_H

#include <algorithm>
#include <cstdint>

#include "contracts.h"
#include "port.h"

namespace pen {

// How a layer's map is walked, whatever is in it. Windows of the same class reach the same taps.
struct Walk {
    int64_t windows;
    int64_t taps;                 // of the kernel
    const int32_t* window_class;  // (windows,)
    // Output words: window w completes those from first_word[w] up to first_word[w + 1], with the lanes of word_lane
    const int32_t* first_word;  // (windows + 1,)
    const int32_t* word_lane;   // (words,)
};

// Windows one after another, each prepared in one of two places.
class Windows {
public:
    void start(int64_t begin, int64_t taps) {
        preparation_ = taps + contract::kWindowPrepare;
        begin_ = begin;
        released_ = kLongAgo;
    }

    // First cycle in which the current window may be taken.
    int64_t ready() const { return begin_ + preparation_; }

    // The current window's last pass issues its last step in cycle `step`.
    void next(int64_t step) {
        begin_ = std::max(begin_ + preparation_, released_ + contract::kWindowRefill);
        released_ = step + contract::kRelease;
    }

private:
    int64_t preparation_ = 0, begin_ = 0, released_ = kLongAgo;
};

// Sums of one pass at a time, to beats.
class Drain {
public:
    explicit Drain(int64_t pixels) : pixels_(pixels) {}

    // First cycle in which the last step of a pass may be issued.
    int64_t room() const { return room_; }

    // A pass whose last step is issued in cycle `step` completes words with the given lanes, each of `beats` beats.
    // `offer(word, beat, cycle)` is given the cycle from which a beat is offered, and returns that in which it is taken.
    template <class Offer>
    void pass(int64_t step, const int32_t* lanes, int64_t words, int64_t beats, Offer offer) {
        int64_t late = 0;
        for (int64_t word = 0; word < words; ++word) {
            int64_t cycle = step + contract::kStepToPixel + lanes[word] + late;
            if (cycle < out_end_) {
                late += out_end_ - cycle;
                cycle = out_end_;
            }
            cycle += contract::kPixelToBeat;
            for (int64_t beat = 0; beat < beats; ++beat) {
                out_end_ = offer(word, beat, cycle);
                cycle = out_end_ + 1;
            }
        }
        room_ = step + contract::kStepToPixel + pixels_ + late;
    }

private:
    int64_t pixels_;
    int64_t room_ = kLongAgo, out_end_ = kLongAgo;
};

}  // namespace pen

#endif
