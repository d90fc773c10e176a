// External memory behind an AXI4 read port: in order, one beat per cycle. The port's rules are defined in sim/memory.py;
// this file follows them to the letter.
#ifndef PEN_MEMORY_H
#define PEN_MEMORY_H

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "random.h"
#include "timing.h"

namespace pen {

// What goes wrong, each once, counted from the moment in which it is ordered; the encoding of sim/faults.py.
enum class FaultKind : int64_t { kFrameLength, kBusError, kSilence, kRefusal, kFlippedBit, kRegisterWrite, kUnread };

struct Fault {
    FaultKind kind;
    int64_t at;      // frame, beat, request or cycle
    int64_t amount;  // beats, cycles (negative: for ever) or address
    int64_t value;
    bool happened = false;
};

struct ReadRequest {
    uint64_t address;
    unsigned length;  // beats less one
    unsigned size;    // log2 of bytes per beat
    unsigned burst;
};

class Memory {
public:
    Memory(const MemoryTiming& timing, uint64_t base, const uint8_t* image, size_t bytes, unsigned bus_bytes, Stall request_stall,
           Stall data_stall);

    // From now on these faults are in force, and no others: beats and requests are numbered from here.
    void order(std::vector<Fault> faults);
    const std::vector<Fault>& faults() const { return faults_; }

    // Forgets all bursts, as a memory that is reset with the accelerator.
    void forget();
    bool idle() const { return bursts_.empty(); }

    // Overwrites `count` bytes of the image.
    void poke(uint64_t offset, const uint8_t* bytes, size_t count);

    // What the port shows in cycle `now`; called once at the start of each cycle.
    void begin(int64_t now);
    bool request_ready() const { return request_ready_; }
    bool data_valid() const { return data_valid_; }
    bool data_last() const;
    const uint8_t* data();
    unsigned response();

    // What happened at the end of cycle `now`; the beat first, then the request. Throws Failure for an illegal request.
    void take_beat(int64_t now);
    void accept(int64_t now, const ReadRequest& request);
    void refused();  // a request was offered and not taken

    // Both without the image's header.
    int64_t bytes_read() const { return bytes_read_; }
    int64_t bursts_read() const { return bursts_read_; }

private:
    struct Burst {
        uint64_t address;
        int64_t beats, taken;
        std::vector<Offer> plan;  // empty: not in service yet
        size_t at;                // offer of the next beat
    };

    // The ordered fault of `kind` that covers number `at`, if there is one.
    Fault* ordered(FaultKind kind, int64_t at);

    void serve(int64_t now, Burst& burst);
    static constexpr uint64_t kHeaderBytes = 64;  // of the image
    bool of_header(uint64_t address) const { return address - base_ < kHeaderBytes; }

    MemoryTiming shape_;
    std::unique_ptr<Timing> timing_;
    uint64_t base_;
    std::vector<uint8_t> image_, beat_data_;
    unsigned bus_bytes_;
    Stall request_stall_, data_stall_;
    std::deque<Burst> bursts_;
    int64_t next_beat_ = 0;  // earliest cycle of any beat
    int64_t beats_ = 0;
    int64_t bytes_read_ = 0, bursts_read_ = 0;
    std::vector<Fault> faults_;
    int64_t fault_beat_ = 0, fault_request_ = 0;  // since the faults were ordered
    int64_t silent_until_ = 0;
    int64_t refused_ = 0;                         // cycles in which the request of now was not taken by order
    bool request_ready_ = false;
    bool data_valid_ = false;
};

}  // namespace pen

#endif
