// AXI4 memory model: the other side of the core's manager port.
//
// The model answers bursts in order, checks the manager's side of the protocol, and delays data as
// `MemorySettings` says (the Python side, with the reasons, is sim/memory_settings.py).  `Top` is a
// Verilated class with the ports m_axi_*; ports that it does not have (IDs, protection bits) are
// left alone.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "memory_settings.h"

template <typename Top>
class AxiMemory {
  public:
    static constexpr unsigned beat_bytes = sizeof(Top::m_axi_rdata);

    AxiMemory(const MemorySettings& settings, uint64_t byte_count)
        : settings_(settings), bytes_(byte_count), random_(settings.seed) {
        reset(0);
    }

    std::vector<uint8_t>& bytes() { return bytes_; }
    const std::string& violation() const { return violation_; }
    uint64_t last_activity() const { return last_activity_; }
    uint64_t read_beats() const { return read_beats_; }
    uint64_t write_beats() const { return write_beats_; }
    uint64_t last_read_address() const { return last_read_address_; }

    void inject_error(uint64_t first, uint64_t end, bool reads, bool writes) {
        faults_.push_back({first, end, reads, writes});
    }

    void clear_errors() { faults_.clear(); }

    // Forget everything in flight, as the bus does on reset.
    void reset(uint64_t now) {
        reads_.clear();
        writes_.clear();
        responses_.clear();
        r_valid_ = b_valid_ = false;
        ar_ready_ = aw_ready_ = w_ready_ = false;
        held_ar_.active = held_aw_.active = held_w_.active = false;
        open_rows_.assign(std::max<uint32_t>(settings_.sdram_banks, 1), -1);
        engine_free_ = now;
        refresh_due_ = now + settings_.sdram_refresh_period;
        engine_writes_ = false;
        engine_burst_over_ = true;
        last_activity_ = now;
        violation_.clear();
    }

    // Sets the core's inputs for this cycle.
    void drive(Top& top, uint64_t now) {
        if (settings_.random && now % 64 == 0) draw_moods();
        if (settings_.sdram_bytes) run_sdram(now);
        const bool held_back = settings_.stall_period && now % settings_.stall_period < settings_.stall_cycles;

        ar_ready_ = reads_.size() < settings_.outstanding && !idle(0);
        aw_ready_ = writes_.size() < settings_.outstanding && !idle(1);
        Burst* filling = burst_to_fill();
        w_ready_ = filling && !held_back && !idle(2) && (!settings_.sdram_bytes || engine_backlog() < 16);
        top.m_axi_arready = ar_ready_;
        top.m_axi_awready = aw_ready_;
        top.m_axi_wready = w_ready_;

        if (!r_valid_ && !reads_.empty() && !held_back && !idle(3)) {
            Burst& burst = reads_.front();
            if (data_is_there(burst, now)) {
                r_valid_ = true;
                const uint64_t address = burst.address + uint64_t(burst.sent) * beat_bytes;
                const bool fault = faulty(address, true);
                if (fault)
                    std::memset(&top.m_axi_rdata, 0xEE, beat_bytes);
                else
                    std::memcpy(&top.m_axi_rdata, &bytes_[address], beat_bytes);
                top.m_axi_rresp = fault ? 2 : 0;
                top.m_axi_rlast = burst.sent + 1 == burst.beats;
                if constexpr (requires { top.m_axi_rid; }) top.m_axi_rid = burst.id;
            }
        }
        top.m_axi_rvalid = r_valid_;

        if (!b_valid_ && !responses_.empty() && now >= responses_.front().ready && !idle(4)) {
            // written data becomes visible here: a store that signals before its response is caught
            b_valid_ = true;
            Burst& burst = responses_.front();
            bool fault = false;
            for (unsigned beat = 0; beat < burst.beats; ++beat) {
                const uint64_t address = burst.address + uint64_t(beat) * beat_bytes;
                if (faulty(address, false)) {
                    fault = true;
                    continue;
                }
                for (unsigned byte = 0; byte < beat_bytes; ++byte)
                    if (burst.strobes[beat] >> byte & 1)
                        bytes_[address + byte] = burst.data[beat * beat_bytes + byte];
            }
            top.m_axi_bresp = fault ? 2 : 0;
            if constexpr (requires { top.m_axi_bid; }) top.m_axi_bid = burst.id;
        }
        top.m_axi_bvalid = b_valid_;
    }

