// Proof of pen_select, unbounded: of any scores, the filters of the `keep_i` largest that are not barred come, ties to the
// lower index (all, if there are no more), or those above the threshold; each once, in ascending order, and then idle.
module pen_select_proof #(
    parameter int unsigned ScoreBits   = 5,  // two digits
    parameter int unsigned Lanes       = 2,
    parameter int unsigned MaxWords    = 2,
    localparam int unsigned IndexBits  = 3,
    localparam int unsigned WordBits   = (MaxWords > 1) ? $clog2(MaxWords) : 1,
    localparam int unsigned Filters    = Lanes * MaxWords
) (
    input logic                                     clk_i,
    input logic                                     rst_ni,
    input logic                                     start_i,
    input logic [IndexBits-1:0]                     filters_i,
    input logic [IndexBits-1:0]                     keep_i,
    input logic                                     above_i,
    input logic signed [ScoreBits-1:0]              threshold_i,
    input logic [Filters-1:0][ScoreBits-1:0]        scores_i,  // the memory's contents
    input logic [Filters-1:0]                       bars_i,
    input logic                                     chosen_ready_i
);
  logic idle_o, score_read_o, first_pass_o, chosen_valid_o;
  logic [WordBits-1:0] score_word_o, score_seen_word_o, last_word_i;
  logic [Lanes-1:0][ScoreBits-1:0] score_i;
  logic [Lanes-1:0] barred_i;
  logic [IndexBits-1:0] chosen_o;

  pen_select #(
      .Lanes(Lanes),
      .MaxWords(MaxWords),
      .ScoreBits(ScoreBits),
      .IndexBits(IndexBits)
  ) dut (
      .*
  );

  typedef logic [IndexBits:0] index_t;

  // ---- The memory, and what is asked for -------------------------------------------------------------------------------
  logic begun_q = 1'b0;  // the first cycle, which resets, is over
  logic [WordBits-1:0] word_q;
  logic above_q, was_idle_q, stalled_q;
  index_t keep_q;
  logic signed [ScoreBits-1:0] threshold_q;
  logic [Filters-1:0][ScoreBits-1:0] scores_q;
  logic [Filters-1:0] bars_q;
  logic [IndexBits-1:0] filters_q, stalled_at_q;

  assign last_word_i = WordBits'((filters_i - 1'b1) / IndexBits'(Lanes));

  always_comb begin
    for (int unsigned l = 0; l < Lanes; l++) begin
      score_i[l] = scores_i[32'(word_q)*Lanes+l];
      barred_i[l] = bars_i[32'(word_q)*Lanes+l];
    end
  end

  always_ff @(posedge clk_i) begin
    begun_q <= 1'b1;
    if (score_read_o) word_q <= score_word_o;
    if (start_i && idle_o) begin
      keep_q      <= index_t'(keep_i);
      above_q     <= above_i;
      threshold_q <= threshold_i;
    end
    was_idle_q   <= idle_o || !rst_ni;
    scores_q     <= scores_i;
    bars_q       <= bars_i;
    filters_q    <= filters_i;
    stalled_q    <= rst_ni && chosen_valid_o && !chosen_ready_i;
    stalled_at_q <= chosen_o;
  end

  always_comb begin
    if (!begun_q) assume (!rst_ni);
    if (start_i) assume (idle_o && (above_i || ((keep_i != '0) && (keep_i < filters_i))));
    assume ((filters_i != '0) && (32'(filters_i) <= Filters));
    if (!idle_o) assume ((scores_i == scores_q) && (bars_i == bars_q) && (filters_i == filters_q));
  end

  // ---- Which filters are due -------------------------------------------------------------------------------------------
  logic [Filters-1:0] there, due;
  index_t rank;
  always_comb begin
    for (int unsigned f = 0; f < Filters; f++) there[f] = (f < 32'(filters_i)) && !bars_i[f];
    for (int unsigned f = 0; f < Filters; f++) begin
      rank = '0;
      for (int unsigned o = 0; o < Filters; o++) begin
        if (there[o] && ((signed'(scores_i[o]) > signed'(scores_i[f])) || ((scores_i[o] == scores_i[f]) && (o < f)))) begin
          rank = rank + 1'b1;
        end
      end
      due[f] = there[f] && (above_q ? (signed'(scores_i[f]) > threshold_q) : (rank < keep_q));
    end
  end

  // ---- What is promised ------------------------------------------------------------------------------------------------
  index_t next_q;  // filters before this one have been dealt with
  always_ff @(posedge clk_i) begin
    if (idle_o) next_q <= '0;
    else if (chosen_valid_o && chosen_ready_i) next_q <= index_t'(chosen_o) + 1'b1;
  end

  logic [Filters-1:0] due_end_q;  // as of the last cycle, after which the scores may change
  always_ff @(posedge clk_i) due_end_q <= due;

  function automatic logic none(input logic [Filters-1:0] due, input index_t from, input index_t to);
    none = 1'b1;
    for (int unsigned f = 0; f < Filters; f++) begin
      if (due[f] && (index_t'(f) >= from) && (index_t'(f) < to)) none = 1'b0;
    end
  endfunction

  always_comb begin
    if (begun_q) begin
      if (chosen_valid_o) begin
        ascending: assert ((index_t'(chosen_o) >= next_q) && (32'(chosen_o) < Filters));
        is_due: assert (due[32'(chosen_o) % Filters]);
        skips_none: assert (none(due, next_q, index_t'(chosen_o)));
      end
      stable: assert (!stalled_q || (chosen_valid_o && (chosen_o == stalled_at_q)));
      ends: assert (!idle_o || was_idle_q || none(due_end_q, next_q, index_t'(Filters)));
    end
  end

  // ---- What makes it inductive: what the counters have counted -----------------------------------------------------------
  localparam int unsigned Digits  = (ScoreBits + 3) / 4;
  localparam int unsigned KeyBits = 4 * Digits;
  localparam logic [3:0] Count = 1, Settle = 2, Sum = 3, Decide = 4, Read = 5, Compare = 6, Mark = 7, Emit = 8;

  logic counting, done;
  logic [3:0] state;
  logic [Filters-1:0][KeyBits-1:0] key;
  logic [Filters-1:0] larger, equal;  // than the digits that are decided
  index_t larger_count, equal_count, passed, reached, here, digits_before;
  logic [4:0] shift;
  logic [KeyBits-1:0] decided;

  assign state    = dut.state_q;
  assign counting = state inside {Count, Settle, Sum, Decide};
  assign done     = state inside {Read, Compare, Mark, Emit};
  assign shift    = counting ? 5'(4 * (32'(dut.digit_q) + 1)) : '0;
  assign decided  = dut.threshold_q >> shift;
  // Words read: the last but one is being counted, those before are counted.
  assign reached  = (state == Count) ? index_t'(dut.word_q)
                                     : index_t'(last_word_i) + ((state == Settle) ? 1 : (state == Sum) ? 2 : 3);
  assign here     = index_t'(32'(dut.word_q) * Lanes);

  always_comb begin
    larger_count = '0;
    equal_count = '0;
    passed = '0;
    for (int unsigned f = 0; f < Filters; f++) begin
      key[f] = KeyBits'(signed'(scores_i[f])) ^ (KeyBits'(1) << (KeyBits - 1));
      larger[f] = there[f] && ((key[f] >> shift) > decided);
      equal[f] = there[f] && ((key[f] >> shift) == decided);
      larger_count = larger_count + index_t'(larger[f]);
      equal_count = equal_count + index_t'(equal[f]);
      if (index_t'(f) < here + ((state == Emit) ? index_t'(Lanes) : '0)) passed = passed + index_t'(equal[f]);
    end
  end

  always_comb begin
    if (begun_q) begin
      assert (state <= 8);
      assert ((state == 0) || (above_q == dut.above_q));
      assert (!above_q || !counting);
      assert ((state == 0) || above_q || ((keep_q != '0) && (keep_q < index_t'(filters_i))));
      if (counting || done) begin
        assert ((state inside {Settle, Sum, Decide}) || (dut.word_q <= last_word_i));
        if (!above_q) begin
          assert ((larger_count < keep_q) && ((keep_q <= larger_count + equal_count) || (decided == '0)));
        end
      end
      if (counting) begin
        assert (32'(dut.digit_q) < Digits);
        assert ((dut.threshold_q & ((KeyBits'(1) << shift) - 1'b1)) == '0);
        assert (dut.lacking_q == signed'(larger_count - keep_q));
        assert (dut.decided_q == ('1 << shift));
        assert (dut.seen_q == ((state == Settle) || ((state == Count) && (dut.word_q != '0))));
        if (dut.seen_q) assert (index_t'(word_q) == reached - 1'b1);
        assert (dut.racing_valid_q == ((reached >= 2) && (state != Decide)));
        if (dut.racing_valid_q) begin
          for (int unsigned f = 0; f < Filters; f++) begin
            if (index_t'(f / Lanes) == reached - 2) begin
              assert (dut.racing_q[f % Lanes] == equal[f]);
              assert (dut.racing_digit_q[f % Lanes] == 4'(key[f] >> (4 * 32'(dut.digit_q))));
            end
          end
        end
        for (int unsigned d = 1; d < 16; d++) begin
          digits_before = '0;
          for (int unsigned f = 0; f < Filters; f++) begin
            if (equal[f] && (4'(key[f] >> (4 * 32'(dut.digit_q))) >= 4'(d)) && (index_t'(f / Lanes) + 2 < reached)) begin
              digits_before = digits_before + 1'b1;
            end
          end
          assert (dut.spare_q[d] == dut.lacking_q + signed'(digits_before));
        end
        assert (next_q == '0);
      end
      if (dut.seen_q || done) assert ((state == Read) || (dut.seen_word_q == word_q));
      if (done) begin
        if (above_q) begin
          assert (dut.threshold_q == (KeyBits'(threshold_q) ^ (KeyBits'(1) << (KeyBits - 1))));
          assert (dut.lacking_q == '0);
        end else if (keep_q - larger_count > passed) begin
          assert (dut.lacking_q == signed'(passed + larger_count - keep_q));
        end else assert (dut.lacking_q == '0);
        assert (none(due, next_q, here));
        assert (next_q <= here + ((state == Emit) ? index_t'(Lanes) : '0));
        assert ((state == Read) || (dut.seen_word_q == dut.word_q));
        if (state inside {Mark, Emit}) begin
          for (int unsigned l = 0; l < Lanes; l++) begin
            if (state == Mark) begin
              assert ((dut.larger_q[l] == larger[32'(here)+l]) && (dut.equal_q[l] == equal[32'(here)+l]));
            end else begin
              assert (dut.mark_q[l] == (due[32'(here)+l] && (here + index_t'(l) >= next_q)));
            end
          end
        end
        if (state == Mark) begin
          assert (32'(dut.want_q) == ((32'(dut.wanted) > Lanes) ? Lanes : 32'(dut.wanted)));
        end
      end
    end
  end

  // ---- What may happen -------------------------------------------------------------------------------------------------
  always_comb begin
    if (begun_q) begin
      tie: cover (chosen_valid_o && !above_q && (equal_count == 2) && (keep_q == larger_count + 1'b1));
      last_filter: cover (chosen_valid_o && (32'(chosen_o) == Filters - 1));
      nothing: cover (idle_o && !was_idle_q && (due_end_q == '0));
    end
  end
endmodule
