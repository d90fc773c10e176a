// The tail: its input buffers, and the engine that runs the layers of a frame one after another (pen_tail_in,
// pen_engine and what it instantiates).
//
// Within a layer everything is a recurrence over groups of filters: a group's weights are asked for when its half of the
// banks is free, it is computed when they have come and the group before is through the array, and it is done, which
// frees its half, when its last beat has left. So the groups are taken in turn, the fetch of one ahead of its compute.
#ifndef PEN_ENGINE_H
#define PEN_ENGINE_H

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "contracts.h"
#include "datapath.h"
#include "head.h"
#include "port.h"

namespace pen {

// One layer of the tail, whatever the frame. Places are those of input channels in a record.
struct LayerShape {
    int64_t channels, filters, pinned;
    int64_t score_words;    // 0: not lazy
    int64_t rank, hidden_words;  // values of a low-rank predictor, 0 of others, and the words of their sums
    bool by_class;          // its events are classes, not channels
    int64_t classes;        // of windows
    uint64_t offset;        // of its records, from the image's base, in bytes
    int64_t stride;         // of its records, in bytes
    const int32_t* order;   // (filters,) in which they are computed
    const int32_t* place_channel;  // (channels,) by place
    const int32_t* place_first;    // (channels,) bus words of a record: first
    const int32_t* place_end;      // and one past the last
    const int32_t* class_steps;    // (classes, channels): steps of a pass for a present channel
    Walk walk;
    bool above;             // its filters are those above a threshold, not so many
    bool replayed;          // its list is made before it starts: it does not read what the layer before it computes
};

struct EngineShape {
    int64_t lanes, pixels, predictor_lanes, score_digits, gap_words;
    uint64_t image_base;
    PortShape port;
};

// Causes that the cycles of a layer are put down to; the names are in sim/cycles.py.
enum Cause : size_t { kStart, kCompute, kSelect, kFetch, kWindow, kDrain, kPredict, kCauses };

struct LayerResult {
    int64_t end = 0;
    int64_t words = 0, bursts = 0;
    std::array<int64_t, kCauses> causes{};
};

// Strengths of finished channels on their way to the next layer's list and scores.
class Events {
public:
    explicit Events(int64_t lanes) : free_(contract::queue_room(lanes)) {}

    // The list of layer `next` is begun in cycle `build`, and with it its scores; of classes `wanted` tells which count.
    void begin(int64_t build, const LayerShape& next, const std::vector<uint8_t>& wanted) {
        const int64_t words = next.score_words + next.hidden_words;  // of sums
        lazy_ = next.score_words > 0;
        event_words_ = next.rank ? next.hidden_words : next.score_words;
        entered_.clear();
        taken_.clear();
        earliest_ = build + 1;
        predict_ready_ = lazy_ ? build + words + contract::kPredictStart : kLongAgo;
        predict_idle_ = lazy_ ? build + words + contract::kPredictStartIdle : kLongAgo;
        if (!next.by_class) return;
        int64_t cycle = build + contract::kStartToClass;
        for (const uint8_t one : wanted) cycle = (one ? predict(cycle) : cycle) + 1;
    }

    // First cycle from `cycle` on in which the queue lets a channel's strength come.
    int64_t room(int64_t cycle) const {
        for (;;) {
            size_t in = entered_.size();
            while (in > 0 && entered_[in - 1] > cycle - contract::kRoomDelay) --in;
            if (in <= static_cast<size_t>(free_)) return cycle;
            const int64_t wanted = taken_[in - static_cast<size_t>(free_) - 1] + contract::kRoomDelay;
            if (wanted <= cycle) return cycle;
            cycle = wanted;
        }
    }

    // A strength enters the queue in cycle `cycle`; the predictor is told of it or not.
    void enter(int64_t cycle, bool told) {
        const int64_t looked_up = std::max(cycle + contract::kFifo, earliest_) + contract::kEventLookup;
        const int64_t taken = told && lazy_ ? predict(looked_up) : looked_up;
        entered_.push_back(cycle);
        taken_.push_back(taken);
        earliest_ = taken + 1;
    }

