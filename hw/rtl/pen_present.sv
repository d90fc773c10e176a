// Keeps the list of a layer's present channels while the layer before produces them, and what to fetch for them.
//
// Every finished channel of the layer before comes as an event with its strength. A channel with strength 0 is all zero
// and counts as absent; the others are appended to the list (channels come in ascending order) with their entry of the
// channel table: where map and weights lie, which taps are kept. The bus words of a filter's record that hold weights of
// present channels are collected as runs [first, end). Channels that follow each other in the record join a run, also
// over a gap of up to GapWords.
// Each present channel also goes to the predictor (`predict_*`), which must always become ready: with its strength, or, with
// `boolean_i`, with a 1 if its strength is above the theta of its entry, and else not at all.
//
// Two lists are kept: one is built (`clear_i` empties it) while the other is read. `swap_i` (no event pending, nor taken in
// the cycle before) closes the one being built and makes it the one to read. An event takes 2 cycles and as long as the
// predictor needs.
module pen_present #(
  parameter int unsigned IndexBits    = 8,
  parameter int unsigned StrengthBits = 16,
  parameter int unsigned WordBits     = 8,
  parameter int unsigned WeightBits   = 10,
  parameter int unsigned RunBits      = 8,
  parameter int unsigned TableBits    = 8,   // address of a predictor table row
  parameter int unsigned GapWords     = 0,   // of absent channels between two runs that still join
  parameter int unsigned MaxTaps      = 9,
  parameter int unsigned MaxChannels  = 16,
  parameter int unsigned TableDepth   = 16,  // channels of all layers
  parameter bit          Boolean      = 1'b0, // entries have a theta, the last of their fields
  parameter string       ChannelFile  = "",
  localparam int unsigned TableAddrBits = (TableDepth > 1) ? $clog2(TableDepth) : 1
) (
  input  logic                      clk_i,
  input  logic                      rst_ni,
  input  logic                      clear_i,
  input  logic                      swap_i,
  input  logic [TableAddrBits-1:0]  channel_base_i,  // of the layer whose list is built
  input  logic                      boolean_i,
  // Events
  input  logic                      event_valid_i,
  output logic                      event_ready_o,
  input  logic [IndexBits-1:0]      event_channel_i,
  input  logic [StrengthBits-1:0]   event_strength_i,
  output logic                      predict_valid_o,
  input  logic                      predict_ready_i,
  output logic [StrengthBits-1:0]   predict_strength_o,
  output logic [TableBits-1:0]      predict_row_o,
  // List being read
  output logic [IndexBits-1:0]      entries_o,
  input  logic                      entry_read_i,
  input  logic [IndexBits-1:0]      entry_addr_i,
  output logic [WordBits-1:0]       entry_map_o,
  output logic [WeightBits-1:0]     entry_weight_o,
  output logic [MaxTaps-1:0]        entry_taps_o,
  output logic [IndexBits-1:0]      runs_o,
  input  logic                      run_read_i,
  input  logic [IndexBits-1:0]      run_addr_i,
  output logic [RunBits-1:0]        run_first_o,
  output logic [RunBits-1:0]        run_end_o
);

  if (MaxTaps < 1 || MaxChannels < 1 || TableDepth < 1) begin : gen_bad_sizes
    $fatal(1, "pen_present %m: MaxTaps, MaxChannels and TableDepth must be at least 1");
  end
  if ((1 << IndexBits) <= MaxChannels) begin : gen_bad_index_bits
    $fatal(1, "pen_present %m: IndexBits does not hold the number of channels");
  end

  localparam int unsigned ThetaBits = Boolean ? StrengthBits : 1;
  localparam int unsigned ListBits = (MaxChannels > 1) ? $clog2(MaxChannels) : 1;
  localparam int unsigned GapBits = $clog2(GapWords + 1);
  localparam int unsigned ReachBits = ((RunBits > GapBits) ? RunBits : GapBits) + 1;

  typedef struct packed {
    logic [WordBits-1:0]   map;
    logic [WeightBits-1:0] weight;
    logic [MaxTaps-1:0]    taps;
    logic [RunBits-1:0]    first;
    logic [RunBits-1:0]    finish;
    logic [TableBits-1:0]  row;
    logic [ThetaBits-1:0]  theta;
  } channel_t;

  channel_t channel, append_channel_q;
  logic     look_q, present, told, append_q;

  pen_rom #(
    .Width($bits(channel_t)),
    .Depth(TableDepth),
    .InitFile(ChannelFile)
  ) u_channels (
    .clk_i,
    .read_i(event_valid_i && !look_q),
    .addr_i(channel_base_i + TableAddrBits'(event_channel_i)),
    .data_o(channel)
  );

  assign present = event_strength_i != '0;
  assign predict_valid_o = look_q && told;
  assign predict_row_o = channel.row;
  assign event_ready_o = look_q && (!told || predict_ready_i);
  if (Boolean) begin : gen_boolean
    assign told = boolean_i ? (event_strength_i > channel.theta) : present;
    assign predict_strength_o = boolean_i ? StrengthBits'(1) : event_strength_i;
  end else begin : gen_linear
    logic unused_boolean;
    assign unused_boolean = ^{boolean_i, channel.theta};
    assign told = present;
    assign predict_strength_o = event_strength_i;
  end

  always_ff @(posedge clk_i) begin
    look_q <= event_valid_i && !event_ready_o;
    // A register right behind the table: the lists are a cycle later than the events.
    append_q <= event_valid_i && event_ready_o && present;
    append_channel_q <= channel;
    if (!rst_ni) begin
      look_q <= 1'b0;
      append_q <= 1'b0;
    end
  end

  // ---- Lists --------------------------------------------------------------------------------------------------------------
  logic                 half_q;  // list being built
  logic [IndexBits-1:0] count_q, runs_q;
  logic                 open_q;
  logic [RunBits-1:0]   run_first_q, run_end_q;
  logic                 append, joins, close;
  logic [ReachBits-1:0] reach_q;  // up to where the next channel of the run may begin

  assign append = append_q && (append_channel_q.taps != '0);
  assign joins = open_q && (ReachBits'(append_channel_q.first) <= reach_q);
  assign close = open_q && (swap_i || (append && !joins));

  always_ff @(posedge clk_i) begin
    if (append) begin
      count_q <= count_q + 1'b1;
      open_q <= 1'b1;
      run_end_q <= append_channel_q.finish;
      reach_q <= ReachBits'(append_channel_q.finish) + ReachBits'(GapWords);
      if (!joins) run_first_q <= append_channel_q.first;
    end
    if (close) runs_q <= runs_q + 1'b1;
    if (swap_i) begin
      half_q <= !half_q;
      entries_o <= count_q;
      runs_o <= runs_q + IndexBits'(open_q);
    end
    if (clear_i) begin
      count_q <= '0;
      runs_q <= '0;
      open_q <= 1'b0;
    end
    if (!rst_ni) half_q <= 1'b0;
  end

  pen_ram #(
    .Width(WordBits + WeightBits + MaxTaps),
    .Depth(2 << ListBits)
  ) u_list (
    .clk_i,
    .write_i(append),
    .waddr_i({half_q, ListBits'(count_q)}),
    .wdata_i({append_channel_q.map, append_channel_q.weight, append_channel_q.taps}),
    .read_i(entry_read_i),
    .raddr_i({!half_q, ListBits'(entry_addr_i)}),
    .rdata_o({entry_map_o, entry_weight_o, entry_taps_o})
  );

  pen_ram #(
    .Width(2 * RunBits),
    .Depth(2 << ListBits)
  ) u_runs (
    .clk_i,
    .write_i(close),
    .waddr_i({half_q, ListBits'(runs_q)}),
    .wdata_i({run_first_q, run_end_q}),
    .read_i(run_read_i),
    .raddr_i({!half_q, ListBits'(run_addr_i)}),
    .rdata_o({run_first_o, run_end_o})
  );

  logic unused_bits;
  assign unused_bits = ^{event_channel_i, entry_addr_i, run_addr_i, append_channel_q.row,
                         append_channel_q.theta};

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && (swap_i || clear_i)) begin
      assert (!event_valid_i && !look_q && !append_q) else $error("%m: lists change with an event pending");
    end
  end
`endif

endmodule
