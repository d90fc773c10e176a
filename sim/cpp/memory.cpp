#include "memory.h"

#include <algorithm>
#include <cinttypes>

#include "failure.h"

namespace pen {

namespace {
constexpr unsigned kIncr = 1;
constexpr uint64_t kPage = 4096;
}  // namespace

Memory::Memory(MemoryTiming timing, uint64_t base, const uint8_t* image, size_t bytes, unsigned bus_bytes,
               Stall request_stall, Stall data_stall)
    : timing_(timing),
      base_(base),
      image_(image, image + bytes),
      bus_bytes_(bus_bytes),
      request_stall_(request_stall),
      data_stall_(data_stall) {}

void Memory::begin(int64_t now) {
    request_ready_ = !request_stall_.draw();
    if (data_valid_ || bursts_.empty()) return;  // a beat once offered stays
    const Burst& burst = bursts_.front();
    const bool possible = burst.earliest >= 0 && now >= burst.earliest && now >= next_beat_;
    data_valid_ = possible && !data_stall_.draw();
}

bool Memory::data_last() const { return bursts_.front().left == 1; }

const uint8_t* Memory::data() const { return image_.data() + bursts_.front().offset; }

void Memory::take_beat(int64_t now) {
    data_valid_ = false;
    bytes_read_ += bus_bytes_;
    ++beats_;
    next_beat_ = now + 1;
    if (timing_.gap_every > 0 && beats_ % timing_.gap_every == 0) next_beat_ += timing_.gap_cycles;
    Burst& burst = bursts_.front();
    burst.offset += bus_bytes_;
    if (--burst.left > 0) return;
    bursts_.pop_front();
    const size_t slot = static_cast<size_t>(timing_.outstanding) - 1;
    if (slot < bursts_.size()) bursts_[slot].earliest = now + timing_.latency;  // it takes the place in service
}

void Memory::accept(int64_t now, const ReadRequest& request) {
    const uint64_t bytes = (uint64_t{request.length} + 1) * bus_bytes_;
    if ((1u << request.size) != bus_bytes_) {
        fail("AXI read at 0x%08" PRIx64 ": ARSIZE %u is not the bus width of %u bytes", request.address, request.size,
             bus_bytes_);
    }
    if (request.burst != kIncr) fail("AXI read at 0x%08" PRIx64 ": ARBURST %u is not INCR", request.address, request.burst);
    if (request.address % bus_bytes_ != 0) {
        fail("AXI read at 0x%08" PRIx64 " is not aligned to the bus of %u bytes", request.address, bus_bytes_);
    }
    if (request.address / kPage != (request.address + bytes - 1) / kPage) {
        fail("AXI read of %u beats at 0x%08" PRIx64 " crosses a 4 KB boundary", request.length + 1, request.address);
    }
    if (request.address < base_ || request.address + bytes > base_ + image_.size()) {
        fail("AXI read of %u beats at 0x%08" PRIx64 " leaves the weight image at 0x%08" PRIx64 " to 0x%08" PRIx64,
             request.length + 1, request.address, base_, base_ + image_.size() - 1);
    }
    const bool serve = bursts_.size() < static_cast<size_t>(timing_.outstanding);
    bursts_.push_back({request.address - base_, request.length + 1, serve ? now + timing_.latency : -1});
}

}  // namespace pen
