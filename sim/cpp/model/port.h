// The engine's read port: commands of pen_fetch through pen_axi_read to the external memory, and the words' return.
#ifndef PEN_PORT_H
#define PEN_PORT_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "../timing.h"
#include "contracts.h"

namespace pen {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max() / 4;
constexpr int64_t kLongAgo = -kNever;

struct PortShape {
    int64_t bus_bytes, max_burst, outstanding, commands, join_above;
};

// Words that arrive one per cycle, from the word number `word` on.
struct Arrivals {
    int64_t word, cycle;
};

// Commands are given in order, each with the cycle from which it is offered. What becomes of the last one may depend on
// the next (it may be joined by it), so it is decided when that one is given, or by `flush`.
class Port {
public:
    Port(const PortShape& shape, const MemoryTiming& memory)
        : shape_(shape),
          memory_(memory),
          timing_(make_timing(memory, shape.bus_bytes)),
          ends_(static_cast<size_t>(std::max(shape.outstanding, memory.outstanding)), kLongAgo) {}

    // Forget what no later question can reach: all words have arrived.
    void begin_layer() {
        flush();
        arrivals_.clear();
        last_words_.clear();
        held_words_.clear();
        bursts_ = 0;
    }

    // Give a command that is offered from cycle `offered` on; the cycle in which it is taken.
    int64_t command(int64_t offered, uint64_t address, int64_t words) {
        int64_t taken = std::max(offered, entered_ + 1);
        const size_t full = place_that_frees();
        if (full != kNone) {
            if (full >= last_words_.size()) flush();  // it waits for itself
            taken = std::max(taken, last_words_[full] + contract::kWordSeen);
        }
        entered_ = enter(taken + contract::kCommandEnters, address, words);
        return taken;
    }

    // No command comes before the one that waits has left.
    void flush() {
        if (held_) leave(leave_alone());
    }

    // Commands of this layer whose words' arrival is known, and that of the last word of the one number `n`.
    size_t known() const { return last_words_.size(); }
    int64_t last_word(size_t n) const { return last_words_[n]; }

    int64_t bursts() const { return bursts_; }

private:
    static constexpr size_t kNone = static_cast<size_t>(-1);
    static constexpr uint64_t kPage = 4096;

    // A command that is on its way in joins the one that waits, or waits itself, from cycle `offered` on; the cycle in
    // which it does.
    int64_t enter(int64_t offered, uint64_t address, int64_t words) {
        int64_t taken = offered;
        if (held_) {
            const int64_t alone = leave_alone();
            const bool joins = shape_.join_above > 0 && address == held_end_ && held_count_ + words <= shape_.max_burst;
            if (joins && taken < alone) {
                held_count_ += words;
                held_end_ = address + static_cast<uint64_t>(words * shape_.bus_bytes);
                held_since_ = taken + contract::kCommandHeld;
                held_words_.push_back(words);
                return taken;
            }
            if (alone >= taken && !joins) taken = std::max({held_since_, split_free_, taken});
            leave(std::min(alone, taken));
        }
        held_ = true;
        held_address_ = address;
        held_end_ = address + static_cast<uint64_t>(words * shape_.bus_bytes);
        held_count_ = words;
        held_since_ = taken + contract::kCommandHeld;
        held_words_.assign(1, words);
        return taken;
    }

    // The command whose last word makes room for the one that is given now.
    size_t place_that_frees() const {
        const size_t given = last_words_.size() + (held_ ? held_words_.size() : 0);
        const auto commands = static_cast<size_t>(shape_.commands);
        return given < commands ? kNone : given - commands;
    }

    // When the command that waits leaves if none other comes: while enough words are in flight, it is held.
    int64_t leave_alone() const {
        int64_t when = std::max(held_since_, split_free_);
        if (shape_.join_above == 0) return when;
        if (when == last_issue_) {  // the burst issued in this cycle does not count yet
            if (seen_by(issued_ - last_length_ - shape_.join_above, when)) return when;
            ++when;
        }
        const int64_t word = issued_ - shape_.join_above;
        return word < 0 ? when : std::max(when, arrival(word) + contract::kWordSeen);
    }

    bool seen_by(int64_t word, int64_t cycle) const { return word < 0 || arrival(word) + contract::kWordSeen <= cycle; }

