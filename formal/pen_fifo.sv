// Proof of pen_fifo, unbounded: whatever the neighbours do, the queue is the list below, word for word.
module pen_fifo_proof #(
    parameter int unsigned Width = 2,
    parameter int unsigned Depth = 3,
    localparam int unsigned LevelBits = $clog2(Depth + 1)
) (
    input logic             clk_i,
    input logic             rst_ni,
    input logic             valid_i,
    input logic [Width-1:0] data_i,
    input logic             ready_i
);
  logic ready_o, valid_o;
  logic [Width-1:0] data_o;
  logic [LevelBits-1:0] level_o;

  pen_fifo #(
      .Width(Width),
      .Depth(Depth)
  ) dut (
      .*
  );

  // ---- The model: words in order of arrival, the next one to leave first -------------------------------------------
  logic begun_q = 1'b0;  // the first cycle, which resets, is over
  logic [Width-1:0] list_q [Depth], list_d [Depth];
  int unsigned held_q, held_d;

  always_comb begin
    held_d = held_q;
    list_d = list_q;
    if (valid_o && ready_i) begin
      for (int unsigned i = 0; i + 1 < Depth; i++) list_d[i] = list_q[i+1];
      held_d = held_d - 1;
    end
    if (valid_i && ready_o) begin
      for (int unsigned i = 0; i < Depth; i++) if (i == held_d) list_d[i] = data_i;
      held_d = held_d + 1;
    end
  end

  always_ff @(posedge clk_i) begin
    begun_q <= 1'b1;
    list_q  <= list_d;
    held_q  <= rst_ni ? held_d : 0;
  end

  always_comb begin
    if (!begun_q) assume (!rst_ni);
    if (begun_q) begin
      fills: assert (ready_o == (held_q != Depth));
      offers: assert (valid_o == (held_q != 0));
      order: assert (!valid_o || (data_o == list_q[0]));
      level: assert (32'(level_o) == held_q);
    end
  end

  // ---- What makes it inductive: the first word has a place of its own, and where the others lie in the storage -------
  localparam int unsigned Places = (Depth > 1) ? Depth - 1 : 1;

  always_comb begin
    if (begun_q) begin
      assert (held_q <= Depth);
      assert (dut.more_q == (held_q > 1));
      assert ((held_q == 0) || (dut.first_q == list_q[0]));
      assert (32'(dut.read_q) < Places);
      assert (32'(dut.write_q) == (32'(dut.read_q) + ((held_q > 1) ? held_q - 1 : 0)) % Places);
      for (int unsigned i = 1; i < Depth; i++) begin
        assert ((i >= held_q) || (dut.storage_q[(32'(dut.read_q) + i - 1) % Places] == list_q[i]));
      end
    end
  end

  // ---- What may happen -------------------------------------------------------------------------------------------------
  logic was_full_q;
  always_ff @(posedge clk_i) was_full_q <= rst_ni && (was_full_q || !ready_o);
  always_comb begin
    if (begun_q) begin
      full: cover (!ready_o);
      drained: cover (was_full_q && !valid_o);
    end
  end
endmodule
