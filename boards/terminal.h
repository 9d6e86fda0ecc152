// A simulated board: its serial line on a pseudo-terminal, and its clock.

#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>

// The far end of the serial line: a pseudo-terminal, 8 data bits, 1 stop bit.
class Terminal {
  public:
    explicit Terminal(unsigned clocks) : clocks_(clocks) {
        master_ = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
        if (master_ < 0 || grantpt(master_) || unlockpt(master_)) die("no pseudo-terminal");
        name_ = ptsname(master_);
        slave_ = open(name_.c_str(), O_RDWR | O_NOCTTY);  // held open, so that drivers may come and go
        termios settings;
        if (slave_ < 0 || tcgetattr(slave_, &settings)) die("no pseudo-terminal");
        cfmakeraw(&settings);
        tcsetattr(slave_, TCSANOW, &settings);
    }

    const std::string& name() const { return name_; }

    // One clock cycle: the board's output in, its input out.
    bool cycle(bool from_board) {
        receive(from_board);
        return transmit();
    }

    void exchange() {
        unsigned char bytes[4096];
        if (outgoing_.size() < 4096) {
            const ssize_t count = read(master_, bytes, sizeof bytes);
            for (ssize_t i = 0; i < count; ++i) outgoing_.push_back(bytes[i]);
        }
        while (!incoming_.empty()) {
            const size_t count = std::min(incoming_.size(), sizeof bytes);
            for (size_t i = 0; i < count; ++i) bytes[i] = incoming_[i];
            const ssize_t written = write(master_, bytes, count);
            if (written <= 0) break;
            incoming_.erase(incoming_.begin(), incoming_.begin() + written);
        }
    }

  private:
    [[noreturn]] static void die(const char* what) {
        std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
        std::exit(1);
    }

    bool transmit() {
        if (out_bits_ == 0) {
            if (outgoing_.empty()) return true;
            out_shift_ = unsigned(outgoing_.front()) << 1 | 0x200;
            outgoing_.pop_front();
            out_bits_ = 10;
            out_timer_ = clocks_;
        }
        const bool bit = out_shift_ & 1;
        if (--out_timer_ == 0) {
            out_timer_ = clocks_;
            out_shift_ >>= 1;
            --out_bits_;
        }
        return bit;
    }

    void receive(bool line) {
        if (in_bits_ == 0) {
            if (!line) {
                in_bits_ = 10;
                in_timer_ = clocks_ / 2;
                in_shift_ = 0;
            }
            return;
        }
        if (--in_timer_) return;
        in_timer_ = clocks_;
        in_shift_ = in_shift_ >> 1 | unsigned(line) << 9;
        if (--in_bits_ == 0 && (in_shift_ & 0x200)) incoming_.push_back((unsigned char)(in_shift_ >> 1));
    }

    const unsigned clocks_;
    int master_ = -1, slave_ = -1;
    std::string name_;
    std::deque<unsigned char> outgoing_, incoming_;
    unsigned out_shift_ = 0, out_bits_ = 0, out_timer_ = 0;
    unsigned in_shift_ = 0, in_bits_ = 0, in_timer_ = 0;
};

// Whether standard input has ended: whoever started the simulation wants it to stop.
inline bool input_ended() {
    pollfd waiting = {0, POLLIN, 0};
    if (poll(&waiting, 1, 0) <= 0) return false;
    char byte;
    return read(0, &byte, 1) <= 0;
}

// Reset, then clock cycles until standard input ends or `after` says that something is wrong; true if it ended.
// Prints the terminal's path first.  `before` sets inputs of a cycle, `after` sees what it gave.
template <class Top, class Before, class After>
bool run_board(Top& top, Terminal& terminal, Before before, After after) {
    std::printf("%s\n", terminal.name().c_str());
    std::fflush(stdout);
    top.rst = 1;
    top.rx = 1;
    top.clk = 0;
    top.eval();
    for (uint64_t cycle = 0;; ++cycle) {
        if (cycle == 8) top.rst = 0;
        if (cycle && cycle % 512 == 0) {  // nothing is received while everything is reset
            terminal.exchange();
            if (cycle % 65536 == 0 && input_ended()) break;
        }
        top.rx = terminal.cycle(top.tx);
        before();
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        if (!after()) return false;
    }
    top.final();
    return true;
}
