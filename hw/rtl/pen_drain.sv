// Takes the finished sums of a pass and turns them into words of the output map, while the next pass accumulates.
//
// All filter lanes work in step on one pixel per cycle: bias, requantisation (pen_requant), max-pooling, collection into
// words of `OutPixels` pixels. Then the lanes' words leave one after another as beats. A pass covers `Pixels`
// neighbouring pixels of the flat input grid; those that are no outputs (between strides, beyond the last output, dropped
// by pooling) vanish here. Pooling and unfinished words are kept per group of filters, so passes of several groups may
// alternate from window to window (`Groups` > 1, head stages), or one group may run over all windows (engine).
//
// With `quartered_i` (`Quarters` only) the output map leaves in quarters: pixels of even rows and even columns, of even
// rows and odd columns, of odd and even, of odd and odd, each quarter a map of its own of `quarter_words_i` words, one behind
// the other. A layer of stride 2 reads such a map without the pixels between its strides. The map must have as many even
// rows and columns as odd ones; `last_pixel_i` is then the last of a quarter. A map's first and last beats stay those of
// its first and last words.
//
// `load_i` only while `room_o`; pixel (load_y_i, load_x_i) is lane 0 and (0, 0) starts a map. `bias_i` and `shift_i` must be
// stable from the cycle after `load_i` until `room_o`. With `raw_i` (maps of one pixel) the sum plus bias leaves instead,
// exact, in the low bits of the beat. With `add_i` (`Residual` only) the pixels `addends_i`, unsigned or `add_signed_i`, are
// added before the requantisation, each shifted up by `shift_i` - `add_less_i` (modulo 32) bits; then `shift_i` must be
// stable from the load on. The beat that is last lane and last word is a group's last of a map.
// Latency: 5 cycles from load to the first beat of a pass that completes a word with its first pixel, one more for each
// pixel before that. `room_o` is back Pixels + 4 cycles after the load, so passes may be loaded at that pace.
// A busy output stalls the lanes, and through `room_o` the array: a completed word waits until the last beat of the one
// before it leaves.
module pen_drain #(
  parameter int unsigned Filters   = 4,
  parameter int unsigned Pixels    = 4,
  parameter int unsigned OutPixels = 4,
  parameter int unsigned Groups    = 1,
  parameter int unsigned AccBits   = 32,
  parameter int unsigned CoordBits = 6,
  parameter int unsigned PixelBits = 10,
  parameter int unsigned PoolWidth = 8,   // widest pooled row
  parameter bit          Residual  = 1'b0,
  parameter bit          Quarters  = 1'b0,
  localparam int unsigned LaneBits  = (Filters > 1) ? $clog2(Filters) : 1,
  localparam int unsigned GroupBits = (Groups > 1) ? $clog2(Groups) : 1,
  localparam int unsigned DataBits  = (8 * OutPixels > AccBits) ? 8 * OutPixels : AccBits
) (
  input  logic                                        clk_i,
  input  logic                                        rst_ni,
  // Layer
  input  logic signed [CoordBits-1:0]                 width_i,       // of the input grid
  input  logic signed [CoordBits-1:0]                 limit_y_i,     // one past the last anchor that is an output
  input  logic signed [CoordBits-1:0]                 limit_x_i,
  input  logic                                        log_stride_i,
  input  logic [1:0]                                  log_pool_i,
  input  logic [PixelBits-1:0]                        last_pixel_i,  // of the output map, or of its quarters
  input  logic                                        quartered_i,
  input  logic [PixelBits-1:0]                        quarter_words_i,
  input  logic signed [8:0]                           low_i,
  input  logic signed [8:0]                           high_i,
  input  logic                                        raw_i,
  input  logic                                        add_i,
  input  logic                                        add_signed_i,
  input  logic [4:0]                                  add_less_i,
  // Pass
  output logic                                        room_o,
  input  logic                                        load_i,
  input  logic [Filters-1:0][Pixels-1:0][AccBits-1:0] sums_i,
  input  logic [Filters-1:0][Pixels-1:0][7:0]         addends_i,
  input  logic [GroupBits-1:0]                        load_group_i,
  input  logic [LaneBits-1:0]                         load_last_lane_i,
  input  logic [CoordBits-1:0]                        load_y_i,
  input  logic [CoordBits-1:0]                        load_x_i,
  input  logic [Filters-1:0][AccBits-1:0]             bias_i,
  input  logic [Filters-1:0][4:0]                     shift_i,
  // Beats
  output logic                                        beat_valid_o,
  input  logic                                        beat_ready_i,
  output logic [GroupBits-1:0]                        beat_group_o,
  output logic [LaneBits-1:0]                         beat_lane_o,
  output logic                                        beat_last_lane_o,
  output logic [PixelBits-1:0]                        beat_word_o,
  output logic                                        beat_last_word_o,
  output logic [DataBits-1:0]                         beat_data_o
);

  if (OutPixels < 1 || (OutPixels & (OutPixels - 1)) != 0) begin : gen_bad_out_pixels
    $fatal(1, "pen_drain %m: OutPixels must be a power of two");
  end
  if (Filters < 1 || Pixels < 1 || Groups < 1 || PoolWidth < 1) begin : gen_bad_sizes
    $fatal(1, "pen_drain %m: Filters, Pixels, Groups and PoolWidth must be at least 1");
  end
  if (Quarters && Groups > 1) begin : gen_bad_quarters
    $fatal(1, "pen_drain %m: Quarters leave no room for several Groups");
  end

  localparam int unsigned StepBits = (Pixels > 1) ? $clog2(Pixels) : 1;
  localparam int unsigned SlotBits = (OutPixels > 1) ? $clog2(OutPixels) : 1;
  localparam int unsigned LogOut = $clog2(OutPixels);
  localparam int unsigned ColumnBits = (PoolWidth > 1) ? $clog2(PoolWidth) : 1;
  localparam int unsigned PoolAddrBits = $clog2(Groups << ColumnBits);
  localparam int unsigned Parts = Quarters ? 4 : 1;  // of a map
  localparam int unsigned PartBits = Quarters ? 2 : 1;
  localparam int unsigned WordAddrBits = (Groups * Parts > 1) ? $clog2(Groups * Parts) : 1;

  typedef struct packed {
    logic                  kept;        // this pixel is an output before pooling
    logic                  pool_first;  // of its pooling window
    logic                  pool_last;
    logic [ColumnBits-1:0] column;      // of the pooled row
    logic [PartBits-1:0]   part;        // quarter of the map that the output belongs to
  } meta_t;

  logic enable;  // all steps move

  // ---- Step A: one pixel after another leaves the loaded sums ----------------------------------------------------------------
  logic [Filters-1:0][Pixels-1:0][AccBits-1:0] sums_q;
  logic                        a_valid_q;
  logic [StepBits-1:0]         a_step_q;
  logic signed [CoordBits-1:0] y_q, x_q;
  logic [GroupBits-1:0]        group_q;
  logic [LaneBits-1:0]         last_lane_q;
  meta_t                       a_meta;

  always_comb begin
    automatic logic [CoordBits-1:0] row = CoordBits'(unsigned'(y_q)) >> log_stride_i;
    automatic logic [CoordBits-1:0] column = CoordBits'(unsigned'(x_q)) >> log_stride_i;
    automatic logic [1:0] phase_mask = (2'd1 << log_pool_i) - 2'd1;
    if (log_pool_i == 2'd2) phase_mask = 2'd3;
    a_meta.kept = (y_q < limit_y_i) && (x_q < limit_x_i) && !(log_stride_i && (y_q[0] || x_q[0]));
    a_meta.pool_first = ((row[1:0] & phase_mask) == 2'd0) && ((column[1:0] & phase_mask) == 2'd0);
    a_meta.pool_last = ((row[1:0] & phase_mask) == phase_mask) && ((column[1:0] & phase_mask) == phase_mask);
    a_meta.column = ColumnBits'(column >> log_pool_i);
    a_meta.part = '0;
    if (Quarters && quartered_i) a_meta.part = PartBits'({1'(row >> log_pool_i), 1'(column >> log_pool_i)});
  end

  always_ff @(posedge clk_i) begin
    if (enable && a_valid_q) begin
      for (int unsigned f = 0; f < Filters; f++) sums_q[f] <= sums_q[f] >> AccBits;
      a_step_q <= a_step_q + 1'b1;
      if (x_q == width_i - 1'b1) begin
        x_q <= '0;
        y_q <= y_q + 1'b1;
      end else begin
        x_q <= x_q + 1'b1;
      end
      if (a_step_q == StepBits'(Pixels - 1)) a_valid_q <= 1'b0;
    end
    if (load_i) begin
      sums_q <= sums_i;
      a_valid_q <= 1'b1;
      a_step_q <= '0;
      y_q <= signed'(load_y_i);
      x_q <= signed'(load_x_i);
      group_q <= load_group_i;
      last_lane_q <= load_last_lane_i;
    end
    if (!rst_ni) a_valid_q <= 1'b0;
  end

  // What is added to the pixel in step A, at the scale of its sums: shifted up a cycle before.
  logic [Filters-1:0][AccBits-1:0] addend;

  if (Residual) begin : gen_residual
    logic [Filters-1:0][Pixels-1:0][7:0] words_q;  // the pixels behind that in step A
    logic [Filters-1:0][AccBits-1:0]     addend_q;

    for (genvar f = 0; f < Filters; f++) begin : gen_lane
      logic [7:0] pixel;
      logic [4:0] up;
      assign pixel = load_i ? addends_i[f][0] : words_q[f][0];
      assign up = shift_i[f] - add_less_i;

      always_ff @(posedge clk_i) begin
        if (load_i || (enable && a_valid_q)) begin
          words_q[f] <= (load_i ? addends_i[f] : words_q[f]) >> 8;
          addend_q[f] <= add_i ? AccBits'(signed'({add_signed_i && pixel[7], pixel})) << up : '0;
        end
      end
    end

    assign addend = addend_q;
  end else begin : gen_no_residual
    logic unused_residual;
    assign unused_residual = ^{add_i, add_signed_i, add_less_i, addends_i};
    assign addend = '0;
  end

  // ---- Steps B to D: bias, scale, round -----------------------------------------------------------------------------------------
  logic  b_valid_q, c_valid_q, d_valid_q;
  meta_t b_meta_q, c_meta_q;
  logic  d_kept_q, d_pool_first_q;
  logic [ColumnBits-1:0]           d_column_q;
  logic [Filters-1:0][AccBits-1:0] b_sum_q, c_sum_q, d_sum_q;
  logic [Filters-1:0][7:0]         d_value;

  always_ff @(posedge clk_i) begin
    if (enable) begin
      b_valid_q <= a_valid_q;
      c_valid_q <= b_valid_q;
      d_valid_q <= c_valid_q;
      b_meta_q <= a_meta;
      c_meta_q <= b_meta_q;
      d_kept_q <= c_meta_q.kept;
      d_pool_first_q <= c_meta_q.pool_first;
      d_column_q <= c_meta_q.column;
      for (int unsigned f = 0; f < Filters; f++) b_sum_q[f] <= sums_q[f][0] + bias_i[f] + addend[f];
      c_sum_q <= b_sum_q;
      d_sum_q <= c_sum_q;
    end
    if (!rst_ni) begin
      b_valid_q <= 1'b0;
      c_valid_q <= 1'b0;
      d_valid_q <= 1'b0;
    end
  end

  for (genvar f = 0; f < Filters; f++) begin : gen_requant
    pen_requant #(
      .AccBits(AccBits)
    ) u_requant (
      .clk_i,
      .enable_i(enable),
      .sum_i(b_sum_q[f]),
      .shift_i(shift_i[f]),
      .low_i,
      .high_i,
      .value_o(d_value[f])
    );
  end

  // One pass at a time is between load and step D, so its group and place need no copies along the pipeline.
  assign room_o = !a_valid_q && !b_valid_q && !c_valid_q && !d_valid_q;

  // ---- Step D: pooling and words ------------------------------------------------------------------------------------------------
  // What the pixel in step D does to the words is known in step C: registers hold it, because all lanes wait for it.
  logic                    emit_q, complete_q;     // it is an output; it is the last of its word
  logic                    last_word_q;            // of its map
  logic [PartBits-1:0]     part_q;                 // its quarter, and that one's first word
  logic [PixelBits-1:0]    part_word_q;
  logic                    hold_q;                 // a word is complete, and the one before has not left: a stall, unless
                                                   // its last beat leaves in this cycle
  logic                    c_emit, c_word_end, c_part_end, c_complete, d_step;
  logic                    out_busy_q, out_end, out_end_q;
  logic [PixelBits-1:0]    count_q [Parts];        // output pixels before the one in step D, by quarter
  logic [PixelBits-1:0]    count_base_q;           // before this window
  logic [PixelBits-1:0]    place_q, c_place;       // of the output in its quarter, in steps D and C
  logic [SlotBits-1:0]     slot;
  logic [Filters-1:0][7:0] pooled;
  logic                    same_column;            // step D stores what step C would read

  assign slot = (OutPixels > 1) ? SlotBits'(place_q) : '0;
  assign d_step = enable && d_valid_q;
  assign same_column = d_valid_q && d_kept_q && (c_meta_q.column == d_column_q);
  assign c_place = (emit_q && (part_q == c_meta_q.part)) ? place_q + 1'b1 : count_q[Quarters ? c_meta_q.part : '0];
  assign c_emit = c_valid_q && c_meta_q.kept && c_meta_q.pool_last;
  assign c_word_end = (OutPixels == 1) || (SlotBits'(c_place) == SlotBits'(OutPixels - 1));
  assign c_part_end = c_place == last_pixel_i;
  assign c_complete = c_emit && (c_word_end || c_part_end);
  assign enable = !hold_q || (beat_ready_i && out_end_q);

  always_ff @(posedge clk_i) begin
    if (enable) begin
      emit_q <= c_emit;
      complete_q <= c_complete;
      last_word_q <= c_part_end && (!quartered_i || (&c_meta_q.part));
      part_q <= c_meta_q.part;
      place_q <= c_place;
      part_word_q <= '0;
      if (Quarters) part_word_q <= (c_meta_q.part[0] ? quarter_words_i : '0) + (c_meta_q.part[PartBits-1] ? quarter_words_i << 1 : '0);
    end
    hold_q <= !enable || (c_complete && (complete_q || (out_busy_q && !out_end)));
    if (!rst_ni) begin
      hold_q <= 1'b0;
      emit_q <= 1'b0;
      complete_q <= 1'b0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (enable && emit_q) count_q[Quarters ? part_q : '0] <= place_q + 1'b1;
    if (load_i) begin
      if ((load_y_i == '0) && (load_x_i == '0)) begin
        for (int unsigned part = 0; part < Parts; part++) count_q[part] <= '0;
        count_base_q <= '0;
      end else if (load_group_i == '0) begin
        count_base_q <= count_q[0];
      end else begin
        count_q[0] <= count_base_q;
      end
    end
  end

  // Maximum of two's complement or unsigned bytes: flip the top bit of signed ones.
  logic [7:0] flip;
  assign flip = {low_i[8], 7'd0};

  logic [Filters-1:0][OutPixels-1:0][7:0] words;
  logic [WordAddrBits-1:0]                word_addr;

  assign word_addr = Quarters ? WordAddrBits'(part_q) : WordAddrBits'(group_q);

  for (genvar f = 0; f < Filters; f++) begin : gen_pool
    logic [7:0] best, best_q;  // of the pooling window so far, read in step C
    logic [OutPixels-1:0][7:0] word;

    pen_lutram #(
      .Width(8),
      .Depth(Groups << ColumnBits)
    ) u_pool (
      .clk_i,
      .write_i(d_step && d_kept_q),
      .waddr_i(PoolAddrBits'({group_q, d_column_q})),
      .wdata_i(pooled[f]),
      .raddr_i(PoolAddrBits'({group_q, c_meta_q.column})),
      .rdata_o(best)
    );

    always_ff @(posedge clk_i) begin
      if (enable) best_q <= same_column ? pooled[f] : best;
    end

    assign pooled[f] = (d_pool_first_q || ((d_value[f] ^ flip) > (best_q ^ flip))) ? d_value[f] : best_q;

    pen_lutram #(
      .Width(8 * OutPixels),
      .Depth(Groups * Parts)
    ) u_word (
      .clk_i,
      .write_i(d_step && emit_q),
      .waddr_i(word_addr),
      .wdata_i(words[f]),
      .raddr_i(word_addr),
      .rdata_o(word)
    );

    always_comb begin
      words[f] = (slot == '0) ? '0 : word;
      words[f][slot] = pooled[f];
    end
  end

  // ---- Beats ------------------------------------------------------------------------------------------------------------------------
  logic [Filters-1:0][DataBits-1:0]  out_q;
  logic [LaneBits-1:0]               out_lane_q, out_last_lane_q;
  logic [GroupBits-1:0]              out_group_q;
  logic [PixelBits-1:0]              out_word_q;
  logic                              out_last_word_q;

  assign out_end = out_busy_q && beat_ready_i && out_end_q;

  always_ff @(posedge clk_i) begin
    if (out_busy_q && beat_ready_i) begin
      out_q <= out_q >> DataBits;
      out_lane_q <= out_lane_q + 1'b1;
      out_end_q <= out_lane_q + 1'b1 == out_last_lane_q;
      if (out_end_q) out_busy_q <= 1'b0;
    end
    if (enable && complete_q) begin
      out_busy_q <= 1'b1;
      out_lane_q <= '0;
      out_end_q <= last_lane_q == '0;
      out_last_lane_q <= last_lane_q;
      out_group_q <= group_q;
      out_word_q <= part_word_q + (place_q >> LogOut);
      out_last_word_q <= last_word_q;
      for (int unsigned f = 0; f < Filters; f++) begin
        out_q[f] <= raw_i ? DataBits'(signed'(d_sum_q[f])) : DataBits'(words[f]);
      end
    end
    if (!rst_ni) out_busy_q <= 1'b0;
  end

  assign beat_valid_o = out_busy_q;
  assign beat_group_o = out_group_q;
  assign beat_lane_o = out_lane_q;
  assign beat_last_lane_o = out_end_q;
  assign beat_word_o = out_word_q;
  assign beat_last_word_o = out_last_word_q;
  assign beat_data_o = out_q[0];

`ifndef SYNTHESIS
  logic                refused_q;
  logic [DataBits-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    refused_q <= rst_ni && beat_valid_o && !beat_ready_i;
    offered_q <= beat_data_o;
    if (rst_ni) begin
      assert (hold_q == (complete_q && out_busy_q)) else $error("%m: a stall is not what it should be");
      assert (!load_i || room_o) else $error("%m: a pass is loaded while the last one is in the way");
      assert (!refused_q || (beat_valid_o && (beat_data_o == offered_q))) else $error("%m: a refused beat changed");
    end
  end
`endif

endmodule
