// A board without external memory in Verilator: its serial line on a pseudo-terminal.
//
// Argument: clock cycles of a bit.  Prints the terminal's path, then runs until standard input ends.

#include <cstdlib>

#include "Vboard.h"
#include "terminal.h"
#include "verilated.h"

int main(int count, char** arguments) {
    if (count != 2) return 2;
    VerilatedContext context;
    Vboard top(&context, "board");
    Terminal terminal(unsigned(std::atoi(arguments[1])));
    run_board(top, terminal, [] {}, [] { return true; });
    return 0;
}
