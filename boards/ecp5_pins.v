// The ECP5 primitives that LiteDRAM instantiates, for simulation: registers at the pins and the pins.
// Behaviour after Lattice's FPGA Libraries Reference Guide.

module OFS1P3BX (input D, input SP, input SCLK, input PD, output reg Q);
    initial Q = 1'b1;
    always @(posedge SCLK or posedge PD)
        if (PD) Q <= 1'b1;
        else if (SP) Q <= D;
endmodule

module IFS1P3BX (input D, input SP, input SCLK, input PD, output reg Q);
    initial Q = 1'b1;
    always @(posedge SCLK or posedge PD)
        if (PD) Q <= 1'b1;
        else if (SP) Q <= D;
endmodule

module FD1S3BX (input D, input CK, input PD, output reg Q);
    initial Q = 1'b1;
    always @(posedge CK or posedge PD)
        if (PD) Q <= 1'b1;
        else Q <= D;
endmodule

module TRELLIS_IO #(parameter DIR = "INPUT") (inout B, input I, input T, output O);
    assign B = T ? 1'bz : I;
    assign O = B;
endmodule
