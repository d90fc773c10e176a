// pen_skid: a stream register that cuts the forward and the backward path, at full throughput.
//
// Contract
//   Latency  1 cycle; a word per cycle. `valid_o` and `data_o` come from registers, and so does `ready_o`: no
//            combinational path crosses the module in either direction.
//   Storage  two words: the one offered, and a spare that catches what the sender handed over in the cycle in which
//            the receiver stalled. `ready_o` is low only while the spare is in use.
//   Offered  `valid_o` and `data_o` do not change until taken.
//   Sender   `valid_i` must not be withdrawn and `data_i` must not change while `ready_o` is low.
//   Reset    empties both; the words themselves are not cleared.
module pen_skid #(
    parameter int unsigned Width = 8
) (
    input  logic             clk_i,
    input  logic             rst_ni,

    input  logic             valid_i,
    output logic             ready_o,
    input  logic [Width-1:0] data_i,

    output logic             valid_o,
    input  logic             ready_i,
    output logic [Width-1:0] data_o
);
  if (Width < 1) begin : gen_bad_width
    $fatal(1, "pen_skid %m: Width must be at least 1");
  end

  logic out_valid_q, out_valid_d, spare_valid_q, spare_valid_d;
  logic [Width-1:0] out_q, out_d, spare_q, spare_d;

  assign ready_o = !spare_valid_q;
  assign valid_o = out_valid_q;
  assign data_o  = out_q;

  always_comb begin
    out_valid_d   = out_valid_q;
    out_d         = out_q;
    spare_valid_d = spare_valid_q;
    spare_d       = spare_q;
    if (ready_i || !out_valid_q) begin
      // The output moves on: the spare goes first, else what arrives.
      out_valid_d   = spare_valid_q || valid_i;
      out_d         = spare_valid_q ? spare_q : data_i;
      spare_valid_d = 1'b0;
    end else if (valid_i && !spare_valid_q) begin
      spare_valid_d = 1'b1;
      spare_d       = data_i;
    end
  end

  always_ff @(posedge clk_i) begin
    out_valid_q   <= out_valid_d;
    out_q         <= out_d;
    spare_valid_q <= spare_valid_d;
    spare_q       <= spare_d;
    if (!rst_ni) begin
      out_valid_q   <= 1'b0;
      spare_valid_q <= 1'b0;
    end
  end

`ifndef SYNTHESIS
  logic             refused_q;  // a word was offered in the last cycle and not taken
  logic [Width-1:0] offered_q;

  always_ff @(posedge clk_i) begin
    refused_q <= rst_ni && valid_i && !ready_o;
    offered_q <= data_i;
    if (rst_ni && refused_q) begin
      assert (valid_i) else $error("pen_skid %m: valid_i was withdrawn before ready_o");
      assert (data_i === offered_q) else $error("pen_skid %m: data_i changed while waiting for ready_o");
    end
  end
`endif
endmodule
