// Drives the compute unit alone: scratchpad with two ports, weight stream, instructions and tokens,
// each with random stalls.  Reads a script from one file, writes what happened to another; the
// layout of both is in test_compute.py.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "Vcompute.h"
#include "verilated.h"

// Verilator writes a double underscore as ___05F
#define INSTRUCTIONS(member) instructions___05F##member
#define WEIGHTS(member) weights___05F##member
#define TOKENS(member) tokens___05F##member
#define SCRATCHPAD(member) scratchpad___05F##member

namespace {

struct Script {
    uint32_t instructions, beats, word_bytes, beat_bytes, words, banks, latency, seed;
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
    uint32_t start, end, busy, token_wait, weight_wait, wait_mask, signal_mask, layer;
};

}  // namespace

int main(int count, char **arguments) {
    if (count != 3) return 2;
    FILE *in = std::fopen(arguments[1], "rb");
    if (!in) return 2;
    Script script;
    read_exactly(in, &script, sizeof script);
    std::vector<uint8_t> memory(size_t(script.words) * script.word_bytes);
    std::vector<uint8_t> code(size_t(script.instructions) * 64);
    std::vector<uint8_t> beats(size_t(script.beats) * (script.beat_bytes + 1));
    read_exactly(in, memory.data(), memory.size());
    read_exactly(in, code.data(), code.size());
    read_exactly(in, beats.data(), beats.size());
    std::fclose(in);

    std::mt19937 random(script.seed);
    auto stalls = [&](uint32_t per_cent) { return random() % 100 < per_cent; };
    const size_t bytes = script.word_bytes;
    std::vector<uint8_t> garbage(bytes);
    // what was read in the last cycles, the newest first
    std::deque<std::vector<uint8_t>> port_a(script.latency, std::vector<uint8_t>(bytes * script.banks));
    std::deque<std::vector<uint8_t>> port_b(script.latency, garbage);

    Vcompute top;
    uint32_t collisions = 0, outside = 0, next_code = 0, next_beat = 0, cycle = 0, progress = 0;
    bool code_valid = false, beat_valid = false;
    std::vector<Record> records;
    std::vector<uint8_t> snapshots;
    Record record{};

    top.clk = 0;
    top.rst = 1;
    top.eval();
    top.clk = 1;
    top.eval();
    top.rst = 0;
    while (records.size() < script.instructions) {
        top.clk = 0;
        if (!code_valid && next_code < script.instructions && !stalls(script.instruction_stall)) code_valid = true;
        if (!beat_valid && next_beat < script.beats && !stalls(script.weight_stall)) beat_valid = true;
        top.INSTRUCTIONS(valid) = code_valid;
        if (code_valid) std::memcpy(&top.INSTRUCTIONS(payload), &code[size_t(next_code) * 64], 64);
        top.WEIGHTS(valid) = beat_valid;
        if (beat_valid)
            std::memcpy(&top.WEIGHTS(payload), &beats[size_t(next_beat) * (script.beat_bytes + 1)],
                        script.beat_bytes + 1);
        std::memcpy(&top.SCRATCHPAD(read_data), port_a.back().data(), port_a.back().size());
        std::memcpy(&top.SCRATCHPAD(residual_data), port_b.back().data(), bytes);
        top.TOKENS(wait_ready) = !stalls(script.token_stall);
        top.eval();

        for (auto &byte : garbage) byte = random();
        const uint32_t write = top.SCRATCHPAD(write_address), residual = top.SCRATCHPAD(residual_address);
        std::vector<uint16_t> read(script.banks);
        std::memcpy(read.data(), &top.SCRATCHPAD(read_addresses), 2 * script.banks);
        if (top.SCRATCHPAD(write_enable) && top.SCRATCHPAD(residual_enable)) collisions++;
        if ((top.SCRATCHPAD(write_enable) && write >= script.words) || (top.SCRATCHPAD(residual_enable) && residual >= script.words))
            outside++;
        // what was not asked for is garbage, and so are a word that is written at the same time and one
        // that is not in its slot's bank
        auto read_word = [&](bool enable, uint32_t address) {
            if (!enable || address >= script.words || (top.SCRATCHPAD(write_enable) && address == write)) return garbage;
            auto first = memory.begin() + ptrdiff_t(address * bytes);
            return std::vector<uint8_t>(first, first + ptrdiff_t(bytes));
        };
        port_a.pop_back();
        port_b.pop_back();
        port_a.emplace_front();
        for (uint32_t slot = 0; slot < script.banks; slot++) {
            const bool reachable = (slot == 0 || top.SCRATCHPAD(read_all)) && (read[slot] - read[0] - slot) % script.banks == 0;
            auto word = read_word(top.SCRATCHPAD(read_enable) && reachable, read[slot]);
            port_a.front().insert(port_a.front().end(), word.begin(), word.end());
        }
        port_b.push_front(read_word(top.SCRATCHPAD(residual_enable), residual));
        if (top.SCRATCHPAD(write_enable) && write < script.words)
            std::memcpy(&memory[write * bytes], &top.SCRATCHPAD(write_data), bytes);

        record.busy += top.busy;
        record.token_wait += top.token_wait;
        record.weight_wait += top.weight_wait;
        if (top.busy || top.SCRATCHPAD(write_enable)) progress = cycle;
        if (code_valid && top.INSTRUCTIONS(ready)) {
            code_valid = false;
            next_code++;
            record = Record{};
            record.start = cycle;
            if (!top.idle) outside++;
            progress = cycle;
        }
        if (beat_valid && top.WEIGHTS(ready)) {
            beat_valid = false;
            next_beat++;
            progress = cycle;
        }
        if (top.TOKENS(wait_valid) && top.TOKENS(wait_ready)) record.wait_mask = top.TOKENS(wait);
        if (top.TOKENS(signal_valid)) {
            record.end = cycle;
            record.signal_mask = top.TOKENS(signal);
            record.layer = top.layer;
            records.push_back(record);
            snapshots.insert(snapshots.end(), memory.begin(), memory.end());
        }
        top.clk = 1;
        top.eval();
        cycle++;
        if (cycle - progress > script.limit) break;
    }

    FILE *out = std::fopen(arguments[2], "wb");
    if (!out) return 2;
    const uint32_t header[] = {uint32_t(records.size()), collisions, outside, next_beat, cycle};
    std::fwrite(header, sizeof header, 1, out);
    std::fwrite(records.data(), sizeof(Record), records.size(), out);
    std::fwrite(snapshots.data(), 1, snapshots.size(), out);
    std::fclose(out);
    return 0;
}
