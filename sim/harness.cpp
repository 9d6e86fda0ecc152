// The whole core in Verilator with a memory on its bus, as a shared library with a C interface.
//
// One cycle: the memory model and the register port drive the core's inputs, the core settles with
// the clock low, handshakes are taken, the clock rises.  `sim/verilator.py` builds and binds this.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "Vcore.h"
#include "axi_memory.h"
#include "busy_intervals.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
#endif

namespace {

// Counted by the value of the core's `layer` output; the order is that of sim.verilator.LayerCounters.
struct LayerCounters {
    uint64_t cycles, compute_busy, compute_token_wait, compute_weight_wait;
    uint64_t load_busy, store_busy, read_beats, write_beats;
    uint64_t idle_weights, idle_load, idle_store, idle_both;
};

enum Result : int { DONE = 0, LIMIT = 1, PROTOCOL = 2, HANG = 3 };

class Harness {
  public:
    Harness(const MemorySettings& settings, uint64_t memory_bytes, const char* trace)
        : context_(new VerilatedContext), memory_(settings, memory_bytes) {
        context_->traceEverOn(trace != nullptr);
        top_.reset(new Vcore(context_.get(), "core"));
#if VM_TRACE_FST
        if (trace) {
            trace_.reset(new VerilatedFstC);
            top_->trace(trace_.get(), 99);
            trace_->open(trace);
        }
#else
        (void)trace;
#endif
        reset(4);
    }

    ~Harness() {
#if VM_TRACE_FST
        if (trace_) trace_->close();
#endif
        top_->final();
    }

    void reset(unsigned cycles) {
        message_.clear();
        memory_.reset(now_);
        quiet_registers();
        top_->rst = 1;
        for (unsigned i = 0; i < cycles; ++i) {
            memory_.drive(*top_, now_);
            clock();
        }
        top_->rst = 0;
        top_->eval();
    }

    // 0: one more cycle; PROTOCOL: a rule of the bus was broken.
    int cycle() {
        settle();
        return finish();
    }

    int run(uint64_t cycles, uint64_t hang) {
        const uint64_t start = now_, end = now_ + cycles;
        while (!top_->done) {
            if (now_ >= end) return LIMIT;
            if (int result = cycle()) return result;
            const uint64_t active = std::max(std::max(memory_.last_activity(), last_compute_), start);
            if (now_ - active > hang) {
                message_ = "cycle " + std::to_string(now_) + ": nothing has moved for " + std::to_string(hang)
                         + " cycles";
                return HANG;
            }
        }
        return DONE;
    }

    int write_register(uint32_t address, uint32_t value) {
        top_->s_axil_awaddr = address;
        top_->s_axil_wdata = value;
        top_->s_axil_wstrb = 15;
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 1;
        for (unsigned tries = 0; tries < 1000; ++tries) {
            settle();
            const bool aw = top_->s_axil_awvalid && top_->s_axil_awready;
            const bool w = top_->s_axil_wvalid && top_->s_axil_wready;
            const bool b = top_->s_axil_bvalid;
            const unsigned response = top_->s_axil_bresp;
            if (int result = finish()) return result;
            if (aw) top_->s_axil_awvalid = 0;
            if (w) top_->s_axil_wvalid = 0;
            if (b) {
                quiet_registers();
                return response_is_okay(response, "write", address);
            }
        }
        quiet_registers();
        message_ = "no answer to a register write at " + std::to_string(address);
        return HANG;
    }

    int read_register(uint32_t address, uint32_t* value) {
        top_->s_axil_araddr = address;
        top_->s_axil_arvalid = top_->s_axil_rready = 1;
        for (unsigned tries = 0; tries < 1000; ++tries) {
            settle();
            const bool ar = top_->s_axil_arvalid && top_->s_axil_arready;
            const bool r = top_->s_axil_rvalid;
            const unsigned response = top_->s_axil_rresp;
            if (r) *value = top_->s_axil_rdata;
            if (int result = finish()) return result;
            if (ar) top_->s_axil_arvalid = 0;
            if (r) {
                quiet_registers();
                return response_is_okay(response, "read", address);
            }
        }
        quiet_registers();
        message_ = "no answer to a register read at " + std::to_string(address);
        return HANG;
    }

    AxiMemory<Vcore>& memory() { return memory_; }
    std::vector<LayerCounters>& layers() { return layers_; }
    BusyIntervals& intervals() { return intervals_; }
    uint64_t now() const { return now_; }
    uint32_t layer() const { return top_->layer; }
    bool done() const { return top_->done; }
    const std::string& message() const { return message_; }

  private:
    void settle() {
        memory_.drive(*top_, now_);
        top_->clk = 0;
        top_->eval();
    }

    int finish() {
        const uint64_t reads = memory_.read_beats(), writes = memory_.write_beats();
        const bool good = memory_.observe(*top_, now_);
        count(memory_.read_beats() - reads, memory_.write_beats() - writes);
        if (intervals_.on()) mark(memory_.read_beats() != reads);
        if (top_->compute_busy) last_compute_ = now_;
        rise();
        if (!good) {
            message_ = memory_.violation();
            return PROTOCOL;
        }
        return DONE;
    }

    void quiet_registers() {
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_arvalid = 0;
        top_->s_axil_bready = top_->s_axil_rready = 0;
    }

