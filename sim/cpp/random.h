// Seeded random stalls; each channel has its own sequence, so that one does not shift another's.
#ifndef PEN_RANDOM_H
#define PEN_RANDOM_H

#include <cstdint>

namespace pen {

class Stall {
public:
    // `probability` of a stalled cycle; 0 never stalls.
    Stall(uint64_t seed, uint64_t channel, double probability)
        : state_(seed * 0x9E3779B97F4A7C15u + (channel + 1) * 0xBF58476D1CE4E5B9u),
          threshold_(probability <= 0 ? 0 : static_cast<uint64_t>(probability * 4294967296.0)) {}

    bool draw() {
        if (threshold_ == 0) return false;
        state_ += 0x9E3779B97F4A7C15u;  // splitmix64
        uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return ((z ^ (z >> 31)) >> 32) < threshold_;
    }

private:
    uint64_t state_;
    uint64_t threshold_;
};

}  // namespace pen

#endif
