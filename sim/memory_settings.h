// How the memory model behaves, and its random numbers (sim/memory_settings.py has the reasons).

#pragma once

#include <cstdint>

// Order and types are those of sim.memory_settings.MemorySettings.
struct MemorySettings {
    uint32_t read_latency;          // cycles from an accepted read address to its first data beat
    uint32_t write_latency;         // cycles from the last write beat to the response
    uint32_t stall_cycles;          // data is held back in so many cycles ...
    uint32_t stall_period;          // ... of every so many (0: never)
    uint32_t outstanding;           // bursts of each direction that are accepted ahead
    uint32_t random;                // 1: random stalls and latencies on every channel
    uint32_t sdram_bytes;           // bytes a cycle of one SDRAM behind both directions (0: none)
    uint32_t sdram_beat_overhead;   // cycles lost with every beat of the bus
    uint32_t sdram_row_bytes;       // bytes of an SDRAM row
    uint32_t sdram_banks;
    uint32_t sdram_row_miss;        // cycles to close a row and open another
    uint32_t sdram_row_open;        // cycles to open a row in a closed bank
    uint32_t sdram_turnaround;      // cycles lost between reading and writing
    uint32_t sdram_refresh_period;  // cycles between refreshes
    uint32_t sdram_refresh;         // cycles of a refresh
    uint64_t seed;
};

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0x1234567ull) {
        for (int i = 0; i < 8; ++i) next();
    }
    uint32_t next() {  // xorshift64*
        if (!state_) state_ = 1;
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 32);
    }
    bool percent(uint32_t chance) { return next() % 100 < chance; }

  private:
    uint64_t state_;
};
