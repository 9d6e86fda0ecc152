// The iCE40 UltraPlus's primitive that the memory instantiates, for simulation.
// Behaviour after Lattice FPGA-TN-02022: one port; each mask bit is for four data bits; what is read is
// undefined in the cycle after a write, and so is given as the complement of what was there before.

module SB_SPRAM256KA (
    input [13:0] ADDRESS, input [15:0] DATAIN, input [3:0] MASKWREN, input WREN, input CHIPSELECT, input CLOCK,
    input STANDBY, input SLEEP, input POWEROFF, output reg [15:0] DATAOUT
);
    reg [15:0] content [0:16383];
    wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
    always @(posedge CLOCK)
        if (CHIPSELECT & ~STANDBY & ~SLEEP & POWEROFF) begin
            if (WREN) begin
                content[ADDRESS] <= content[ADDRESS] & ~mask | DATAIN & mask;
                DATAOUT <= ~DATAOUT;
            end else
                DATAOUT <= content[ADDRESS];
        end
endmodule