    // First cycle in which the queue is empty, and that in which the predictor is idle.
    int64_t empty() const { return taken_.empty() ? kLongAgo : taken_.back() + 1; }
    int64_t predict_idle() const { return predict_idle_; }

private:
    // The predictor takes an event that is offered from cycle `cycle` on.
    int64_t predict(int64_t cycle) {
        const int64_t taken = std::max(cycle, predict_ready_);
        predict_ready_ = taken + std::max(event_words_, contract::kPredictEvent);
        predict_idle_ = taken + std::max(event_words_ + contract::kPredictIdle, contract::kPredictIdleLeast);
        return taken;
    }

    int64_t free_;
    bool lazy_ = false;
    int64_t event_words_ = 0;
    int64_t earliest_ = 0, predict_ready_ = kLongAgo, predict_idle_ = kLongAgo;
    std::vector<int64_t> entered_, taken_;
};

class Engine {
public:
    Engine(const EngineShape& shape, std::vector<LayerShape> layers, std::vector<uint8_t> wanted,
           const MemoryTiming& memory)
        : shape_(shape),
          layers_(std::move(layers)),
          wanted_(std::move(wanted)),
          port_(shape.port, memory),
          events_(shape.lanes),
          drain_(shape.pixels) {}

    // A frame whose input is valid from cycle `valid` on: the end of every layer. `present`, `told` and `chosen` are masks
    // of the layers' input channels, of those that their predictors take, and of their filters. Returns the cycle from
    // which the input's buffer is free.
    int64_t frame(int64_t valid, const uint8_t* const* present, const uint8_t* const* told, const uint8_t* const* chosen,
                  LayerResult* results, int64_t& begin, int64_t& last_out) {
        begin = std::max(valid, idle_);
        int64_t free = begin;  // the layer before has ended
        for (size_t n = 0; n < layers_.size(); ++n) {
            results[n] = LayerResult{};
            int64_t start = free + contract::kEndToStart;
            if (layers_[n].replayed) {
                start = replay(layers_[n], free, told[n], results[n]);
            } else {
                results[n].causes[kStart] = contract::kEndToStart;
            }
            const bool builds = n + 1 < layers_.size() && !layers_[n + 1].replayed;
            layer(layers_[n], builds ? &layers_[n + 1] : nullptr, present[n], chosen[n], builds ? told[n + 1] : nullptr,
                  start, results[n]);
            free = results[n].end;
        }
        idle_ = results[layers_.size() - 1].end + contract::kEndToIdle;
        last_out = last_beat_ + contract::kBeatToLogit;
        return results[layers_.size() - 1].end;
    }

private:
    struct Run {
        int64_t first, end;  // bus words of a record
    };

    // Strengths of a map that is there, one per cycle, into the list and scores of the layer that reads it, from cycle
    // `begin` on; the layer's start.
    int64_t replay(const LayerShape& shape, int64_t begin, const uint8_t* told, LayerResult& result) {
        events_.begin(begin + contract::kFrameToBuild, shape, wanted_);
        int64_t cycle = begin + contract::kFrameToReplay;
        for (int64_t channel = 0; channel < shape.channels; ++channel) {
            if (channel > 0) ++cycle;
            cycle = events_.room(cycle);
            events_.enter(cycle + contract::kReplayToEvent, told[channel]);
        }
        const int64_t settled = cycle + contract::kSettle;
        const int64_t end = std::max({settled, events_.empty(), events_.predict_idle()});
        const int64_t predicting = end - std::max(settled, begin + contract::kFrameToReplay + shape.channels - 1 + contract::kSettle);
        result.causes[kPredict] = predicting;
        result.causes[kStart] = end + contract::kEndToStart - begin - predicting;
        return end + contract::kEndToStart;
    }

