// A multiplier: product of `a_i` and the signed `b_i`, exact, 2 cycles later.
//
// Two registers deep, without enable or reset, so that a DSP block can take them in: operands, then the product. The
// multipliers of the arrays and of the predictor are instances of this module; `hw/targets` holds others of the same name
// and contract for synthesis on one family, where tools do not move these registers into the DSP block by themselves.
module pen_mult #(
  parameter int unsigned ABits   = 9,
  parameter int unsigned BBits   = 8,
  parameter bit          ASigned = 1'b1  // else `a_i` is unsigned
) (
  input  logic                          clk_i,
  input  logic [ABits-1:0]              a_i,
  input  logic signed [BBits-1:0]       b_i,
  output logic signed [ABits+BBits-1:0] product_o
);

  if (ABits < 1 || BBits < 1) begin : gen_bad_bits
    $fatal(1, "pen_mult %m: ABits and BBits must be at least 1");
  end

  logic signed [ABits:0]         a_q;
  logic signed [BBits-1:0]       b_q;
  logic signed [ABits+BBits:0]   product;
  logic                          unused_sign;

  assign product = (ABits + BBits + 1)'(a_q) * (ABits + BBits + 1)'(b_q);
  assign unused_sign = product[ABits+BBits];

  always_ff @(posedge clk_i) begin
    a_q       <= {ASigned && a_i[ABits-1], a_i};
    b_q       <= b_i;
    product_o <= product[ABits+BBits-1:0];
  end

endmodule
