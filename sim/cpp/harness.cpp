// The bench around a Verilated accelerator: streams frames in and logits out, answers its memory reads, collects its
// probes and checks the rules of every channel. A plain C interface, loaded by sim/verilated.py.
//
// A cycle is: drive the inputs, let the combinational logic settle with the clock low, sample every output, raise the
// clock. So a handshake is seen exactly as the DUT's flip-flops see it, and what the bench drives next never races
// with the edge.

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "Vtop.h"
#include "failure.h"
#include "memory.h"
#include "ports.h"
#include "random.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif
#if VM_COVERAGE
#include "verilated_cov.h"
#endif

// ---- The C interface's data; sim/verilated.py has the same, in the same order ----------------------------------------

struct PenConfig {
    int64_t channels;     // of the input; one byte each in a beat of s_axis
    int64_t pixels;       // beats of one frame
    int64_t outputs;      // beats of one answer
    int64_t layers;       // of the tail
    int64_t bus_bytes;
    int64_t score_lanes;  // scores of one probe_score_data
    int64_t image_base;
    int64_t image_bytes;
    pen::MemoryTiming memory;
    int64_t watchdog;     // cycles without progress that end a run
    uint64_t stall_seed;
    double stall_probability;
};

// Arrays of one run of n frames. `inputs` and `filters` are the sums over the tail's layers.
struct PenResults {
    int64_t* outputs;       // (n, outputs)
    int64_t* bad;           // (n,)
    int64_t* strengths;     // (n, inputs), preset to 0
    int64_t* scores;        // (n, filters), preset to INT64_MIN
    int64_t* chosen;        // (n, filters), preset to 0
    int64_t* layer_cycles;  // (n, layers)
    int64_t* layer_bytes;   // (n, layers)
    int64_t* layer_chosen;  // (n, layers)
    int64_t* bus_bytes;     // (n,)
    int64_t* bus_bursts;    // (n,)
    int64_t* first_in;      // (n,) cycle of the first pixel's handshake
    int64_t* last_in;       // (n,)
    int64_t* last_out;      // (n,)
};

// A fault of one run; pen::Fault has what the fields mean.
struct PenFault {
    int64_t kind, at, amount, value;
};

// ---- Verilator's output and fatal errors ----------------------------------------------------------------------------

namespace {
thread_local std::string printed;  // what the model printed since the last failure
constexpr size_t kPrintedLimit = 16384;
}  // namespace

extern "C" int pen_print(const char* format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printed += text;
    if (printed.size() > kPrintedLimit) printed.erase(0, printed.size() - kPrintedLimit);
    return length;
}

void vl_fatal(const char* filename, int linenum, const char*, const char* message) {
    pen::fail("%s%s:%d: %s", printed.c_str(), filename, linenum, message);
}

// What Verilator warns of while it runs, such as a memory file that is missing, would give wrong answers here.
void vl_warn(const char* filename, int linenum, const char* scope, const char* message) {
    vl_fatal(filename, linenum, scope, message);
}

namespace {

using pen::Failure;
using pen::Memory;
using pen::Stall;
using pen::fail;

constexpr uint8_t kJunk = 0xA5;
constexpr int64_t kResetCycles = 8;
constexpr int64_t kRegisterCycles = 1000;  // in which a register access must be answered

// The channels' numbers in the sequence of random stalls.
enum Channel : uint64_t { kSource, kSink, kRequest, kData };

// ---- The bench ------------------------------------------------------------------------------------------------------

class Bench {
public:
    Bench(const PenConfig& config, const uint8_t* image, const int64_t* inputs, const int64_t* filters)
        : config_(config),
          source_stall_(config.stall_seed, kSource, config.stall_probability),
          sink_stall_(config.stall_seed, kSink, config.stall_probability),
          memory_(config.memory, static_cast<uint64_t>(config.image_base), image, static_cast<size_t>(config.image_bytes),
                  static_cast<unsigned>(config.bus_bytes), Stall(config.stall_seed, kRequest, config.stall_probability),
                  Stall(config.stall_seed, kData, config.stall_probability)) {
        for (int64_t layer = 0; layer < config.layers; ++layer) {
            inputs_.push_back({inputs_total_, inputs[layer]});
            filters_.push_back({filters_total_, filters[layer]});
            inputs_total_ += inputs[layer];
            filters_total_ += filters[layer];
        }
        printed.clear();
        context_.fatalOnError(false);  // a failed assertion is looked for after each evaluation
        context_.randReset(2);         // what reset leaves alone starts as anything
        context_.randSeed(1);
#if VM_TRACE
        context_.traceEverOn(true);
#endif
        dut_ = std::make_unique<Vtop>(&context_);
        check_messages();
        auto& d = *dut_;
        d.s_axil_awaddr = d.s_axil_araddr = 0;
        d.s_axil_awprot = d.s_axil_arprot = 0;
        reset();
    }

