// One multiply-accumulate lane of the arrays.
//
// Three registers deep: operands, product (both in pen_mult), sum; `first_i` starts a new sum. The sum is exact as long
// as AccBits holds it. `sum_o` includes an operand pair three cycles after it was given.
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

  logic [1:0]                valid_q, first_q;
  logic signed [16:0]        product;
  logic signed [AccBits-1:0] base;

  pen_mult #(
    .ABits(9),
    .BBits(8)
  ) u_mult (
    .clk_i,
    .a_i(activation_i),
    .b_i(weight_i),
    .product_o(product)
  );

  assign base = first_q[1] ? '0 : sum_o;

  always_ff @(posedge clk_i) begin
    valid_q <= {valid_q[0], valid_i};
    first_q <= {first_q[0], first_i};
    if (valid_q[1]) sum_o <= base + AccBits'(product);
  end

endmodule
