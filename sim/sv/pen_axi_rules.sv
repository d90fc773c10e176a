// pen_axi_rules: what AXI4 asks of a read port without IDs, watched on both of its sides, in every simulation; the bind
// at the end puts one on every read master.
//
// The master
//   AR-STABLE    a request stays as it is until it is taken
//   AR-RESET     none in a reset, and none in the cycle after it
//   AR-SIZE      full width of the bus, INCR, aligned, never across a 4 KB boundary, up to MaxBurst beats
//   AR-FLIGHT    never more than Outstanding bursts between their request and their last beat
//   R-READY      RREADY is constant 1, as pen_axi_read says
// The memory
//   R-STABLE     a beat stays as it is until it is taken
//   R-OWED       no beat that nobody asked for; RLAST with the last one of each burst, and only there
//
// A memory that is not reset with the master may still answer bursts from before the reset, until the first request after
// it is taken; what it says till then is not looked at.
module pen_axi_rules #(
    parameter int unsigned AddrBits    = 32,
    parameter int unsigned BusBytes    = 4,
    parameter int unsigned MaxBurst    = 256,
    parameter int unsigned Outstanding = 4,
    localparam int unsigned Depth      = 1 << $clog2(Outstanding + 1)
) (
    input logic                  clk_i,
    input logic                  rst_ni,
    input logic [AddrBits-1:0]   araddr,
    input logic [7:0]            arlen,
    input logic [2:0]            arsize,
    input logic [1:0]            arburst,
    input logic                  arvalid,
    input logic                  arready,
    input logic [8*BusBytes-1:0] rdata,
    input logic [1:0]            rresp,
    input logic                  rlast,
    input logic                  rvalid,
    input logic                  rready
);
  localparam int unsigned ByteBits = $clog2(BusBytes);

  logic started_q, reset_q;  // there has been a reset; the last cycle was one
  logic fresh_q;             // nothing has been asked for since the reset
  logic ar_stalled_q, r_stalled_q;
  logic [AddrBits-1:0] araddr_q;
  logic [7:0] arlen_q;
  logic [8*BusBytes-1:0] rdata_q;
  logic [1:0] rresp_q;
  logic rlast_q;

  // Bursts that have been asked for and not answered: of each the beats but one.
  logic [7:0] owed_q [Depth];
  logic [$clog2(Depth)-1:0] first_q, next_q;
  int unsigned owing_q, beats_q;
  initial {started_q, reset_q, fresh_q, first_q, next_q, owing_q, beats_q} = '0;
  logic take, beat, done;
  assign take = arvalid && arready;
  assign beat = rvalid && rready;
  assign done = beat && (owing_q != 0) && (beats_q == 32'(owed_q[first_q]));

  always_ff @(posedge clk_i) begin
    started_q    <= started_q || !rst_ni;
    reset_q      <= !rst_ni;
    ar_stalled_q <= rst_ni && arvalid && !arready;
    r_stalled_q  <= rst_ni && rvalid && !rready;
    araddr_q     <= araddr;
    arlen_q      <= arlen;
    rdata_q      <= rdata;
    rresp_q      <= rresp;
    rlast_q      <= rlast;
    if (take) begin
      owed_q[next_q] <= arlen;
      next_q <= next_q + 1'b1;
      fresh_q <= 1'b0;
    end
    if (done) first_q <= first_q + 1'b1;
    if (beat && (owing_q != 0)) beats_q <= done ? 0 : beats_q + 1;
    owing_q <= owing_q + 32'(take) - 32'(done);
    if (!rst_ni) begin
      first_q <= '0;
      next_q  <= '0;
      owing_q <= 0;
      beats_q <= 0;
      fresh_q <= 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    if (started_q && rst_ni) begin
      assert (!ar_stalled_q || (arvalid && (araddr == araddr_q) && (arlen == arlen_q)))
      else $error("AR-STABLE: %m: the request of %0d beats at %h changed while it waited", 32'(arlen_q) + 1, araddr_q);
      assert (!reset_q || !arvalid) else $error("AR-RESET: %m: a request in the cycle after the reset");
      if (arvalid) begin
        assert ((arsize == 3'(ByteBits)) && (arburst == 2'b01) && ((araddr & AddrBits'(BusBytes - 1)) == '0)
                && (32'(arlen) < MaxBurst) && (32'(araddr[11:0]) + (32'(arlen) + 1) * BusBytes <= 4096))
        else $error("AR-SIZE: %m: %0d beats of 2**%0d bytes at %h, burst %b", 32'(arlen) + 1, arsize, araddr, arburst);
        assert (owing_q < Outstanding)
        else $error("AR-FLIGHT: %m: a request with %0d of %0d bursts in flight", owing_q, Outstanding);
      end
      assert (rready) else $error("R-READY: %m: beats are refused");
      assert (!r_stalled_q || (rvalid && (rdata == rdata_q) && (rresp == rresp_q) && (rlast == rlast_q)))
      else $error("R-STABLE: %m: a beat changed while it waited");
      if (rvalid) begin
        assert ((owing_q != 0) || fresh_q) else $error("R-OWED: %m: a beat that nobody asked for");
        assert ((owing_q == 0) || (rlast == (beats_q == 32'(owed_q[first_q]))))
        else $error("R-OWED: %m: RLAST is %b at beat %0d of %0d", rlast, beats_q + 1, 32'(owed_q[first_q]) + 1);
      end
    end
  end
endmodule

bind pen_axi_read pen_axi_rules #(
    .AddrBits(AddrBits),
    .BusBytes(BusBytes),
    .MaxBurst(MaxBurst),
    .Outstanding(Outstanding)
) i_rules (
    .clk_i,
    .rst_ni,
    .araddr(m_axi_araddr),
    .arlen(m_axi_arlen),
    .arsize(m_axi_arsize),
    .arburst(m_axi_arburst),
    .arvalid(m_axi_arvalid),
    .arready(m_axi_arready),
    .rdata(m_axi_rdata),
    .rresp(m_axi_rresp),
    .rlast(m_axi_rlast),
    .rvalid(m_axi_rvalid),
    .rready(m_axi_rready)
);
