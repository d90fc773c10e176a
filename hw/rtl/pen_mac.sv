// One multiply-accumulate lane: the one place where multipliers of the arrays are inferred.
//
// Two registers deep: operands are multiplied into a register, then added; `first_i` starts a new sum. The sum is
// exact as long as AccBits holds it. `sum_o` includes an operand pair two cycles after it was given.
module pen_mac #(
  parameter int unsigned AccBits = 32
) (
  input  logic                      clk_i,
  input  logic                      valid_i,
  input  logic                      first_i,
  input  logic signed [8:0]         activation_i,
  input  logic signed [7:0]         weight_i,
  output logic signed [AccBits-1:0] sum_o
);

  logic               valid_q, first_q;
  logic signed [16:0] product_q;
  logic signed [AccBits-1:0] product_ext;

  assign product_ext = AccBits'(product_q);

  always_ff @(posedge clk_i) begin
    valid_q   <= valid_i;
    first_q   <= first_i;
    product_q <= 17'(activation_i) * 17'(weight_i);
    if (valid_q) sum_o <= first_q ? product_ext : sum_o + product_ext;
  end

endmodule