    void layer(const LayerShape& shape, const LayerShape* next, const uint8_t* present, const uint8_t* chosen,
               const uint8_t* next_told, int64_t start, LayerResult& result) {
        port_.begin_layer();
        const int64_t selected = choose(shape, chosen, start);
        const int64_t build = std::max(start + contract::kStartToBuild, selected);
        if (next) events_.begin(build, *next, wanted_);
        list(shape, present);

        // ---- Groups --------------------------------------------------------------------------------------------------
        const auto count = static_cast<int64_t>(filters_.size());
        groups_.clear();
        const bool odd_first = shape.pinned == 0 && !shape.above && (shape_.lanes & (shape_.lanes - 1)) == 0;
        for (int64_t at = 0; at < count;) {
            const int64_t limit = at < shape.pinned ? std::min(shape.pinned, count) : count;
            const int64_t odd = odd_first && at == 0 ? count % shape_.lanes : 0;
            const int64_t size = odd > 0 ? odd : std::min(shape_.lanes, limit - at);
            groups_.push_back({at, size, at < shape.pinned});
            at += size;
        }
        fetch_free_ = start + 1;
        commands_ = 0;
        windows_.start(start + contract::kStartToWindow, shape.walk.taps);
        int64_t step = start;  // the last one of the pass before
        int64_t settled = start + contract::kSettle;
        size_t fetched = 0;
        for (size_t g = 0; g < groups_.size(); ++g) {
            for (; fetched < groups_.size() && fetched < g + 2; ++fetched) fetch(shape, fetched, selected);
            Group& group = groups_[g];
            int64_t valid = group.issued;
            if (group.commands > 0) {
                const size_t own_last = group.last_command;
                // What may join it comes only after this group is done.
                if (own_last >= port_.known()) port_.flush();
                valid = std::max(valid, port_.last_word(own_last) + contract::kDataToGroup);
            }
            compute(shape, group, valid, next ? next_told : nullptr, step, result);
            settled = group.done + contract::kSettle;
            if (g + 1 == groups_.size()) {
                last_beat_ = group.done;
                result.causes[kDrain] += settled - step - held_;
                result.causes[kPredict] += held_;
                step = settled;
            }
        }
        if (groups_.empty()) {
            result.causes[kDrain] += settled - step;
            step = settled;
        }

        // ---- End -----------------------------------------------------------------------------------------------------
        result.end = std::max({settled, selected, listed_});
        if (ends_early(shape)) result.end = std::max(result.end, end_seen(selected));
        result.causes[kSelect] += result.end - settled;
        if (next) {
            const int64_t predicted = std::max({build + 1, events_.empty(), events_.predict_idle()});
            result.causes[kPredict] += std::max<int64_t>(0, predicted - result.end);
            result.end = std::max(result.end, predicted);
        }
        int64_t words = 0;
        for (const Run& run : runs_) words += run.end - run.first;
        result.words = words * std::max<int64_t>(0, count - shape.pinned);
        port_.flush();
        result.bursts = port_.bursts();
    }

    // Filters to compute, and when each is there for the fetch; the cycle from which the selection is idle.
    int64_t choose(const LayerShape& shape, const uint8_t* chosen, int64_t start) {
        int64_t count = 0;
        for (int64_t f = 0; f < shape.filters; ++f) count += chosen[f] != 0;
        const bool all = count == shape.filters && !shape.above;
        const int64_t in_order = all ? count : shape.pinned;
        filters_.clear();
        offered_.clear();
        for (int64_t n = 0; n < in_order; ++n) {
            filters_.push_back(shape.order[n]);
            offered_.push_back(start + contract::kStartToListed + n * contract::kListed + contract::kFifo);
        }
        listed_ = in_order > 0 ? offered_.back() : start;  // from the cycle after the last one's entry on
        if (shape.above ? in_order == shape.filters : in_order == count) return start;

        int64_t cycle = scored(shape, start) + contract::kStartToSelect;
        if (!shape.above) cycle += shape_.score_digits * (shape.score_words + contract::kSelectDigit);
        const auto pinned = static_cast<size_t>(shape.pinned);
        barred_.assign(static_cast<size_t>(shape.filters), 0);
        for (size_t n = 0; n < pinned; ++n) barred_[static_cast<size_t>(shape.order[n])] = 1;
        for (int64_t word = 0; word < shape.score_words; ++word) {
            cycle += contract::kSelectWord;
            const int64_t end = std::min((word + 1) * shape_.predictor_lanes, shape.filters);
            bool any = false;
            for (int64_t f = word * shape_.predictor_lanes; f < end; ++f) {
                if (!chosen[f] || barred_[static_cast<size_t>(f)]) continue;
                cycle = std::max(cycle, listed_);
                filters_.push_back(f);
                offered_.push_back(cycle + contract::kFifo);
                ++cycle;
                any = true;
            }
            if (!any) ++cycle;
        }
        return cycle;
    }