    // When the word of that number, counted from the reset on, arrives.
    int64_t arrival(int64_t word) const {
        for (size_t n = arrivals_.size(); n > 0; --n) {
            if (arrivals_[n - 1].word <= word) return arrivals_[n - 1].cycle + (word - arrivals_[n - 1].word);
        }
        return kLongAgo;
    }

    // The command that waits is split into bursts from cycle `when` on.
    void leave(int64_t when) {
        const size_t first_arrival = arrivals_.size();
        int64_t word = issued_;
        uint64_t address = held_address_;
        int64_t left = held_count_, cycle = when + contract::kCommandToBurst;
        while (left > 0) {
            const auto to_page_end = static_cast<int64_t>((kPage - address % kPage) / static_cast<uint64_t>(shape_.bus_bytes));
            const int64_t length = std::min({left, shape_.max_burst, to_page_end});
            cycle = std::max(cycle, end_before(shape_.outstanding) + contract::kBurstFree);
            serve(cycle + contract::kBurstToRequest, address, length);
            last_issue_ = cycle;
            last_length_ = length;
            issued_ += length;
            left -= length;
            address += static_cast<uint64_t>(length * shape_.bus_bytes);
            cycle += contract::kBurstToBurst;
        }
        split_free_ = last_issue_;
        size_t at = first_arrival;
        for (const int64_t words : held_words_) {
            word += words;
            while (at + 1 < arrivals_.size() && arrivals_[at + 1].word <= word - 1) ++at;
            last_words_.push_back(arrivals_[at].cycle + (word - 1 - arrivals_[at].word));
        }
        held_ = false;
    }

    // End of the burst `n` before the one that is issued now.
    int64_t end_before(int64_t n) const {
        const auto size = static_cast<int64_t>(ends_.size());
        return ends_[static_cast<size_t>((served_ + size - n) % size)];
    }

    // A burst whose request is accepted in cycle `accepted`: the port's side of sim/memory.py.
    void serve(int64_t accepted, uint64_t address, int64_t length) {
        plan_.clear();
        timing_->serve(std::max(accepted, end_before(memory_.outstanding)), address, length, plan_);
        int64_t last = 0;
        for (size_t n = 0; n < plan_.size(); ++n) {
            int64_t beat = plan_[n].beat;
            const int64_t until = n + 1 < plan_.size() ? plan_[n + 1].beat : length;
            int64_t cycle = plan_[n].cycle;
            while (beat < until) {
                cycle = std::max(cycle, next_beat_);
                int64_t run = until - beat;
                if (memory_.gap_every > 0) run = std::min(run, memory_.gap_every - beats_ % memory_.gap_every);
                if (beat == 0 || cycle != last + 1) arrivals_.push_back({issued_ + beat, cycle});
                beats_ += run;
                beat += run;
                last = cycle + run - 1;
                next_beat_ = cycle + run;
                if (memory_.gap_every > 0 && beats_ % memory_.gap_every == 0) next_beat_ += memory_.gap_cycles;
            }
        }
        ends_[static_cast<size_t>(served_ % static_cast<int64_t>(ends_.size()))] = last;
        ++served_;
        ++bursts_;
    }

    PortShape shape_;
    MemoryTiming memory_;
    std::unique_ptr<Timing> timing_;
    std::vector<Offer> plan_;  // of one burst

    // The command that waits to be split, with those that have joined it
    bool held_ = false;
    uint64_t held_address_ = 0, held_end_ = 0;
    int64_t held_count_ = 0;  // words
    int64_t held_since_ = 0;  // first cycle in which it may leave
    int64_t entered_ = kLongAgo;  // cycle in which the last command left the way in
    std::vector<int64_t> held_words_;  // of each command in it
    int64_t split_free_ = kLongAgo;    // first cycle in which the next may leave
    int64_t last_issue_ = kLongAgo, last_length_ = 0;

    int64_t issued_ = 0;  // words since the reset
    int64_t served_ = 0;  // bursts since the reset
    int64_t bursts_ = 0;  // of this layer
    std::vector<int64_t> ends_;         // of the last bursts, in a ring
    std::vector<Arrivals> arrivals_;    // of this layer
    std::vector<int64_t> last_words_;   // of this layer's commands that have left
    int64_t next_beat_ = 0, beats_ = 0;
};

}  // namespace pen

#endif
