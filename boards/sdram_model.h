// An SDR SDRAM of 16 bits at the level of its pins, strict about its rules (JEDEC standard 21-C).
//
// `edge` is called at every rising edge of its clock.  What breaks a rule is kept in `fault`.

#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

struct SdramPins {
    bool cke, cs_n, ras_n, cas_n, we_n;
    unsigned a, ba, dm;
    uint16_t dq;
    bool dq_driven;  // by the controller
};

class Sdram {
  public:
    Sdram(unsigned row_bits, unsigned column_bits, double clock_hz)
        : row_bits_(row_bits), column_bits_(column_bits), period_ns_(1e9 / clock_hz),
          cells_(size_t(4) << (row_bits + column_bits)) {
        // nobody may count on what a memory holds at power-up
        uint32_t noise = 1;
        for (auto& cell : cells_) cell = uint16_t((noise = noise * 1664525u + 1013904223u) >> 16);
    }

    std::string fault;
    uint64_t refreshes = 0, reads = 0, writes = 0;

    // What the memory drives after this edge, until the next one; garbage if it drives nothing.
    uint16_t dq() const { return dq_; }

    void edge(const SdramPins& pins) {
        ++now_;
        shift_output();
        if (driving_ && pins.dq_driven) fail("memory and controller drive the data pins at the same time");
        if (!pins.cke) {
            cke_since_ = now_;
            if (started_) fail("clock enable went low");
            return;
        }
        check_refresh();
        if (pins.cs_n) return;
        const unsigned command = unsigned(pins.ras_n) << 2 | unsigned(pins.cas_n) << 1 | unsigned(pins.we_n);
        if (command != 7 && !commanded_) {
            if (ns(cke_since_) < 199e3) fail("a command came earlier than 200 us after power-up");
            commanded_ = true;
        }
        Bank& bank = banks_[pins.ba];
        switch (command) {
            case 7: break;  // no operation
            case 3: activate(bank, pins.a); break;
            case 5: access(bank, pins, false); break;
            case 4: access(bank, pins, true); break;
            case 2: precharge(pins); break;
            case 1: refresh(); break;
            case 0: set_mode(pins); break;
            default: fail("burst stop is not for bursts of one");
        }
    }

  private:
    // The slowest of the chips that the board was built with, in ns.
    static constexpr double T_RCD = 21, T_RP = 21, T_RAS = 45, T_RC = 65, T_RFC = 70, T_WR = 15, T_RRD = 15;
    static constexpr double REFRESH_NS = 64e6 / 8192;

    struct Bank {
        bool open = false;
        unsigned row = 0;
        uint64_t activated = 0, precharged = 0, written = 0;
    };
    struct Output {
        uint64_t at;
        uint16_t value;
    };

    double ns(uint64_t since) const { return double(now_ - since) * period_ns_ + 1e-6; }

    void fail(const std::string& what) {
        if (fault.empty()) fault = "at SDRAM clock " + std::to_string(now_) + ": " + what;
    }

    void need_start(const char* what) {
        if (!started_) fail(std::string(what) + " before the start sequence was complete");
    }

    void activate(Bank& bank, unsigned row) {
        need_start("activate");
        if (bank.open) fail("activate of a bank that is open");
        if (bank.precharged && ns(bank.precharged) < T_RP) fail("activate too soon after precharge");
        if (bank.activated && ns(bank.activated) < T_RC) fail("activate too soon after activate");
        for (const Bank& other : banks_)
            if (&other != &bank && other.activated && ns(other.activated) < T_RRD)
                fail("activate too soon after another bank's");
        if (refreshed_ && ns(refreshed_) < T_RFC) fail("activate too soon after refresh");
        bank.open = true;
        bank.row = row & ((1u << row_bits_) - 1);
        bank.activated = now_;
    }

