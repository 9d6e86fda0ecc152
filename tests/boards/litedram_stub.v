// In place of LiteDRAM with DDR3: its registers as far as calibration uses them, a burst that reads right in one
// window of each lane, and a small memory on the host's port.  Addresses are `defined by the test.

module litedram_core (
    input clk, input rst, output pll_locked, output init_done, output init_error, output user_clk, output user_rst,
    input [29:0] wb_ctrl_adr, input [31:0] wb_ctrl_dat_w, input wb_ctrl_cyc, input wb_ctrl_stb, input wb_ctrl_we,
    input [3:0] wb_ctrl_sel, input [2:0] wb_ctrl_cti, input [1:0] wb_ctrl_bte,
    output reg wb_ctrl_ack, output reg [31:0] wb_ctrl_dat_r, output wb_ctrl_err,
    output [12:0] ddram_a, output [2:0] ddram_ba, output ddram_ras_n, output ddram_cas_n, output ddram_we_n,
    output ddram_cs_n, output ddram_cke, output ddram_odt, output ddram_reset_n, output [1:0] ddram_dm,
    output ddram_clk_p, inout [15:0] ddram_dq, inout [1:0] ddram_dqs_p,

    input [26:0] user_port_core_awaddr, input [1:0] user_port_core_awburst, input user_port_core_awid,
    input [7:0] user_port_core_awlen, input [2:0] user_port_core_awsize, input user_port_core_awvalid,
    output user_port_core_awready, input [63:0] user_port_core_wdata, input [7:0] user_port_core_wstrb,
    input user_port_core_wlast, input user_port_core_wvalid, output user_port_core_wready,
    output user_port_core_bid, output [1:0] user_port_core_bresp, output user_port_core_bvalid,
    input user_port_core_bready, input [26:0] user_port_core_araddr, input [1:0] user_port_core_arburst,
    input user_port_core_arid, input [7:0] user_port_core_arlen, input [2:0] user_port_core_arsize,
    input user_port_core_arvalid, output user_port_core_arready, output user_port_core_rid,
    output [63:0] user_port_core_rdata, output [1:0] user_port_core_rresp, output user_port_core_rlast,
    output user_port_core_rvalid, input user_port_core_rready,

    input [26:0] user_port_host_awaddr, input [1:0] user_port_host_awburst, input user_port_host_awid,
    input [7:0] user_port_host_awlen, input [2:0] user_port_host_awsize, input user_port_host_awvalid,
    output user_port_host_awready, input [63:0] user_port_host_wdata, input [7:0] user_port_host_wstrb,
    input user_port_host_wlast, input user_port_host_wvalid, output user_port_host_wready,
    output user_port_host_bid, output [1:0] user_port_host_bresp, output reg user_port_host_bvalid,
    input user_port_host_bready, input [26:0] user_port_host_araddr, input [1:0] user_port_host_arburst,
    input user_port_host_arid, input [7:0] user_port_host_arlen, input [2:0] user_port_host_arsize,
    input user_port_host_arvalid, output user_port_host_arready, output user_port_host_rid,
    output reg [63:0] user_port_host_rdata, output [1:0] user_port_host_rresp, output user_port_host_rlast,
    output reg user_port_host_rvalid, input user_port_host_rready
);
    assign user_clk = clk;
    reg [3:0] waking = 15;
    always @(posedge clk) if (waking != 0) waking <= waking - 1;
    assign user_rst = waking != 0;
    assign pll_locked = 1;
    assign wb_ctrl_err = 0;

    reg done = 0, failed = 0;
    assign init_done = done;
    assign init_error = failed;

    // registers
    reg [3:0] control = 1;
    reg [1:0] selected = 0, seen = 0;
    reg [2:0] delay [0:1];
    reg [1:0] bitslip [0:1];
    reg [5:0] command [0:1];
    reg [14:0] row [0:1];
    reg [2:0] bank [0:1];
    reg [63:0] write_data [0:1];
    reg [63:0] read_data [0:1];
    reg [127:0] burst = 0;
    reg open = 0, calibrated = 0;
    reg [3:0] modes = 0;
    wire right0 = bitslip[0] == 1 && delay[0] >= 2 && delay[0] <= 5;
    wire right1 = bitslip[1] == 2 && delay[1] >= 4;
    wire [127:0] lanes = {8{right1 ? 8'hff : 8'h00, right0 ? 8'hff : 8'h00}};

    task issue(input number);
        case (command[number][3:0])
            4'b1111: if (control == 4'b1110) modes[bank[number][1:0]] <= 1;
            4'b0011: if (modes == 4'b1111 && row[number][10]) calibrated <= 1;
            4'b1001: open <= calibrated && control == 4'b1110;
            4'b1011: open <= 0;
            4'b0111: if (open && command[number][4] && number == `WRITE_PHASE) burst <= {write_data[1], write_data[0]};
            4'b0101: if (open && command[number][5] && number == `READ_PHASE && selected == 0) begin
                {read_data[1], read_data[0]} <= burst & lanes | ~burst & ~lanes;
                seen <= {right1, right0};
            end
            default: ;
        endcase
    endtask

    wire [15:0] address = {wb_ctrl_adr[13:0], 2'b0};
    integer lane;
    always @(posedge clk) begin
        wb_ctrl_ack <= wb_ctrl_cyc & wb_ctrl_stb & ~wb_ctrl_ack;
        wb_ctrl_dat_r <= 0;
        case (address)
            `BURSTS_SEEN: wb_ctrl_dat_r <= seen;
            `READ0: wb_ctrl_dat_r <= read_data[0][63:32];
            `READ0 + 4: wb_ctrl_dat_r <= read_data[0][31:0];
            `READ1: wb_ctrl_dat_r <= read_data[1][63:32];
            `READ1 + 4: wb_ctrl_dat_r <= read_data[1][31:0];
            default: ;
        endcase
        if (wb_ctrl_cyc & wb_ctrl_stb & ~wb_ctrl_ack & wb_ctrl_we) begin
            case (address)
                `DONE: done <= wb_ctrl_dat_w[0];
                `FAILED: failed <= wb_ctrl_dat_w[0];
                `CONTROL: control <= wb_ctrl_dat_w[3:0];
                `LANE_SELECT: selected <= wb_ctrl_dat_w[1:0];
                `BURSTS_CLEAR: seen <= 0;
                `COMMAND0: command[0] <= wb_ctrl_dat_w[5:0];
                `COMMAND1: command[1] <= wb_ctrl_dat_w[5:0];
                `ADDRESS0: row[0] <= wb_ctrl_dat_w[14:0];
                `ADDRESS1: row[1] <= wb_ctrl_dat_w[14:0];
                `BANK0: bank[0] <= wb_ctrl_dat_w[2:0];
                `BANK1: bank[1] <= wb_ctrl_dat_w[2:0];
                `WRITE0: write_data[0][63:32] <= wb_ctrl_dat_w;
                `WRITE0 + 4: write_data[0][31:0] <= wb_ctrl_dat_w;
                `WRITE1: write_data[1][63:32] <= wb_ctrl_dat_w;
                `WRITE1 + 4: write_data[1][31:0] <= wb_ctrl_dat_w;
                `ISSUE0: issue(0);
                `ISSUE1: issue(1);
                default: ;
            endcase
            for (lane = 0; lane < 2; lane = lane + 1) if (selected[lane])
                case (address)
                    `DELAY_RESET: delay[lane] <= 0;
                    `DELAY_STEP: delay[lane] <= delay[lane] + 1;
                    `BITSLIP_RESET: bitslip[lane] <= 0;
                    `BITSLIP_STEP: bitslip[lane] <= bitslip[lane] + 1;
                    default: ;
                endcase
        end
    end

    // the host's port: single beats
    reg [63:0] memory [0:511];
    wire usable = done & ~failed & control == 1;
    wire writing = usable & user_port_host_awvalid & user_port_host_wvalid & ~user_port_host_bvalid;
    wire reading = usable & user_port_host_arvalid & ~user_port_host_rvalid;
    assign user_port_host_awready = writing;
    assign user_port_host_wready = writing;
    assign user_port_host_arready = reading;
    assign user_port_host_bid = 0;
    assign user_port_host_rid = 0;
    assign user_port_host_bresp = 0;
    assign user_port_host_rresp = 0;
    assign user_port_host_rlast = 1;
    always @(posedge clk) begin
        if (user_port_host_bready) user_port_host_bvalid <= 0;
        if (user_port_host_rready) user_port_host_rvalid <= 0;
        if (writing) begin
            memory[user_port_host_awaddr[11:3]] <= user_port_host_wdata;
            user_port_host_bvalid <= 1;
        end
        if (reading) begin
            user_port_host_rdata <= memory[user_port_host_araddr[11:3]];
            user_port_host_rvalid <= 1;
        end
    end

    assign user_port_core_awready = 0;
    assign user_port_core_wready = 0;
    assign user_port_core_bvalid = 0;
    assign user_port_core_arready = 0;
    assign user_port_core_rvalid = 0;
endmodule
