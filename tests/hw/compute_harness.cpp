// Drives the compute unit alone: scratchpad with two ports, weight stream, instructions and tokens,
// each with random stalls.  Reads a script from one file, writes what happened to another; the
// layout of both is in test_compute.py.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

// Verilator writes a double underscore as ___05F
#define INSTRUCTIONS(member) instructions___05F##member
#define WEIGHTS(member) weights___05F##member
#define TOKENS(member) tokens___05F##member
#define SCRATCHPAD(member) scratchpad___05F##member

namespace {

struct Script {
    uint32_t instructions, weight_words, word_bytes, weight_word_bytes, words, banks, latency, residual_latency, seed;
    uint32_t weight_stall, instruction_stall, token_stall;  // per cent of the cycles
    uint32_t limit;                                         // cycles without progress before giving up
};

void read_exactly(FILE *file, void *into, size_t bytes) {
    if (bytes && std::fread(into, 1, bytes, file) != bytes) {
        std::fprintf(stderr, "script too short\n");
        std::exit(2);
    }
}

struct Record {
    uint32_t start, end, busy, token_wait, weight_wait, wait_mask, signal_mask;
};

/// The address of a place: its row, and one bit for its bank (no bank: bank 0).
uint32_t address_of(uint64_t place, uint32_t banks) {
    const uint32_t row_bits = 16 - __builtin_ctz(banks);
    const uint64_t bank = place >> row_bits;
    if (bank & (bank - 1)) {
        std::fprintf(stderr, "two banks at once\n");
        std::exit(3);
    }
    return uint32_t(place & ((1u << row_bits) - 1)) * banks + (bank ? __builtin_ctzll(bank) : 0);
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 3) return 2;
    FILE *in = std::fopen(arguments[1], "rb");
    if (!in) return 2;
    Script script;
    read_exactly(in, &script, sizeof script);
    std::vector<uint8_t> memory(size_t(script.words) * script.word_bytes);
    std::vector<uint8_t> code(size_t(script.instructions) * 64);
    std::vector<uint8_t> weight_words(size_t(script.weight_words) * (script.weight_word_bytes + 1));
    read_exactly(in, memory.data(), memory.size());
    read_exactly(in, code.data(), code.size());
    read_exactly(in, weight_words.data(), weight_words.size());
    std::fclose(in);

    std::mt19937 random(script.seed);
    auto stalls = [&](uint32_t per_cent) { return random() % 100 < per_cent; };
    const size_t bytes = script.word_bytes;
    std::vector<uint8_t> garbage(bytes);
    // what was read in the last cycles, the newest first
    std::deque<std::vector<uint8_t>> port_a(script.latency, std::vector<uint8_t>(bytes * script.banks));
    std::deque<std::vector<uint8_t>> port_b(script.residual_latency, garbage);

    Vtop top;
    uint32_t collisions = 0, outside = 0, next_code = 0, next_weights = 0, cycle = 0, progress = 0;
    bool code_valid = false, weights_valid = false;
    std::vector<Record> records;  // of all instructions taken
    size_t done = 0;              // of them
    std::vector<uint8_t> snapshots;
    constexpr uint32_t compute_tokens = 2;  // from compute to itself

