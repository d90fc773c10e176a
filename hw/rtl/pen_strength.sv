// Activation strengths: the sum of |a| over a channel's map, exact, as its words pass by.
//
// `index_i` (below Depth) says which running sum a word belongs to, so that words of several channels may alternate;
// `first_i` starts a sum and `last_i` ends it. The strength comes out 2 cycles after the last word, with the channel
// given there. One word per cycle, no stalls. Reset forgets what has not come out; sums are not cleared, `first_i` does
// that. StrengthBits holds the largest sum that can occur: nothing saturates.
module pen_strength #(
  parameter int unsigned Pixels       = 4,
  parameter int unsigned Depth        = 4,
  parameter int unsigned ChannelBits  = 8,
  parameter int unsigned StrengthBits = 16,
  localparam int unsigned DepthBits = (Depth > 1) ? $clog2(Depth) : 1
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    signed_i,
  input  logic                    valid_i,
  input  logic [DepthBits-1:0]    index_i,
  input  logic [ChannelBits-1:0]  channel_i,
  input  logic [Pixels-1:0][7:0]  word_i,
  input  logic                    first_i,
  input  logic                    last_i,
  output logic                    valid_o,
  output logic [ChannelBits-1:0]  channel_o,
  output logic [StrengthBits-1:0] strength_o
);

  if (Pixels < 1 || Depth < 1 || ChannelBits < 1 || StrengthBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_strength %m: Pixels, Depth, ChannelBits and StrengthBits must be at least 1");
  end

  logic [StrengthBits-1:0] word_sum, sum_q, old, total;
  logic                    valid_q, first_q, last_q;
  logic [DepthBits-1:0]    index_q;
  logic [ChannelBits-1:0]  channel_q;

  always_comb begin
    word_sum = '0;
    for (int unsigned p = 0; p < Pixels; p++) begin
      automatic logic [7:0] magnitude = (signed_i && word_i[p][7]) ? 8'd0 - word_i[p] : word_i[p];
      word_sum = word_sum + StrengthBits'(magnitude);
    end
  end

  pen_lutram #(
    .Width(StrengthBits),
    .Depth(Depth)
  ) u_sums (
    .clk_i,
    .write_i(valid_q),
    .waddr_i(index_q),
    .wdata_i(total),
    .raddr_i(index_q),
    .rdata_o(old)
  );

  assign total = first_q ? sum_q : old + sum_q;

  always_ff @(posedge clk_i) begin
    valid_q <= valid_i;
    index_q <= index_i;
    channel_q <= channel_i;
    first_q <= first_i;
    last_q <= last_i;
    sum_q <= word_sum;
    valid_o <= valid_q && last_q;
    channel_o <= channel_q;
    strength_o <= total;
    if (!rst_ni) begin
      valid_q <= 1'b0;
      valid_o <= 1'b0;
    end
  end

endmodule
