// The second product of a low-rank predictor: turns hidden sums into events, once all channels are in.
//
// `start_i` (only while idle) begins with the hidden sums in the words of scores from `word_i` on. Value i of `rank_i` is
// saturate(round_half_even(sum * 2**-shift_i)), a signed number of `HiddenBits`, and becomes an event with the row
// `row_base_i` + i * `row_stride_i`. The inputs are stable until idle.
//
// A word of sums is read while the predictor is idle (`predict_idle_i`), and its first event is offered 4 cycles later;
// the next ones 3 cycles after the one before was taken, behind the predictor's own work. `idle_o` rises in the cycle after
// the last event was taken.
module pen_hidden #(
  parameter int unsigned Lanes      = 8,
  parameter int unsigned ScoreBits  = 32,
  parameter int unsigned HiddenBits = 12,
  parameter int unsigned RankBits   = 6,
  parameter int unsigned WordBits   = 4,
  parameter int unsigned TableBits  = 8
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  input  logic                            start_i,
  input  logic [WordBits-1:0]             word_i,
  input  logic [RankBits-1:0]             rank_i,
  input  logic [4:0]                      shift_i,
  input  logic [TableBits-1:0]            row_base_i,
  input  logic [TableBits-1:0]            row_stride_i,
  output logic                            idle_o,
  input  logic                            predict_idle_i,
  output logic                            score_read_o,
  output logic [WordBits-1:0]             score_word_o,
  input  logic [Lanes-1:0][ScoreBits-1:0] score_i,
  output logic                            event_valid_o,
  input  logic                            event_ready_i,
  output logic signed [HiddenBits-1:0]    event_operand_o,
  output logic [TableBits-1:0]            event_row_o
);

  localparam int unsigned MaxShift = 31;
  localparam int unsigned LaneBits = (Lanes > 1) ? $clog2(Lanes) : 1;

  if (Lanes < 1 || RankBits < 1 || WordBits < 1 || TableBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_hidden %m: Lanes, RankBits, WordBits and TableBits must be at least 1");
  end
  if (HiddenBits < 2 || ScoreBits < HiddenBits) begin : gen_bad_hidden_bits
    $fatal(1, "pen_hidden %m: HiddenBits must be at least 2 and no more than ScoreBits");
  end

  typedef enum logic [2:0] {Idle, Read, Hold, Scale, Round, Offer} state_e;
  state_e state_q;

  logic [RankBits-1:0]             left_q;  // values that have not become events
  logic [LaneBits-1:0]             lane_q;
  logic [WordBits-1:0]             word_q;
  logic [TableBits-1:0]            row_q;
  logic [Lanes-1:0][ScoreBits-1:0] held_q;  // a word of sums, the next value in lane 0
  logic                            last, lane_end;

  assign last = left_q == RankBits'(1);
  assign lane_end = lane_q == LaneBits'(Lanes - 1);
  assign idle_o = state_q == Idle;
  assign score_read_o = (state_q == Read) && predict_idle_i;
  assign score_word_o = word_q;
  assign event_valid_o = state_q == Offer;
  assign event_row_o = row_q;

  // ---- Scale, Round: half to even, then saturate --------------------------------------------------------------------------
  logic signed [ScoreBits+MaxShift-1:0] scaled;
  logic signed [ScoreBits-1:0]          floor_q;
  logic                                 guard_q, sticky_q;
  logic signed [ScoreBits:0]            rounded;
  localparam logic signed [ScoreBits:0] High = (ScoreBits + 1)'((64'd1 << (HiddenBits - 1)) - 64'd1);

  assign scaled = $signed({held_q[0], {MaxShift{1'b0}}}) >>> shift_i;
  assign rounded = (ScoreBits + 1)'(floor_q) + (ScoreBits + 1)'(signed'({1'b0, guard_q && (sticky_q || floor_q[0])}));

  always_ff @(posedge clk_i) begin
    floor_q <= scaled[ScoreBits+MaxShift-1:MaxShift];
    guard_q <= scaled[MaxShift-1];
    sticky_q <= |scaled[MaxShift-2:0];
    if (state_q == Round) begin
      if (rounded > High) event_operand_o <= HiddenBits'(High);
      else if (rounded < ~High) event_operand_o <= HiddenBits'(~High);
      else event_operand_o <= HiddenBits'(rounded);
    end
  end

  always_ff @(posedge clk_i) begin
    unique case (state_q)
      Read: if (predict_idle_i) state_q <= Hold;
      Hold: begin
        held_q <= score_i;
        lane_q <= '0;
        word_q <= word_q + 1'b1;
        state_q <= Scale;
      end
      Scale: state_q <= Round;
      Round: state_q <= Offer;
      Offer: begin
        if (event_ready_i) begin
          held_q <= held_q >> ScoreBits;
          lane_q <= lane_q + 1'b1;
          left_q <= left_q - 1'b1;
          row_q <= row_q + row_stride_i;
          state_q <= last ? Idle : (lane_end ? Read : Scale);
        end
      end
      default: begin
        if (start_i) begin
          left_q <= rank_i;
          word_q <= word_i;
          row_q <= row_base_i;
          state_q <= Read;
        end
      end
    endcase
    if (!rst_ni) state_q <= Idle;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!start_i || (idle_o && (rank_i != '0))) else $error("%m: started while busy, or for no value");
    end
  end
`endif

endmodule
