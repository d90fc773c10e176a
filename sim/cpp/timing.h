// Timing of external memory: from which cycle on the beats of a burst may be offered. One source for the bench around a
// Verilated accelerator (memory.h), for cocotb's memory (sim/memory.py) and for the cycle model (model/port.h); the
// contract is in sim/memory.py, at FixedLatency and Dram.
#ifndef PEN_TIMING_H
#define PEN_TIMING_H

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace pen {

// sim/memory.py has the same, in the same order.
struct MemoryTiming {
    int64_t outstanding;            // bursts in service at a time, at least 1
    int64_t latency;                // FixedLatency: cycles from service to the first beat, at least 1
    int64_t gap_every, gap_cycles;  // idle cycles after every so many beats; 0: none
    // Dram: durations in its own clocks; a clock of 0: FixedLatency
    int64_t clock_ps, period_ps;    // of the memory, of the accelerator
    int64_t controller_ps;
    int64_t banks, page_bytes, access_bytes;
    int64_t cas, transfer, ccd, rcd, rp, ras, rtp, rrd, faw, refi, rfc;
};

// From this beat of a burst on, one beat per cycle from this cycle on.
struct Offer {
    int64_t beat, cycle;
};

class Timing {
public:
    virtual ~Timing() = default;
    // The next burst enters service in cycle `cycle`: fills `plan`, which is empty, with when its beats may be offered.
    virtual void serve(int64_t cycle, uint64_t address, int64_t beats, std::vector<Offer>& plan) = 0;
};

class FixedTiming : public Timing {
public:
    explicit FixedTiming(int64_t latency) : latency_(latency) {}

    void serve(int64_t cycle, uint64_t, int64_t, std::vector<Offer>& plan) override { plan.push_back({0, cycle + latency_}); }

private:
    int64_t latency_;
};

// Banks with one open row each, reads in order, refresh of all banks at once.
class DramTiming : public Timing {
public:
    DramTiming(const MemoryTiming& timing, int64_t bus_bytes)
        : t_(timing), bus_(static_cast<uint64_t>(bus_bytes)), banks_(static_cast<size_t>(timing.banks)), refresh_(timing.refi) {
        activated_.fill(-timing.faw - timing.rrd);
    }

    void serve(int64_t cycle, uint64_t address, int64_t beats, std::vector<Offer>& plan) override {
        // The request is there at the end of `cycle`.
        const int64_t arrives = up((cycle + 1) * t_.period_ps + t_.controller_ps, t_.clock_ps);
        const uint64_t end = address + static_cast<uint64_t>(beats) * bus_;
        const auto size = static_cast<uint64_t>(t_.access_bytes);
        for (uint64_t block = address / size; block * size < end; ++block) {
            const int64_t ready = up(read(arrives, block * size) * t_.clock_ps, t_.period_ps);
            // Beats whose last byte this access brings; a beat may be wider than an access.
            const uint64_t until = std::min(end, (block + 1) * size);
            const int64_t first = block * size <= address ? 0 : static_cast<int64_t>((block * size - address) / bus_);
            if (static_cast<int64_t>((until - address) / bus_) == first) continue;
            if (plan.empty() || ready > plan.back().cycle + (first - plan.back().beat)) plan.push_back({first, ready});
        }
    }

private:
    struct Bank {
        int64_t row = -1;     // -1: closed
        int64_t activate = 0, read = 0, precharge = 0;  // earliest
    };

    static int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step; }

    // One access that arrives at the controller in memory clock `arrives`; the clock in which its data is complete.
    int64_t read(int64_t arrives, uint64_t address) {
        while (refresh_ <= std::max(arrives, next_read_)) refresh();
        const uint64_t page = address / static_cast<uint64_t>(t_.page_bytes);
        Bank& bank = banks_[page % banks_.size()];
        const auto row = static_cast<int64_t>(page / banks_.size());
        if (bank.row != row) {
            int64_t when = std::max(arrives, bank.activate);
            if (bank.row >= 0) when = std::max(when, std::max(arrives, bank.precharge) + t_.rp);
            when = std::max({when, activated_[(activations_ + 3) % 4] + t_.rrd, activated_[activations_ % 4] + t_.faw});
            activated_[activations_++ % 4] = when;
            bank = {row, when + t_.ras + t_.rp, when + t_.rcd, when + t_.ras};
        }
        const int64_t when = std::max({arrives, next_read_, bank.read});
        next_read_ = when + t_.ccd;
        bank.precharge = std::max(bank.precharge, when + t_.rtp);
        return when + t_.cas + t_.transfer;
    }

    // All rows are closed, then the memory is busy for a while.
    void refresh() {
        int64_t when = refresh_;
        for (const Bank& bank : banks_) {
            when = std::max(when, bank.row >= 0 ? std::max(refresh_, bank.precharge) + t_.rp : bank.activate);
        }
        for (Bank& bank : banks_) bank = {-1, when + t_.rfc, 0, 0};
        refresh_ += t_.refi;
    }

    MemoryTiming t_;
    uint64_t bus_;
    std::vector<Bank> banks_;
    std::array<int64_t, 4> activated_{};  // the last ones, in a ring
    size_t activations_ = 0;
    int64_t next_read_ = 0, refresh_;
};

inline std::unique_ptr<Timing> make_timing(const MemoryTiming& timing, int64_t bus_bytes) {
    if (timing.clock_ps == 0) return std::make_unique<FixedTiming>(timing.latency);
    return std::make_unique<DramTiming>(timing, bus_bytes);
}

}  // namespace pen

#endif