    // Takes the handshakes of this cycle, after the core has settled.  False: a rule was broken.
    bool observe(const Top& top, uint64_t now) {
        bool good = true;
        if (top.m_axi_arvalid || held_ar_.active) good = good && observe_read_address(top, now);
        if (top.m_axi_awvalid || held_aw_.active) good = good && observe_write_address(top, now);
        if (top.m_axi_wvalid || held_w_.active) good = good && observe_write_data(top, now);
        if (r_valid_ && top.m_axi_rready) {
            r_valid_ = false;
            ++read_beats_;
            last_activity_ = now;
            Burst& burst = reads_.front();
            last_read_address_ = burst.address + uint64_t(burst.sent) * beat_bytes;
            if (++burst.sent == burst.beats) reads_.pop_front();
        }
        if (b_valid_ && top.m_axi_bready) {
            b_valid_ = false;
            last_activity_ = now;
            responses_.pop_front();
        }
        return good;
    }

  private:
    struct Burst {
        uint64_t address = 0;
        unsigned beats = 0;
        unsigned id = 0;
        uint64_t ready = 0;      // cycle of the first data beat, or of the response
        unsigned sent = 0;       // beats over the bus
        unsigned done = 0;       // beats that the SDRAM has read or written
        std::deque<uint64_t> times;  // SDRAM: cycle at which each read beat may be sent
        std::vector<uint8_t> data;
        std::vector<uint32_t> strobes;
    };
    struct Held {  // a payload that VALID has promised not to change
        bool active = false;
        uint64_t address = 0;
        unsigned beats = 0, id = 0, last = 0, strobes = 0;
        uint8_t data[64] = {};
    };
    struct Fault {
        uint64_t first, end;
        bool reads, writes;
    };

    bool broken(uint64_t now, const std::string& text) {
        if (violation_.empty()) violation_ = "cycle " + std::to_string(now) + ": " + text;
        return false;
    }

    static std::string hex(uint64_t value) {
        char text[24];
        std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
        return text;
    }

    bool faulty(uint64_t address, bool read) const {
        for (const Fault& fault : faults_)
            if ((read ? fault.reads : fault.writes) && address < fault.end && address + beat_bytes > fault.first)
                return true;
        return false;
    }

    void draw_moods() {
        static constexpr uint32_t chances[] = {0, 0, 10, 30, 50, 80, 95};
        for (uint32_t& mood : moods_) mood = chances[random_.next() % 7];
    }

    bool idle(int channel) { return settings_.random && random_.percent(moods_[channel]); }

    uint32_t latency(uint32_t fixed) {
        if (!settings_.random) return fixed;
        return random_.percent(90) ? random_.next() % 12 : random_.next() % 80;
    }

    template <typename Port>
    static constexpr unsigned beat_size_code() {
        unsigned code = 0;
        while ((1u << code) < sizeof(Port)) ++code;
        return code;
    }

    bool check_burst(const char* channel, const Held& burst, unsigned size, unsigned kind, uint64_t now) {
        const std::string name(channel);
        if (size != beat_size_code<decltype(Top::m_axi_rdata)>())
            return broken(now, name + ": beats of another size than the bus");
        if (kind != 1) return broken(now, name + ": not an incrementing burst");
        if (burst.address % beat_bytes)
            return broken(now, name + ": address " + hex(burst.address) + " is not a multiple of the bus width");
        const uint64_t last = burst.address + uint64_t(burst.beats) * beat_bytes - 1;
        if ((burst.address >> 12) != (last >> 12))
            return broken(now, name + ": burst at " + hex(burst.address) + " of " + std::to_string(burst.beats)
                                   + " beats crosses a 4 KB boundary");
        if (last >= bytes_.size())
            return broken(now, name + ": address " + hex(last) + " is past the end of memory ("
                                   + hex(bytes_.size()) + ")");
        return true;
    }