    void write(uint32_t address, uint32_t data) {
        auto& d = *dut_;
        d.s_axil_awaddr = static_cast<uint16_t>(address);
        d.s_axil_wdata = data;
        d.s_axil_wstrb = 0xF;
        d.s_axil_awvalid = d.s_axil_wvalid = d.s_axil_bready = 1;
        const int64_t start = now_;
        bool address_done = false, data_done = false;
        for (;;) {
            cycle();
            address_done |= axil_.aw;
            data_done |= axil_.w;
            if (address_done) d.s_axil_awvalid = 0;
            if (data_done) d.s_axil_wvalid = 0;
            if (axil_.b) break;
            if (now_ - start > kRegisterCycles) fail("register write at 0x%03x is not answered", address);
        }
        d.s_axil_bready = 0;
        if (axil_.bresp != 0) fail("register write at 0x%03x is answered with BRESP %u", address, axil_.bresp);
    }

    uint32_t read(uint32_t address) {
        auto& d = *dut_;
        d.s_axil_araddr = static_cast<uint16_t>(address);
        d.s_axil_arvalid = d.s_axil_rready = 1;
        const int64_t start = now_;
        for (;;) {
            cycle();
            if (axil_.ar) d.s_axil_arvalid = 0;
            if (axil_.r) break;
            if (now_ - start > kRegisterCycles) fail("register read at 0x%03x is not answered", address);
        }
        d.s_axil_rready = 0;
        if (axil_.rresp != 0) fail("register read at 0x%03x is answered with RRESP %u", address, axil_.rresp);
        return axil_.rdata;
    }

    void run(const uint8_t* pixels, int64_t frames, const std::vector<pen::Fault>& faults, const PenResults& results) {
        begin(pixels, frames, faults, results);
        while (run_->out_frame < frames || run_->probed_frame < frames) step();
        for (const pen::Fault& fault : faults) expect(fault);
        run_.reset();
    }

    // Runs as `run` does, but only for so many cycles; then the accelerator is reset in what it does. The memory either
    // forgets its bursts with it, or goes on to answer what it owes, and nothing more happens until it has.
    void interrupt(const uint8_t* pixels, int64_t frames, const std::vector<pen::Fault>& faults,
                   const PenResults& results, int64_t cycles, bool forget) {
        begin(pixels, frames, faults, results);
        while (now_ - run_->start < cycles && run_->out_frame < frames) step();
        run_.reset();
        if (forget) memory_.forget();
        memory_.order({});
        memory_outlives_ = !forget;
        reset();
        memory_outlives_ = false;
        while (!memory_.idle()) cycle();
    }

    void poke(uint64_t offset, const uint8_t* bytes, size_t count) { memory_.poke(offset, bytes, count); }

    // Writes what has been counted, where the model counts.
    void coverage([[maybe_unused]] const char* file) {
#if VM_COVERAGE
        context_.coveragep()->write(file);
#endif
    }

    // Until it is called without a path, all signals go to a VCD file; cycle n is at times 2n (clock low) and 2n + 1.
    void waves(const char* path) {
#if VM_TRACE
        if (waves_) waves_->close();
        waves_.reset();
        if (!path) return;
        waves_ = std::make_unique<VerilatedVcdC>();
        dut_->trace(waves_.get(), 99);
        waves_->open(path);
        if (!waves_->isOpen()) fail("%s: waveforms cannot be written there", path);
#else
        if (path) fail("%s: this model was built without waveforms", path);
#endif
    }

    std::string error;  // of the last call

private:
    struct Span {
        int64_t start, count;
    };

