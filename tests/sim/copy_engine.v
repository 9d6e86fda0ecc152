// Copies BEATS beats from PROGRAM_ADDRESS to PROGRAM_ADDRESS + 65536 in bursts of 16, with the
// core's ports: a bus manager that is simple enough to be right, or wrong as register 0x20 says:
// 1 VALID falls, 2 payload changes, 3 burst crosses 4 KB, 4 WLAST early, 5 outside memory, 6 stops.
module core #(
    parameter WIDTH = @WIDTH@,
    parameter BEATS = 64
) (
    input clk, input rst,
    output [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize, output [1:0] m_axi_arburst,
    output reg m_axi_arvalid, input m_axi_arready,
    input [WIDTH-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid, output m_axi_rready,
    output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize, output [1:0] m_axi_awburst,
    output reg m_axi_awvalid, input m_axi_awready,
    output [WIDTH-1:0] m_axi_wdata, output [WIDTH/8-1:0] m_axi_wstrb, output m_axi_wlast,
    output m_axi_wvalid, input m_axi_wready,
    input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    input [7:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [7:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output [15:0] layer, output compute_busy, output compute_token_wait, output compute_weight_wait,
    output load_busy, output store_busy, output reg done
);
    localparam SIZE = $clog2(WIDTH / 8);
    reg [31:0] base, cycles, asked, taken, announced, given, answered;
    reg [5:0] errors;
    reg [2:0] broken;
    reg busy;
    reg [WIDTH-1:0] buffer [0:BEATS-1];

    assign layer = 16'd3 + {15'd0, given >= BEATS / 2};
    assign compute_busy = 0;
    assign compute_token_wait = 0;
    assign compute_weight_wait = 0;
    assign load_busy = busy && taken < BEATS;
    assign store_busy = busy && answered * 16 < BEATS;

    assign s_axil_awready = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;
    assign s_axil_wready = s_axil_awready;
    assign s_axil_bresp = 0;
    assign s_axil_arready = !s_axil_rvalid;
    assign s_axil_rresp = 0;

    assign m_axi_araddr = base + asked * (WIDTH / 8) + (broken == 3 ? 32'd4096 - WIDTH / 8 : 0);
    assign m_axi_arlen = 15;
    assign m_axi_arsize = SIZE;
    assign m_axi_arburst = 1;
    assign m_axi_rready = busy;
    assign m_axi_awaddr = base + (broken == 5 ? 32'h1000_0000 : 32'h10000) + announced * (WIDTH / 8);
    assign m_axi_awlen = 15;
    assign m_axi_awsize = SIZE;
    assign m_axi_awburst = 1;
    assign m_axi_wvalid = busy && given < taken && !(broken == 6 && given == 20);
    assign m_axi_wdata = buffer[given] ^ (broken == 2 ? {{(WIDTH-32){1'b0}}, cycles} : 0);
    assign m_axi_wstrb = ~0;
    assign m_axi_wlast = given % 16 == (broken == 4 ? 14 : 15);
    assign m_axi_bready = busy;

    always @(posedge clk) begin
        if (s_axil_bvalid && s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_rvalid && s_axil_rready) s_axil_rvalid <= 0;
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= 1;
            s_axil_rdata <= s_axil_araddr == 8'h0C ? {26'd0, errors[5:2], done, busy}
                          : s_axil_araddr == 8'h40 ? cycles : s_axil_araddr == 8'h10 ? base : 0;
        end
        if (busy) begin
            cycles <= cycles + 1;
            if (m_axi_arvalid && m_axi_arready) begin m_axi_arvalid <= 0; asked <= asked + 16; end
            else if (!m_axi_arvalid && asked < BEATS) m_axi_arvalid <= 1;
            else if (broken == 1 && m_axi_arvalid) m_axi_arvalid <= 0;
            if (m_axi_rvalid) begin
                buffer[taken] <= m_axi_rdata;
                taken <= taken + 1;
                if (m_axi_rresp != 0) errors[2] <= 1;
            end
            if (m_axi_awvalid && m_axi_awready) begin m_axi_awvalid <= 0; announced <= announced + 16; end
            else if (!m_axi_awvalid && announced < BEATS) m_axi_awvalid <= 1;
            if (m_axi_wvalid && m_axi_wready) given <= given + 1;
            if (m_axi_bvalid) begin
                answered <= answered + 1;
                if (m_axi_bresp != 0) errors[3] <= 1;
                if (answered * 16 + 16 == BEATS) begin busy <= 0; done <= 1; end
            end
        end
        if (s_axil_awvalid && s_axil_awready) begin
            s_axil_bvalid <= 1;
            if (s_axil_awaddr == 8'h10) base <= s_axil_wdata;
            if (s_axil_awaddr == 8'h20) broken <= s_axil_wdata[2:0];
            if (s_axil_awaddr == 8'h08 && !busy) begin
                busy <= 1; done <= 0; errors <= 0;
                cycles <= 0; asked <= 0; taken <= 0; announced <= 0; given <= 0; answered <= 0;
            end
        end
        if (rst) begin
            busy <= 0; done <= 0; broken <= 0; s_axil_bvalid <= 0; s_axil_rvalid <= 0;
            m_axi_arvalid <= 0; m_axi_awvalid <= 0; given <= 0; errors <= 0;
        end
    end
endmodule
