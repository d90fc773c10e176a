// The k largest of a layer's scores, ties to the lower index, or all above a threshold, as a stream of filter indices in
// ascending order.
//
// The k-th largest score is found digit by digit from the top (4 bits at a time): a pass over the scores counts how many
// of those that match the digits so far are at least 1, 2, .. 15 in the next one. After the last digit the threshold is
// known and how many scores equal to it are still wanted; a last pass emits the filters. With `above_i` the threshold is
// given, and only the last pass is made: for scores greater than `threshold_i`, of which there may be none.
//
// Scores are read in words of `Lanes` (`score_i` one cycle after `score_read_o`). Cycles after the one of `start_i`:
// words + 3 for each of ceil(ScoreBits / 4) digits (none of that with `above_i`), then for each word 3 and one per chosen
// filter, at least 4, as long as the stream is taken.
// Scores with their `barred_i` bit set are not there: filters that are computed in any case.
// `start_i` while idle, with 1 <= keep_i < filters_i (who wants all needs no selection) or with `above_i`. `keep_i`,
// `above_i` and `threshold_i` are read then; `filters_i` and `last_word_i` must be stable until idle. Lanes behind the last
// filter may hold anything.
module pen_select #(
  parameter int unsigned Lanes     = 8,
  parameter int unsigned MaxWords  = 8,
  parameter int unsigned ScoreBits = 32,
  parameter int unsigned IndexBits = 8,
  localparam int unsigned WordBits = (MaxWords > 1) ? $clog2(MaxWords) : 1
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            start_i,
  input  logic [IndexBits-1:0]            filters_i,
  input  logic [IndexBits-1:0]            keep_i,
  input  logic                            above_i,
  input  logic signed [ScoreBits-1:0]     threshold_i,
  input  logic [WordBits-1:0]             last_word_i,
  output logic                            idle_o,
  output logic                            score_read_o,
  output logic [WordBits-1:0]             score_word_o,
  input  logic [Lanes-1:0][ScoreBits-1:0] score_i,
  input  logic [Lanes-1:0]                barred_i,
  output logic                            first_pass_o,    // scores of score_seen_word_o are at score_i for the first time
  output logic [WordBits-1:0]             score_seen_word_o,
  output logic                            chosen_valid_o,
  input  logic                            chosen_ready_i,
  output logic [IndexBits-1:0]            chosen_o
);

  if (Lanes < 1 || (Lanes & (Lanes - 1)) != 0) begin : gen_bad_lanes
    $fatal(1, "pen_select %m: Lanes must be a power of two");
  end
  if (MaxWords < 1 || ScoreBits < 1 || IndexBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_select %m: MaxWords, ScoreBits and IndexBits must be at least 1");
  end

  localparam int unsigned Digits = (ScoreBits + 3) / 4;
  localparam int unsigned KeyBits = 4 * Digits;
  localparam int unsigned DigitBits = (Digits > 1) ? $clog2(Digits) : 1;
  localparam int unsigned LogLanes = $clog2(Lanes);
  localparam int unsigned LaneBits = (Lanes > 1) ? LogLanes : 1;

  typedef enum logic [3:0] {Idle, Count, Settle, Sum, Decide, Read, Compare, Mark, Emit} state_e;
  state_e state_q;

  logic [WordBits-1:0]  word_q, seen_word_q;
  logic                 seen_q;
  logic [DigitBits-1:0] digit_q;      // being decided, from the top one (Digits - 1) down to 0
  logic [KeyBits-1:0]   threshold_q;  // digits decided so far, zeros below
  logic [KeyBits-1:0]   decided_q;    // their place
  logic                 above_q;
  // Scores that match the digits so far and are wanted, as a negative number; with those added that are at least
  // 1, 2, .. 15 in the next digit. A sum that is not negative is enough.
  logic signed [IndexBits:0]       lacking_q;
  logic signed [15:1][IndexBits:0] spare_q;

  // Scores as unsigned keys of whole digits.
  logic [KeyBits-1:0]            sign;
  logic [Lanes-1:0][KeyBits-1:0] key;
  logic [Lanes-1:0]              exists;
  assign sign = KeyBits'(1) << (KeyBits - 1);
  always_comb begin
    for (int unsigned l = 0; l < Lanes; l++) begin
      key[l] = KeyBits'(signed'(score_i[l])) ^ sign;
      exists[l] = ((32'(seen_word_q) * Lanes + l) < 32'(filters_i)) && !barred_i[l];
    end
  end

  // ---- Count: digits of the scores that are still in the race ---------------------------------------------------------------
  logic                       racing_valid_q;
  logic [Lanes-1:0]           racing_q;
  logic [Lanes-1:0][3:0]      racing_digit_q;
  logic [15:1][LogLanes:0]    counted;
  always_ff @(posedge clk_i) begin
    racing_valid_q <= seen_q && (state_q == Count || state_q == Settle);
    for (int unsigned l = 0; l < Lanes; l++) begin
      racing_q[l] <= exists[l] && (((key[l] ^ threshold_q) & decided_q) == '0);
      racing_digit_q[l] <= 4'(key[l] >> (4 * 32'(digit_q)));
    end
    if (!rst_ni) racing_valid_q <= 1'b0;
  end
  always_comb begin
    counted = '0;
    for (int unsigned l = 0; l < Lanes; l++) begin
      for (int unsigned d = 1; d < 16; d++) begin
        counted[d] = counted[d] + (LogLanes + 1)'(racing_q[l] && (32'(racing_digit_q[l]) >= d));
      end
    end
  end

  // ---- Decide: the largest digit that leaves enough --------------------------------------------------------------------------
  // `enough` falls from ones to zeros; what is left to want then are those that the first zero lacks.
  logic [15:0]                enough;
  logic [3:0]                 best;
  logic signed [IndexBits:0]  lacking;
  always_comb begin
    enough[0] = 1'b1;
    for (int unsigned d = 1; d < 16; d++) enough[d] = !spare_q[d][IndexBits];
    best[3] = enough[8];
    best[2] = enough[{best[3], 3'b100}];
    best[1] = enough[{best[3:2], 2'b10}];
    best[0] = enough[{best[3:1], 1'b1}];
    lacking = enough[15] ? lacking_q : '0;
    for (int unsigned d = 1; d < 16; d++) begin
      if (enough[d-1] && !enough[d]) lacking = lacking | spare_q[d];
    end
  end

  // ---- Mark: which of a word's scores are chosen ------------------------------------------------------------------------------
  // Of the scores equal to the threshold the first ones are taken; a word cannot want more of them than it has lanes.
  logic [Lanes-1:0]   larger_q, equal_q, mark, mark_q, mark_after;
  logic [LogLanes:0]  want_q, taken, rank;
  logic [LaneBits-1:0] lane;
  logic [IndexBits-1:0] wanted;
  always_comb begin
    rank = '0;
    taken = '0;
    for (int unsigned l = 0; l < Lanes; l++) begin
      mark[l] = larger_q[l] || (equal_q[l] && (rank < want_q));
      taken = taken + (LogLanes + 1)'(equal_q[l] && (rank < want_q));
      rank = rank + (LogLanes + 1)'(equal_q[l]);
    end
    lane = '0;
    for (int unsigned l = Lanes; l > 0; l--) begin
      if (mark_q[l-1]) lane = LaneBits'(l - 1);
    end
  end

  assign wanted = IndexBits'(-lacking_q);
  assign mark_after = mark_q & (mark_q - 1'b1);
  assign chosen_valid_o = (state_q == Emit) && (mark_q != '0);
  assign chosen_o = IndexBits'((32'(seen_word_q) << LogLanes) + ((Lanes > 1) ? 32'(lane) : 32'd0));
  assign idle_o = state_q == Idle;
  assign score_read_o = (state_q == Count) || (state_q == Read);
  assign score_word_o = word_q;
  assign score_seen_word_o = seen_word_q;
  assign first_pass_o = seen_q && (above_q ? (state_q == Compare)
                                           : ((state_q inside {Count, Settle}) && (digit_q == DigitBits'(Digits - 1))));

  always_ff @(posedge clk_i) begin
    seen_q <= score_read_o;
    if (score_read_o) seen_word_q <= word_q;
    if (racing_valid_q) begin
      for (int unsigned d = 1; d < 16; d++) spare_q[d] <= spare_q[d] + (IndexBits + 1)'(counted[d]);
    end
    unique case (state_q)
      Count: begin
        word_q <= word_q + 1'b1;
        if (word_q == last_word_i) state_q <= Settle;
      end
      Settle: state_q <= Sum;
      Sum: state_q <= Decide;
      Decide: begin
        for (int unsigned d = 0; d < Digits; d++) begin
          if (digit_q == DigitBits'(d)) begin
            threshold_q[4*d+:4] <= best;
            decided_q[4*d+:4] <= '1;
          end
        end
        lacking_q <= lacking;
        for (int unsigned d = 1; d < 16; d++) spare_q[d] <= lacking;
        word_q <= '0;
        digit_q <= digit_q - 1'b1;
        state_q <= (digit_q == '0) ? Read : Count;
      end
      Read: state_q <= Compare;
      Compare: begin
        for (int unsigned l = 0; l < Lanes; l++) begin
          larger_q[l] <= exists[l] && (key[l] > threshold_q);
          equal_q[l] <= exists[l] && (key[l] == threshold_q);
        end
        want_q <= (32'(wanted) > Lanes) ? (LogLanes + 1)'(Lanes) : (LogLanes + 1)'(wanted);
        state_q <= Mark;
      end
      Mark: begin
        mark_q <= mark;
        lacking_q <= lacking_q + (IndexBits + 1)'(taken);
        state_q <= Emit;
      end
      Emit: begin
        if (chosen_ready_i || (mark_q == '0)) begin
          mark_q <= mark_after;
          if (mark_after == '0) begin
            word_q <= word_q + 1'b1;
            state_q <= (word_q == last_word_i) ? Idle : Read;
          end
        end
      end
      default: begin
        if (start_i) begin
          state_q <= above_i ? Read : Count;
          word_q <= '0;
          digit_q <= DigitBits'(Digits - 1);
          above_q <= above_i;
          threshold_q <= above_i ? (KeyBits'(threshold_i) ^ sign) : '0;
          decided_q <= '0;
          lacking_q <= above_i ? '0 : -(IndexBits + 1)'(keep_i);
          for (int unsigned d = 1; d < 16; d++) spare_q[d] <= -(IndexBits + 1)'(keep_i);
        end
      end
    endcase
    if (!rst_ni) begin
      state_q <= Idle;
      seen_q <= 1'b0;
    end
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && start_i) begin
      assert (idle_o) else $error("%m: started while selecting");
      assert (above_i || ((keep_i != '0) && (keep_i < filters_i))) else $error("%m: keeps %0d of %0d", keep_i, filters_i);
    end
  end
`endif

endmodule
