// The cycle model as a shared library with a plain C interface, loaded by sim/cycles.py. How it works: engine.h, head.h,
// port.h, and docs/cycle-model.md.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "engine.h"
#include "head.h"

// ---- The C interface's data; sim/cycles.py has the same, in the same order ------------------------------------------

struct PenWalk {
    int64_t windows, taps, classes;
    const int32_t *window_class, *first_word, *word_lane;
};

struct PenStage {
    int64_t channels, filters, lane_filters, pixels, words, first_word, last_word, ring_words;
    PenWalk walk;
    const int32_t* steps;  // (classes,)
};

struct PenLayer {
    int64_t channels, filters, pinned, score_words, offset, stride;
    PenWalk walk;
    const int32_t *order, *place_channel, *place_first, *place_end;
    const int32_t* class_steps;  // (classes, channels)
    int64_t above, rank, hidden_words, by_class, replayed;
};

struct PenModel {
    int64_t channels, frame_pixels, pixels;  // of the input, and of its words
    int64_t in_channels, in_words;           // of the tail's input
    int64_t lanes, lane_pixels, predictor_lanes, score_digits, gap_words, image_base;
    int64_t bus_bytes, max_burst, outstanding, join_words;
    pen::MemoryTiming memory;
    int64_t reset_end;  // first cycle after the reset
    int64_t first_in;   // in which the first pixel is offered
    int64_t stages, layers;
    const PenStage* stage;
    const PenLayer* layer;
    int64_t classes;
    const uint8_t* wanted;  // (classes,)
};

// Arrays of one run of n frames over the tail's layers.
struct PenCycles {
    const uint8_t *const *present, *const *told, *const *chosen;  // per layer: (n, channels) twice, (n, filters)
    int64_t *cycles, *words, *bursts;               // (n, layers)
    int64_t* causes;                                // (n, layers, causes)
    int64_t *first_in, *last_in, *begin, *last_out; // (n,)
    int64_t* stage_busy;                            // (stages,)
};

namespace {

pen::Walk walk_of(const PenWalk& walk) {
    return {walk.windows, walk.taps, walk.window_class, walk.first_word, walk.word_lane};
}

// A pipeline out of reset.
class Pipeline {
public:
    Pipeline(const PenModel& model, const PenCycles& arrays, int64_t first_frame)
        : model_(model),
          arrays_(arrays),
          first_frame_(first_frame),
          engine_(shape(model), layers(model), {model.wanted, model.wanted + model.classes}, model.memory),
          results_(static_cast<size_t>(model.layers)),
          present_(results_.size()),
          told_(results_.size()),
          chosen_(results_.size()) {
        tail_ = std::make_unique<pen::TailIn>(model.in_channels, model.in_words,
                                              [this](int64_t frame, int64_t valid) { return run(first_frame_ + frame, valid); });
        pen::Rows* next = tail_.get();
        for (int64_t n = model.stages; n > 0; --n) {
            const PenStage& s = model.stage[n - 1];
            stages_.push_back(std::make_unique<pen::Stage>(
                pen::StageShape{s.channels, s.filters, s.lane_filters, s.pixels, s.words, s.first_word, s.last_word,
                                s.ring_words, walk_of(s.walk), s.steps},
                model.reset_end, *next));
            next = stages_.back().get();
        }
        source_ = std::make_unique<pen::PixelIn>(model.channels, model.frame_pixels, model.pixels, *next);
    }

    void frame(int64_t n) { source_->frame(model_.first_in, arrays_.first_in[n], arrays_.last_in[n]); }

    int64_t stage_busy(int64_t n) const { return stages_[static_cast<size_t>(model_.stages - 1 - n)]->busy(); }

private:
    static pen::EngineShape shape(const PenModel& m) {
        return {m.lanes, m.lane_pixels, m.predictor_lanes, m.score_digits, m.gap_words, static_cast<uint64_t>(m.image_base),
                {m.bus_bytes, m.max_burst, m.outstanding, pen::contract::commands(m.outstanding), m.join_words}};
    }