    bool check_held(const char* channel, const Held& held, const Held& seen, bool valid, uint64_t now) {
        if (!held.active) return true;
        if (!valid) return broken(now, std::string(channel) + ": VALID fell before READY");
        if (held.address != seen.address || held.beats != seen.beats || held.id != seen.id
            || held.last != seen.last || held.strobes != seen.strobes
            || std::memcmp(held.data, seen.data, beat_bytes) != 0)
            return broken(now, std::string(channel) + ": payload changed while VALID waited for READY");
        return true;
    }

    bool observe_read_address(const Top& top, uint64_t now) {
        Held seen;
        seen.active = true;
        seen.address = top.m_axi_araddr;
        seen.beats = top.m_axi_arlen + 1u;
        if constexpr (requires { top.m_axi_arid; }) seen.id = top.m_axi_arid;
        if (!check_held("AR", held_ar_, seen, top.m_axi_arvalid, now)) return false;
        if (!check_burst("AR", seen, top.m_axi_arsize, top.m_axi_arburst, now)) return false;
        held_ar_ = seen;
        if (!ar_ready_) return true;
        held_ar_.active = false;
        last_activity_ = now;
        Burst burst;
        burst.address = seen.address;
        burst.beats = seen.beats;
        burst.id = seen.id;
        burst.ready = now + std::max<uint32_t>(latency(settings_.read_latency), 1);
        reads_.push_back(std::move(burst));
        return true;
    }

    bool observe_write_address(const Top& top, uint64_t now) {
        Held seen;
        seen.active = true;
        seen.address = top.m_axi_awaddr;
        seen.beats = top.m_axi_awlen + 1u;
        if constexpr (requires { top.m_axi_awid; }) seen.id = top.m_axi_awid;
        if (!check_held("AW", held_aw_, seen, top.m_axi_awvalid, now)) return false;
        if (!check_burst("AW", seen, top.m_axi_awsize, top.m_axi_awburst, now)) return false;
        held_aw_ = seen;
        if (!aw_ready_) return true;
        held_aw_.active = false;
        last_activity_ = now;
        Burst burst;
        burst.address = seen.address;
        burst.beats = seen.beats;
        burst.id = seen.id;
        burst.data.reserve(burst.beats * beat_bytes);
        writes_.push_back(std::move(burst));
        return true;
    }

    bool observe_write_data(const Top& top, uint64_t now) {
        Held seen;
        seen.active = true;
        seen.last = top.m_axi_wlast;
        seen.strobes = top.m_axi_wstrb;
        std::memcpy(seen.data, &top.m_axi_wdata, beat_bytes);
        if (!check_held("W", held_w_, seen, top.m_axi_wvalid, now)) return false;
        held_w_ = seen;
        if (!w_ready_) return true;
        held_w_.active = false;
        last_activity_ = now;
        ++write_beats_;
        Burst& burst = *burst_to_fill();
        burst.data.insert(burst.data.end(), seen.data, seen.data + beat_bytes);
        burst.strobes.push_back(seen.strobes);
        ++burst.sent;
        if (bool(seen.last) != (burst.sent == burst.beats))
            return broken(now, "W: WLAST is " + std::to_string(seen.last) + " on beat " + std::to_string(burst.sent)
                                   + " of " + std::to_string(burst.beats));
        if (burst.sent == burst.beats && !settings_.sdram_bytes) {
            burst.ready = now + std::max<uint32_t>(latency(settings_.write_latency), 1);
            responses_.push_back(std::move(burst));
            writes_.pop_front();
        }
        return true;
    }

