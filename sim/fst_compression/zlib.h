// The two functions of zlib that Verilator's waveform writer calls, so that waveforms need no library.
//
// The output is an ordinary zlib stream (RFC 1950) of stored, that is uncompressed, deflate blocks
// (RFC 1951): the writer uses it for signal widths only, and keeps whichever form is smaller.

#pragma once

#include <cstdint>
#include <cstring>

using uLong = unsigned long;
using uLongf = unsigned long;
using Bytef = unsigned char;
constexpr int Z_OK = 0;
constexpr int Z_BUF_ERROR = -5;

inline uLong compressBound(uLong size) { return size + 5 * (size / 65535 + 1) + 6; }

inline int compress2(Bytef* destination, uLongf* capacity, const Bytef* source, uLong size, int) {
    if (*capacity < compressBound(size)) return Z_BUF_ERROR;
    Bytef* output = destination;
    *output++ = 0x78;
    *output++ = 0x01;
    uint32_t low = 1, high = 0;
    uLong position = 0;
    do {
        const uLong count = size - position < 65535 ? size - position : 65535;
        *output++ = position + count == size;
        *output++ = static_cast<Bytef>(count & 255);
        *output++ = static_cast<Bytef>(count >> 8);
        *output++ = static_cast<Bytef>(~count & 255);
        *output++ = static_cast<Bytef>(~count >> 8 & 255);
        for (uLong i = 0; i < count; ++i) {
            const Bytef byte = source[position + i];
            *output++ = byte;
            low = (low + byte) % 65521;
            high = (high + low) % 65521;
        }
        position += count;
    } while (position < size);
    const uint32_t check = high << 16 | low;
    for (int shift = 24; shift >= 0; shift -= 8) *output++ = static_cast<Bytef>(check >> shift);
    *capacity = static_cast<uLongf>(output - destination);
    return Z_OK;
}
