// Predictor that predicts as it goes: sum[j] += operand * weight[row, j] for every event, such as a finished channel.
//
// Sums lie in words of `Lanes`; one word is updated per cycle. `start_i` loads `last_word_i` + 1 of them with their bias,
// one word per cycle, and the first event is taken words + 2 cycles after it. An event is a signed operand, the row of its
// weights and the words that they belong to, from `event_first_i` on, `event_last_i` + 1 of them; it takes max(words, 4)
// cycles. Events go to the same words as the one before, or wait for idle. Sums are exact. `idle_o` rises max(words + 3, 5)
// cycles after the last event was taken: from the cycle after that on, all events are in and sums can be read, and in the
// first one already those that the last event did not go to. `score_o` comes one cycle after `score_read_i`.
// With `boolean_i` weights are bits: a word of the table holds those of 8 words of sums, the first in its low bits.
// `start_i` only while idle, and events only from the cycle after it. `last_word_i` and `bias_base_i` are stable until the
// first event is taken, `boolean_i` from start to idle.
module pen_predict #(
  parameter int unsigned Lanes        = 8,
  parameter int unsigned MaxWords     = 8,   // of a layer's scores
  parameter int unsigned OperandBits  = 17,  // signed
  parameter bit          Negative     = 1'b1, // operands may be negative
  parameter bit          Boolean      = 1'b0, // there are events with `boolean_i`
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
  input  logic                            boolean_i,
  input  logic                            event_valid_i,
  output logic                            event_ready_o,
  input  logic signed [OperandBits-1:0]   event_operand_i,
  input  logic [TableBits-1:0]            event_row_i,
  input  logic [WordBits-1:0]             event_first_i,
  input  logic [WordBits-1:0]             event_last_i,
  output logic                            idle_o,
  input  logic                            score_read_i,
  input  logic [WordBits-1:0]             score_word_i,
  output logic [Lanes-1:0][ScoreBits-1:0] score_o
);

  if (Lanes < 1 || MaxWords < 1 || OperandBits < 1 || ScoreBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_predict %m: Lanes, MaxWords, OperandBits and ScoreBits must be at least 1");
  end

  localparam int unsigned PassCycles = 4;  // a score can be read again 3 cycles after it was read for an update
  localparam int unsigned StepBits = (MaxWords > PassCycles) ? $clog2(MaxWords) : $clog2(PassCycles);

  logic                    init_q, walk_q;
  logic [StepBits-1:0]     step_q;
  logic [WordBits-1:0]     first_q, last_q;  // of the words being walked
  logic signed [OperandBits-1:0] operand_q;
  logic [TableBits-1:0]    row_q;
  logic                    last_word, pass_end, in_words;
  logic                    s1_init_q, s1_walk_q, s2_init_q, s2_walk_q, s3_init_q, s3_walk_q;

  assign in_words = step_q <= StepBits'(last_q);
  assign last_word = step_q == StepBits'(last_q);
  assign pass_end = (step_q >= StepBits'(last_q)) && (init_q || (step_q >= StepBits'(PassCycles - 1)));
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
      operand_q <= event_operand_i;
      row_q <= event_row_i;
      first_q <= event_first_i;
      last_q <= event_last_i;
    end
    if (start_i) begin
      first_q <= '0;
      last_q <= last_word_i;
      init_q <= 1'b1;
      step_q <= '0;
    end
    if (!rst_ni) begin
      init_q <= 1'b0;
      walk_q <= 1'b0;
    end
  end

  // ---- Step 1: weights ------------------------------------------------------------------------------------------------------
  logic [WordBits-1:0]             s1_word_q, s2_word_q, s3_word_q;
  logic signed [OperandBits-1:0]   s1_operand_q;
  logic [Lanes-1:0][7:0]           table_word, weights;
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
    .addr_i(row_q + ((Boolean && boolean_i) ? TableBits'(step_q >> 3) : TableBits'(step_q))),
    .data_o(table_word)
  );

  if (Boolean) begin : gen_boolean
    logic [2:0]            s1_part_q;
    logic [7:0][Lanes-1:0] bits;
    assign bits = table_word;
    always_ff @(posedge clk_i) s1_part_q <= 3'(step_q);
    for (genvar l = 0; l < Lanes; l++) begin : gen_weight
      assign weights[l] = boolean_i ? {7'd0, bits[s1_part_q][l]} : table_word[l];
    end
  end else begin : gen_bytes
    logic unused_boolean;
    assign unused_boolean = boolean_i;
    assign weights = table_word;
  end

  // ---- Step 2: sums, while the multipliers take their operands --------------------------------------------------------------
  pen_rom #(
    .Width(Lanes * ScoreBits),
    .Depth(BiasDepth),
    .InitFile(BiasFile)
  ) u_bias (
    .clk_i,
    .read_i(s1_init_q),
    .addr_i(bias_base_i + BiasBits'(s1_word_q)),
    .data_o(bias)
  );

  pen_ram #(
    .Width(Lanes * ScoreBits),
    .Depth(MaxWords)
  ) u_scores (
    .clk_i,
    .write_i(s3_init_q || s3_walk_q),
    .waddr_i(s3_word_q),
    .wdata_i(next),
    .read_i(s1_walk_q || score_read_i),
    .raddr_i(s1_walk_q ? s1_word_q : score_word_i),
    .rdata_o(score_o)
  );

  // ---- Steps 3 and 4: multiply, add -----------------------------------------------------------------------------------------
  localparam int unsigned ProductBits = OperandBits + 7 + int'(Negative);

  logic unused_sign;  // of operands that are never negative
  assign unused_sign = s1_operand_q[OperandBits-1];

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    logic signed [ProductBits-1:0] product;
    logic [ScoreBits-1:0]          base_q;

    pen_mult #(
      .ABits(ProductBits - 8),
      .BBits(8),
      .ASigned(Negative)
    ) u_mult (
      .clk_i,
      .a_i((ProductBits - 8)'(s1_operand_q)),
      .b_i(weights[l]),
      .product_o(product)
    );

    always_ff @(posedge clk_i) base_q <= s2_init_q ? bias[l] : score_o[l];
    assign next[l] = s3_init_q ? base_q : base_q + ScoreBits'(product);
  end

  always_ff @(posedge clk_i) begin
    s1_init_q <= init_q;
    s1_walk_q <= update;
    s1_word_q <= first_q + WordBits'(step_q);
    s1_operand_q <= operand_q;
    s2_init_q <= s1_init_q;
    s2_walk_q <= s1_walk_q;
    s2_word_q <= s1_word_q;
    s3_init_q <= s2_init_q;
    s3_walk_q <= s2_walk_q;
    s3_word_q <= s2_word_q;
    if (!rst_ni) begin
      s1_init_q <= 1'b0;
      s1_walk_q <= 1'b0;
      s2_init_q <= 1'b0;
      s2_walk_q <= 1'b0;
      s3_init_q <= 1'b0;
      s3_walk_q <= 1'b0;
    end
  end

  assign idle_o = !init_q && !walk_q && !s1_init_q && !s1_walk_q && !s2_init_q && !s2_walk_q;

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!start_i || idle_o) else $error("%m: started while scores are being updated");
      assert (!score_read_i || !s1_walk_q) else $error("%m: scores are read while they are updated");
    end
  end
`endif

endmodule
