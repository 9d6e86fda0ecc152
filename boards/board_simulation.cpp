// A board's gateware in Verilator: its SDRAM pins on a memory model, its serial line on a pseudo-terminal.
//
// Arguments: row bits, column bits, clock in Hz, clock cycles of a bit.  Prints the terminal's path, then
// runs until standard input ends.  A broken rule of the memory ends it with status 1 and a message.

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>

#include "Vboard.h"
#include "sdram_model.h"
#include "verilated.h"

namespace {

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

bool input_ended() {
    pollfd waiting = {0, POLLIN, 0};
    if (poll(&waiting, 1, 0) <= 0) return false;
    char byte;
    return read(0, &byte, 1) <= 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 2;
    const double clock_hz = std::atof(arguments[3]);
    VerilatedContext context;
    Vboard top(&context, "board");
    Sdram memory(unsigned(std::atoi(arguments[1])), unsigned(std::atoi(arguments[2])), clock_hz);
    Terminal terminal(unsigned(std::atoi(arguments[4])));
    std::printf("%s\n", terminal.name().c_str());
    std::fflush(stdout);

    top.rst = 1;
    top.rx = 1;
    top.clk = 0;
    top.eval();
    for (uint64_t cycle = 0;; ++cycle) {
        if (cycle == 8) top.rst = 0;
        if (cycle % 512 == 0) {
            terminal.exchange();
            if (cycle % 65536 == 0 && input_ended()) break;
        }
        top.rx = terminal.cycle(top.tx);
        top.sdram_dq = memory.dq();
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        // a quarter period later, the memory's clock rises
        memory.edge({bool(top.sdram_cke), bool(top.sdram_cs_n), bool(top.sdram_ras_n), bool(top.sdram_cas_n),
                     bool(top.sdram_we_n), top.sdram_a, top.sdram_ba, top.sdram_dm, uint16_t(top.sdram_dq__out),
                     top.sdram_dq__en != 0});
        if (!memory.fault.empty()) {
            std::fprintf(stderr, "SDRAM %s\n", memory.fault.c_str());
            return 1;
        }
    }
    top.final();
    std::fprintf(stderr, "%llu reads, %llu writes, %llu refreshes\n", (unsigned long long)memory.reads,
                 (unsigned long long)memory.writes, (unsigned long long)memory.refreshes);
    return 0;
}