    struct Run {
        const uint8_t* pixels;
        int64_t frames;
        const PenResults* results;
        int64_t start = 0;                      // cycle
        std::vector<pen::Fault> faults;         // of the streams
        int64_t in_frame = 0, in_pixel = 0;     // next beat of s_axis
        int64_t out_frame = 0, out_index = 0;   // next beat of m_axis
        int64_t unread_cycles = 0;              // in which that has been offered
        int64_t probed_frame = 0, probed_layer = 0;
        int64_t bytes_before = 0, bursts_before = 0;  // on the bus, before the frame that the tail works on
        std::vector<bool> measured;             // channels of the frame whose strength has been seen
    };

    struct RegisterPort {
        bool aw, w, b, ar, r;
        unsigned bresp, rresp;
        uint32_t rdata;
    };

    void reset() {
        auto& d = *dut_;
        d.rst_ni = 0;
        d.s_axil_awvalid = d.s_axil_wvalid = d.s_axil_bready = d.s_axil_arvalid = d.s_axil_rready = 0;
        source_valid_ = sink_waiting_ = request_waiting_ = false;
        for (int64_t n = 0; n < kResetCycles; ++n) cycle();
        d.rst_ni = 1;
        cycle();
    }

    void begin(const uint8_t* pixels, int64_t frames, const std::vector<pen::Fault>& faults, const PenResults& results) {
        run_ = Run{pixels, frames, &results};
        run_->start = now_;
        run_->faults = faults;
        run_->bytes_before = memory_.bytes_read();
        run_->bursts_before = memory_.bursts_read();
        memory_.order(faults);
        progress_ = now_;
    }

    // A cycle of a run, or the cycles of a register write that is ordered for it.
    void step() {
        for (pen::Fault& fault : run_->faults) {
            if (fault.kind != pen::FaultKind::kRegisterWrite || fault.happened || now_ - run_->start < fault.at) continue;
            fault.happened = true;
            write(static_cast<uint32_t>(fault.amount), static_cast<uint32_t>(fault.value));
        }
        cycle();
        if (now_ - progress_ > config_.watchdog) {
            fail("no progress for %" PRId64 " cycles at cycle %" PRId64 ": %" PRId64 " frames given, %" PRId64
                 " answered, %" PRId64 " ended in the tail, of %" PRId64,
                 config_.watchdog, now_, run_->in_frame, run_->out_frame, run_->probed_frame, run_->frames);
        }
    }

    // A fault that was ordered has happened; else the run says nothing about it.
    void expect(const pen::Fault& fault) {
        const auto done = [&](const pen::Fault& f) { return f.happened && f.kind == fault.kind && f.at == fault.at; };
        const bool happened = std::any_of(run_->faults.begin(), run_->faults.end(), done) ||
                              std::any_of(memory_.faults().begin(), memory_.faults().end(), done);
        if (!happened) {
            fail("fault of kind %" PRId64 " at %" PRId64 " did not happen in this run", static_cast<int64_t>(fault.kind),
                 fault.at);
        }
    }

    // Whether the logits of the frame that is answered are left where they are; the fault is over when it has happened.
    bool unread() {
        if (!run_) return false;
        for (pen::Fault& fault : run_->faults) {
            if (fault.kind != pen::FaultKind::kUnread || fault.at != run_->out_frame || fault.happened) continue;
            fault.happened = run_->unread_cycles >= fault.amount;
            return !fault.happened;
        }
        return false;
    }

    // Beats of the frame that is sent.
    int64_t frame_beats() {
        for (pen::Fault& fault : run_->faults) {
            if (fault.kind != pen::FaultKind::kFrameLength || fault.at != run_->in_frame) continue;
            fault.happened = true;
            return fault.amount;
        }
        return config_.pixels;
    }

    void cycle() {
        drive_source();
        drive_memory();
        dut_->m_axis_tready = !sink_stall_.draw() && !unread();
        dut_->clk_i = 0;
        evaluate();
        show(2 * now_);
        if (dut_->rst_ni || memory_outlives_) sample_memory();
        if (dut_->rst_ni) {
            sample_registers();
            sample_source();
            sample_sink();
            sample_probes();
        }
        dut_->clk_i = 1;
        evaluate();
        show(2 * now_ + 1);
        ++now_;
    }

    void show([[maybe_unused]] int64_t time) {
#if VM_TRACE
        if (waves_) waves_->dump(static_cast<uint64_t>(time));
#endif
    }

    void evaluate() {
        dut_->eval();
        if (context_.gotError() || context_.gotFinish()) check_messages();
    }

