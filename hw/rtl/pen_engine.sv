// The shared engine: runs the layers of the tail one after another on one multiplier array, as a layer program says.
//
// Per frame, for every step (layer) of the program: the filters to compute are chosen (lazy: by `mode_i` all, the `keep_i`
// best of the predicted scores, or those above `threshold_i`; dense: all), fetched in groups of `Filters` lanes through the read port, and computed while the next
// group is fetched. As a group's channels finish, their strengths go into the next layer's scores and list of present
// channels. Layer outputs go to regions of the map memory, in a chain of layers to one of two in turn; the last layer's
// sums leave as logits.
//
// A layer may read a map that was there before the layer before it: then its list and scores are made of strengths kept
// from that map, before it starts, as those of the first layer are. A layer may record its outputs (pen_tape), and a
// later one with as many filters and pixels add them, as its sums drain. Such maps belong to layers that compute all
// filters: of others the memories hold what earlier frames left.
//
// A map that only layers of stride 2 read is left in quarters (pen_drain). Such a layer walks outputs instead of inputs: in
// one quarter they are neighbours, and each of its taps reads one quarter. To the windows it is a layer of stride 1.
//
// The image must be this engine's own: its header is read and compared with `Header` when the engine is enabled, before
// the first frame after `image_base_i` has changed, and before every frame as long as it was not found right. A frame
// reads from the image that was found right before it, wherever `image_base_i` points meanwhile; without one it reads
// nothing and is bad.
//
// Frames come as a row stream into a double buffer, so the next frame is taken in while one is computed. `enable_i` low
// keeps further frames from starting. Logits leave in order, `logit_last_o` with a frame's last. `mode_i` (0: all, 1: the
// best, 2 or 3: above a threshold), `keep_i` and `threshold_i` of a layer are read when the layer starts; a `keep_i` of 0
// computes no filter, and more than there are means all.
//
// Every frame has a mark, which says whether its pixels are good: the marks come in order, each before the frame may
// start. Whether an answer is good says `logit_bad_o` with its last logit: it is not when the frame's mark was bad, a read
// was answered with an error, weights do not fit their checksum (`checksum_o` pulses), or the memory was silent for more than `timeout_i` cycles (0: as long as it likes) while
// weights were waited for: then the frame goes on without it. `frame_bad_o` says the same beside `frame_done_o`.
//
// What tells the scores is a step's kind of predictor: the strengths of channels (linear), bits of them (paths), the wanted
// classes `classes_i`, read when the layer before starts, or a few hidden values first (low rank): these are made of the
// strengths, and turned into scores when the layer starts, before the selection.
//
// A layer's pinned filters are computed first, in every frame, from weights on chip: behind their compute the others are
// selected and fetched.
//
// `stall_o` tells of the cycle before, for at most one cause each: nothing was computed, for want of {3: choice or scores,
// 2: somebody who takes logits, 1: weights or the image's header, 0: a frame}.
//
// The step_t fields, in this order from the top bit, are what the emitter packs into a program word.
module pen_engine #(
  parameter int unsigned Steps       = 1,
  parameter int unsigned Filters     = 4,
  parameter int unsigned Pixels      = 4,
  parameter int unsigned BusBytes    = 4,
  parameter int unsigned PredictLanes = 8,
  parameter int unsigned Outstanding = 4,
  parameter int unsigned MaxBurst    = 256,
  parameter int unsigned GapWords    = 0,   // fetched along between present channels
  parameter int unsigned JoinWords   = 64,  // in flight above which neighbouring records share bursts
  parameter int unsigned CrcBits     = 0,   // of the code that weights are checked with; 0: they are not
  parameter logic [31:0] CrcPolynomial = '0,
  // The input's map, and the widest of everything in the program
  parameter int unsigned InChannels  = 16,
  parameter int unsigned InWords     = 4,   // of one channel's map
  parameter bit          InSigned    = 1'b0,
  parameter int unsigned Regions     = 2,   // of layer outputs
  parameter int unsigned RegionWords = 128, // of one of them
  parameter bit          Replays     = 1'b0, // a layer reads a region that the layer before it has not written
  parameter int unsigned TapeEntries = 0,   // for what is added; 0: nothing is
  parameter bit          Quarters    = 1'b0, // a map lies in quarters
  parameter int unsigned MaxChannels = 64,
  parameter int unsigned MaxFilters  = 64,
  parameter int unsigned MaxTaps     = 9,
  parameter int unsigned MaxOutWidth = 4,
  parameter logic [191:0] Header     = '0,  // the image's first 24 bytes, the first one lowest
  parameter int unsigned MarkDepth   = 4,   // marks of frames that have come and not started
  parameter int unsigned RecordWords = 64,  // a power of two
  parameter int unsigned AccBits     = 24,
  parameter int unsigned StrengthBits = 16,
  parameter int unsigned ScoreBits   = 32,
  parameter int unsigned CoordBits   = 6,
  parameter int unsigned PixelBits   = 10,
  parameter int unsigned IndexBits   = 7,
  parameter int unsigned WordBits    = 9,   // of map memory addresses, input buffers included
  // Predictors: those that there are
  parameter bit          Paths       = 1'b0,
  parameter int unsigned Classes     = 0,
  parameter int unsigned HiddenWords = 0,   // words of the most hidden values of a layer
  parameter int unsigned HiddenBits  = 12,
  // Depths and contents of the tables
  parameter int unsigned TapDepth     = 9,
  parameter int unsigned ChannelDepth = 16,
  parameter int unsigned FilterDepth  = 16,
  parameter int unsigned PredictDepth = 16,
  parameter int unsigned BiasDepth    = 8,
  parameter int unsigned PinnedRows   = 1,
  parameter string       ProgramFile  = "",
  parameter string       TapFile      = "",
  parameter string       ChannelFile  = "",
  parameter string       FilterFile   = "",
  parameter string       PredictFile  = "",
  parameter string       BiasFile     = "",
  parameter string       BarredFile   = "",  // filters of a word of scores that are pinned
  parameter string       OrderFile    = "",  // filters of each layer, pinned ones first
  parameter string       PinnedFile   = "",
  localparam int unsigned InChannelBits = (InChannels > 1) ? $clog2(InChannels) : 1,
  localparam int unsigned InWordBits    = (InWords > 1) ? $clog2(InWords) : 1,
  localparam int unsigned ScoreWords    = (MaxFilters + PredictLanes - 1) / PredictLanes,
  localparam int unsigned ScoreWordBits = (ScoreWords > 1) ? $clog2(ScoreWords) : 1,
  localparam int unsigned ClassBits     = (Classes > 0) ? Classes : 1
) (
  input  logic                       clk_i,
  input  logic                       rst_ni,
  input  logic                       enable_i,
  input  logic [31:0]                image_base_i,
  input  logic [31:0]                timeout_i,
  input  logic [Steps-1:0][1:0]      mode_i,
  input  logic [Steps-1:0][15:0]     keep_i,
  input  logic [Steps-1:0][31:0]     threshold_i,
  input  logic [ClassBits-1:0]       classes_i,
  output logic                       busy_o,
  output logic                       bus_error_o,
  output logic                       timeout_o,
  output logic                       wrong_image_o,
  output logic                       checksum_o,
  // Row stream of the tail's input
  input  logic                       row_valid_i,
  output logic                       row_ready_o,
  input  logic [InChannelBits-1:0]   row_channel_i,
  input  logic [InWordBits-1:0]      row_word_i,
  input  logic [Pixels-1:0][7:0]     row_data_i,
  input  logic                       mark_valid_i,
  output logic                       mark_ready_o,
  input  logic                       mark_bad_i,
  // Logits
  output logic                       logit_valid_o,
  input  logic                       logit_ready_i,
  output logic [AccBits-1:0]         logit_o,
  output logic                       logit_last_o,
  output logic                       logit_bad_o,
  // External memory
  output logic [31:0]                m_axi_araddr,
  output logic [7:0]                 m_axi_arlen,
  output logic [2:0]                 m_axi_arsize,
  output logic [1:0]                 m_axi_arburst,
  output logic [2:0]                 m_axi_arprot,
  output logic [3:0]                 m_axi_arcache,
  output logic                       m_axi_arvalid,
  input  logic                       m_axi_arready,
  input  logic [8*BusBytes-1:0]      m_axi_rdata,
  input  logic [1:0]                 m_axi_rresp,
  input  logic                       m_axi_rlast,
  input  logic                       m_axi_rvalid,
  output logic                       m_axi_rready,
  // What happened: end of a layer, and probes for simulation
  output logic                       layer_valid_o,
  output logic [7:0]                 layer_o,
  output logic [31:0]                layer_cycles_o,
  output logic [31:0]                layer_bytes_o,
  output logic [15:0]                layer_chosen_o,
  output logic                       frame_done_o,
  output logic                       frame_bad_o,
  output logic [3:0]                 stall_o,
  output logic                       probe_strength_valid_o,
  output logic [7:0]                 probe_strength_layer_o,
  output logic [15:0]                probe_strength_channel_o,
  output logic [31:0]                probe_strength_value_o,
  output logic                       probe_score_valid_o,
  output logic [7:0]                 probe_score_layer_o,
  output logic [15:0]                probe_score_word_o,
  output logic [PredictLanes-1:0][63:0] probe_score_data_o,
  output logic                       probe_chosen_valid_o,
  output logic [7:0]                 probe_chosen_layer_o,
  output logic [15:0]                probe_chosen_filter_o
);

  localparam int unsigned LaneBits    = (Filters > 1) ? $clog2(Filters) : 1;
  localparam int unsigned OffsetBits  = (Pixels > 1) ? $clog2(Pixels) : 1;
  localparam int unsigned DataBits    = (8 * Pixels > AccBits) ? 8 * Pixels : AccBits;
  localparam int unsigned TapBits     = (MaxTaps > 1) ? $clog2(MaxTaps) : 1;
  localparam int unsigned TapAddrBits = (TapDepth > 1) ? $clog2(TapDepth) : 1;
  localparam int unsigned ChannelAddrBits = (ChannelDepth > 1) ? $clog2(ChannelDepth) : 1;
  localparam int unsigned FilterAddrBits  = (FilterDepth > 1) ? $clog2(FilterDepth) : 1;
  localparam int unsigned PredictAddrBits = (PredictDepth > 1) ? $clog2(PredictDepth) : 1;
  localparam int unsigned BiasAddrBits    = (BiasDepth > 1) ? $clog2(BiasDepth) : 1;
  localparam int unsigned SumWords    = ScoreWords + HiddenWords;
  localparam int unsigned SumWordBits = (SumWords > 1) ? $clog2(SumWords) : 1;
  localparam int unsigned OperandBits = (StrengthBits + 1 > HiddenBits) ? StrengthBits + 1 : HiddenBits;
  localparam int unsigned StepBits    = (Steps > 1) ? $clog2(Steps) : 1;
  localparam int unsigned RecordBits  = (RecordWords > 1) ? $clog2(RecordWords) : 1;
  localparam int unsigned RunBits     = RecordBits + 1;
  localparam int unsigned PlaceBits   = (CrcBits > 0) ? CrcBits : 1;
  localparam int unsigned TagBits     = 1 + LaneBits + RecordBits;
  localparam int unsigned ReadTagBits = TagBits + CrcBits;
  localparam int unsigned ReadBits    = (RunBits > 3) ? RunBits : 3;  // a header has up to 6 words
  localparam int unsigned ByteBits    = $clog2(2 * RecordWords) + $clog2(BusBytes);
  localparam int unsigned RowBits     = (PinnedRows > 1) ? $clog2(PinnedRows) : 1;
  localparam int unsigned WeightBits  = ((ByteBits > RowBits) ? ByteBits : RowBits) + 1;
  localparam int unsigned InRamBits   = (InChannels * InWords > 1) ? $clog2(InChannels * InWords) + 1 : 2;
  localparam int unsigned MapWords    = Regions * RegionWords;
  localparam int unsigned OutRamBits  = (MapWords > 2) ? $clog2((MapWords + 1) / 2) + 1 : 2;
  localparam int unsigned RegionBits  = (Regions > 1) ? $clog2(Regions) : 1;
  localparam int unsigned EntryBits   = (TapeEntries > 1) ? $clog2(TapeEntries) : 1;

  if (WordBits < InRamBits || WordBits < OutRamBits) begin : gen_bad_word_bits
    $fatal(1, "pen_engine %m: WordBits does not reach all words of the map memories");
  end
  if (RecordWords < 2 || (RecordWords & (RecordWords - 1)) != 0) begin : gen_bad_record
    $fatal(1, "pen_engine %m: RecordWords must be a power of two of at least 2");
  end
  if ((1 << IndexBits) <= MaxFilters || (1 << IndexBits) <= MaxChannels) begin : gen_bad_index_bits
    $fatal(1, "pen_engine %m: IndexBits does not hold the number of channels or filters");
  end

  typedef struct packed {
    // Windows over the input map
    logic [CoordBits-1:0]             height;
    logic [CoordBits-1:0]             width;
    logic [Pixels-1:0][CoordBits-1:0] lane_y;
    logic [Pixels-1:0][CoordBits-1:0] lane_x;
    logic [CoordBits-1:0]             step_y;
    logic [CoordBits-1:0]             step_x;
    logic [PixelBits-1:0]             windows;
    logic [TapBits-1:0]               last_tap;
    logic [TapAddrBits-1:0]           tap_base;
    logic                             from_input;   // reads the tail's input, not a region
    logic                             in_signed;
    // Outputs
    logic [CoordBits-1:0]             limit_y;
    logic [CoordBits-1:0]             limit_x;
    logic                             log_stride;
    logic [1:0]                       log_pool;
    logic [PixelBits-1:0]             last_pixel;
    logic                             quartered;    // the next layer is of stride 2 and reads the map in quarters
    logic [PixelBits-1:0]             quarter_words;
    logic [8:0]                       low;
    logic [8:0]                       high;
    logic                             raw;          // logits leave; the last step
    // Branches
    logic                             replayed;     // the list is not that of the step before's outputs
    logic [RegionBits-1:0]            in_region;    // whose strengths are replayed
    logic [RegionBits-1:0]            out_region;
    logic                             stores;       // a later step reads the outputs
    logic                             records;      // a later step adds the outputs
    logic [EntryBits-1:0]             record_base;
    logic                             adds;
    logic [EntryBits-1:0]             add_base;
    logic                             add_signed;
    logic [4:0]                       add_less;     // shifted up by less than the sums are shifted down
    // Filters
    logic [IndexBits-1:0]             filters;
    logic [FilterAddrBits-1:0]        filter_base;
    logic [31:0]                      offset;       // of the layer's records in the image, in bytes
    logic [RecordBits:0]              stride;       // of its records, in bus words
    logic                             lazy;
    logic [IndexBits-1:0]             pinned;
    logic [RowBits-1:0]               pinned_row;   // of the layer's first pinned weights
    logic [RowBits-1:0]               pinned_rows;  // of one group
    // Building the layer's list and scores
    logic [IndexBits-1:0]             channels;
    logic [ChannelAddrBits-1:0]       channel_base;
    logic [ScoreWordBits-1:0]         last_score_word;
    logic [BiasAddrBits-1:0]          bias_base;
    // Its predictor
    logic                             boolean;      // weights are bits
    logic                             by_class;
    logic [IndexBits-1:0]             rank;         // hidden values; 0: none
    logic [4:0]                       hidden_shift;
    logic [PredictAddrBits-1:0]       second_row;   // of the first class, or hidden value
  } step_t;

  // ---- Program ----------------------------------------------------------------------------------------------------------------
  typedef enum logic [3:0] {Idle, Check, Load, Replay, Settle, Swap, Start, Run, Finish} state_e;
  state_e              state_q;
  step_t               built, step_q;   // the step whose list is built; the step that is computed
  logic [StepBits-1:0] built_q, current_q;
  logic                built_lazy;

  pen_rom #(
    .Width($bits(step_t)),
    .Depth(Steps),
    .InitFile(ProgramFile)
  ) u_program (
    .clk_i,
    .read_i(1'b1),
    .addr_i(built_q),
    .data_o(built)
  );

  assign built_lazy = built.lazy;

  logic                    frame_valid, frame_done;
  logic [InRamBits-1:0]    frame_base;
  logic [IndexBits-1:0]    replay_q;
  logic                    replay_valid_q;
  logic [1:0]              settle_q;
  logic                    building_q;       // the predictor and the list take events for built_q
  logic                    build_start;
  logic                    event_valid, event_ready, events_idle;
  logic                    swap, start;
  logic [IndexBits-1:0]    pushed_q;
  logic                    select_run, select_idle, predict_idle, boolean_q;
  logic                    layer_end, open;  // open: groups of this layer are still to come or in use
  logic                    last_step;

  assign last_step = step_q.raw;

  // ---- Tail input -----------------------------------------------------------------------------------------------------------------
  logic [StrengthBits-1:0] in_strength;
  logic                    op_valid;
  logic [WordBits-1:0]     op_word0, op_word1;
  logic [OffsetBits-1:0]   op_offset;
  logic [Pixels-1:0]       op_mask;
  logic [WeightBits-1:0]   op_weight;
  logic [Pixels-1:0][7:0]  in_window, out_window, window;

  pen_tail_in #(
    .Channels(InChannels),
    .Words(InWords),
    .Pixels(Pixels),
    .StrengthBits(StrengthBits),
    .InSigned(InSigned)
  ) u_in (
    .clk_i,
    .rst_ni,
    .row_valid_i,
    .row_ready_o,
    .row_channel_i,
    .row_word_i,
    .row_data_i,
    .frame_valid_o(frame_valid),
    .frame_base_o(frame_base),
    .frame_done_i(frame_done),
    .strength_channel_i(InChannelBits'(replay_q)),
    .strength_o(in_strength),
    .read_i(op_valid && step_q.from_input),
    .word0_i(InRamBits'(op_word0)),
    .word1_i(InRamBits'(op_word1)),
    .offset_i(op_offset),
    .mask_i(op_mask),
    .window_o(in_window)
  );

  logic mark_valid, mark_bad, begin_frame;
  logic [$clog2(MarkDepth+1)-1:0] unused_mark_level;

  pen_fifo #(
    .Width(1),
    .Depth(MarkDepth)
  ) u_marks (
    .clk_i,
    .rst_ni,
    .valid_i(mark_valid_i),
    .ready_o(mark_ready_o),
    .data_i(mark_bad_i),
    .valid_o(mark_valid),
    .ready_i(begin_frame),
    .data_o(mark_bad),
    .level_o(unused_mark_level)
  );

  // ---- Layer outputs: maps in two regions, strengths -------------------------------------------------------------------------------
  logic                   beat_valid, beat_ready, beat_last_lane, beat_last_word, map_write;
  logic [LaneBits-1:0]    beat_lane;
  logic [PixelBits-1:0]   beat_word;
  logic [DataBits-1:0]    beat_data;
  logic [IndexBits-1:0]   beat_filter;
  logic [WordBits-1:0]    beat_map, map_word;
  logic                   beat_half_q, group_done;

  assign map_write = beat_valid && beat_ready && !step_q.raw && step_q.stores;
  assign map_word = beat_map + WordBits'(beat_word);
  assign group_done = beat_valid && beat_ready && beat_last_lane && beat_last_word;

  pen_map_ram #(
    .Pixels(Pixels),
    .Words(MapWords)
  ) u_maps (
    .clk_i,
    .write_i(map_write),
    .waddr_i(OutRamBits'(map_word)),
    .wdata_i(beat_data[8*Pixels-1:0]),
    .read_i(op_valid && !step_q.from_input),
    .word0_i(OutRamBits'(op_word0)),
    .word1_i(OutRamBits'(op_word1)),
    .offset_i(op_offset),
    .mask_i(op_mask),
    .window_o(out_window)
  );

  assign window = step_q.from_input ? in_window : out_window;

  logic                    finished_valid;
  logic [IndexBits-1:0]    finished_channel;
  logic [StrengthBits-1:0] finished_strength;

  pen_strength #(
    .Pixels(Pixels),
    .Depth(Filters),
    .ChannelBits(IndexBits),
    .StrengthBits(StrengthBits)
  ) u_strength (
    .clk_i,
    .rst_ni,
    .signed_i(step_q.low[8]),
    .valid_i(map_write),
    .index_i(beat_lane),
    .channel_i(beat_filter),
    .word_i(beat_data[8*Pixels-1:0]),
    .first_i(beat_word == '0),
    .last_i(beat_last_word),
    .valid_o(finished_valid),
    .channel_o(finished_channel),
    .strength_o(finished_strength)
  );

  // Strengths of the regions' channels, for layers that do not follow the one that wrote them.
  logic [StrengthBits-1:0] kept_strength, replay_strength;

  if (Replays) begin : gen_store
    localparam int unsigned FilterBits = (MaxFilters > 1) ? $clog2(MaxFilters) : 1;

    pen_ram #(
      .Width(StrengthBits),
      .Depth(Regions << FilterBits)
    ) u_store (
      .clk_i,
      .write_i(finished_valid),
      .waddr_i({step_q.out_region, FilterBits'(finished_channel)}),
      .wdata_i(finished_strength),
      .read_i(state_q == Replay),
      .raddr_i({built.in_region, FilterBits'(replay_q)}),
      .rdata_o(kept_strength)
    );
  end else begin : gen_no_store
    assign kept_strength = '0;
  end

  assign replay_strength = built.from_input ? in_strength : kept_strength;

  // What a later layer adds.
  logic [Filters-1:0][Pixels-1:0][7:0] addends;
  logic                                pass_loaded;

  if (TapeEntries > 0) begin : gen_tape
    pen_tape #(
      .Filters(Filters),
      .Pixels(Pixels),
      .Entries(TapeEntries)
    ) u_tape (
      .clk_i,
      .rst_ni,
      .start_i(start),
      .write_base_i(step_q.record_base),
      .read_base_i(step_q.add_base),
      .record_i(beat_valid && beat_ready && step_q.records),
      .record_lane_i(beat_lane),
      .record_last_i(beat_last_lane),
      .record_word_i(beat_data[8*Pixels-1:0]),
      .take_i(pass_loaded),
      .words_o(addends)
    );
  end else begin : gen_no_tape
    logic unused_loaded;
    assign unused_loaded = pass_loaded;
    assign addends = '0;
  end

  // ---- Finished channels: replayed ones of a map that is there, or the engine's own; a queue as long as two groups -------------------------
  localparam int unsigned EventDepth = 2 * Filters + 4;
  localparam int unsigned EventLevelBits = $clog2(EventDepth + 1);
  logic                      queue_ready, queue_valid, queue_room_q;
  logic [EventLevelBits-1:0] queue_level;
  logic [IndexBits-1:0]      event_channel;
  logic [StrengthBits-1:0]   event_strength;

  pen_fifo #(
    .Width(IndexBits + StrengthBits),
    .Depth(EventDepth)
  ) u_events (
    .clk_i,
    .rst_ni,
    .valid_i((finished_valid && !built.replayed) || replay_valid_q),
    .ready_o(queue_ready),
    .data_i(replay_valid_q ? {replay_q - 1'b1, replay_strength} : {finished_channel, finished_strength}),
    .valid_o(queue_valid),
    .ready_i(event_ready && building_q),
    .data_o({event_channel, event_strength}),
    .level_o(queue_level)
  );

  // A register, so that the queue is far from the drain: what it may still let in are the strengths of 3 beats.
  always_ff @(posedge clk_i) begin
    queue_room_q <= queue_level <= EventLevelBits'(EventDepth - 4);
    if (!rst_ni) queue_room_q <= 1'b0;
  end

  assign event_valid = queue_valid && building_q;
  assign events_idle = !queue_valid && (settle_q == '0);

  // ---- List of present channels, predictor, selection ------------------------------------------------------------------------------
  logic                       predict_valid, predict_ready, score_ready;
  logic [StrengthBits-1:0]    predict_strength;
  logic [PredictAddrBits-1:0] predict_row;
  logic [IndexBits-1:0]       entries, entry_addr, runs, run_addr;
  logic                       entry_read, run_read;
  logic [WordBits-1:0]        entry_map;
  logic [ByteBits-1:0]        entry_weight;
  logic [WeightBits-1:0]      group_weight;
  logic [MaxTaps-1:0]         entry_taps;
  logic [RunBits-1:0]         run_first, run_end;

  pen_present #(
    .IndexBits(IndexBits),
    .StrengthBits(StrengthBits),
    .WordBits(WordBits),
    .WeightBits(ByteBits),
    .RunBits(RunBits),
    .TableBits(PredictAddrBits),
    .GapWords(GapWords),
    .MaxTaps(MaxTaps),
    .MaxChannels(MaxChannels),
    .TableDepth(ChannelDepth),
    .Boolean(Paths),
    .ChannelFile(ChannelFile)
  ) u_present (
    .clk_i,
    .rst_ni,
    .clear_i(build_start),
    .swap_i(swap),
    .channel_base_i(built.channel_base),
    .boolean_i(built.boolean),
    .event_valid_i(event_valid),
    .event_ready_o(event_ready),
    .event_channel_i(event_channel),
    .event_strength_i(event_strength),
    .predict_valid_o(predict_valid),
    .predict_ready_i(predict_ready),
    .predict_strength_o(predict_strength),
    .predict_row_o(predict_row),
    .entries_o(entries),
    .entry_read_i(entry_read),
    .entry_addr_i(entry_addr),
    .entry_map_o(entry_map),
    .entry_weight_o(entry_weight),
    .entry_taps_o(entry_taps),
    .runs_o(runs),
    .run_read_i(run_read),
    .run_addr_i(run_addr),
    .run_first_o(run_first),
    .run_end_o(run_end)
  );

  assign predict_ready = score_ready || !built_lazy || built.by_class;

  // Events for the predictor: channels, classes, or hidden values; never two kinds at a time.
  logic                          predict_core_idle, classes_idle, class_valid;
  logic                          hidden_idle, hidden_valid, hidden_read;
  logic [PredictAddrBits-1:0]    class_row, hidden_row;
  logic [SumWordBits-1:0]        hidden_word, built_words, channel_first, channel_last;
  logic signed [HiddenBits-1:0]  hidden;
  logic signed [OperandBits-1:0] operand;

  assign built_words = (built.rank == '0) ? '0 : SumWordBits'((32'(built.rank) - 32'd1) / PredictLanes) + 1'b1;
  assign channel_first = (built.rank == '0) ? '0 : SumWordBits'(built.last_score_word) + 1'b1;
  assign channel_last = (built.rank == '0) ? SumWordBits'(built.last_score_word) : built_words - 1'b1;
  assign operand = hidden_valid ? OperandBits'(hidden)
                                : class_valid ? OperandBits'(1) : OperandBits'({1'b0, predict_strength});
  assign predict_idle = predict_core_idle && classes_idle;

  always_ff @(posedge clk_i) begin
    if (build_start) boolean_q <= built.boolean;
  end

  if (Classes > 0) begin : gen_classes
    pen_classes #(
      .Classes(Classes),
      .TableBits(PredictAddrBits)
    ) u_classes (
      .clk_i,
      .rst_ni,
      .start_i(build_start && built_lazy && built.by_class),
      .classes_i,
      .row_base_i(built.second_row),
      .row_stride_i(PredictAddrBits'(built.last_score_word >> 3) + 1'b1),
      .idle_o(classes_idle),
      .event_valid_o(class_valid),
      .event_ready_i(score_ready),
      .event_row_o(class_row)
    );
  end else begin : gen_no_classes
    logic unused_classes;
    assign unused_classes = ^classes_i;
    assign {classes_idle, class_valid, class_row} = {1'b1, 1'b0, PredictAddrBits'(0)};
  end

  logic                                      score_read, first_pass;
  logic [ScoreWordBits-1:0]                  score_word, score_seen_word;
  logic [PredictLanes-1:0][ScoreBits-1:0]    score;

  pen_predict #(
    .Lanes(PredictLanes),
    .MaxWords(SumWords),
    .OperandBits(OperandBits),
    .Negative(HiddenWords > 0),
    .Boolean(Paths || (Classes > 0)),
    .ScoreBits(ScoreBits),
    .TableDepth(PredictDepth),
    .BiasDepth(BiasDepth),
    .TableFile(PredictFile),
    .BiasFile(BiasFile)
  ) u_predict (
    .clk_i,
    .rst_ni,
    .start_i(build_start && built_lazy),
    .last_word_i(SumWordBits'(built.last_score_word) + built_words),
    .bias_base_i(built.bias_base),
    .boolean_i(boolean_q),
    .event_valid_i((predict_valid && built_lazy && !built.by_class) || class_valid || hidden_valid),
    .event_ready_o(score_ready),
    .event_operand_i(operand),
    .event_row_i(hidden_valid ? hidden_row : class_valid ? class_row : predict_row),
    .event_first_i((hidden_valid || class_valid) ? '0 : channel_first),
    .event_last_i(hidden_valid ? SumWordBits'(step_q.last_score_word)
                               : class_valid ? SumWordBits'(built.last_score_word) : channel_last),
    .idle_o(predict_core_idle),
    .score_read_i(score_read || hidden_read),
    .score_word_i(hidden_read ? hidden_word : SumWordBits'(score_word)),
    .score_o(score)
  );

  logic [PredictLanes-1:0] barred;  // filters of a word of scores that are pinned
  logic                 selected_valid, selected_ready, push_valid, push_ready;
  logic [IndexBits-1:0] selected, push, listed, listed_left_q;
  logic                 listed_valid_q;
  logic [FilterAddrBits-1:0] listed_q;
  logic                 all_q, above_q, exact_q, ranked_q;
  logic [IndexBits-1:0] count_q, wanted_q;
  logic signed [ScoreBits-1:0] threshold_q;

  // Filters to compute: the pinned ones and then those selected, or all of them, pinned ones first. What the ports say of
  // the layer is read two cycles before it starts. Above a threshold the number is not known before the end of the
  // selection, so it is at most all. No score is lower than -High, so limiting the threshold to that changes nothing.
  logic [15:0]                 keep_q;
  logic [1:0]                  mode_q;
  logic                        all, above;
  logic signed [31:0]          level_q;
  logic [IndexBits-1:0]        count;
  logic signed [ScoreBits-1:0] threshold;

  always_ff @(posedge clk_i) begin
    keep_q <= keep_i[built_q];
    mode_q <= mode_i[built_q];
    level_q <= threshold_i[built_q];
  end

  assign above = mode_q[1];
  assign all = !built.lazy || (mode_q == 2'd0) || (!above && (keep_q >= 16'(built.filters)));
  assign count = (all || above) ? built.filters : (keep_q < 16'(built.pinned)) ? built.pinned : IndexBits'(keep_q);
  if (ScoreBits < 32) begin : gen_threshold
    localparam logic signed [31:0] High = (32'sd1 << (ScoreBits - 1)) - 32'sd1;
    assign threshold = (level_q > High) ? ScoreBits'(High) : (level_q < -High) ? ScoreBits'(~High) : ScoreBits'(level_q);
  end else begin : gen_wide_threshold
    assign threshold = ScoreBits'(level_q);
  end

  always_ff @(posedge clk_i) begin
    if (swap) begin
      all_q <= all;
      above_q <= above;
      exact_q <= all || !above;
      ranked_q <= !all && (count != built.pinned);
      wanted_q <= count - built.pinned;
      count_q <= count;
      threshold_q <= threshold;
    end
  end

  assign select_run = start && ranked_q;

  // The second product of a low-rank predictor goes before the selection.
  logic second_run, second_q, select_start, select_core_idle;

  assign second_run = select_run && (step_q.rank != '0);
  assign select_start = (select_run && !second_run) || (second_q && hidden_idle && predict_core_idle);
  assign select_idle = select_core_idle && !second_q;

  always_ff @(posedge clk_i) begin
    if (second_run) second_q <= 1'b1;
    else if (select_start) second_q <= 1'b0;
    if (!rst_ni) second_q <= 1'b0;
  end

  if (HiddenWords > 0) begin : gen_hidden
    pen_hidden #(
      .Lanes(PredictLanes),
      .ScoreBits(ScoreBits),
      .HiddenBits(HiddenBits),
      .RankBits(IndexBits),
      .WordBits(SumWordBits),
      .TableBits(PredictAddrBits)
    ) u_hidden (
      .clk_i,
      .rst_ni,
      .start_i(second_run),
      .word_i(SumWordBits'(step_q.last_score_word) + 1'b1),
      .rank_i(step_q.rank),
      .shift_i(step_q.hidden_shift),
      .row_base_i(step_q.second_row),
      .row_stride_i(PredictAddrBits'(step_q.last_score_word) + 1'b1),
      .idle_o(hidden_idle),
      .predict_idle_i(predict_core_idle),
      .score_read_o(hidden_read),
      .score_word_o(hidden_word),
      .score_i(score),
      .event_valid_o(hidden_valid),
      .event_ready_i(score_ready),
      .event_operand_o(hidden),
      .event_row_o(hidden_row)
    );
  end else begin : gen_no_hidden
    assign {hidden_idle, hidden_read, hidden_valid} = 3'b100;
    assign hidden_word = '0;
    assign hidden_row = '0;
    assign hidden = '0;
  end

  pen_select #(
    .Lanes(PredictLanes),
    .MaxWords(ScoreWords),
    .ScoreBits(ScoreBits),
    .IndexBits(IndexBits)
  ) u_select (
    .clk_i,
    .rst_ni,
    .start_i(select_start),
    .filters_i(step_q.filters),
    .keep_i(wanted_q),
    .above_i(above_q),
    .threshold_i(threshold_q),
    .last_word_i(step_q.last_score_word),
    .idle_o(select_core_idle),
    .score_read_o(score_read),
    .score_word_o(score_word),
    .score_i(score),
    .barred_i(barred),
    .first_pass_o(first_pass),
    .score_seen_word_o(score_seen_word),
    .chosen_valid_o(selected_valid),
    .chosen_ready_i(selected_ready),
    .chosen_o(selected)
  );

  assign push_valid = (listed_left_q != '0) ? listed_valid_q : selected_valid;
  assign push = (listed_left_q != '0) ? listed : selected;
  assign selected_ready = push_ready && (listed_left_q == '0);

  always_ff @(posedge clk_i) begin
    listed_valid_q <= (listed_left_q != '0) && !(listed_valid_q && push_ready);
    if ((listed_left_q != '0) && listed_valid_q && push_ready) begin
      listed_q <= listed_q + 1'b1;
      listed_left_q <= listed_left_q - 1'b1;
    end
    if (start) begin
      listed_valid_q <= 1'b0;
      listed_q <= step_q.filter_base;
      listed_left_q <= all_q ? step_q.filters : step_q.pinned;
    end
    if (!rst_ni) begin
      listed_valid_q <= 1'b0;
      listed_left_q <= '0;
    end
  end

  // Read while `listed_valid_q` is low, so that the entry stands still while it is offered.
  pen_rom #(
    .Width(IndexBits),
    .Depth(FilterDepth),
    .InitFile(OrderFile)
  ) u_order (
    .clk_i,
    .read_i(!listed_valid_q),
    .addr_i(listed_q),
    .data_o(listed)
  );

  pen_rom #(
    .Width(PredictLanes),
    .Depth(BiasDepth),
    .InitFile(BarredFile)
  ) u_barred (
    .clk_i,
    .read_i(score_read),
    .addr_i(step_q.bias_base + BiasAddrBits'(score_word)),
    .data_o(barred)
  );

  logic                 chosen_valid, chosen_ready;
  logic [IndexBits-1:0] chosen;
  logic                 chosen_end;
  logic [$clog2(MaxFilters+1)-1:0] unused_chosen_level;

  assign chosen_end = select_idle && (listed_left_q == '0) && !chosen_valid;

  // Holds a whole layer's choice, so that the scores are free for the next layer as soon as the selection is done.
  pen_fifo #(
    .Width(IndexBits),
    .Depth(MaxFilters)
  ) u_chosen (
    .clk_i,
    .rst_ni,
    .valid_i(push_valid),
    .ready_o(push_ready),
    .data_i(push),
    .valid_o(chosen_valid),
    .ready_i(chosen_ready),
    .data_o(chosen),
    .level_o(unused_chosen_level)
  );

  // ---- Weights ----------------------------------------------------------------------------------------------------------------------
  logic                   cmd_valid, cmd_ready, data_valid, data_last, unused_axi_idle, read_lost;
  logic [PlaceBits-1:0]   cmd_place;
  logic [ReadTagBits-1:0] read_tag;
  logic                   header_start, header_valid, header_done, header_match, image_right, give_up;
  logic [ReadBits-1:0]    header_words;
  logic [31:0]            base_q;       // of the image whose header was read last
  logic [31:0]            cmd_addr;
  logic [RunBits-1:0]     cmd_words;
  logic [TagBits-1:0]     cmd_tag, data_tag;
  logic [8*BusBytes-1:0]  data;
  logic                   bank_half;
  logic [LaneBits-1:0]    bank_lane;
  logic [RecordBits-1:0]  bank_word;
  logic                   waits_data, waits_filter;
  logic                   group_valid, group_half, group_take, drain_half;
  logic [LaneBits-1:0]    group_last_lane;
  logic [Filters-1:0][AccBits-1:0] bias;
  logic [Filters-1:0][4:0]         shift;
  logic [Filters-1:0][7:0]         weights;
  logic [31:0]            words;

  pen_fetch #(
    .Filters(Filters),
    .BusBytes(BusBytes),
    .RecordWords(RecordWords),
    .RunBits(RunBits),
    .IndexBits(IndexBits),
    .AddrBits(32),
    .WordBits(WordBits),
    .AccBits(AccBits),
    .TableDepth(FilterDepth),
    .PinnedRows(PinnedRows),
    .PlaceBits(PlaceBits),
    .FilterFile(FilterFile)
  ) u_fetch (
    .clk_i,
    .rst_ni,
    .start_i(start),
    .count_i(count_q),
    .exact_i(exact_q),
    .pinned_i(step_q.pinned),
    .pinned_row_i(step_q.pinned_row),
    .pinned_rows_i(step_q.pinned_rows),
    .base_i(base_q + step_q.offset),
    .stride_i(step_q.stride),
    .place_i(PlaceBits'(step_q.offset >> $clog2(BusBytes))),
    .filter_base_i(step_q.filter_base),
    .runs_i(runs),
    .run_read_o(run_read),
    .run_addr_o(run_addr),
    .run_first_i(run_first),
    .run_end_i(run_end),
    .words_o(words),
    .chosen_valid_i(chosen_valid),
    .chosen_ready_o(chosen_ready),
    .chosen_i(chosen),
    .end_i(chosen_end),
    .open_o(open),
    .cmd_valid_o(cmd_valid),
    .cmd_ready_i(cmd_ready),
    .cmd_addr_o(cmd_addr),
    .cmd_words_o(cmd_words),
    .cmd_tag_o(cmd_tag),
    .cmd_place_o(cmd_place),
    .data_valid_i(data_valid && (state_q != Check)),
    .data_tag_i(data_tag),
    .data_last_i(data_last),
    .bank_half_o(bank_half),
    .bank_lane_o(bank_lane),
    .bank_word_o(bank_word),
    .group_valid_o(group_valid),
    .waits_data_o(waits_data),
    .waits_filter_o(waits_filter),
    .group_half_o(group_half),
    .group_weight_o(group_weight),
    .group_last_lane_o(group_last_lane),
    .group_take_i(group_take),
    .group_done_i(group_done),
    .drain_half_i(drain_half),
    .bias_o(bias),
    .shift_o(shift),
    .beat_half_i(beat_half_q),
    .beat_lane_i(beat_lane),
    .beat_filter_o(beat_filter),
    .beat_map_o(beat_map)
  );

  pen_header #(
    .BusBytes(BusBytes),
    .WordsBits(ReadBits),
    .Expected(Header)
  ) u_header (
    .clk_i,
    .rst_ni,
    .start_i(header_start),
    .cmd_valid_o(header_valid),
    .cmd_ready_i(cmd_ready),
    .cmd_words_o(header_words),
    .data_valid_i(data_valid),
    .data_i(data),
    .data_last_i(data_last),
    .done_o(header_done),
    .match_o(header_match)
  );

  // Filters are fetched and headers are read at different times.
  pen_axi_read #(
    .AddrBits(32),
    .BusBytes(BusBytes),
    .WordsBits(ReadBits),
    .TagBits(ReadTagBits),
    .MaxBurst(MaxBurst),
    .Outstanding(Outstanding),
    .Commands(4 * Outstanding + 16),
    .JoinAbove(JoinWords)
  ) u_read (
    .clk_i,
    .rst_ni,
    .cmd_valid_i(cmd_valid || header_valid),
    .cmd_ready_o(cmd_ready),
    .cmd_addr_i(header_valid ? base_q : cmd_addr),
    .cmd_words_i(header_valid ? header_words : ReadBits'(cmd_words)),
    .cmd_tag_i(ReadTagBits'({cmd_place, cmd_tag})),
    .data_valid_o(data_valid),
    .data_o(data),
    .data_tag_o(read_tag),
    .data_last_o(data_last),
    .timeout_i,
    .give_up_i(give_up),
    .resume_i(header_start || begin_frame),
    .timeout_o,
    .lost_o(read_lost),
    .error_o(bus_error_o),
    .idle_o(unused_axi_idle),
    .m_axi_araddr,
    .m_axi_arlen,
    .m_axi_arsize,
    .m_axi_arburst,
    .m_axi_arprot,
    .m_axi_arcache,
    .m_axi_arvalid,
    .m_axi_arready,
    .m_axi_rdata,
    .m_axi_rresp,
    .m_axi_rlast,
    .m_axi_rvalid,
    .m_axi_rready
  );

  assign data_tag = read_tag[TagBits-1:0];

  // A word's error is known long before the last logit that it could spoil.
  if (CrcBits > 0) begin : gen_check
    pen_check #(
      .Bits(CrcBits),
      .BusBytes(BusBytes),
      .Polynomial(CrcPolynomial)
    ) u_check (
      .clk_i,
      .rst_ni,
      .valid_i(data_valid && (state_q != Check)),
      .last_i(data_last),
      .ignore_i(read_lost),
      .word_i(read_tag[ReadTagBits-1:TagBits]),
      .data_i(data),
      .error_o(checksum_o)
    );
  end else begin : gen_unchecked
    logic unused_check;
    assign unused_check = ^{read_lost, cmd_place};
    assign checksum_o = 1'b0;
  end

  pen_bank #(
    .Filters(Filters),
    .BusBytes(BusBytes),
    .RecordWords(RecordWords),
    .PinnedRows(PinnedRows),
    .PinnedFile(PinnedFile)
  ) u_bank (
    .clk_i,
    .write_i(data_valid && (state_q != Check)),
    .write_lane_i(bank_lane),
    .write_word_i({bank_half, bank_word}),
    .write_data_i(data),
    .read_i(op_valid),
    .read_pinned_i(op_weight[WeightBits-1]),
    .read_addr_i(op_weight[WeightBits-2:0]),
    .weights_o(weights)
  );

  // ---- Compute: every window of the map, group after group ------------------------------------------------------------------------------
  logic window_valid, window_last, pass_valid, pass_ready, unused_window_free, unused_beat_group;

  assign pass_valid = window_valid && group_valid && (state_q == Run);
  assign group_take = pass_valid && pass_ready && window_last;

  pen_datapath #(
    .Filters(Filters),
    .Pixels(Pixels),
    .OutPixels(Pixels),
    .Groups(1),
    .AccBits(AccBits),
    .CoordBits(CoordBits),
    .PixelBits(PixelBits),
    .IndexBits(IndexBits),
    .WordBits(WordBits),
    .WeightBits(WeightBits),
    .PoolWidth(MaxOutWidth),
    .MaxTaps(MaxTaps),
    .TapDepth(TapDepth),
    .TapFile(TapFile),
    .RingWords(0),
    .TagBits(1),
    .Residual(TapeEntries > 0),
    .Quarters(Quarters)
  ) u_datapath (
    .clk_i,
    .rst_ni,
    .start_i(start),
    .height_i(step_q.height),
    .width_i(step_q.width),
    .lane_y_i(step_q.lane_y),
    .lane_x_i(step_q.lane_x),
    .step_y_i(step_q.step_y),
    .step_x_i(step_q.step_x),
    .windows_i(step_q.windows),
    .last_tap_i(step_q.last_tap),
    .tap_base_i(step_q.tap_base),
    .signed_i(step_q.in_signed),
    .limit_y_i(step_q.limit_y),
    .limit_x_i(step_q.limit_x),
    .log_stride_i(step_q.log_stride),
    .log_pool_i(step_q.log_pool),
    .last_pixel_i(step_q.last_pixel),
    .quartered_i(step_q.quartered),
    .quarter_words_i(step_q.quarter_words),
    .low_i(step_q.low),
    .high_i(step_q.high),
    .raw_i(step_q.raw),
    .add_i(step_q.adds),
    .add_signed_i(step_q.add_signed),
    .add_less_i(step_q.add_less),
    .entries_i(entries),
    .entry_read_o(entry_read),
    .entry_addr_o(entry_addr),
    .entry_map_i(entry_map),
    .entry_weight_i(WeightBits'(entry_weight)),
    .entry_taps_i(entry_taps),
    .window_valid_o(window_valid),
    .window_last_o(window_last),
    .pass_valid_i(pass_valid),
    .pass_ready_o(pass_ready),
    .pass_last_use_i(1'b1),
    .pass_weight_i(group_weight),
    .pass_ring_i(step_q.from_input ? WordBits'(frame_base) : '0),
    .pass_group_i(1'b0),
    .pass_last_lane_i(group_last_lane),
    .pass_tag_i(group_half),
    .window_free_o(unused_window_free),
    .op_valid_o(op_valid),
    .op_word0_o(op_word0),
    .op_word1_o(op_word1),
    .op_offset_o(op_offset),
    .op_mask_o(op_mask),
    .op_weight_o(op_weight),
    .window_i(window),
    .weights_i(weights),
    .drain_tag_o(drain_half),
    .bias_i(bias),
    .shift_i(shift),
    .addends_i(addends),
    .loaded_o(pass_loaded),
    .beat_valid_o(beat_valid),
    .beat_ready_i(beat_ready),
    .beat_group_o(unused_beat_group),
    .beat_lane_o(beat_lane),
    .beat_last_lane_o(beat_last_lane),
    .beat_word_o(beat_word),
    .beat_last_word_o(beat_last_word),
    .beat_data_o(beat_data)
  );

  // ---- Logits ------------------------------------------------------------------------------------------------------------------------------
  logic bad_q;
  logic logit_ready;

  pen_skid #(
    .Width(AccBits + 2)
  ) u_logits (
    .clk_i,
    .rst_ni,
    .valid_i(beat_valid && step_q.raw),
    .ready_o(logit_ready),
    .data_i({beat_data[AccBits-1:0], beat_filter == step_q.filters - 1'b1, bad_q}),
    .valid_o(logit_valid_o),
    .ready_i(logit_ready_i),
    .data_o({logit_o, logit_last_o, logit_bad_o})
  );

  // Strengths take 2 cycles from a beat to the queue: beats stop while it might overflow.
  assign beat_ready = step_q.raw ? logit_ready : queue_room_q;

  // ---- Sequence ----------------------------------------------------------------------------------------------------------------------------
  logic [31:0] cycles_q;

  logic frame_waits, recheck_q, image_q, doubt_q;

  assign frame_waits = enable_i && frame_valid && mark_valid;
  assign header_start = (state_q == Idle) && enable_i && (recheck_q || (frame_waits && !image_q));
  assign image_right = header_match && !doubt_q;
  assign begin_frame = frame_waits && (((state_q == Idle) && !header_start) || ((state_q == Check) && header_done));
  assign give_up = begin_frame && (state_q == Check) && !image_right;
  assign wrong_image_o = (state_q == Check) && header_done && !header_match && !doubt_q;
  assign build_start = (state_q == Load && settle_q == 2'd1)
                       || (state_q == Run && !building_q && !last_step && !built.replayed && select_idle && predict_idle);
  assign swap = state_q == Swap;
  assign start = state_q == Start;
  assign layer_end = (state_q == Run) && !open && events_idle
                     && (last_step || built.replayed || (building_q && predict_idle)) && select_idle && (listed_left_q == '0);
  assign frame_done = layer_end && last_step;
  assign frame_bad_o = bad_q;
  assign busy_o = state_q != Idle;

  always_ff @(posedge clk_i) begin
    cycles_q <= cycles_q + 1'b1;
    if (bus_error_o || timeout_o || checksum_o) begin
      bad_q <= 1'b1;
      doubt_q <= 1'b1;
    end
    if (!enable_i || (image_base_i != base_q)) recheck_q <= 1'b1;
    if (header_start) begin
      base_q <= image_base_i;
      recheck_q <= 1'b0;
      doubt_q <= 1'b0;
    end
    if (settle_q != '0) settle_q <= settle_q - 1'b1;
    if (group_done) begin
      beat_half_q <= !beat_half_q;
      settle_q <= 2'd3;
    end
    if (build_start) building_q <= 1'b1;
    if (push_valid && push_ready) pushed_q <= pushed_q + 1'b1;
    replay_valid_q <= 1'b0;
    unique case (state_q)
      Idle: begin
        built_q <= '0;
        if (header_start) state_q <= Check;
      end
      Check: begin
        if (header_done) begin
          image_q <= image_right;
          state_q <= Idle;
        end
      end
      Load: begin  // a first step's word comes from the program
        replay_q <= '0;
        if (settle_q == '0) state_q <= Replay;
      end
      Replay: begin  // strengths of the map that the step reads
        if (queue_room_q) begin
          replay_q <= replay_q + 1'b1;
          replay_valid_q <= 1'b1;
          if (replay_q == built.channels - 1'b1) begin
            state_q <= Settle;
            settle_q <= 2'd3;
          end
        end
      end
      Settle: if (events_idle && predict_idle) state_q <= Swap;
      Swap: begin
        step_q <= built;
        current_q <= built_q;
        built_q <= built_q + 1'b1;
        building_q <= 1'b0;
        state_q <= Start;
      end
      Start: begin
        pushed_q <= '0;
        settle_q <= 2'd3;
        state_q <= Run;
      end
      Run: begin
        if (layer_end) begin
          cycles_q <= '0;
          state_q <= last_step ? Finish : built.replayed ? Load : Swap;
          if (built.replayed && !last_step) settle_q <= 2'd3;
        end
      end
      default: state_q <= Idle;  // Finish: the input buffer has been given back
    endcase
    if (begin_frame) begin
      state_q <= Load;
      settle_q <= 2'd3;
      cycles_q <= '0;
      bad_q <= mark_bad || give_up;
    end
    if (!rst_ni) begin
      state_q <= Idle;
      settle_q <= '0;
      building_q <= 1'b0;
      replay_valid_q <= 1'b0;
      beat_half_q <= 1'b0;
      recheck_q <= 1'b1;
      image_q <= 1'b0;
      bad_q <= 1'b0;
    end
  end

  // ---- Stalls ------------------------------------------------------------------------------------------------------------------------------
  logic starved;  // the array could take a pass
  assign starved = (state_q == Run) && window_valid && pass_ready;

  always_ff @(posedge clk_i) begin
    stall_o[0] <= (state_q == Idle) && enable_i && !frame_valid && !header_start;
    stall_o[1] <= (state_q == Check) || (starved && waits_data);
    stall_o[2] <= beat_valid && step_q.raw && !logit_ready && !op_valid && !(starved && (waits_data || waits_filter));
    stall_o[3] <= (state_q inside {Load, Replay, Settle}) || (starved && waits_filter)
                  || ((state_q == Run) && !open && !layer_end);
    if (!rst_ni) stall_o <= '0;
  end

  // ---- Reports -----------------------------------------------------------------------------------------------------------------------------
  // A cycle after the layer's end.
  always_ff @(posedge clk_i) begin
    layer_valid_o <= layer_end;
    layer_o <= 8'(current_q);
    layer_cycles_o <= cycles_q + 1'b1;
    layer_bytes_o <= words << $clog2(BusBytes);
    layer_chosen_o <= 16'(pushed_q);
    frame_done_o <= frame_done;
    if (!rst_ni) begin
      layer_valid_o <= 1'b0;
      frame_done_o <= 1'b0;
    end
  end

  assign probe_strength_valid_o = event_valid && event_ready;
  assign probe_strength_layer_o = 8'(built_q);
  assign probe_strength_channel_o = 16'(event_channel);
  assign probe_strength_value_o = 32'(event_strength);
  assign probe_score_valid_o = first_pass;
  assign probe_score_layer_o = 8'(current_q);
  assign probe_score_word_o = 16'(score_seen_word);
  for (genvar l = 0; l < PredictLanes; l++) begin : gen_probe
    assign probe_score_data_o[l] = 64'(signed'(score[l]));
  end
  assign probe_chosen_valid_o = push_valid && push_ready && step_q.lazy;
  assign probe_chosen_layer_o = 8'(current_q);
  assign probe_chosen_filter_o = 16'(push);

  logic unused_bits;
  assign unused_bits = ^{step_q, built, op_word0, op_word1, map_word, queue_ready};

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!checksum_o || (state_q inside {Swap, Start, Run})) else $error("%m: a checksum comes too late");
      assert (!(finished_valid || replay_valid_q) || queue_ready) else $error("%m: a finished channel finds no place");
    end
  end
`endif

endmodule
