// saturate(round_half_even(sum * 2**-shift)): one lane of requantisation, exact for every input.
//
// Two registers deep, both held while `enable_i` is low: first the scaled sum with its guard and sticky bits, then the
// rounded and saturated value. So a value comes 2 cycles with `enable_i` after its sum, one per cycle. ReLU is a lower
// bound of 0. `low_i` and `high_i` belong to the value that is in the second step and must be stable while the layer
// drains.
module pen_requant #(
  parameter int unsigned AccBits = 32
) (
  input  logic                      clk_i,
  input  logic                      enable_i,
  input  logic signed [AccBits-1:0] sum_i,
  input  logic [4:0]                shift_i,
  input  logic signed [8:0]         low_i,
  input  logic signed [8:0]         high_i,
  output logic [7:0]                value_o
);

  localparam int unsigned MaxShift = 31;

  if (AccBits < 9) begin : gen_bad_acc_bits
    $fatal(1, "pen_requant %m: AccBits must be at least 9, the width of the bounds");
  end

  logic signed [AccBits+MaxShift-1:0] scaled;
  assign scaled = $signed({sum_i, {MaxShift{1'b0}}}) >>> shift_i;

  logic signed [AccBits-1:0] floor_q;
  logic                      guard_q, sticky_q;
  logic signed [AccBits:0]   rounded;
  logic [7:0]                clipped;

  assign rounded = (AccBits + 1)'(floor_q) + (AccBits + 1)'(signed'({1'b0, guard_q && (sticky_q || floor_q[0])}));

  always_comb begin
    if (rounded < (AccBits + 1)'(low_i)) clipped = low_i[7:0];
    else if (rounded > (AccBits + 1)'(high_i)) clipped = high_i[7:0];
    else clipped = 8'(rounded);
  end

  always_ff @(posedge clk_i) begin
    if (enable_i) begin
      floor_q  <= scaled[AccBits+MaxShift-1:MaxShift];
      guard_q  <= scaled[MaxShift-1];
      sticky_q <= |scaled[MaxShift-2:0];
      value_o  <= clipped;
    end
  end

endmodule
