// Multiplier array: `Filters` x `Pixels` exact sums of activation x weight, all lanes walking channels and taps in step.
//
// Every cycle with `valid_i` multiplies one window of pixels with one weight per filter. `first_i` starts new sums,
// `last_i` ends them: `done_o` comes 3 cycles later, in the cycle in which `sums_o` holds them, and the sums stay only
// until the next product arrives. No stalls: who asks for `last_i` makes sure that somebody takes the sums.
module pen_array #(
  parameter int unsigned Filters = 4,
  parameter int unsigned Pixels  = 4,
  parameter int unsigned AccBits = 32
) (
  input  logic                                          clk_i,
  input  logic                                          rst_ni,
  input  logic                                          signed_i,  // activations are two's complement
  input  logic                                          valid_i,
  input  logic                                          first_i,
  input  logic                                          last_i,
  input  logic [Pixels-1:0][7:0]                        window_i,
  input  logic [Filters-1:0][7:0]                       weights_i,
  output logic                                          done_o,
  output logic [Filters-1:0][Pixels-1:0][AccBits-1:0]   sums_o
);

  if (Filters < 1 || Pixels < 1) begin : gen_bad_lanes
    $fatal(1, "pen_array %m: Filters and Pixels must be at least 1");
  end

  logic [1:0] last_q;

  always_ff @(posedge clk_i) begin
    last_q <= {last_q[0], valid_i && last_i};
    done_o <= last_q[1];
    if (!rst_ni) begin
      last_q <= '0;
      done_o <= 1'b0;
    end
  end

  for (genvar p = 0; p < Pixels; p++) begin : gen_pixel
    logic signed [8:0] activation;
    assign activation = {signed_i & window_i[p][7], window_i[p]};
    for (genvar f = 0; f < Filters; f++) begin : gen_filter
      pen_mac #(
        .AccBits(AccBits)
      ) u_mac (
        .clk_i,
        .valid_i,
        .first_i,
        .activation_i(activation),
        .weight_i(weights_i[f]),
        .sum_o(sums_o[f][p])
      );
    end
  end

endmodule
