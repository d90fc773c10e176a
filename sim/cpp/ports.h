// Access to Verilated ports of any width: small ones are integers, wide ones arrays of 32-bit words, low word first.
#ifndef PEN_PORTS_H
#define PEN_PORTS_H

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "verilated.h"

namespace pen {

// Sets `port` from little-endian bytes; bits above them become zero.
template <class Port>
void put_bytes(Port& port, const uint8_t* bytes, size_t count) {
    if constexpr (std::is_integral_v<Port>) {
        uint64_t value = 0;
        std::memcpy(&value, bytes, count);
        port = static_cast<Port>(value);
    } else {
        for (size_t word = 0; 4 * word < count; ++word) {
            uint32_t value = 0;
            std::memcpy(&value, bytes + 4 * word, count - 4 * word < 4 ? count - 4 * word : 4);
            port[word] = value;
        }
    }
}

// Sets all bytes of `port` to `byte`; what a channel carries when it is not valid.
template <class Port>
void put_junk(Port& port, uint8_t byte, size_t count) {
    if constexpr (std::is_integral_v<Port>) {
        const uint64_t all = 0x0101010101010101u * byte;
        port = static_cast<Port>(count >= 8 ? all : all & ((uint64_t{1} << 8 * count) - 1));
    } else {
        std::memset(&port[0], byte, count);
    }
}

// Lane `index` of a port that carries numbers of 64 bits side by side.
template <class Port>
int64_t lane64(const Port& port, size_t index) {
    if constexpr (std::is_integral_v<Port>) {
        return static_cast<int64_t>(port);
    } else {
        return static_cast<int64_t>(uint64_t{port[2 * index]} | uint64_t{port[2 * index + 1]} << 32);
    }
}

// A two's complement port of exactly 32 or 64 bits.
template <class Port>
int64_t signed_value(const Port& port) {
    static_assert(std::is_same_v<Port, IData> || std::is_same_v<Port, QData>, "a logit has 32 or 64 bits");
    if constexpr (sizeof(Port) == 4) {
        return static_cast<int32_t>(port);
    } else {
        return static_cast<int64_t>(port);
    }
}

}  // namespace pen

#endif