    // The oldest write burst that still misses data.
    Burst* burst_to_fill() {
        for (Burst& burst : writes_)
            if (burst.sent < burst.beats) return &burst;
        return nullptr;
    }

    bool data_is_there(const Burst& burst, uint64_t now) const {
        if (!settings_.sdram_bytes) return now >= burst.ready;
        return burst.done > burst.sent && now >= burst.times[burst.sent];
    }

    // --- one SDRAM behind both directions --------------------------------------------------------

    unsigned engine_backlog() const {
        unsigned beats = 0;
        for (const Burst& burst : writes_) beats += burst.sent - burst.done;
        return beats;
    }

    Burst* next_read(uint64_t now) {
        unsigned ahead = 0;
        for (Burst& burst : reads_) {
            ahead += burst.done - burst.sent;
            if (ahead >= 16) return nullptr;  // the controller's read buffer
            if (burst.done < burst.beats) return now >= burst.ready ? &burst : nullptr;
        }
        return nullptr;
    }

    Burst* next_write() {
        return !writes_.empty() && writes_.front().done < writes_.front().sent ? &writes_.front() : nullptr;
    }

    void run_sdram(uint64_t now) {
        if (now >= refresh_due_ && now >= engine_free_) {
            engine_free_ = now + settings_.sdram_refresh;
            refresh_due_ += settings_.sdram_refresh_period;
            std::fill(open_rows_.begin(), open_rows_.end(), -1);
        }
        if (now < engine_free_) return;
        Burst* reading = next_read(now);
        Burst* writing = next_write();
        if (!reading && !writing) return;
        bool write = engine_writes_;
        if (write ? !writing : !reading)
            write = !write;
        else if (engine_burst_over_ && reading && writing)
            write = !write;  // round robin between whole bursts
        uint64_t cost = 0;
        if (write != engine_writes_) {
            cost += settings_.sdram_turnaround;
            engine_writes_ = write;
        }
        Burst& burst = write ? *writing : *reading;
        const uint64_t address = burst.address + uint64_t(burst.done) * beat_bytes;
        const uint64_t chunk = address / settings_.sdram_row_bytes;
        const uint64_t bank = chunk % settings_.sdram_banks;
        const int64_t row = static_cast<int64_t>(chunk / settings_.sdram_banks);
        if (open_rows_[bank] != row) {
            cost += open_rows_[bank] < 0 ? settings_.sdram_row_open : settings_.sdram_row_miss;
            open_rows_[bank] = row;
        }
        cost += std::max<uint32_t>(beat_bytes / settings_.sdram_bytes, 1) + settings_.sdram_beat_overhead;
        engine_free_ = now + cost;
        engine_burst_over_ = ++burst.done == burst.beats;
        if (!write) {
            burst.times.push_back(engine_free_ + settings_.read_latency);
        } else if (burst.done == burst.beats) {
            burst.ready = engine_free_ + settings_.write_latency;
            responses_.push_back(std::move(burst));
            writes_.pop_front();
        }
    }

    MemorySettings settings_;
    std::vector<uint8_t> bytes_;
    Random random_;
    uint32_t moods_[5] = {};
    std::deque<Burst> reads_, writes_, responses_;
    std::vector<Fault> faults_;
    Held held_ar_, held_aw_, held_w_;
    bool ar_ready_ = false, aw_ready_ = false, w_ready_ = false, r_valid_ = false, b_valid_ = false;
    std::vector<int64_t> open_rows_;
    uint64_t engine_free_ = 0, refresh_due_ = 0;
    bool engine_writes_ = false;
    bool engine_burst_over_ = true;
    uint64_t last_activity_ = 0, read_beats_ = 0, write_beats_ = 0, last_read_address_ = 0;
    std::string violation_;
};