    void access(Bank& bank, const SdramPins& pins, bool write) {
        need_start("access");
        if (!bank.open) return fail("access to a bank that is closed");
        if (ns(bank.activated) < T_RCD) fail("access too soon after activate");
        const unsigned number = unsigned(&bank - banks_);
        const unsigned column = pins.a & ((1u << column_bits_) - 1);
        uint16_t& cell = cells_[(size_t(number) << row_bits_ | bank.row) << column_bits_ | column];
        if (write) {
            if (!pins.dq_driven && pins.dm != 3) fail("write without data");
            const uint16_t mask = uint16_t((pins.dm & 1 ? 0 : 0x00FF) | (pins.dm & 2 ? 0 : 0xFF00));
            cell = uint16_t((cell & ~mask) | (pins.dq & mask));
            bank.written = now_;
            ++writes;
        } else {
            if (pins.dm) fail("read with masked data");  // LiteDRAM masks writes only
            pending_.push_back({now_ + latency_ - 1, cell});
            if (latency_ == 1) shift_output();
            ++reads;
        }
        if (pins.a >> 10 & 1) close(bank);  // auto precharge
    }

    void close(Bank& bank) {
        bank.open = false;
        bank.precharged = now_;
    }

    void precharge(const SdramPins& pins) {
        for (unsigned number = 0; number < 4; ++number) {
            Bank& bank = banks_[number];
            if (!(pins.a >> 10 & 1) && number != pins.ba) continue;
            if (bank.open && ns(bank.activated) < T_RAS) fail("precharge too soon after activate");
            if (bank.open && bank.written && ns(bank.written) < T_WR) fail("precharge too soon after write");
            close(bank);
        }
        if (pins.a >> 10 & 1) all_precharged_ = true;
    }

    void refresh() {
        for (const Bank& bank : banks_) {
            if (bank.open) fail("refresh with an open bank");
            if (bank.precharged && ns(bank.precharged) < T_RP) fail("refresh too soon after precharge");
        }
        if (!all_precharged_) fail("refresh before any precharge");
        if (refreshed_ && ns(refreshed_) < T_RFC) fail("refresh too soon after refresh");
        refreshed_ = now_;
        ++refreshes;
        if (started_) ++since_start_;
    }

    void check_refresh() {
        // up to eight refreshes may be postponed
        if (started_ && ns(started_at_) > REFRESH_NS * double(since_start_ + 9))
            fail("not refreshed in time");
    }

    void set_mode(const SdramPins& pins) {
        for (const Bank& bank : banks_)
            if (bank.open || (bank.precharged && ns(bank.precharged) < T_RP)) fail("mode set with a bank not idle");
        if (refreshes < 2) fail("mode set before two refreshes");
        if (refreshed_ && ns(refreshed_) < T_RFC) fail("mode set too soon after refresh");
        latency_ = pins.a >> 4 & 7;
        if (pins.a & 15) fail("only bursts of one, sequential, are used");
        if (latency_ != 2 && latency_ != 3) fail("CAS latency must be 2 or 3");
        if (latency_ == 2 && period_ns_ < 10.0 - 1e-6) fail("CAS latency 2 is too short for this clock");
        started_ = true;
        started_at_ = now_;
    }

    void shift_output() {
        driving_ = false;
        dq_ = uint16_t(0xA5C3 ^ (now_ * 0x9E37));
        while (!pending_.empty() && pending_.front().at <= now_) {
            dq_ = pending_.front().value;
            driving_ = true;
            pending_.erase(pending_.begin());
        }
    }

    const unsigned row_bits_, column_bits_;
    const double period_ns_;
    std::vector<uint16_t> cells_;
    std::vector<Output> pending_;
    Bank banks_[4];
    uint64_t now_ = 0, cke_since_ = 0, refreshed_ = 0, started_at_ = 0, since_start_ = 0;
    unsigned latency_ = 0;
    uint16_t dq_ = 0;
    bool driving_ = false, started_ = false, commanded_ = false, all_precharged_ = false;
};