    top.clk = 0;
    top.rst = 1;
    top.eval();
    top.clk = 1;
    top.eval();
    top.rst = 0;
    while (done < script.instructions) {
        top.clk = 0;
        if (!code_valid && next_code < script.instructions && !stalls(script.instruction_stall)) code_valid = true;
        if (!weights_valid && next_weights < script.weight_words && !stalls(script.weight_stall)) weights_valid = true;
        top.INSTRUCTIONS(valid) = code_valid;
        if (code_valid) std::memcpy(&top.INSTRUCTIONS(payload), &code[size_t(next_code) * 64], 64);
        top.WEIGHTS(valid) = weights_valid;
        if (weights_valid)
            std::memcpy(&top.WEIGHTS(payload), &weight_words[size_t(next_weights) * (script.weight_word_bytes + 1)],
                        script.weight_word_bytes + 1);
        std::memcpy(&top.SCRATCHPAD(read_data), port_a.back().data(), port_a.back().size());
        std::memcpy(&top.SCRATCHPAD(residual_data), port_b.back().data(), bytes);
        // the newest instruction asks; who waits for the one before, waits for all before
        const bool others_done = done + 1 >= records.size();
        top.TOKENS(wait_ready) = !stalls(script.token_stall) && (others_done || !(top.TOKENS(wait) & compute_tokens));
        top.eval();

        for (auto &byte : garbage) byte = random();
        const uint32_t write = address_of(top.SCRATCHPAD(b_place), script.banks), residual = write;
        std::vector<uint16_t> read(script.banks);
        std::memcpy(read.data(), &top.SCRATCHPAD(read_addresses), 2 * script.banks);
        if (top.SCRATCHPAD(write_enable) && top.SCRATCHPAD(residual_enable)) collisions++;
        const bool writes = top.SCRATCHPAD(write_enable), reads_residual = top.SCRATCHPAD(residual_enable);
        if ((writes && write >= script.words) || (reads_residual && residual >= script.words)) outside++;
        // what was not asked for is garbage, and so are a word that is written at the same time and one
        // that is not in its slot's bank
        auto read_word = [&](bool enable, uint32_t address) {
            if (!enable || address >= script.words || (writes && address == write)) return garbage;
            auto first = memory.begin() + ptrdiff_t(address * bytes);
            return std::vector<uint8_t>(first, first + ptrdiff_t(bytes));
        };
        port_a.pop_back();
        port_b.pop_back();
        port_a.emplace_front();
        for (uint32_t slot = 0; slot < script.banks; slot++) {
            const bool wanted = top.SCRATCHPAD(read_enable) && (slot == 0 || top.SCRATCHPAD(read_all));
            auto word = read_word(wanted && (read[slot] - read[0] - slot) % script.banks == 0, read[slot]);
            port_a.front().insert(port_a.front().end(), word.begin(), word.end());
        }
        port_b.push_front(read_word(top.SCRATCHPAD(residual_enable), residual));
        if (top.SCRATCHPAD(write_enable) && write < script.words)
            std::memcpy(&memory[write * bytes], &top.SCRATCHPAD(write_data), bytes);

        if (!records.empty()) {
            records.back().busy += top.busy;
            records.back().token_wait += top.token_wait;
            records.back().weight_wait += top.weight_wait;
        }
        if (top.idle && done < records.size()) outside++;
        if (top.busy || top.SCRATCHPAD(write_enable)) progress = cycle;
        if (code_valid && top.INSTRUCTIONS(ready)) {
            code_valid = false;
            next_code++;
            records.emplace_back();
            records.back().start = cycle;
            progress = cycle;
        }
        if (weights_valid && top.WEIGHTS(ready)) {
            weights_valid = false;
            next_weights++;
            progress = cycle;
        }
        if (top.TOKENS(wait_valid) && (top.TOKENS(wait_ready) || !top.TOKENS(wait)))
            records.back().wait_mask = top.TOKENS(wait);
        if (top.TOKENS(signal_valid)) {
            records.at(done).end = cycle;
            records[done++].signal_mask = top.TOKENS(signal);
            snapshots.insert(snapshots.end(), memory.begin(), memory.end());
        }
        top.clk = 1;
        top.eval();
        cycle++;
        if (cycle - progress > script.limit) break;
    }

    FILE *out = std::fopen(arguments[2], "wb");
    if (!out) return 2;
    const uint32_t header[] = {uint32_t(done), collisions, outside, next_weights, cycle};
    std::fwrite(header, sizeof header, 1, out);
    std::fwrite(records.data(), sizeof(Record), done, out);
    std::fwrite(snapshots.data(), 1, snapshots.size(), out);
    std::fclose(out);
    return 0;
}
