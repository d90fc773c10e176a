// AXI4-Lite to the plain request port of a register block, one transfer at a time, with registers on both sides.
//
// Every channel has a register; `ready` is low while it holds something. When nothing is under way, a write whose address
// and data are in, or a read, becomes a request; where both wait they take turns. `req_o` and what belongs to it come from
// registers and hold while the block stalls. The block answers with one acknowledgement, in the cycle in which it takes
// the request or any later one; `bvalid` or `rvalid` follows in the next. The next request goes out when the answer was
// taken, or later. Protection bits are ignored, addresses are those of whole words.
module pen_axil #(
  parameter int unsigned AddrBits = 12
) (
  input  logic                clk_i,
  input  logic                rst_ni,

  input  logic [AddrBits-1:0] s_axil_awaddr,
  input  logic [2:0]          s_axil_awprot,
  input  logic                s_axil_awvalid,
  output logic                s_axil_awready,
  input  logic [31:0]         s_axil_wdata,
  input  logic [3:0]          s_axil_wstrb,
  input  logic                s_axil_wvalid,
  output logic                s_axil_wready,
  output logic [1:0]          s_axil_bresp,
  output logic                s_axil_bvalid,
  input  logic                s_axil_bready,
  input  logic [AddrBits-1:0] s_axil_araddr,
  input  logic [2:0]          s_axil_arprot,
  input  logic                s_axil_arvalid,
  output logic                s_axil_arready,
  output logic [31:0]         s_axil_rdata,
  output logic [1:0]          s_axil_rresp,
  output logic                s_axil_rvalid,
  input  logic                s_axil_rready,

  output logic                req_o,
  output logic                req_is_write_o,
  output logic [AddrBits-1:0] req_addr_o,
  output logic [31:0]         req_data_o,
  output logic [31:0]         req_bits_o,  // of the word, that are written
  input  logic                req_stall_i,
  input  logic                ack_i,
  input  logic                ack_error_i,
  input  logic [31:0]         ack_data_i   // of reads
);

  if (AddrBits < 3) begin : gen_bad_addr
    $fatal(1, "pen_axil %m: AddrBits must be at least 3, more than one word");
  end

  localparam logic [1:0] Okay = 2'b00, SlaveError = 2'b10;

  logic                aw_full_q, w_full_q, ar_full_q;
  logic [AddrBits-1:2] aw_addr_q, ar_addr_q;
  logic [31:0]         w_data_q;
  logic [3:0]          w_strobe_q;
  logic                busy_q;           // from request to the answer's last cycle
  logic                wrote_q;          // the last transfer was a write
  logic                write, read, answered;

  assign write = !busy_q && aw_full_q && w_full_q && !(ar_full_q && wrote_q);
  assign read = !busy_q && ar_full_q && !write;
  assign answered = (s_axil_bvalid && s_axil_bready) || (s_axil_rvalid && s_axil_rready);

  assign s_axil_awready = !aw_full_q;
  assign s_axil_wready = !w_full_q;
  assign s_axil_arready = !ar_full_q;

  always_ff @(posedge clk_i) begin
    if (s_axil_awvalid && s_axil_awready) begin
      aw_full_q <= 1'b1;
      aw_addr_q <= s_axil_awaddr[AddrBits-1:2];
    end
    if (s_axil_wvalid && s_axil_wready) begin
      w_full_q <= 1'b1;
      w_data_q <= s_axil_wdata;
      w_strobe_q <= s_axil_wstrb;
    end
    if (s_axil_arvalid && s_axil_arready) begin
      ar_full_q <= 1'b1;
      ar_addr_q <= s_axil_araddr[AddrBits-1:2];
    end
    if (write || read) begin
      busy_q <= 1'b1;
      wrote_q <= write;
      req_o <= 1'b1;
      req_is_write_o <= write;
      req_addr_o <= {write ? aw_addr_q : ar_addr_q, 2'b00};
      req_data_o <= w_data_q;
      for (int unsigned i = 0; i < 4; i++) req_bits_o[8*i+:8] <= {8{w_strobe_q[i]}};
    end else if (!req_stall_i) begin
      req_o <= 1'b0;
    end
    if (write) begin
      aw_full_q <= 1'b0;
      w_full_q <= 1'b0;
    end
    if (read) ar_full_q <= 1'b0;
    if (answered) begin
      busy_q <= 1'b0;
      s_axil_bvalid <= 1'b0;
      s_axil_rvalid <= 1'b0;
    end
    if (ack_i) begin
      s_axil_bvalid <= wrote_q;
      s_axil_rvalid <= !wrote_q;
      s_axil_bresp <= ack_error_i ? SlaveError : Okay;
      s_axil_rresp <= ack_error_i ? SlaveError : Okay;
      s_axil_rdata <= ack_data_i;
    end
    if (!rst_ni) begin
      aw_full_q <= 1'b0;
      w_full_q <= 1'b0;
      ar_full_q <= 1'b0;
      busy_q <= 1'b0;
      wrote_q <= 1'b0;
      req_o <= 1'b0;
      s_axil_bvalid <= 1'b0;
      s_axil_rvalid <= 1'b0;
    end
  end

  logic unused_bits;
  assign unused_bits = ^{s_axil_awprot, s_axil_arprot, s_axil_awaddr[1:0], s_axil_araddr[1:0]};

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!ack_i || (busy_q && !s_axil_bvalid && !s_axil_rvalid)) else $error("%m: an answer to no request");
    end
  end
`endif

endmodule