    void check_messages() {
        if (context_.gotError()) fail("cycle %" PRId64 ": %s", now_, printed.c_str());
        if (context_.gotFinish()) fail("cycle %" PRId64 ": the RTL ended the simulation: %s", now_, printed.c_str());
    }

    // ---- s_axis: pixels in ------------------------------------------------------------------------------------------
    void drive_source() {
        auto& d = *dut_;
        if (source_valid_) return;  // a beat once offered stays
        const auto width = static_cast<size_t>(config_.channels);
        if (run_ && run_->in_frame < run_->frames && d.rst_ni && !source_stall_.draw()) {
            const int64_t beat = run_->in_frame * config_.pixels + run_->in_pixel % config_.pixels;
            pen::put_bytes(d.s_axis_tdata, run_->pixels + beat * config_.channels, width);
            d.s_axis_tlast = run_->in_pixel == frame_beats() - 1;
            d.s_axis_tvalid = source_valid_ = true;
        } else {
            pen::put_junk(d.s_axis_tdata, kJunk, width);
            d.s_axis_tlast = 1;
            d.s_axis_tvalid = 0;
        }
    }

    void sample_source() {
        if (!source_valid_ || !dut_->s_axis_tready) return;
        source_valid_ = false;
        progress_ = now_;
        if (run_->in_pixel == 0) run_->results->first_in[run_->in_frame] = now_;
        if (++run_->in_pixel < frame_beats()) return;
        run_->results->last_in[run_->in_frame] = now_;
        run_->in_pixel = 0;
        ++run_->in_frame;
    }

    // ---- m_axis: logits out -----------------------------------------------------------------------------------------
    void sample_sink() {
        auto& d = *dut_;
        const int64_t value = pen::signed_value(d.m_axis_tdata);
        const unsigned flags = static_cast<unsigned>(d.m_axis_tlast) << 1 | static_cast<unsigned>(d.m_axis_tuser);
        if (sink_waiting_) {
            if (!d.m_axis_tvalid) fail("cycle %" PRId64 ": m_axis_tvalid was withdrawn before m_axis_tready", now_);
            if (value != sink_value_ || flags != sink_flags_) {
                fail("cycle %" PRId64 ": m_axis changed its beat while waiting for m_axis_tready", now_);
            }
        }
        sink_waiting_ = d.m_axis_tvalid && !d.m_axis_tready;
        if (run_ && sink_waiting_) ++run_->unread_cycles;
        if (run_ && d.m_axis_tready) run_->unread_cycles = 0;
        sink_value_ = value;
        sink_flags_ = flags;
        if (!d.m_axis_tvalid || !d.m_axis_tready) return;

        progress_ = now_;
        // A frame is complete with its last pixel, though beats that are too many may follow.
        if (!run_ || run_->out_frame >= run_->frames ||
            run_->out_frame >= run_->in_frame + (run_->in_pixel >= config_.pixels)) {
            fail("cycle %" PRId64 ": m_axis gives an answer to no frame", now_);
        }
        const int64_t frame = run_->out_frame;
        run_->results->outputs[frame * config_.outputs + run_->out_index] = value;
        const bool last = run_->out_index == config_.outputs - 1;
        if (last != static_cast<bool>(d.m_axis_tlast)) {
            fail("cycle %" PRId64 ": m_axis_tlast is %d with value %" PRId64 " of %" PRId64 " of frame %" PRId64, now_,
                 static_cast<int>(d.m_axis_tlast), run_->out_index + 1, config_.outputs, frame);
        }
        ++run_->out_index;
        if (!last) return;
        run_->results->bad[frame] = d.m_axis_tuser;
        run_->results->last_out[frame] = now_;
        run_->out_index = 0;
        ++run_->out_frame;
    }

    // ---- m_axi: the weight image ------------------------------------------------------------------------------------
    void drive_memory() {
        auto& d = *dut_;
        const auto width = static_cast<size_t>(config_.bus_bytes);
        memory_.begin(now_);
        d.m_axi_arready = memory_.request_ready();
        if (memory_.data_valid()) {
            pen::put_bytes(d.m_axi_rdata, memory_.data(), width);
            d.m_axi_rresp = static_cast<uint8_t>(memory_.response());
            d.m_axi_rlast = memory_.data_last();
            d.m_axi_rvalid = 1;
        } else if (d.m_axi_rvalid || now_ == 0) {
            pen::put_junk(d.m_axi_rdata, kJunk, width);
            d.m_axi_rresp = 3;
            d.m_axi_rlast = 1;
            d.m_axi_rvalid = 0;
        }
    }

