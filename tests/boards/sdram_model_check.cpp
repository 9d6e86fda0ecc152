// Plays commands from standard input on the memory model; prints what it drives and its first fault.
//
// Lines: "n COUNT" no operation, "c" clock enable low, or "COMMAND BANK ADDRESS DM DQ DRIVEN" with COMMAND
// one of act, rd, wr, pre, ref, mrs.

#include <iostream>
#include <map>
#include <sstream>

#include "sdram_model.h"

int main(int, char** arguments) {
    Sdram memory(13, 9, std::atof(arguments[1]));
    const std::map<std::string, unsigned> codes = {{"act", 3}, {"rd", 5}, {"wr", 4}, {"pre", 2}, {"ref", 1}, {"mrs", 0}};
    std::string line, word;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        words >> word;
        if (word == "n" || word == "c") {
            unsigned count = 1;
            words >> count;
            for (unsigned i = 0; i < count; ++i) memory.edge({word == "n", true, true, true, true, 0, 0, 0, 0, false});
        } else {
            unsigned bank = 0, address = 0, dm = 0, dq = 0, driven = 0;
            words >> bank >> address >> dm >> dq >> driven;
            const unsigned code = codes.at(word);
            memory.edge({true, false, bool(code & 4), bool(code & 2), bool(code & 1), address, bank, dm, uint16_t(dq),
                         driven != 0});
        }
        std::cout << memory.dq() << "\n";
    }
    std::cout << "fault " << memory.fault << "\n";
}
