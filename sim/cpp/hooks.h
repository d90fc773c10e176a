// Included before every file of a Verilated library: takes over Verilator's output, so that the text of a failed
// assertion reaches the caller instead of the console.
#ifndef PEN_HOOKS_H
#define PEN_HOOKS_H

extern "C" int pen_print(const char* format, ...) __attribute__((format(printf, 1, 2)));

#define VL_PRINTF pen_print
#define VL_USER_FATAL  // vl_fatal: harness.cpp throws, where Verilator would end the process
#define VL_USER_WARN   // vl_warn: likewise

#endif
