// What a C simulation tells beside its answers; synthesis sees none of it.
#ifndef PEN_TRACE_H_
#define PEN_TRACE_H_

#ifndef __SYNTHESIS__

namespace pen {

// Where the current frame's numbers go: of all steps one behind the other, channels and filters in their own order.
struct Trace {
    bool wanted;           // else nothing is told
    long long *strengths;  // of input channels
    long long *scores;     // of filters; untouched where none were needed
    unsigned char *chosen; // of filters
    long long *words;      // read from external memory, one number per step
    int *maps;             // outputs of steps but the last (filters, rows, columns), zero where not chosen
};

inline Trace &trace() {
    static Trace instance = {};
    return instance;
}

} // namespace pen

#endif
#endif