    int response_is_okay(unsigned response, const char* kind, uint32_t address) {
        if (!response) return DONE;
        message_ = std::string("a register ") + kind + " at " + std::to_string(address)
                 + " was answered with response " + std::to_string(response);
        return PROTOCOL;
    }

    void clock() {
        top_->clk = 0;
        top_->eval();
        rise();
    }

    void rise() {
#if VM_TRACE_FST
        if (trace_) trace_->dump(2 * now_);
#endif
        top_->clk = 1;
        top_->eval();
#if VM_TRACE_FST
        if (trace_) trace_->dump(2 * now_ + 1);
#endif
        ++now_;
    }

    void count(uint64_t reads, uint64_t writes) {
        if (top_->done) return;
        const unsigned layer = top_->layer;
        if (layer >= layers_.size()) layers_.resize(layer + 1);
        LayerCounters& counters = layers_[layer];
        ++counters.cycles;
        counters.compute_busy += top_->compute_busy;
        counters.compute_token_wait += top_->compute_token_wait;
        counters.compute_weight_wait += top_->compute_weight_wait;
        counters.load_busy += top_->load_busy;
        counters.store_busy += top_->store_busy;
        counters.read_beats += reads;
        counters.write_beats += writes;
        if (top_->compute_busy) return;
        // an idle array has one reason
        if (top_->compute_weight_wait)
            ++counters.idle_weights;
        else if (top_->compute_token_wait && top_->load_busy && top_->store_busy)
            ++counters.idle_both;
        else if (top_->compute_token_wait && top_->load_busy)
            ++counters.idle_load;
        else if (top_->compute_token_wait && top_->store_busy)
            ++counters.idle_store;
    }

    void mark(bool read) {
        if (top_->done) return;
        intervals_.mark(BusyIntervals::LOAD, top_->load_busy, now_);
        intervals_.mark(BusyIntervals::COMPUTE, top_->compute_busy, now_);
        intervals_.mark(BusyIntervals::STORE, top_->store_busy, now_);
        intervals_.mark(BusyIntervals::WEIGHTS, read && intervals_.is_weight(memory_.last_read_address()), now_);
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vcore> top_;
#if VM_TRACE_FST
    std::unique_ptr<VerilatedFstC> trace_;
#endif
    AxiMemory<Vcore> memory_;
    std::vector<LayerCounters> layers_;
    BusyIntervals intervals_;
    uint64_t now_ = 0, last_compute_ = 0;
    std::string message_;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void* harness_create(const MemorySettings* settings, uint64_t memory_bytes, const char* trace) {
    try {
        return new Harness(*settings, memory_bytes, trace);
    } catch (const std::exception&) {
        return nullptr;
    }
}
EXPORT void harness_destroy(void* harness) { delete static_cast<Harness*>(harness); }
EXPORT uint8_t* harness_memory(void* harness) { return static_cast<Harness*>(harness)->memory().bytes().data(); }
EXPORT int harness_traces() { return VM_TRACE_FST; }
EXPORT void harness_reset(void* harness, uint32_t cycles) { static_cast<Harness*>(harness)->reset(cycles); }
EXPORT int harness_run(void* harness, uint64_t cycles, uint64_t hang) {
    return static_cast<Harness*>(harness)->run(cycles, hang);
}
EXPORT int harness_write_register(void* harness, uint32_t address, uint32_t value) {
    return static_cast<Harness*>(harness)->write_register(address, value);
}
EXPORT int harness_read_register(void* harness, uint32_t address, uint32_t* value) {
    return static_cast<Harness*>(harness)->read_register(address, value);
}
EXPORT void harness_inject_error(void* harness, uint64_t first, uint64_t end, int reads, int writes) {
    static_cast<Harness*>(harness)->memory().inject_error(first, end, reads, writes);
}
EXPORT void harness_clear_errors(void* harness) { static_cast<Harness*>(harness)->memory().clear_errors(); }
EXPORT uint64_t harness_cycles(void* harness) { return static_cast<Harness*>(harness)->now(); }
EXPORT uint32_t harness_layer(void* harness) { return static_cast<Harness*>(harness)->layer(); }
EXPORT int harness_done(void* harness) { return static_cast<Harness*>(harness)->done(); }
EXPORT const char* harness_message(void* harness) { return static_cast<Harness*>(harness)->message().c_str(); }
EXPORT uint64_t harness_layers(void* harness) { return static_cast<Harness*>(harness)->layers().size(); }
EXPORT const LayerCounters* harness_layer_counters(void* harness) {
    return static_cast<Harness*>(harness)->layers().data();
}
EXPORT void harness_clear_layers(void* harness) {
    static_cast<Harness*>(harness)->layers().clear();
    static_cast<Harness*>(harness)->intervals().clear();
}
EXPORT void harness_record(void* harness, uint64_t first_weight, uint64_t end_of_weights) {
    static_cast<Harness*>(harness)->intervals().record(first_weight, end_of_weights);
}
EXPORT uint64_t harness_interval_count(void* harness, uint32_t part) {
    return static_cast<Harness*>(harness)->intervals().of(part).size();
}
EXPORT const Interval* harness_intervals(void* harness, uint32_t part) {
    return static_cast<Harness*>(harness)->intervals().of(part).data();
}
