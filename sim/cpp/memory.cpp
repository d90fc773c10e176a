#include "memory.h"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "failure.h"

namespace pen {

namespace {
constexpr unsigned kIncr = 1;
constexpr uint64_t kPage = 4096;
constexpr int64_t kForever = INT64_MAX;
}  // namespace

Memory::Memory(const MemoryTiming& timing, uint64_t base, const uint8_t* image, size_t bytes, unsigned bus_bytes,
               Stall request_stall, Stall data_stall)
    : shape_(timing),
      timing_(make_timing(timing, bus_bytes)),
      base_(base),
      image_(image, image + bytes),
      bus_bytes_(bus_bytes),
      request_stall_(request_stall),
      data_stall_(data_stall) {}

void Memory::order(std::vector<Fault> faults) {
    faults_ = std::move(faults);
    fault_beat_ = fault_request_ = silent_until_ = refused_ = 0;
}

void Memory::forget() {
    bursts_.clear();
    data_valid_ = false;
}

void Memory::poke(uint64_t offset, const uint8_t* bytes, size_t count) {
    if (offset + count > image_.size()) fail("%zu bytes at %" PRIu64 " leave the weight image", count, offset);
    std::copy(bytes, bytes + count, image_.begin() + static_cast<ptrdiff_t>(offset));
}

Fault* Memory::ordered(FaultKind kind, int64_t at) {
    for (Fault& fault : faults_) {
        const int64_t count = kind == FaultKind::kBusError ? fault.amount : 1;
        if (fault.kind == kind && at >= fault.at && at < fault.at + count) return &fault;
    }
    return nullptr;
}

void Memory::begin(int64_t now) {
    request_ready_ = !request_stall_.draw();
    if (Fault* fault = ordered(FaultKind::kRefusal, fault_request_)) {
        if (fault->amount < 0 || refused_ < fault->amount) request_ready_ = false;
    }
    if (data_valid_ || bursts_.empty()) return;  // a beat once offered stays
    const Burst& burst = bursts_.front();
    if (burst.plan.empty() || now < burst.plan[burst.at].cycle || now < next_beat_ || now < silent_until_) return;
    if (Fault* fault = ordered(FaultKind::kSilence, fault_beat_); fault && !fault->happened) {
        fault->happened = true;
        silent_until_ = fault->amount < 0 ? kForever : now + fault->amount;
        if (now < silent_until_) return;
    }
    data_valid_ = !data_stall_.draw();
}

void Memory::refused() {
    if (Fault* fault = ordered(FaultKind::kRefusal, fault_request_)) {
        fault->happened = true;
        ++refused_;
    }
}

bool Memory::data_last() const { return bursts_.front().taken + 1 == bursts_.front().beats; }

unsigned Memory::response() {
    Fault* fault = ordered(FaultKind::kBusError, fault_beat_);
    if (fault == nullptr) return 0;
    fault->happened = true;
    return static_cast<unsigned>(fault->value);
}

const uint8_t* Memory::data() {
    const Burst& burst = bursts_.front();
    const uint8_t* from = image_.data() + (burst.address - base_) + static_cast<uint64_t>(burst.taken) * bus_bytes_;
    beat_data_.assign(from, from + bus_bytes_);
    if (Fault* fault = ordered(FaultKind::kFlippedBit, fault_beat_)) {
        fault->happened = true;
        beat_data_[static_cast<size_t>(fault->value) / 8 % bus_bytes_] ^= static_cast<uint8_t>(1u << fault->value % 8);
    }
    if (ordered(FaultKind::kBusError, fault_beat_)) {
        for (uint8_t& byte : beat_data_) byte = static_cast<uint8_t>(~byte);
    }
    return beat_data_.data();
}

void Memory::take_beat(int64_t now) {
    data_valid_ = false;
    ++fault_beat_;
    next_beat_ = now + 1;
    Burst& burst = bursts_.front();
    if (!of_header(burst.address)) {
        bytes_read_ += bus_bytes_;
        ++beats_;
        if (shape_.gap_every > 0 && beats_ % shape_.gap_every == 0) next_beat_ += shape_.gap_cycles;
    }
    ++burst.taken;
    if (burst.at + 1 < burst.plan.size() && burst.plan[burst.at + 1].beat == burst.taken) ++burst.at;
    if (burst.taken < burst.beats) return;
    bursts_.pop_front();
    const size_t slot = static_cast<size_t>(shape_.outstanding) - 1;
    if (slot < bursts_.size()) serve(now, bursts_[slot]);  // it takes the place in service
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
    ++fault_request_;
    refused_ = 0;
    bursts_.push_back({request.address, int64_t{request.length} + 1, 0, {}, 0});
    if (!of_header(request.address)) ++bursts_read_;
    if (bursts_.size() <= static_cast<size_t>(shape_.outstanding)) serve(now, bursts_.back());
}

// The image's header opens no rows: it is read before the first frame, at a time that depends on the registers written.
void Memory::serve(int64_t now, Burst& burst) {
    if (of_header(burst.address)) {
        burst.plan.push_back({0, now + std::max<int64_t>(shape_.latency, 1)});
    } else {
        timing_->serve(now, burst.address, burst.beats, burst.plan);
    }
}

}  // namespace pen
