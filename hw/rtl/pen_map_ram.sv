// Feature maps, and an unaligned window of `Pixels` neighbouring pixels per cycle.
//
// Words of `Pixels` pixels lie in two banks, even words in one and odd words in the other, so that two neighbouring
// words are read at once and rotated. A read names both words (`word0_i`, and `word1_i` that continues it: next word,
// or the first of a ring) and the pixel of word0 at which the window starts. Lanes whose mask bit is 0 read as zero,
// whatever the memory holds there.
//
// Latency: 2 cycles from the address to `window_o`, which says nothing 2 cycles after a cycle without `read_i`; it comes
// through the rotation from a register right behind the memories. One read and one write per cycle, no stalls; a write is
// seen by reads from the next cycle on. A word must not be read in the cycle that writes it, unless the lanes that it
// fills are masked.
module pen_map_ram #(
  parameter int unsigned Pixels = 4,
  parameter int unsigned Words  = 16,
  localparam int unsigned BankDepth  = (Words + 1) / 2,
  localparam int unsigned BankBits   = (BankDepth > 1) ? $clog2(BankDepth) : 1,
  localparam int unsigned WordBits   = BankBits + 1,
  localparam int unsigned OffsetBits = (Pixels > 1) ? $clog2(Pixels) : 1
) (
  input  logic                     clk_i,
  input  logic                     write_i,
  input  logic [WordBits-1:0]      waddr_i,
  input  logic [Pixels-1:0][7:0]   wdata_i,
  input  logic                     read_i,
  input  logic [WordBits-1:0]      word0_i,
  input  logic [WordBits-1:0]      word1_i,
  input  logic [OffsetBits-1:0]    offset_i,
  input  logic [Pixels-1:0]        mask_i,
  output logic [Pixels-1:0][7:0]   window_o
);

  localparam int unsigned WordWidth = 8 * Pixels;

  if (Pixels < 1 || (Pixels & (Pixels - 1)) != 0) begin : gen_bad_pixels
    $fatal(1, "pen_map_ram %m: Pixels must be a power of two");
  end

  logic [BankBits-1:0] even_addr, odd_addr;
  assign even_addr = word0_i[0] ? word1_i[BankBits:1] : word0_i[BankBits:1];
  assign odd_addr = word0_i[0] ? word0_i[BankBits:1] : word1_i[BankBits:1];

  logic [WordWidth-1:0] even_data, odd_data;

  pen_ram #(
    .Width(WordWidth),
    .Depth(BankDepth)
  ) u_even (
    .clk_i,
    .write_i(write_i && !waddr_i[0]),
    .waddr_i(waddr_i[BankBits:1]),
    .wdata_i(wdata_i),
    .read_i,
    .raddr_i(even_addr),
    .rdata_o(even_data)
  );

  pen_ram #(
    .Width(WordWidth),
    .Depth(BankDepth)
  ) u_odd (
    .clk_i,
    .write_i(write_i && waddr_i[0]),
    .waddr_i(waddr_i[BankBits:1]),
    .wdata_i(wdata_i),
    .read_i,
    .raddr_i(odd_addr),
    .rdata_o(odd_data)
  );

  // Both words in their order, a register right behind the memories.
  logic                       swap_q;
  logic [1:0][OffsetBits-1:0] offset_q;
  logic [1:0][Pixels-1:0]     mask_q;
  logic [2*Pixels-1:0][7:0]   both_q;

  always_ff @(posedge clk_i) begin
    swap_q   <= word0_i[0];
    offset_q <= {offset_q[0], offset_i};
    mask_q   <= {mask_q[0], mask_i};
    both_q   <= swap_q ? {even_data, odd_data} : {odd_data, even_data};
  end

  always_comb begin
    for (int unsigned p = 0; p < Pixels; p++) begin
      window_o[p] = mask_q[1][p] ? both_q[p + 32'(offset_q[1])] : 8'd0;
    end
  end

  logic unused_parity;  // of word1, which lies in the other bank than word0
  assign unused_parity = word1_i[0];

endmodule
