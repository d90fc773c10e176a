// The one exception of the harness; its text becomes the caller's SimulationError.
#ifndef PEN_FAILURE_H
#define PEN_FAILURE_H

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace pen {

class Failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

[[noreturn]] inline void __attribute__((format(printf, 1, 2))) fail(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Failure(text);
}

}  // namespace pen

#endif