    void sample_memory() {
        auto& d = *dut_;
        if (memory_.data_valid() && d.m_axi_rready) {
            memory_.take_beat(now_);
            progress_ = now_;
        }
        const pen::ReadRequest request{d.m_axi_araddr, d.m_axi_arlen, d.m_axi_arsize, d.m_axi_arburst};
        if (request_waiting_ && d.rst_ni) {
            if (!d.m_axi_arvalid) fail("cycle %" PRId64 ": m_axi_arvalid was withdrawn before m_axi_arready", now_);
            if (request.address != request_.address || request.length != request_.length) {
                fail("cycle %" PRId64 ": m_axi changed its read request while waiting for m_axi_arready", now_);
            }
        }
        request_waiting_ = d.m_axi_arvalid && !d.m_axi_arready;
        request_ = request;
        if (request_waiting_) memory_.refused();
        if (!d.m_axi_arvalid || !d.m_axi_arready) return;
        memory_.accept(now_, request);
        progress_ = now_;
    }

    // ---- s_axil -----------------------------------------------------------------------------------------------------
    void sample_registers() {
        auto& d = *dut_;
        axil_.aw = d.s_axil_awvalid && d.s_axil_awready;
        axil_.w = d.s_axil_wvalid && d.s_axil_wready;
        axil_.b = d.s_axil_bvalid && d.s_axil_bready;
        axil_.ar = d.s_axil_arvalid && d.s_axil_arready;
        axil_.r = d.s_axil_rvalid && d.s_axil_rready;
        axil_.bresp = d.s_axil_bresp;
        axil_.rresp = d.s_axil_rresp;
        axil_.rdata = d.s_axil_rdata;
    }

    // ---- Probes -----------------------------------------------------------------------------------------------------
    const Span& layer_span(const std::vector<Span>& spans, unsigned layer, int64_t index, const char* what) {
        if (!run_ || run_->probed_frame >= run_->frames) fail("cycle %" PRId64 ": a probe of %s outside a frame", now_, what);
        if (layer >= spans.size() || index >= spans[layer].count) {
            fail("cycle %" PRId64 ": probe of %s %" PRId64 " of tail layer %u, which does not exist", now_, what, index, layer);
        }
        progress_ = now_;
        return spans[layer];
    }

    void sample_probes() {
        auto& d = *dut_;
        if (d.probe_strength_valid) {
            const int64_t channel = d.probe_strength_channel;
            const int64_t index = layer_span(inputs_, d.probe_strength_layer, channel, "strength").start + channel;
            run_->measured.resize(static_cast<size_t>(inputs_total_));
            if (run_->measured[static_cast<size_t>(index)]) {
                fail("cycle %" PRId64 ": strength of channel %" PRId64 " of tail layer %u is given twice in a frame", now_,
                     channel, d.probe_strength_layer);
            }
            run_->measured[static_cast<size_t>(index)] = true;
            run_->results->strengths[run_->probed_frame * inputs_total_ + index] = d.probe_strength_value;
        }
        if (d.probe_score_valid) {
            const int64_t first = int64_t{d.probe_score_word} * config_.score_lanes;
            const Span& span = layer_span(filters_, d.probe_score_layer, first, "score");
            int64_t* scores = run_->results->scores + run_->probed_frame * filters_total_ + span.start;
            for (int64_t lane = 0; lane < config_.score_lanes && first + lane < span.count; ++lane) {
                scores[first + lane] = pen::lane64(d.probe_score_data, static_cast<size_t>(lane));
            }
        }
        if (d.probe_chosen_valid) {
            const int64_t filter = d.probe_chosen_filter;
            const Span& span = layer_span(filters_, d.probe_chosen_layer, filter, "chosen filter");
            int64_t& chosen = run_->results->chosen[run_->probed_frame * filters_total_ + span.start + filter];
            if (chosen) {
                fail("cycle %" PRId64 ": filter %" PRId64 " of tail layer %u is chosen twice in a frame", now_, filter,
                     d.probe_chosen_layer);
            }
            chosen = 1;
        }
        if (d.probe_layer_valid) {
            const int64_t layer = d.probe_layer_layer;
            layer_span(filters_, d.probe_layer_layer, 0, "layer end");
            if (layer != run_->probed_layer) {
                fail("cycle %" PRId64 ": tail layer %" PRId64 " ends where layer %" PRId64 " is expected", now_, layer,
                     run_->probed_layer);
            }
            const int64_t index = run_->probed_frame * config_.layers + layer;
            run_->results->layer_cycles[index] = d.probe_layer_cycles;
            run_->results->layer_bytes[index] = d.probe_layer_bytes;
            run_->results->layer_chosen[index] = d.probe_layer_chosen;
            if (++run_->probed_layer < config_.layers) return;
            run_->results->bus_bytes[run_->probed_frame] = memory_.bytes_read() - run_->bytes_before;
            run_->results->bus_bursts[run_->probed_frame] = memory_.bursts_read() - run_->bursts_before;
            run_->bytes_before = memory_.bytes_read();
            run_->bursts_before = memory_.bursts_read();
            run_->measured.clear();
            run_->probed_layer = 0;
            ++run_->probed_frame;
        }
    }

