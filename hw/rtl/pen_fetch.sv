// Fetches the chosen filters of a layer, group by group, one group ahead of the one that is computed.
//
// Chosen filters come as a stream of indices. Each takes the next lane of the group being filled: its bias, shift and
// output place are read from the filter table, and for every run of bus words that hold weights of present channels one
// command goes to the read master. `group_valid_o` shows that all weights of the group in `group_half_o` have arrived;
// `group_take_i` says that its last pass was issued, `group_done_i` that its last output has left: only then is its half
// filled again. The next group may be taken before the one before is done. Commands leave at most one every 2 cycles,
// and 5 cycles lie between filters, behind the data of those before as long as a record is longer.
//
// `cmd_place_o` is the place of a command's first word in the image, in bus words from `place_i`, that of filter 0's record.
//
// The first `pinned_i` filters of the stream have their weights on chip: they make groups of their own, which need no
// fetch. `group_weight_o` tells where the group's weights begin, in the bank's half or, with the top bit, in its table of
// pinned weights from row `pinned_row_i` on.
//
// With `exact_i` there are `count_i` filters, no fewer. Then, if none is pinned and `Filters` is a power of two, the group
// that is not full is the first one: nothing is computed while the first group is fetched, so it had better be small.
//
// `start_i` begins a layer of `count_i` chosen filters (0 is allowed: no group comes), or of fewer: `end_i` says that no
// filter comes any more, after those that are offered. `open_o` shows from then on that groups of the layer are still to
// come or in use. `words_o` counts the bus words asked for since the start. It comes only when every group of the layer
// before is done; the layer's inputs are stable until then. While the group to be taken next is not valid,
// `waits_data_o` tells that weights of it are asked for or about to be, `waits_filter_o` that a filter is waited for. Data beats carry the tag {half, lane, word} of their command and follow each other in order. Reset forgets all
// commands: no data of theirs may come afterwards.
module pen_fetch #(
  parameter int unsigned Filters     = 4,
  parameter int unsigned BusBytes    = 4,
  parameter int unsigned RecordWords = 16,  // a power of two; one half of a weight bank
  parameter int unsigned RunBits     = 8,
  parameter int unsigned IndexBits   = 8,
  parameter int unsigned AddrBits    = 32,
  parameter int unsigned WordBits    = 8,   // of the map memory
  parameter int unsigned AccBits     = 32,
  parameter int unsigned TableDepth  = 16,  // filters of all layers
  parameter int unsigned PinnedRows  = 1,   // of the bank's table of pinned weights
  parameter int unsigned PlaceBits   = 1,   // low bits of a word's place in the image
  parameter string       FilterFile  = "",
  localparam int unsigned TableBits  = (TableDepth > 1) ? $clog2(TableDepth) : 1,
  localparam int unsigned LaneBits   = (Filters > 1) ? $clog2(Filters) : 1,
  localparam int unsigned RecordBits = (RecordWords > 1) ? $clog2(RecordWords) : 1,
  localparam int unsigned OffsetBits = IndexBits + RecordBits + 1,
  localparam int unsigned TagBits    = 1 + LaneBits + RecordBits,
  localparam int unsigned ByteBits   = $clog2(2 * RecordWords) + $clog2(BusBytes),
  localparam int unsigned RowBits    = (PinnedRows > 1) ? $clog2(PinnedRows) : 1,
  localparam int unsigned WeightBits = ((ByteBits > RowBits) ? ByteBits : RowBits) + 1
) (
  input  logic                            clk_i,
  input  logic                            rst_ni,
  // Layer
  input  logic                            start_i,
  input  logic [IndexBits-1:0]            count_i,
  input  logic                            exact_i,
  input  logic [IndexBits-1:0]            pinned_i,
  input  logic [RowBits-1:0]              pinned_row_i,
  input  logic [RowBits-1:0]              pinned_rows_i,  // of one group
  input  logic [AddrBits-1:0]             base_i,         // address of filter 0's record
  input  logic [RecordBits:0]             stride_i,       // of the records, in bus words
  input  logic [PlaceBits-1:0]            place_i,
  input  logic [TableBits-1:0]            filter_base_i,
  input  logic [IndexBits-1:0]            runs_i,
  output logic                            run_read_o,
  output logic [IndexBits-1:0]            run_addr_o,
  input  logic [RunBits-1:0]              run_first_i,
  input  logic [RunBits-1:0]              run_end_i,
  output logic [31:0]                     words_o,
  // Chosen filters
  input  logic                            chosen_valid_i,
  output logic                            chosen_ready_o,
  input  logic [IndexBits-1:0]            chosen_i,
  input  logic                            end_i,
  output logic                            open_o,
  // Read master
  output logic                            cmd_valid_o,
  input  logic                            cmd_ready_i,
  output logic [AddrBits-1:0]             cmd_addr_o,
  output logic [RunBits-1:0]              cmd_words_o,
  output logic [TagBits-1:0]              cmd_tag_o,
  output logic [PlaceBits-1:0]            cmd_place_o,
  input  logic                            data_valid_i,
  input  logic [TagBits-1:0]              data_tag_i,
  input  logic                            data_last_i,
  // Weight banks: where the word at the read master's data port goes
  output logic                            bank_half_o,
  output logic [LaneBits-1:0]             bank_lane_o,
  output logic [RecordBits-1:0]           bank_word_o,
  // Groups
  output logic                            group_valid_o,
  output logic                            waits_data_o,
  output logic                            waits_filter_o,
  output logic                            group_half_o,
  output logic [WeightBits-1:0]           group_weight_o,
  output logic [LaneBits-1:0]             group_last_lane_o,
  input  logic                            group_take_i,
  input  logic                            group_done_i,
  // Parameters of the group that drains, and of the one whose beats leave
  input  logic                            drain_half_i,
  output logic [Filters-1:0][AccBits-1:0] bias_o,
  output logic [Filters-1:0][4:0]         shift_o,
  input  logic                            beat_half_i,
  input  logic [LaneBits-1:0]             beat_lane_i,
  output logic [IndexBits-1:0]            beat_filter_o,
  output logic [WordBits-1:0]             beat_map_o
);

  if (RecordWords < 1 || (RecordWords & (RecordWords - 1)) != 0) begin : gen_bad_words
    $fatal(1, "pen_fetch %m: RecordWords must be a power of two");
  end
  if (BusBytes < 1 || (BusBytes & (BusBytes - 1)) != 0) begin : gen_bad_bus
    $fatal(1, "pen_fetch %m: BusBytes must be a power of two");
  end
  if ((1 << RunBits) <= RecordWords) begin : gen_bad_run_bits
    $fatal(1, "pen_fetch %m: RunBits does not hold the end of a run, up to RecordWords");
  end

  typedef struct packed {
    logic [WordBits-1:0] map;
    logic [AccBits-1:0]  bias;
    logic [4:0]          shift;
  } filter_t;

  localparam bit OddFirst = (Filters > 1) && ((Filters & (Filters - 1)) == 0);

  typedef enum logic [2:0] {Wait, Look, Keep, Run, Command} state_e;
  state_e state_q;

  logic [1:0]           occupied_q;            // halves being filled, valid or in use
  logic                 fill_q, take_q;        // half being filled; half to be taken next
  logic [1:0]           issued_q;              // per half: all commands are out
  logic [1:0][15:0]     pending_q;             // per half: commands whose data is not complete
  logic [IndexBits-1:0] left_q;                // filters of the layer that have not been given a lane
  logic [LaneBits-1:0]  lane_q, end_lane_q;    // the current one; the last one of a full group, or of an odd first one
  logic [1:0][LaneBits-1:0] last_lane_q;
  logic [IndexBits-1:0] filter_q, run_q;
  logic [IndexBits-1:0] pinned_left_q;         // filters of the stream that are still to come and pinned
  logic                 pinned_q;              // the current filter is
  logic [RowBits-1:0]   row_q;                 // of the current pinned group's weights
  logic [1:0][WeightBits-1:0] weight_q;
  logic [OffsetBits-1:0] offset_q;  // of the filter's record, in bus words
  logic [AddrBits-1:0]  record_q, cmd_addr_q;
  logic [PlaceBits-1:0] place_q;
  logic [RunBits-1:0]   cmd_words_q, run_first_q, run_end_q;
  logic                 claim, lane_end, runs_end, cmd_take;
  logic [1:0]           asked_q, came;         // per half: a command went out; the last of one's data comes
  logic [1:0]           arrived_q;             // per half: nothing is pending
  filter_t              filter;

  logic [Filters-1:0][AccBits-1:0]   bias_q [2];
  logic [Filters-1:0][4:0]           shift_q [2];
  logic [Filters-1:0][IndexBits-1:0] index_q [2];
  logic [Filters-1:0][WordBits-1:0]  map_q [2];

  // A group's half is claimed with its first filter; the other filters come into a half that is already theirs.
  assign claim = (state_q == Wait) && (lane_q == '0) && chosen_valid_i && (left_q != '0) && (occupied_q != 2'd2);
  assign chosen_ready_o = (state_q == Wait) && (left_q != '0) && ((lane_q != '0) || (occupied_q != 2'd2));
  assign cmd_take = cmd_valid_o && cmd_ready_i;
  assign runs_end = pinned_q || (run_q == runs_i);
  assign lane_end = (lane_q == end_lane_q) || (left_q == '0) || (pinned_q && (pinned_left_q == '0));

  pen_rom #(
    .Width($bits(filter_t)),
    .Depth(TableDepth),
    .InitFile(FilterFile)
  ) u_filters (
    .clk_i,
    .read_i(state_q == Look),
    .addr_i(filter_base_i + TableBits'(filter_q)),
    .data_o(filter)
  );

  assign run_read_o = (state_q == Look) || (state_q == Keep) || cmd_take;
  // The list's memory is a run ahead of `run_first_q`, `run_end_q`.
  assign run_addr_o = (state_q == Look) ? '0 : (state_q == Keep) ? IndexBits'(1) : run_q + 1'b1;
  assign cmd_valid_o = state_q == Command;
  assign cmd_addr_o = cmd_addr_q;
  assign cmd_words_o = cmd_words_q;
  assign cmd_place_o = place_q;
  assign cmd_tag_o = {fill_q, lane_q, RecordBits'(run_first_q)};

  for (genvar h = 0; h < 2; h++) begin : gen_half
    assign came[h] = data_valid_i && data_last_i && (data_tag_i[TagBits-1] == 1'(h));
  end

  always_ff @(posedge clk_i) begin
    // Counted a cycle after it was taken: neither can its data be there by then, nor its group be offered.
    asked_q <= {cmd_take && fill_q, cmd_take && !fill_q};
    unique case (state_q)
      Wait: begin
        if (chosen_valid_i && chosen_ready_o) begin
          filter_q <= chosen_i;
          left_q <= left_q - 1'b1;
          pinned_q <= pinned_left_q != '0;
          if (pinned_left_q != '0) pinned_left_q <= pinned_left_q - 1'b1;
          state_q <= Look;
        end else if (end_i && (left_q != '0)) begin
          left_q <= '0;
          if (lane_q != '0) begin
            lane_q <= '0;
            issued_q[fill_q] <= 1'b1;
            fill_q <= !fill_q;
          end
        end
      end
      Look: begin
        offset_q <= OffsetBits'(filter_q) * OffsetBits'(stride_i);
        run_q <= '0;
        state_q <= Keep;
      end
      Keep: begin
        record_q <= base_i + (AddrBits'(offset_q) << $clog2(BusBytes));
        bias_q[fill_q][lane_q] <= filter.bias;
        shift_q[fill_q][lane_q] <= filter.shift;
        map_q[fill_q][lane_q] <= filter.map;
        index_q[fill_q][lane_q] <= filter_q;
        last_lane_q[fill_q] <= lane_q;
        weight_q[fill_q] <= pinned_q ? {1'b1, (WeightBits - 1)'(row_q)}
                                     : (WeightBits'(fill_q) << (ByteBits - 1));
        state_q <= Run;
      end
      Run: begin
        if (runs_end) begin
          lane_q <= lane_end ? '0 : lane_q + 1'b1;
          if (lane_end) begin
            end_lane_q <= LaneBits'(Filters - 1);
            issued_q[fill_q] <= 1'b1;
            row_q <= row_q + pinned_rows_i;
            fill_q <= !fill_q;
          end
          state_q <= Wait;
        end else begin
          run_q <= run_q + 1'b1;
          cmd_addr_q <= record_q + (AddrBits'(run_first_q) << $clog2(BusBytes));
          place_q <= place_i + PlaceBits'(offset_q) + PlaceBits'(run_first_q);
          cmd_words_q <= run_end_q - run_first_q;
          state_q <= Command;
        end
      end
      default: begin  // Command
        if (cmd_take) begin
          words_o <= words_o + 32'(cmd_words_o);
          state_q <= Run;
        end
      end
    endcase
    if ((state_q == Keep) || cmd_take) begin
      run_first_q <= run_first_i;
      run_end_q <= run_end_i;
    end
    if (group_take_i) begin
      issued_q[take_q] <= 1'b0;
      take_q <= !take_q;
    end
    occupied_q <= occupied_q + 2'(claim) - 2'(group_done_i);
    for (int unsigned h = 0; h < 2; h++) begin
      if (asked_q[h] && !came[h]) pending_q[h] <= pending_q[h] + 1'b1;
      if (came[h] && !asked_q[h]) pending_q[h] <= pending_q[h] - 1'b1;
      if (asked_q[h] != came[h]) arrived_q[h] <= came[h] && (pending_q[h] == 16'd1);
    end
    if (start_i) begin
      left_q <= count_i;
      pinned_left_q <= pinned_i;
      row_q <= pinned_row_i;
      lane_q <= '0;
      end_lane_q <= (OddFirst && exact_i && (pinned_i == '0)) ? LaneBits'(count_i - 1'b1) : LaneBits'(Filters - 1);
      words_o <= '0;
    end
    if (!rst_ni) begin
      state_q <= Wait;
      left_q <= '0;
      lane_q <= '0;
      occupied_q <= '0;
      fill_q <= 1'b0;
      take_q <= 1'b0;
      issued_q <= '0;
      pending_q <= '0;
      asked_q <= '0;
      arrived_q <= '1;
    end
  end

  // ---- Data: a command's words go to one lane, one after another ---------------------------------------------------------------
  logic [RecordBits-1:0] next_q;
  logic                  within_q;

  assign {bank_half_o, bank_lane_o} = data_tag_i[TagBits-1:RecordBits];
  assign bank_word_o = within_q ? next_q : data_tag_i[RecordBits-1:0];

  always_ff @(posedge clk_i) begin
    if (data_valid_i) begin
      within_q <= !data_last_i;
      next_q <= bank_word_o + 1'b1;
    end
    if (!rst_ni) within_q <= 1'b0;
  end

  assign group_valid_o = issued_q[take_q] && arrived_q[take_q];
  assign waits_data_o = !group_valid_o && (!arrived_q[take_q] || ((state_q != Wait) && !pinned_q));
  assign waits_filter_o = !group_valid_o && arrived_q[take_q] && chosen_ready_o && !chosen_valid_i;
  assign group_half_o = take_q;
  assign group_weight_o = weight_q[take_q];
  assign group_last_lane_o = last_lane_q[take_q];
  assign bias_o = bias_q[drain_half_i];
  assign shift_o = shift_q[drain_half_i];
  assign beat_filter_o = index_q[beat_half_i][beat_lane_i];
  assign beat_map_o = map_q[beat_half_i][beat_lane_i];
  assign open_o = (left_q != '0) || (occupied_q != '0);

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!start_i || (occupied_q == '0)) else $error("%m: a layer starts while a group of the last one is in use");
      assert (!group_done_i || (occupied_q != '0)) else $error("%m: a group is done that was never filled");
      assert (!cmd_valid_o || (cmd_words_o != '0)) else $error("%m: an empty run");
    end
  end
`endif

endmodule
