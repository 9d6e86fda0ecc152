// The two functions of lz4 that Verilator's waveform writer calls, so that waveforms need no library.
//
// Greedy matching over a hash of the last position of every four bytes; the output is an ordinary
// LZ4 block, as specified in lz4_Block_format.md of the lz4 project.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

inline int LZ4_compress_default(const char* source, char* destination, int size, int capacity) {
    const auto* input = reinterpret_cast<const uint8_t*>(source);
    auto* output = reinterpret_cast<uint8_t*>(destination);
    if (capacity < LZ4_compressBound(size)) return 0;
    std::vector<int> positions(1 << 14, -1);
    int anchor = 0, position = 0;
    auto length = [&output](int rest) {
        for (; rest >= 255; rest -= 255) *output++ = 255;
        *output++ = static_cast<uint8_t>(rest);
    };
    // the last match starts 12 bytes before the end at the latest, and the last 5 bytes are literals
    while (position < size - 12) {
        uint32_t word;
        std::memcpy(&word, input + position, 4);
        int& slot = positions[(word * 2654435761u) >> 18];
        const int candidate = slot;
        slot = position;
        if (candidate < 0 || position - candidate > 65535 || std::memcmp(input + candidate, input + position, 4) != 0) {
            ++position;
            continue;
        }
        int match = 4;
        while (position + match < size - 5 && input[candidate + match] == input[position + match]) ++match;
        const int literals = position - anchor;
        *output++ = static_cast<uint8_t>((literals < 15 ? literals : 15) << 4 | (match - 4 < 15 ? match - 4 : 15));
        if (literals >= 15) length(literals - 15);
        std::memcpy(output, input + anchor, literals);
        output += literals;
        *output++ = static_cast<uint8_t>((position - candidate) & 255);
        *output++ = static_cast<uint8_t>((position - candidate) >> 8);
        if (match - 4 >= 15) length(match - 4 - 15);
        position += match;
        anchor = position;
    }
    const int literals = size - anchor;
    *output++ = static_cast<uint8_t>((literals < 15 ? literals : 15) << 4);
    if (literals >= 15) length(literals - 15);
    std::memcpy(output, input + anchor, literals);
    output += literals;
    return static_cast<int>(output - reinterpret_cast<uint8_t*>(destination));
}
