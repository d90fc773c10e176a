// Linear predictor that predicts as it goes: score[j] += strength * weight[row, j] for every finished channel.
//
// Scores lie in words of `Lanes`; one word is updated per cycle. `start_i` loads the scores with their bias, one word per
// cycle, and the first event is taken words + 2 cycles after it; then every event (strength of one channel, row of its
// weights) takes max(words, 4) cycles. Scores are exact. `idle_o` rises max(words + 3, 5) cycles after the last event was
// taken: all events are in, and scores can be read. `score_o` comes one cycle after `score_read_i`.
// `start_i` only while idle, and events only from the cycle after it. `last_word_i` (words - 1) is stable from start to
// idle, `bias_base_i` until the first event is taken.
module pen_predict #(
  parameter int unsigned Lanes        = 8,
  parameter int unsigned MaxWords     = 8,   // of a layer's scores
  parameter int unsigned StrengthBits = 16,
  parameter int unsigned ScoreBits    = 32,
  parameter int unsigned TableDepth   = 16,
  parameter int unsigned BiasDepth    = 8,
  parameter string       TableFile    = "",
  parameter string       BiasFile     = "",
  localparam int unsigned TableBits = (TableDepth > 1) ? $clog2(TableDepth) : 1,
  localparam int unsigned BiasBits  = (BiasDepth > 1) ? $clog2(BiasDepth) : 1,
  localparam int unsigned WordBits  = (MaxWords > 1) ? $clog2(MaxWords) : 1
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            start_i,
  input  logic [WordBits-1:0]             last_word_i,
  input  logic [BiasBits-1:0]             bias_base_i,
  input  logic                            event_valid_i,
  output logic                            event_ready_o,
  input  logic [StrengthBits-1:0]         event_strength_i,
  input  logic [TableBits-1:0]            event_row_i,
  output logic                            idle_o,
  input  logic                            score_read_i,
  input  logic [WordBits-1:0]             score_word_i,
  output logic [Lanes-1:0][ScoreBits-1:0] score_o
);

  if (Lanes < 1 || MaxWords < 1 || StrengthBits < 1 || ScoreBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_predict %m: Lanes, MaxWords, StrengthBits and ScoreBits must be at least 1");
  end

  localparam int unsigned PassCycles = 4;  // a score can be read again 3 cycles after it was read for an update
  localparam int unsigned StepBits = (MaxWords > PassCycles) ? $clog2(MaxWords) : $clog2(PassCycles);

  logic                    init_q, walk_q;
  logic [StepBits-1:0]     step_q;
  logic [StrengthBits-1:0] strength_q;
  logic [TableBits-1:0]    row_q;
  logic                    last_word, pass_end, in_words;
  logic                    s1_init_q, s1_walk_q, s2_init_q, s2_walk_q;

  assign in_words = step_q <= StepBits'(last_word_i);
  assign last_word = step_q == StepBits'(last_word_i);
  assign pass_end = (step_q >= StepBits'(last_word_i)) && (init_q || (step_q >= StepBits'(PassCycles - 1)));
  // An event waits one cycle after the last bias: of a single word, it would else be read while it is written.
  assign event_ready_o = !init_q && !s1_init_q && (!walk_q || pass_end);

  always_ff @(posedge clk_i) begin
    if (init_q || walk_q) step_q <= step_q + 1'b1;
    if (pass_end && walk_q) walk_q <= 1'b0;
    if (last_word && init_q) begin
      init_q <= 1'b0;
      step_q <= '0;
    end
    if (event_valid_i && event_ready_o) begin
      walk_q <= 1'b1;
      step_q <= '0;
      strength_q <= event_strength_i;
      row_q <= event_row_i;
    end
    if (start_i) begin
      init_q <= 1'b1;
      step_q <= '0;
    end
    if (!rst_ni) begin
      init_q <= 1'b0;
      walk_q <= 1'b0;
    end
  end

  // ---- Step 1: tables and scores --------------------------------------------------------------------------------------------
  logic [WordBits-1:0]             s1_word_q, s2_word_q;
  logic [StrengthBits-1:0]         s1_strength_q;
  logic [Lanes-1:0][7:0]           weights;
  logic [Lanes-1:0][ScoreBits-1:0] bias, next;
  logic                            update;

  assign update = walk_q && in_words;

  pen_rom #(
    .Width(8 * Lanes),
    .Depth(TableDepth),
    .InitFile(TableFile)
  ) u_table (
    .clk_i,
    .read_i(update),
    .addr_i(row_q + TableBits'(step_q)),
    .data_o(weights)
  );

  pen_rom #(
    .Width(Lanes * ScoreBits),
    .Depth(BiasDepth),
    .InitFile(BiasFile)
  ) u_bias (
    .clk_i,
    .read_i(init_q),
    .addr_i(bias_base_i + BiasBits'(step_q)),
    .data_o(bias)
  );

  pen_ram #(
    .Width(Lanes * ScoreBits),
    .Depth(MaxWords)
  ) u_scores (
    .clk_i,
    .write_i(s2_init_q || s2_walk_q),
    .waddr_i(s2_word_q),
    .wdata_i(next),
    .read_i(update || score_read_i),
    .raddr_i(update ? WordBits'(step_q) : score_word_i),
    .rdata_o(score_o)
  );

  // ---- Steps 2 and 3: multiply, add ---------------------------------------------------------------------------------------------
  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    logic signed [StrengthBits+8:0] product_q;
    logic [ScoreBits-1:0]           base_q;
    always_ff @(posedge clk_i) begin
      product_q <= (StrengthBits + 9)'($signed({1'b0, s1_strength_q})) * (StrengthBits + 9)'($signed(weights[l]));
      base_q <= s1_init_q ? bias[l] : score_o[l];
    end
    assign next[l] = s2_init_q ? base_q : base_q + ScoreBits'(product_q);
  end

  always_ff @(posedge clk_i) begin
    s1_init_q <= init_q;
    s1_walk_q <= update;
    s1_word_q <= WordBits'(step_q);
    s1_strength_q <= strength_q;
    s2_init_q <= s1_init_q;
    s2_walk_q <= s1_walk_q;
    s2_word_q <= s1_word_q;
    if (!rst_ni) begin
      s1_init_q <= 1'b0;
      s1_walk_q <= 1'b0;
      s2_init_q <= 1'b0;
      s2_walk_q <= 1'b0;
    end
  end

  assign idle_o = !init_q && !walk_q && !s1_init_q && !s1_walk_q && !s2_init_q && !s2_walk_q;

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!start_i || idle_o) else $error("%m: started while scores are being updated");
      assert (!score_read_i || !update) else $error("%m: scores are read while they are updated");
    end
  end
`endif

endmodule
