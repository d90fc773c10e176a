// The compute path that head stages and the engine share: windows, walk, multiplier array, drain.
//
// Who instantiates it brings the channel list, the memories of maps and weights (both answer 2 cycles after their
// address), the order of passes, and a place for the beats. A pass computes one group of filters in the window that
// `window_*` offers; `pass_last_use_i` says that the next pass wants the next window. `pass_tag_i` comes back as
// `drain_tag_o` and selects bias and shift outside: it is stable while they are needed. Beats come in order of passes; the
// beat that is last lane and last word ends a map of a group. With `Residual` and `add_i` each pass adds the pixels
// `addends_i`, which `loaded_o` takes; with `Quarters` and `quartered_i` maps leave in quarters (pen_drain).
// A pass takes one cycle per channel and tap that reaches the map (a channel without one takes a cycle too); passes follow
// without a gap. Two limits may lie above that: the drain takes a pass every Pixels + 10 cycles, and a window is prepared
// in a cycle per tap and three more, while the one before it is used.
module pen_datapath #(
  parameter int unsigned Filters    = 4,
  parameter int unsigned Pixels     = 4,
  parameter int unsigned OutPixels  = 4,
  parameter int unsigned Groups     = 1,
  parameter int unsigned AccBits    = 32,
  parameter int unsigned CoordBits  = 6,
  parameter int unsigned PixelBits  = 10,
  parameter int unsigned IndexBits  = 8,
  parameter int unsigned WordBits   = 8,
  parameter int unsigned WeightBits = 10,
  parameter int unsigned PoolWidth  = 8,
  parameter int unsigned MaxTaps    = 9,
  parameter int unsigned TapDepth   = 9,
  parameter string       TapFile    = "",
  parameter int unsigned RingWords  = 0,
  parameter int unsigned TagBits    = 1,
  parameter bit          Residual   = 1'b0,
  parameter bit          Quarters   = 1'b0,
  localparam int unsigned TapBits     = (MaxTaps > 1) ? $clog2(MaxTaps) : 1,
  localparam int unsigned TapAddrBits = (TapDepth > 1) ? $clog2(TapDepth) : 1,
  localparam int unsigned OffsetBits  = (Pixels > 1) ? $clog2(Pixels) : 1,
  localparam int unsigned LaneBits    = (Filters > 1) ? $clog2(Filters) : 1,
  localparam int unsigned GroupBits   = (Groups > 1) ? $clog2(Groups) : 1,
  localparam int unsigned DataBits    = (8 * OutPixels > AccBits) ? 8 * OutPixels : AccBits
) (
  input  logic                             clk_i,
  input  logic                             rst_ni,
  // Layer, stable from start_i
  input  logic                             start_i,
  input  logic signed [CoordBits-1:0]      height_i,
  input  logic signed [CoordBits-1:0]      width_i,
  input  logic [Pixels-1:0][CoordBits-1:0] lane_y_i,
  input  logic [Pixels-1:0][CoordBits-1:0] lane_x_i,
  input  logic signed [CoordBits-1:0]      step_y_i,
  input  logic signed [CoordBits-1:0]      step_x_i,
  input  logic [PixelBits-1:0]             windows_i,
  input  logic [TapBits-1:0]               last_tap_i,
  input  logic [TapAddrBits-1:0]           tap_base_i,
  input  logic                             signed_i,
  input  logic signed [CoordBits-1:0]      limit_y_i,
  input  logic signed [CoordBits-1:0]      limit_x_i,
  input  logic                             log_stride_i,
  input  logic [1:0]                       log_pool_i,
  input  logic [PixelBits-1:0]             last_pixel_i,
  input  logic                             quartered_i,
  input  logic [PixelBits-1:0]             quarter_words_i,
  input  logic signed [8:0]                low_i,
  input  logic signed [8:0]                high_i,
  input  logic                             raw_i,
  input  logic                             add_i,
  input  logic                             add_signed_i,
  input  logic [4:0]                       add_less_i,
  // Channel list
  input  logic [IndexBits-1:0]             entries_i,
  output logic                             entry_read_o,
  output logic [IndexBits-1:0]             entry_addr_o,
  input  logic [WordBits-1:0]              entry_map_i,
  input  logic [WeightBits-1:0]            entry_weight_i,
  input  logic [MaxTaps-1:0]               entry_taps_i,
  // Passes
  output logic                             window_valid_o,
  output logic                             window_last_o,
  input  logic                             pass_valid_i,     // only while window_valid_o
  output logic                             pass_ready_o,
  input  logic                             pass_last_use_i,
  input  logic [WeightBits-1:0]            pass_weight_i,
  input  logic [WordBits-1:0]              pass_ring_i,
  input  logic [GroupBits-1:0]             pass_group_i,
  input  logic [LaneBits-1:0]              pass_last_lane_i,
  input  logic [TagBits-1:0]               pass_tag_i,
  output logic                             window_free_o,    // a window has been read for the last time
  // Memories
  output logic                             op_valid_o,
  output logic [WordBits-1:0]              op_word0_o,
  output logic [WordBits-1:0]              op_word1_o,
  output logic [OffsetBits-1:0]            op_offset_o,
  output logic [Pixels-1:0]                op_mask_o,
  output logic [WeightBits-1:0]            op_weight_o,
  input  logic [Pixels-1:0][7:0]           window_i,
  input  logic [Filters-1:0][7:0]          weights_i,
  // Drain
  output logic [TagBits-1:0]               drain_tag_o,      // from 5 cycles before the sums are loaded
  input  logic [Filters-1:0][AccBits-1:0]  bias_i,
  input  logic [Filters-1:0][4:0]          shift_i,
  input  logic [Filters-1:0][Pixels-1:0][7:0] addends_i,     // of the pass that is loaded next
  output logic                             loaded_o,         // a pass takes them
  output logic                             beat_valid_o,
  input  logic                             beat_ready_i,
  output logic [GroupBits-1:0]             beat_group_o,
  output logic [LaneBits-1:0]              beat_lane_o,
  output logic                             beat_last_lane_o,
  output logic [PixelBits-1:0]             beat_word_o,
  output logic                             beat_last_word_o,
  output logic [DataBits-1:0]              beat_data_o
);

  typedef struct packed {
    logic [TagBits-1:0]   tag;
    logic [GroupBits-1:0] group;
    logic [LaneBits-1:0]  last_lane;
    logic [CoordBits-1:0] y;
    logic [CoordBits-1:0] x;
  } pass_t;

  logic                        window_half, take, release_window;
  logic [MaxTaps-1:0]          reach;
  logic [CoordBits-1:0]        window_y, window_x;
  logic                        lookup_half;
  logic [TapBits-1:0]          lookup_tap;
  logic [Pixels-1:0]           lookup_mask;
  logic signed [PixelBits-1:0] lookup_pixel;

  assign take = pass_valid_i && pass_ready_o && pass_last_use_i;
  assign window_free_o = release_window;

  pen_window #(
    .Pixels(Pixels),
    .CoordBits(CoordBits),
    .PixelBits(PixelBits),
    .MaxTaps(MaxTaps),
    .TapDepth(TapDepth),
    .TapFile(TapFile)
  ) u_window (
    .clk_i,
    .rst_ni,
    .start_i,
    .height_i,
    .width_i,
    .lane_y_i,
    .lane_x_i,
    .step_y_i,
    .step_x_i,
    .windows_i,
    .last_tap_i,
    .tap_base_i,
    .valid_o(window_valid_o),
    .half_o(window_half),
    .reach_o(reach),
    .y_o(window_y),
    .x_o(window_x),
    .last_o(window_last_o),
    .take_i(take),
    .release_i(release_window),
    .lookup_half_i(lookup_half),
    .lookup_tap_i(lookup_tap),
    .lookup_mask_o(lookup_mask),
    .lookup_pixel_o(lookup_pixel)
  );

  logic room, last_issue, op_first, op_last;

  pen_walk #(
    .Pixels(Pixels),
    .PixelBits(PixelBits),
    .MaxTaps(MaxTaps),
    .IndexBits(IndexBits),
    .WordBits(WordBits),
    .WeightBits(WeightBits),
    .RingWords(RingWords)
  ) u_walk (
    .clk_i,
    .rst_ni,
    .prime_i(start_i),
    .entries_i,
    .entry_read_o,
    .entry_addr_o,
    .entry_map_i,
    .entry_weight_i,
    .entry_taps_i,
    .pass_valid_i,
    .pass_ready_o,
    .pass_half_i(window_half),
    .pass_release_i(pass_last_use_i),
    .pass_reach_i(reach),
    .pass_weight_i,
    .pass_ring_i,
    .room_i(room),
    .last_issue_o(last_issue),
    .lookup_half_o(lookup_half),
    .lookup_tap_o(lookup_tap),
    .lookup_mask_i(lookup_mask),
    .lookup_pixel_i(lookup_pixel),
    .release_o(release_window),
    .op_valid_o,
    .op_first_o(op_first),
    .op_last_o(op_last),
    .op_word0_o,
    .op_word1_o,
    .op_offset_o,
    .op_mask_o,
    .op_weight_o
  );

  // The memories answer 2 cycles after their address; the controls wait for them.
  logic [1:0] valid_q, first_q, last_q;
  always_ff @(posedge clk_i) begin
    valid_q <= {valid_q[0], op_valid_o};
    first_q <= {first_q[0], op_first};
    last_q <= {last_q[0], op_last};
    if (!rst_ni) valid_q <= '0;
  end

  logic                                        load;
  logic [Filters-1:0][Pixels-1:0][AccBits-1:0] sums;

  pen_array #(
    .Filters(Filters),
    .Pixels(Pixels),
    .AccBits(AccBits)
  ) u_array (
    .clk_i,
    .rst_ni,
    .signed_i,
    .valid_i(valid_q[1]),
    .first_i(first_q[1]),
    .last_i(last_q[1]),
    .window_i,
    .weights_i,
    .done_o(load),
    .sums_o(sums)
  );

  // One pass is between its last step and the drain; its description waits here.
  logic  drain_room, flying_q;
  pass_t current_q, ending_q;

  assign room = drain_room && !flying_q;

  always_ff @(posedge clk_i) begin
    if (last_issue) begin
      flying_q <= 1'b1;
      ending_q <= current_q;
    end else if (load) begin
      flying_q <= 1'b0;
    end
    if (pass_valid_i && pass_ready_o) begin
      current_q <= '{
        tag: pass_tag_i,
        group: pass_group_i,
        last_lane: pass_last_lane_i,
        y: window_y,
        x: window_x
      };
    end
    if (!rst_ni) flying_q <= 1'b0;
  end

  assign drain_tag_o = ending_q.tag;
  assign loaded_o = load;

  pen_drain #(
    .Filters(Filters),
    .Pixels(Pixels),
    .OutPixels(OutPixels),
    .Groups(Groups),
    .AccBits(AccBits),
    .CoordBits(CoordBits),
    .PixelBits(PixelBits),
    .PoolWidth(PoolWidth),
    .Residual(Residual),
    .Quarters(Quarters)
  ) u_drain (
    .clk_i,
    .rst_ni,
    .width_i,
    .limit_y_i,
    .limit_x_i,
    .log_stride_i,
    .log_pool_i,
    .last_pixel_i,
    .quartered_i,
    .quarter_words_i,
    .low_i,
    .high_i,
    .raw_i,
    .add_i,
    .add_signed_i,
    .add_less_i,
    .room_o(drain_room),
    .load_i(load),
    .sums_i(sums),
    .addends_i,
    .load_group_i(ending_q.group),
    .load_last_lane_i(ending_q.last_lane),
    .load_y_i(ending_q.y),
    .load_x_i(ending_q.x),
    .bias_i,
    .shift_i,
    .beat_valid_o,
    .beat_ready_i,
    .beat_group_o,
    .beat_lane_o,
    .beat_last_lane_o,
    .beat_word_o,
    .beat_last_word_o,
    .beat_data_o
  );

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!pass_valid_i || window_valid_o) else $error("%m: a pass without a window");
    end
  end
`endif

endmodule