    // The cycle in which the scores of a layer that starts in cycle `start` are complete: then, but for hidden values.
    int64_t scored(const LayerShape& shape, int64_t start) const {
        int64_t cycle = start;
        for (int64_t at = 0; at < shape.rank; at += shape_.predictor_lanes) {
            const int64_t events = std::min(shape_.predictor_lanes, shape.rank - at);
            cycle = std::max(cycle, start + contract::kStartToHidden) + contract::kReadToHidden;
            cycle += (events - 1) * std::max(shape.score_words, contract::kPredictEvent);
            cycle += std::max(shape.score_words + contract::kPredictIdle, contract::kPredictIdleLeast);
        }
        return cycle;
    }

    // What is fetched of each record, and the steps of a pass in each class of windows.
    void list(const LayerShape& shape, const uint8_t* present) {
        runs_.clear();
        for (int64_t place = 0; place < shape.channels; ++place) {
            const int64_t first = shape.place_first[place], end = shape.place_end[place];
            if (!present[shape.place_channel[place]] || end == first) continue;
            if (!runs_.empty() && first <= runs_.back().end + shape_.gap_words) {
                runs_.back().end = end;
            } else {
                runs_.push_back({first, end});
            }
        }
        steps_.assign(static_cast<size_t>(shape.classes), 0);
        for (int64_t c = 0; c < shape.classes; ++c) {
            const int32_t* of_channel = shape.class_steps + c * shape.channels;
            int32_t sum = 0;
            for (int64_t channel = 0; channel < shape.channels; ++channel) sum += present[channel] ? of_channel[channel] : 0;
            steps_[static_cast<size_t>(c)] = std::max<int64_t>(sum, 1);
        }
    }

    struct Group {
        int64_t first, size;  // of the filters in order
        bool pinned;
        int64_t chosen = 0;   // the last of its filters is there
        int64_t issued = 0;   // first cycle in which no command of it is to come
        int64_t done = 0;     // last beat
        int64_t held = 0;     // cycles that it has waited for the queue
        int64_t freed = kLongAgo;  // its bank, by the group before the last
        int64_t commands = 0;
        size_t last_command = 0;
    };

    // Above a threshold there may be fewer filters than the fetch is told of; it sees the end of the selection instead.
    bool ends_early(const LayerShape& shape) const {
        return shape.above && static_cast<int64_t>(filters_.size()) < shape.filters;
    }
    int64_t end_seen(int64_t selected) const { return std::max(fetch_free_, selected) + contract::kEndToFetch; }

    void fetch(const LayerShape& shape, size_t number, int64_t selected) {
        Group& group = groups_[number];
        for (int64_t n = group.first; n < group.first + group.size; ++n) {
            int64_t cycle = std::max(fetch_free_, offered_[static_cast<size_t>(n)]);
            if (n == group.first && number >= 2) {
                group.freed = groups_[number - 2].done + contract::kDoneToFetch;
                cycle = std::max(cycle, group.freed);
            }
            group.chosen = offered_[static_cast<size_t>(n)];
            if (group.pinned || runs_.empty()) {
                fetch_free_ = cycle + contract::kFilterEmpty;
                continue;
            }
            const uint64_t record = shape_.image_base + shape.offset + static_cast<uint64_t>(filters_[static_cast<size_t>(n)] * shape.stride);
            cycle += contract::kFilterToCommand;
            for (const Run& run : runs_) {
                const uint64_t address = record + static_cast<uint64_t>(run.first * shape_.port.bus_bytes);
                cycle = port_.command(cycle, address, run.end - run.first) + contract::kCommandToNext;
                ++commands_;
            }
            group.commands += static_cast<int64_t>(runs_.size());
            fetch_free_ = cycle;
        }
        group.issued = fetch_free_;
        if (number + 1 == groups_.size() && !group.pinned && group.size < shape_.lanes && ends_early(shape)) {
            group.issued = end_seen(selected);
            group.chosen = std::max(group.chosen, selected);
        }
        group.last_command = static_cast<size_t>(commands_) - 1;
    }

