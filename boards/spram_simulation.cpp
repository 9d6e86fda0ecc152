// A board without external memory in Verilator: its serial line on a pseudo-terminal.
//
// Argument: clock cycles of a bit.  Prints the terminal's path, then runs until standard input ends.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vboard.h"
#include "terminal.h"
#include "verilated.h"

int main(int count, char** arguments) {
    if (count != 2) return 2;
    VerilatedContext context;
    Vboard top(&context, "board");
    Terminal terminal(unsigned(std::atoi(arguments[1])));
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
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
    }
    top.final();
    return 0;
}
