// A head stage: a convolution with its weights on chip, between two row streams.
//
// Input words lie in a ring of `RingWords` words per channel. A window (Pixels outputs of the flat map) is computed for
// all groups of filters as soon as the words it reaches are in, and its oldest words are given free after it, so the
// stage starts when the first rows have come and holds no more than the kernel reaches, plus a margin.
//
// Row stream in and out: words in order; within a word's position, channels in order (filters in groups, each word of a
// group before the next group where a window completes several). A frame follows the last without a gap. Back-pressure
// on either side stalls without loss. Cycles per frame, not stalled: those of its passes (pen_datapath), one for every
// window and group; a pass has Channels x taps that reach steps. Neither the ring nor the end of a frame adds to that.
module pen_conv_stage #(
  parameter int unsigned Channels  = 1,
  parameter int unsigned Filters   = 4,
  parameter int unsigned Height    = 8,
  parameter int unsigned Width     = 8,
  parameter int unsigned LaneFilters = 4,
  parameter int unsigned Pixels    = 4,   // lanes; also pixels of an input word
  parameter int unsigned OutPixels = 4,   // pixels of an output word
  parameter int unsigned Taps      = 9,
  parameter int unsigned RowWeights = 9,  // kept weights of one filter
  parameter int unsigned FirstWord = 0,   // words before a window's own that it reaches
  parameter int unsigned LastWord  = 0,   // and after
  parameter int unsigned Windows   = 16,  // that hold outputs
  parameter int unsigned RingWords = 8,   // a power of two
  parameter int unsigned LimitY    = 8,
  parameter int unsigned LimitX    = 8,
  parameter int unsigned LogStride = 0,
  parameter int unsigned LogPool   = 0,
  parameter int unsigned OutMapPixels = 64,
  parameter int unsigned OutWidth  = 8,
  parameter int unsigned CoordBits = 6,   // signed; reach all rows, columns and flat places that taps reach
  parameter int unsigned PixelBits = 9,
  parameter int unsigned AccBits   = 24,
  parameter bit          InSigned  = 1'b0,
  parameter int          Low       = 0,
  parameter int          High      = 255,
  parameter string       TapFile     = "",
  parameter string       ChannelFile = "",
  parameter string       WeightFile  = "",
  parameter string       FilterFile  = "",
  localparam int unsigned Groups      = (Filters + LaneFilters - 1) / LaneFilters,
  localparam int unsigned Words       = (Height * Width + Pixels - 1) / Pixels,
  localparam int unsigned OutWords    = (OutMapPixels + OutPixels - 1) / OutPixels,
  localparam int unsigned ChannelBits = (Channels > 1) ? $clog2(Channels) : 1,
  localparam int unsigned WordBits    = (Words > 1) ? $clog2(Words) : 1,
  localparam int unsigned OutChannelBits = (Filters > 1) ? $clog2(Filters) : 1,
  localparam int unsigned OutWordBits = (OutWords > 1) ? $clog2(OutWords) : 1
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic                       row_valid_i,
  output logic                       row_ready_o,
  input  logic [ChannelBits-1:0]     row_channel_i,
  input  logic [WordBits-1:0]        row_word_i,
  input  logic [Pixels-1:0][7:0]     row_data_i,
  output logic                       row_valid_o,
  input  logic                       row_ready_i,
  output logic [OutChannelBits-1:0]  row_channel_o,
  output logic [OutWordBits-1:0]     row_word_o,
  output logic [OutPixels-1:0][7:0]  row_data_o
);

  localparam int unsigned RingBits = $clog2(RingWords);
  localparam int unsigned RamWords = Channels * RingWords;
  localparam int unsigned MapBits = (RamWords > 2) ? $clog2(RamWords) : 2;
  localparam int unsigned IndexBits = $clog2(Channels + 1) + 1;
  localparam int unsigned WeightDepth = Groups * RowWeights;
  localparam int unsigned WeightBits = $clog2(WeightDepth + 1);
  localparam int unsigned GroupBits = (Groups > 1) ? $clog2(Groups) : 1;
  localparam int unsigned LaneBits = (LaneFilters > 1) ? $clog2(LaneFilters) : 1;
  localparam int unsigned DataBits = (8 * OutPixels > AccBits) ? 8 * OutPixels : AccBits;
  localparam int unsigned EntryAddrBits = (Channels > 1) ? $clog2(Channels) : 1;
  localparam int unsigned CountBits = ((WordBits > RingBits) ? WordBits : RingBits) + 3;  // counters of words, compared by difference

  if (RingWords < 2 || (RingWords & (RingWords - 1)) != 0) begin : gen_bad_ring
    $fatal(1, "pen_conv_stage %m: RingWords must be a power of two of at least 2");
  end
  if (RingWords < FirstWord + LastWord + 2) begin : gen_small_ring
    $fatal(1, "pen_conv_stage %m: RingWords must hold the words that a window reaches and one more");
  end
  if (LogStride > 1 || LogPool > 2) begin : gen_bad_step
    $fatal(1, "pen_conv_stage %m: LogStride must be 0 or 1, and LogPool 0, 1 or 2");
  end
  if ((1 << (CountBits - 2)) < Words) begin : gen_bad_count
    $fatal(1, "pen_conv_stage %m: word counters are too narrow");
  end

  // ---- Ring: words in, words free -----------------------------------------------------------------------------------------
  logic [CountBits-1:0] write_base_q;  // words of all frames before the one that arrives
  logic [CountBits-1:0] done_q;        // words complete in all channels
  logic [CountBits-1:0] free_base_q;   // words of all frames before the one that is freed
  logic [CountBits-1:0] issue_base_q;  // and before the one that is computed
  logic [CountBits-1:0] room_q;        // words of the frame that arrives for which there is room, from its first on
  logic [CountBits-1:0] need_q;        // words of all frames that the next window waits for
  logic [CountBits-1:0] write_base_d, free_base_d, oldest_d;
  logic [RingBits-1:0]  ring_word;
  logic [WordBits:0]    issue_q, free_q, free_d;  // windows issued and freed in their frames
  logic                 take, take_word, write, unread, frame_in, window_free, window_free_q;

  // Words that no window reads (rows that pooling drops) are taken and forgotten: the ring need not hold them.
  localparam int unsigned LastRead = (Windows + LastWord < Words) ? Windows + LastWord - 1 : Words - 1;
  assign unread = 32'(row_word_i) > LastRead;
  assign ring_word = RingBits'(write_base_q) + RingBits'(row_word_i);
  // Counters differ by at most the ring's size plus a frame, so the top bit of a difference is its sign.
  assign row_ready_o = unread || (!room_q[CountBits-1] && (CountBits'(row_word_i) < room_q));
  assign take = row_valid_i && row_ready_o;
  assign take_word = take && (row_channel_i == ChannelBits'(Channels - 1));
  assign frame_in = take_word && (row_word_i == WordBits'(Words - 1));
  assign write = take && !unread;

  // A freed window's last read has reached the memory; writes wait a cycle longer.
  always_comb begin
    write_base_d = frame_in ? write_base_q + CountBits'(Words) : write_base_q;
    free_d = free_q;
    free_base_d = free_base_q;
    if (window_free_q) begin
      free_d = free_q + 1'b1;
      if (free_q == (WordBits + 1)'(Windows - 1)) begin
        free_d = '0;
        free_base_d = free_base_q + CountBits'(Words);
      end
    end
    oldest_d = free_base_d + ((32'(free_d) > FirstWord) ? CountBits'(free_d) - CountBits'(FirstWord) : '0);
  end

  always_ff @(posedge clk_i) begin
    window_free_q <= window_free;
    write_base_q <= write_base_d;
    free_q <= free_d;
    free_base_q <= free_base_d;
    room_q <= oldest_d + CountBits'(RingWords) - write_base_d;
    if (take_word) done_q <= done_q + 1'b1;
    if (!rst_ni) begin
      window_free_q <= 1'b0;
      write_base_q <= '0;
      free_q <= '0;
      free_base_q <= '0;
      room_q <= CountBits'(RingWords);
      done_q <= '0;
    end
  end

  // ---- Passes: all groups of a window, window after window --------------------------------------------------------------------
  logic                  started_q, window_valid, window_last, pass_ready, pass_valid, pass_take, last_group;
  logic [GroupBits-1:0]  group_q;
  logic [WeightBits-1:0] pass_weight_q;
  logic [CountBits-1:0]  issue_base_d, need_d, missing;
  logic [WordBits:0]     issue_d;

  assign last_group = group_q == GroupBits'(Groups - 1);
  assign missing = done_q - need_q;  // negative while words are missing
  assign pass_valid = window_valid && !missing[CountBits-1];
  assign pass_take = pass_valid && pass_ready;

  // Of the window after this one.
  assign issue_d = window_last ? '0 : issue_q + 1'b1;
  assign issue_base_d = window_last ? issue_base_q + CountBits'(Words) : issue_base_q;
  assign need_d = issue_base_d + ((32'(issue_d) + LastWord > Words - 1) ? CountBits'(Words)
                                                                        : CountBits'(issue_d) + CountBits'(LastWord + 1));

  always_ff @(posedge clk_i) begin
    started_q <= 1'b1;
    if (pass_take) begin
      group_q <= last_group ? '0 : group_q + 1'b1;
      pass_weight_q <= last_group ? '0 : pass_weight_q + WeightBits'(RowWeights);
      if (last_group) begin
        issue_q <= issue_d;
        issue_base_q <= issue_base_d;
        need_q <= need_d;
      end
    end
    if (!rst_ni) begin
      started_q <= 1'b0;
      group_q <= '0;
      pass_weight_q <= '0;
      issue_q <= '0;
      issue_base_q <= '0;
      need_q <= CountBits'((LastWord + 1 < Words) ? LastWord + 1 : Words);
    end
  end

  // ---- Tables and memories ------------------------------------------------------------------------------------------------------
  typedef struct packed {
    logic [MapBits-1:0]    map;
    logic [WeightBits-1:0] weight;
    logic [Taps-1:0]       taps;
  } entry_t;

  entry_t                 entry;
  logic                   entry_read;
  logic [IndexBits-1:0]   entry_addr;

  pen_rom #(
    .Width($bits(entry_t)),
    .Depth(Channels),
    .InitFile(ChannelFile)
  ) u_channels (
    .clk_i,
    .read_i(entry_read),
    .addr_i(EntryAddrBits'(entry_addr)),
    .data_o(entry)
  );

  localparam int unsigned OffsetBits = (Pixels > 1) ? $clog2(Pixels) : 1;
  logic                   op_valid;
  logic [MapBits-1:0]     op_word0, op_word1;
  logic [OffsetBits-1:0]  op_offset;
  logic [Pixels-1:0]      op_mask;
  logic [WeightBits-1:0]  op_weight;
  logic [Pixels-1:0][7:0] window;
  logic [MapBits-1:0]     write_word;

  assign write_word = (MapBits'(row_channel_i) << RingBits) + MapBits'(ring_word);

  pen_map_ram #(
    .Pixels(Pixels),
    .Words(RamWords)
  ) u_map (
    .clk_i,
    .write_i(write),
    .waddr_i(write_word),
    .wdata_i(row_data_i),
    .read_i(op_valid),
    .word0_i(op_word0),
    .word1_i(op_word1),
    .offset_i(op_offset),
    .mask_i(op_mask),
    .window_o(window)
  );

  logic [LaneFilters-1:0][7:0] weights, weights_q;
  localparam int unsigned WeightAddrBits = (WeightDepth > 1) ? $clog2(WeightDepth) : 1;

  pen_rom #(
    .Width(8 * LaneFilters),
    .Depth(WeightDepth),
    .InitFile(WeightFile)
  ) u_weights (
    .clk_i,
    .read_i(op_valid),
    .addr_i(WeightAddrBits'(op_weight)),
    .data_o(weights)
  );

  always_ff @(posedge clk_i) weights_q <= weights;

  logic [GroupBits-1:0]                 drain_group;
  logic [LaneFilters-1:0][AccBits-1:0]  bias;
  logic [LaneFilters-1:0][4:0]          shift;

  pen_rom #(
    .Width(LaneFilters * (AccBits + 5)),
    .Depth(Groups),
    .InitFile(FilterFile)
  ) u_filters (
    .clk_i,
    .read_i(1'b1),
    .addr_i(drain_group),
    .data_o({bias, shift})
  );

  // ---- Compute -------------------------------------------------------------------------------------------------------------------
  logic [Pixels-1:0][CoordBits-1:0] lane_y, lane_x;
  for (genvar p = 0; p < Pixels; p++) begin : gen_lane
    assign lane_y[p] = CoordBits'(p / Width);
    assign lane_x[p] = CoordBits'(p % Width);
  end

  localparam int unsigned TapBits = (Taps > 1) ? $clog2(Taps) : 1;
  logic [GroupBits-1:0] beat_group;
  logic [LaneBits-1:0]  beat_lane;
  logic [PixelBits-1:0] beat_out_word;
  logic [DataBits-1:0]  beat_data;
  logic                 unused_loaded, unused_last_lane, unused_last_word, unused_bits;

  pen_datapath #(
    .Filters(LaneFilters),
    .Pixels(Pixels),
    .OutPixels(OutPixels),
    .Groups(Groups),
    .AccBits(AccBits),
    .CoordBits(CoordBits),
    .PixelBits(PixelBits),
    .IndexBits(IndexBits),
    .WordBits(MapBits),
    .WeightBits(WeightBits),
    .PoolWidth(OutWidth),
    .MaxTaps(Taps),
    .TapDepth(Taps),
    .TapFile(TapFile),
    .RingWords(RingWords),
    .TagBits(GroupBits)
  ) u_datapath (
    .clk_i,
    .rst_ni,
    .start_i(!started_q),
    .height_i(CoordBits'(Height)),
    .width_i(CoordBits'(Width)),
    .lane_y_i(lane_y),
    .lane_x_i(lane_x),
    .step_y_i(CoordBits'(Pixels / Width)),
    .step_x_i(CoordBits'(Pixels % Width)),
    .windows_i(PixelBits'(Windows)),
    .last_tap_i(TapBits'(Taps - 1)),
    .tap_base_i('0),
    .signed_i(InSigned),
    .limit_y_i(CoordBits'(LimitY)),
    .limit_x_i(CoordBits'(LimitX)),
    .log_stride_i(LogStride[0]),
    .log_pool_i(LogPool[1:0]),
    .last_pixel_i(PixelBits'(OutMapPixels - 1)),
    .quartered_i(1'b0),
    .quarter_words_i('0),
    .low_i(9'(Low)),
    .high_i(9'(High)),
    .raw_i(1'b0),
    .add_i(1'b0),
    .add_signed_i(1'b0),
    .add_less_i('0),
    .entries_i(IndexBits'(Channels)),
    .entry_read_o(entry_read),
    .entry_addr_o(entry_addr),
    .entry_map_i(entry.map),
    .entry_weight_i(entry.weight),
    .entry_taps_i(entry.taps),
    .window_valid_o(window_valid),
    .window_last_o(window_last),
    .pass_valid_i(pass_valid),
    .pass_ready_o(pass_ready),
    .pass_last_use_i(last_group),
    .pass_weight_i(pass_weight_q),
    .pass_ring_i(MapBits'(issue_base_q[RingBits-1:0])),
    .pass_group_i(group_q),
    .pass_last_lane_i(last_group ? LaneBits'((Filters - 1) % LaneFilters) : LaneBits'(LaneFilters - 1)),
    .pass_tag_i(group_q),
    .window_free_o(window_free),
    .op_valid_o(op_valid),
    .op_word0_o(op_word0),
    .op_word1_o(op_word1),
    .op_offset_o(op_offset),
    .op_mask_o(op_mask),
    .op_weight_o(op_weight),
    .window_i(window),
    .weights_i(weights_q),
    .drain_tag_o(drain_group),
    .bias_i(bias),
    .shift_i(shift),
    .addends_i('0),
    .loaded_o(unused_loaded),
    .beat_valid_o(row_valid_o),
    .beat_ready_i(row_ready_i),
    .beat_group_o(beat_group),
    .beat_lane_o(beat_lane),
    .beat_last_lane_o(unused_last_lane),
    .beat_word_o(beat_out_word),
    .beat_last_word_o(unused_last_word),
    .beat_data_o(beat_data)
  );

  assign row_channel_o = OutChannelBits'(32'(beat_group) * LaneFilters + 32'(beat_lane));
  assign row_word_o = OutWordBits'(beat_out_word);
  assign row_data_o = beat_data[8*OutPixels-1:0];
  assign unused_bits = ^{beat_out_word, beat_data, entry_addr, op_weight};

endmodule
