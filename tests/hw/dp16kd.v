// DP16KD of the ECP5 as far as the scratchpad uses it: port A reads, no reset, WRITEMODE NORMAL (a
// write leaves the port's output alone).  From Lattice's FPGA-TN-02204; nothing
// open describes this part, so the model is as good as our reading.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "AUTO"
) (
    input CLKA, CEA, OCEA, RSTA, WEA, CSA0, CSA1, CSA2,
    input CLKB, CEB, OCEB, RSTB, WEB, CSB0, CSB1, CSB2,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15,
    input DIA16, DIA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15,
    input DIB16, DIB17,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15,
    output DOA16, DOA17,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15,
    output DOB16, DOB17
);
    // log2 of the unused low address steps
    localparam SHIFT = DATA_WIDTH_A == 18 ? 4 : DATA_WIDTH_A == 9 ? 3 : DATA_WIDTH_A == 4 ? 2
                     : DATA_WIDTH_A == 2 ? 1 : 0;
    reg [DATA_WIDTH_A-1:0] content [0:(16384 >> SHIFT)-1];
    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] dia = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
                       DIA3, DIA2, DIA1, DIA0};
    wire [17:0] dib = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
                       DIB3, DIB2, DIB1, DIB0};
    reg [DATA_WIDTH_A-1:0] read_a, read_b, out_a, out_b;
    wire [DATA_WIDTH_A-1:0] old_b = content[adb >> SHIFT];
    reg [DATA_WIDTH_A-1:0] next_b;
    always @* begin
        next_b = dib[DATA_WIDTH_A-1:0];
        // in 18-bit mode address bits 0 and 1 enable the bytes; only both at once is used
        if (DATA_WIDTH_A == 18 && adb[1:0] != 3) next_b = ~old_b;
    end
    initial if (DATA_WIDTH_A != DATA_WIDTH_B || RESETMODE != "SYNC"
                || WRITEMODE_A != "NORMAL" || WRITEMODE_B != "NORMAL") $fatal(1, "not modelled");
    always @(posedge CLKA) begin
        if (WEA || RSTA || RSTB || CSA0 || CSA1 || CSA2 || CSB0 || CSB1 || CSB2) $fatal(1, "not modelled");
        if (CEA) read_a <= content[ada >> SHIFT];
        if (OCEA) out_a <= read_a;
        if (CEB && WEB) content[adb >> SHIFT] <= next_b;
        else if (CEB) read_b <= old_b;
        if (OCEB) out_b <= read_b;
    end
    wire [17:0] doa = {{(18 - DATA_WIDTH_A){1'b0}}, REGMODE_A == "OUTREG" ? out_a : read_a};
    wire [17:0] dob = {{(18 - DATA_WIDTH_A){1'b0}}, REGMODE_B == "OUTREG" ? out_b : read_b};
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
            DOA1, DOA0} = doa;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
            DOB1, DOB0} = dob;
endmodule
