// A board's gateware in Verilator: its SDRAM pins on a memory model, its serial line on a pseudo-terminal.
//
// Arguments: row bits, column bits, clock in Hz, clock cycles of a bit, system clock edge
// (1 or 2) after the memory's at which its data is there.  Prints the terminal's path, then
// runs until standard input ends.  A broken rule of the memory ends it with status 1 and a message.

#include <cstdio>

#include "Vboard.h"
#include "sdram_model.h"
#include "terminal.h"
#include "verilated.h"

int main(int count, char** arguments) {
    if (count != 6) return 2;
    const double clock_hz = std::atof(arguments[3]);
    VerilatedContext context;
    Vboard top(&context, "board");
    Sdram memory(unsigned(std::atoi(arguments[1])), unsigned(std::atoi(arguments[2])), clock_hz);
    Terminal terminal(unsigned(std::atoi(arguments[4])));
    const bool second_edge = std::atoi(arguments[5]) == 2;
    uint16_t earlier = 0;
    const bool ended = run_board(
        top, terminal, [&] {
            top.sdram_dq = second_edge ? earlier : memory.dq();
            earlier = memory.dq();
        },
        [&] {  // a part of the period later, the memory's clock rises
            memory.edge({bool(top.sdram_cke), bool(top.sdram_cs_n), bool(top.sdram_ras_n), bool(top.sdram_cas_n),
                         bool(top.sdram_we_n), top.sdram_a, top.sdram_ba, top.sdram_dm, uint16_t(top.sdram_dq__out),
                         top.sdram_dq__en != 0});
            return memory.fault.empty();
        });
    if (!ended) {
        std::fprintf(stderr, "SDRAM %s\n", memory.fault.c_str());
        return 1;
    }
    std::fprintf(stderr, "%llu reads, %llu writes, %llu refreshes\n", (unsigned long long)memory.reads,
                 (unsigned long long)memory.writes, (unsigned long long)memory.refreshes);
    return 0;
}
