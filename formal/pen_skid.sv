// Proof of pen_skid, unbounded: words leave in order, unchanged, once each, whatever the neighbours do; `ready_o` and
// `valid_o` follow from the number of words inside alone.
module pen_skid_proof #(
    parameter int unsigned Width = 2
) (
    input logic             clk_i,
    input logic             rst_ni,
    input logic             valid_i,
    input logic [Width-1:0] data_i,
    input logic             ready_i
);
  logic ready_o, valid_o;
  logic [Width-1:0] data_o;

  pen_skid #(
      .Width(Width)
  ) dut (
      .*
  );

  // ---- The model: the words inside, the next one to leave first ------------------------------------------------------
  logic begun_q = 1'b0;  // the first cycle, which resets, is over
  logic [1:0] held_q, held_d;
  logic [1:0][Width-1:0] list_q, list_d;

  always_comb begin
    held_d = held_q;
    list_d = list_q;
    if (valid_o && ready_i) begin
      list_d[0] = list_q[1];
      held_d = held_d - 1'b1;
    end
    if (valid_i && ready_o) begin
      list_d[held_d[0]] = data_i;
      held_d = held_d + 1'b1;
    end
  end

  logic stalled_q;
  logic [Width-1:0] offered_q;

  always_ff @(posedge clk_i) begin
    begun_q   <= 1'b1;
    held_q    <= rst_ni ? held_d : '0;
    list_q    <= list_d;
    stalled_q <= rst_ni && valid_o && !ready_i;
    offered_q <= data_o;
  end

  always_comb begin
    if (!begun_q) assume (!rst_ni);
    if (begun_q) begin
      takes: assert (ready_o == (held_q != 2));
      offers: assert (valid_o == (held_q != 0));
      order: assert (!valid_o || (data_o == list_q[0]));
      stable: assert (!stalled_q || (valid_o && (data_o == offered_q)));

      // What makes it inductive: the spare has the second word.
      assert (held_q <= 2);
      assert (!dut.spare_valid_q || (dut.spare_q == list_q[1]));

      full: cover (!ready_o);
      flows: cover (valid_i && ready_o && valid_o && ready_i);
    end
  end
endmodule
