// The iCE40 UltraPlus's primitives that are instantiated, for simulation.
//
// SB_SPRAM256KA, after Lattice FPGA-TN-02022: one port; each mask bit is for four data bits; what is read is
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

// SB_MAC16, after Lattice FPGA-TN-02007, as far as hw/multiply_add.py uses it: a 16x16-bit product plus C and D as
// one number of 32 bits, into the output register.  Any other configuration ends the simulation.
module SB_MAC16 #(
    parameter [0:0] A_REG = 0, A_SIGNED = 0, B_SIGNED = 0, TOPADDSUB_UPPERINPUT = 0, BOTADDSUB_UPPERINPUT = 0,
    parameter [1:0] TOPADDSUB_LOWERINPUT = 0, TOPADDSUB_CARRYSELECT = 0, TOPOUTPUT_SELECT = 0,
    parameter [1:0] BOTADDSUB_LOWERINPUT = 0, BOTADDSUB_CARRYSELECT = 0, BOTOUTPUT_SELECT = 0
) (
    input CLK, CE, input [15:0] A, B, C, D, input AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT,
    input OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT, OHOLDTOP, OHOLDBOT, CI, ACCUMCI, SIGNEXTIN,
    output reg [31:0] O
);
    localparam [16:0] CONFIGURATION = {A_SIGNED, B_SIGNED, TOPADDSUB_UPPERINPUT, BOTADDSUB_UPPERINPUT,
        TOPADDSUB_LOWERINPUT, TOPADDSUB_CARRYSELECT, TOPOUTPUT_SELECT, BOTADDSUB_LOWERINPUT, BOTADDSUB_CARRYSELECT,
        BOTOUTPUT_SELECT, 1'b0};
    localparam [16:0] SUM = {4'b1111, 2'd2, 2'd3, 2'd1, 2'd2, 2'd0, 2'd1, 1'b0};
    wire steady = CE & ~|{AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT, OLOADTOP, OLOADBOT,
        ADDSUBTOP, ADDSUBBOT, OHOLDTOP, OHOLDBOT, CI, ACCUMCI};
    reg [15:0] a_before;
    wire signed [31:0] a = $signed(A_REG ? a_before : A), b = $signed(B);
    always @(posedge CLK) begin
        if (CONFIGURATION != SUM || !steady) $stop;
        a_before <= A;
        O <= a * b + {C, D};
    end
endmodule
