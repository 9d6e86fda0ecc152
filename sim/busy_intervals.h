// When each part of the core was busy, as run lengths: what a timeline is drawn from.

#pragma once

#include <cstdint>
#include <vector>

struct Interval {
    uint64_t first, end;  // cycles; `end` is the first one after it
};

class BusyIntervals {
  public:
    // Order is that of sim.verilator.BUSY.
    enum Part : unsigned { LOAD, COMPUTE, STORE, WEIGHTS, PARTS };

    // From now on; reads of these addresses are weights.
    void record(uint64_t first_weight, uint64_t end_of_weights) {
        on_ = true;
        first_weight_ = first_weight;
        end_of_weights_ = end_of_weights;
        clear();
    }

    void clear() {
        for (std::vector<Interval>& part : parts_) part.clear();
    }

    bool on() const { return on_; }
    bool is_weight(uint64_t address) const { return address >= first_weight_ && address < end_of_weights_; }
    const std::vector<Interval>& of(unsigned part) const { return parts_[part]; }

    void mark(Part part, bool busy, uint64_t now) {
        if (!busy) return;
        std::vector<Interval>& intervals = parts_[part];
        if (!intervals.empty() && intervals.back().end == now)
            intervals.back().end = now + 1;
        else
            intervals.push_back({now, now + 1});
    }

  private:
    bool on_ = false;
    uint64_t first_weight_ = 0, end_of_weights_ = 0;
    std::vector<Interval> parts_[PARTS];
};