    static std::vector<pen::LayerShape> layers(const PenModel& model) {
        std::vector<pen::LayerShape> shapes;
        for (int64_t n = 0; n < model.layers; ++n) {
            const PenLayer& l = model.layer[n];
            shapes.push_back({l.channels, l.filters, l.pinned, l.score_words, l.rank, l.hidden_words, l.by_class != 0,
                              l.walk.classes, static_cast<uint64_t>(l.offset),
                              l.stride, l.order, l.place_channel, l.place_first, l.place_end, l.class_steps, walk_of(l.walk),
                              l.above != 0, l.replayed != 0});
        }
        return shapes;
    }

    // The engine's share of a frame.
    int64_t run(int64_t frame, int64_t valid) {
        for (size_t n = 0; n < results_.size(); ++n) {
            present_[n] = arrays_.present[n] + frame * model_.layer[n].channels;
            told_[n] = arrays_.told[n] + frame * model_.layer[n].channels;
            chosen_[n] = arrays_.chosen[n] + frame * model_.layer[n].filters;
        }
        int64_t before = 0;
        const int64_t end = engine_.frame(valid, present_.data(), told_.data(), chosen_.data(), results_.data(), before, arrays_.last_out[frame]);
        arrays_.begin[frame] = before;
        for (size_t n = 0; n < results_.size(); ++n) {
            const size_t at = static_cast<size_t>(frame) * results_.size() + n;
            arrays_.cycles[at] = results_[n].end - before;
            arrays_.words[at] = results_[n].words;
            arrays_.bursts[at] = results_[n].bursts;
            std::copy(results_[n].causes.begin(), results_[n].causes.end(), arrays_.causes + at * pen::kCauses);
            before = results_[n].end;
        }
        return end;
    }

    const PenModel& model_;
    const PenCycles& arrays_;
    int64_t first_frame_;
    pen::Engine engine_;
    std::vector<pen::LayerResult> results_;
    std::vector<const uint8_t*> present_, told_, chosen_;
    std::unique_ptr<pen::TailIn> tail_;
    std::vector<std::unique_ptr<pen::Stage>> stages_;  // the last one first
    std::unique_ptr<pen::PixelIn> source_;
};

}  // namespace

#define PEN_API extern "C" __attribute__((visibility("default")))

PEN_API int64_t pen_causes() { return pen::kCauses; }

// Frames one behind the other.
PEN_API void pen_stream(const PenModel* model, const PenCycles* arrays, int64_t frames) {
    Pipeline pipeline(*model, *arrays, 0);
    for (int64_t n = 0; n < frames; ++n) pipeline.frame(n);
    for (int64_t n = 0; n < model->stages; ++n) arrays->stage_busy[n] = pipeline.stage_busy(n);
}

// Every frame alone, out of reset, on so many threads.
PEN_API void pen_alone(const PenModel* model, const PenCycles* arrays, int64_t frames, int64_t threads) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t n = next++; n < frames; n = next++) Pipeline(*model, *arrays, n).frame(n);
    };
    std::vector<std::thread> others;
    for (int64_t n = 1; n < threads; ++n) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
}

// The timing of a memory by itself, for benches in other languages: `plan` takes two numbers per offer, and there are at
// most as many as beats. Returns how many.
PEN_API void* pen_timing_create(const pen::MemoryTiming* timing, int64_t bus_bytes) {
    return pen::make_timing(*timing, bus_bytes).release();
}

PEN_API void pen_timing_destroy(void* timing) { delete static_cast<pen::Timing*>(timing); }

PEN_API int64_t pen_timing_serve(void* timing, int64_t cycle, uint64_t address, int64_t beats, int64_t* plan) {
    std::vector<pen::Offer> offers;
    static_cast<pen::Timing*>(timing)->serve(cycle, address, beats, offers);
    for (size_t n = 0; n < offers.size(); ++n) {
        plan[2 * n] = offers[n].beat;
        plan[2 * n + 1] = offers[n].cycle;
    }
    return static_cast<int64_t>(offers.size());
}