    PenConfig config_;
    VerilatedContext context_;
    std::unique_ptr<Vtop> dut_;
    std::vector<Span> inputs_, filters_;  // per tail layer, in the results' rows
    int64_t inputs_total_ = 0, filters_total_ = 0;
    Stall source_stall_, sink_stall_;
    Memory memory_;
    std::optional<Run> run_;
    int64_t now_ = 0;       // cycles since the start of reset
    int64_t progress_ = 0;  // cycle in which something last moved
    bool memory_outlives_ = false;  // a reset of the accelerator
    bool source_valid_ = false;
    bool sink_waiting_ = false, request_waiting_ = false;  // offered and not taken in the last cycle
    int64_t sink_value_ = 0;
    unsigned sink_flags_ = 0;
    pen::ReadRequest request_{};
    RegisterPort axil_{};
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> waves_;
#endif
};

// Runs `action`; 0, or 1 with the failure's text in `error`.
template <class Action>
int guarded(std::string& error, Action action) {
    try {
        action();
        return 0;
    } catch (const std::exception& failure) {
        error = failure.what();
        return 1;
    }
}

thread_local std::string create_error;

std::vector<pen::Fault> listed(const PenFault* faults, int64_t count) {
    std::vector<pen::Fault> all;
    for (int64_t i = 0; i < count; ++i) {
        all.push_back({static_cast<pen::FaultKind>(faults[i].kind), faults[i].at, faults[i].amount, faults[i].value});
    }
    return all;
}

}  // namespace

// ---- The C interface ------------------------------------------------------------------------------------------------

#define PEN_API extern "C" __attribute__((visibility("default")))

// A model in reset state, or null: pen_error(null) tells why.
PEN_API void* pen_create(const PenConfig* config, const uint8_t* image, const int64_t* inputs, const int64_t* filters) {
    Bench* bench = nullptr;
    guarded(create_error, [&] { bench = new Bench(*config, image, inputs, filters); });
    return bench;
}

PEN_API void pen_destroy(void* bench) { delete static_cast<Bench*>(bench); }

PEN_API void pen_coverage(void* bench, const char* file) { static_cast<Bench*>(bench)->coverage(file); }

PEN_API const char* pen_error(void* bench) {
    return bench ? static_cast<Bench*>(bench)->error.c_str() : create_error.c_str();
}

PEN_API int pen_write(void* bench, uint32_t address, uint32_t data) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error, [&] { b->write(address, data); });
}

PEN_API int pen_read(void* bench, uint32_t address, uint32_t* data) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error, [&] { *data = b->read(address); });
}

PEN_API int pen_run(void* bench, const uint8_t* pixels, int64_t frames, const PenFault* faults, int64_t count,
                    const PenResults* results) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error, [&] { b->run(pixels, frames, listed(faults, count), *results); });
}

PEN_API int pen_interrupt(void* bench, const uint8_t* pixels, int64_t frames, const PenFault* faults, int64_t count,
                          const PenResults* results, int64_t cycles, int forget) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error,
                   [&] { b->interrupt(pixels, frames, listed(faults, count), *results, cycles, forget != 0); });
}

PEN_API int pen_poke(void* bench, uint64_t offset, const uint8_t* bytes, int64_t count) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error, [&] { b->poke(offset, bytes, static_cast<size_t>(count)); });
}

PEN_API int pen_waves(void* bench, const char* path) {
    auto* b = static_cast<Bench*>(bench);
    return guarded(b->error, [&] { b->waves(path); });
}