    void compute(const LayerShape& shape, Group& group, int64_t valid, const uint8_t* next_told, int64_t& step,
                 LayerResult& result) {
        const Walk& walk = shape.walk;
        const int64_t* filters = filters_.data() + group.first;
        for (int64_t window = 0; window < walk.windows; ++window) {
            const int64_t ready = windows_.ready();
            const int64_t taken = std::max({step, ready, valid});
            const int64_t steps = steps_[static_cast<size_t>(walk.window_class[window])];
            const int64_t last = std::max(taken + steps, drain_.room());
            wait(result, step, taken, group, valid, window == 0);
            result.causes[kCompute] += steps;
            const int64_t late = last - taken - steps, held = std::min(late, held_);
            result.causes[kDrain] += late - held;
            result.causes[kPredict] += held;
            step = last;
            windows_.next(step);

            const int64_t first = walk.first_word[window], words = walk.first_word[window + 1] - first;
            const int64_t last_word = walk.first_word[walk.windows] - 1;
            held_ = 0;
            drain_.pass(step, walk.word_lane + first, words, group.size, [&](int64_t word, int64_t beat, int64_t cycle) {
                if (!next_told) return group.done = cycle;
                const int64_t sent = events_.room(cycle);
                held_ += sent - cycle;
                group.held += sent - cycle;
                if (first + word == last_word) {
                    events_.enter(sent + contract::kBeatToEvent, next_told[filters[beat]]);
                    group.done = sent;
                }
                return sent;
            });
        }
    }

    // The array waits from cycle `from` to `to` for weights, or for its window. Weights wait for their filters to be
    // chosen, then for a bank, which the drain of the group before the last frees.
    void wait(LayerResult& result, int64_t from, int64_t to, const Group& group, int64_t valid, bool first) {
        if (first) {
            const int64_t select = std::min(to, std::max(from, group.chosen));
            const int64_t bank = std::min(to, std::max(select, group.freed));
            const int64_t fetch = std::min(to, std::max(bank, valid));
            const int64_t held = std::min(bank - select, group.freed > 0 ? (&group - 2)->held : 0);
            result.causes[kSelect] += select - from;
            result.causes[kPredict] += held;
            result.causes[kDrain] += bank - select - held;
            result.causes[kFetch] += fetch - bank;
            from = fetch;
        }
        result.causes[kWindow] += to - from;
    }

    EngineShape shape_;
    std::vector<LayerShape> layers_;
    std::vector<uint8_t> wanted_;  // classes
    Port port_;
    Events events_;
    Drain drain_;
    Windows windows_;
    int64_t idle_ = kLongAgo;  // first cycle in which the next frame may begin
    int64_t last_beat_ = 0;
    int64_t held_ = 0;         // cycles that the last pass's beats have waited for the queue

    // Of the layer that runs
    int64_t listed_ = 0;             // the filters in order have all been listed
    int64_t fetch_free_ = 0;         // the fetch may take a filter
    int64_t commands_ = 0;
    std::vector<int64_t> filters_;   // in order of their computation
    std::vector<int64_t> offered_;   // when they are there for the fetch
    std::vector<uint8_t> barred_;
    std::vector<Run> runs_;
    std::vector<int64_t> steps_;     // by class of windows
    std::vector<Group> groups_;
};

// The tail's input: two buffers, of which one is read.
class TailIn : public Rows {
public:
    // `run(frame, valid)` computes a frame that is complete and returns the cycle that gives its buffer back.
    template <class RunFrame>
    TailIn(int64_t channels, int64_t words, RunFrame run) : channels_(channels), words_(words), run_(run) {}

    int64_t take(int64_t channel, int64_t word, int64_t offered) override {
        const int64_t taken = std::max(offered, done_[static_cast<size_t>(frame_ % 2)] + contract::kInputFree);
        if (channel == channels_ - 1 && word == words_ - 1) {
            done_[static_cast<size_t>(frame_ % 2)] = run_(frame_, taken + contract::kInputValid);
            ++frame_;
        }
        return taken;
    }

private:
    int64_t channels_, words_;
    std::function<int64_t(int64_t, int64_t)> run_;
    int64_t frame_ = 0;
    std::array<int64_t, 2> done_{kLongAgo, kLongAgo};
};

}  // namespace pen

#endif
