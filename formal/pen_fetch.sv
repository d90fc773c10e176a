// Proof of pen_fetch's double buffering, unbounded: a half of the weight banks is written only between its claim and the
// moment at which its group is complete, and read only from then until its group is done; a group is complete when every
// word of every filter in it has arrived, each from its address and at its place; lanes keep their filters meanwhile.
//
// The stream of filters, the runs of bus words, the read master's pace and the consumer's are whatever they like, within
// the contract. The read master holds `Queue` commands.
module pen_fetch_proof #(
    parameter int unsigned Filters      = 2,
    parameter int unsigned Queue        = 2,
    localparam int unsigned BusBytes    = 2,
    localparam int unsigned RecordWords = 2,
    localparam int unsigned RunBits     = 2,
    localparam int unsigned IndexBits   = 3,
    localparam int unsigned AddrBits    = 6,
    localparam int unsigned WordBits    = 1,
    localparam int unsigned AccBits     = 1,
    localparam int unsigned PinnedRows  = 2,
    localparam int unsigned LaneBits    = (Filters > 1) ? $clog2(Filters) : 1,
    localparam int unsigned TagBits     = 1 + LaneBits + 1,
    localparam int unsigned WeightBits  = 4
) (
    input logic                 clk_i,
    input logic                 rst_ni,
    input logic                 start_i,
    input logic [IndexBits-1:0] count_i,
    input logic                 exact_i,
    input logic [IndexBits-1:0] pinned_i,
    input logic [AddrBits-1:0]  base_i,
    input logic [1:0]           stride_i,
    input logic [IndexBits-1:0] runs_i,
    input logic [RunBits-1:0]   any_first_i,  // of the run that is read now
    input logic [RunBits-1:0]   any_end_i,
    input logic                 chosen_valid_i,
    input logic [IndexBits-1:0] chosen_i,
    input logic                 end_i,
    input logic                 cmd_ready_i,
    input logic                 data_valid_i,
    input logic                 group_take_i,
    input logic                 group_done_i,
    input logic                 beat_half_i,
    input logic [LaneBits-1:0]  beat_lane_i
);
  logic run_read_o, chosen_ready_o, open_o, cmd_valid_o, bank_half_o, group_valid_o, group_half_o, data_last_i;
  logic [IndexBits-1:0] run_addr_o, beat_filter_o;
  logic [RunBits-1:0] run_first_i, run_end_i, cmd_words_o;
  logic [31:0] words_o;
  logic [AddrBits-1:0] cmd_addr_o;
  logic [TagBits-1:0] cmd_tag_o, data_tag_i;
  logic [LaneBits-1:0] bank_lane_o, group_last_lane_o;
  logic bank_word_o, cmd_place_o, waits_data_o, waits_filter_o;
  logic [WeightBits-1:0] group_weight_o;
  logic [Filters-1:0][AccBits-1:0] bias_o;
  logic [Filters-1:0][4:0] shift_o;
  logic [WordBits-1:0] beat_map_o;

  pen_fetch #(
      .Filters(Filters),
      .BusBytes(BusBytes),
      .RecordWords(RecordWords),
      .RunBits(RunBits),
      .IndexBits(IndexBits),
      .AddrBits(AddrBits),
      .WordBits(WordBits),
      .AccBits(AccBits),
      .TableDepth(2),
      .PinnedRows(PinnedRows),
      .FilterFile("zeros.hex")
  ) dut (
      .pinned_row_i('0),
      .pinned_rows_i(1'b1),
      .filter_base_i('0),
      .drain_half_i(1'b0),
      .place_i(1'b0),
      .*
  );

  logic begun_q = 1'b0;  // the first cycle, which resets, is over
  always_ff @(posedge clk_i) begun_q <= 1'b1;

  // ---- The layer's runs, read as from a memory -----------------------------------------------------------------------
  always_ff @(posedge clk_i) begin
    if (run_read_o) begin
      run_first_i <= any_first_i;
      run_end_i   <= any_end_i;
    end
  end

  // ---- The read master: commands in order, the oldest first ------------------------------------------------------------
  typedef logic [3:0] count_t;
  logic cmd_take;
  count_t level_q, level_d;
  logic [TagBits-1:0] tag_q [Queue], tag_d [Queue];
  logic [RunBits-1:0] left_q [Queue], left_d [Queue];  // words to come
  logic next_q, next_d;                                // place of the next word in its record

  assign cmd_take    = cmd_valid_o && cmd_ready_i;
  assign data_tag_i  = tag_q[0];
  assign data_last_i = left_q[0] == 1;

  always_comb begin
    level_d = level_q;
    tag_d   = tag_q;
    left_d  = left_q;
    next_d  = next_q;
    if (data_valid_i) begin
      left_d[0] = left_q[0] - 1'b1;
      next_d = next_q + 1'b1;
      if (data_last_i) begin
        for (int unsigned i = 0; i + 1 < Queue; i++) begin
          tag_d[i]  = tag_q[i+1];
          left_d[i] = left_q[i+1];
        end
        level_d = level_d - 1'b1;
        next_d = tag_d[0][0];
      end
    end
    if (cmd_take) begin
      for (int unsigned i = 0; i < Queue; i++) begin
        if (count_t'(i) == level_d) begin
          tag_d[i]  = cmd_tag_o;
          left_d[i] = cmd_words_o;
        end
      end
      if (level_d == '0) next_d = cmd_tag_o[0];
      level_d = level_d + 1'b1;
    end
  end

  always_ff @(posedge clk_i) begin
    level_q <= rst_ni ? level_d : '0;
    tag_q   <= tag_d;
    left_q  <= left_d;
    next_q  <= next_d;
  end

  // ---- The halves: free, then filling, then used, then free ------------------------------------------------------------
  logic accept, opens, pinned, fill_q, done_q;
  logic [1:0] filling_q, used_q;
  count_t pins_q;               // filters of the stream that are still to come and pinned
  count_t lanes_q [2];          // filters in the half
  count_t due_q [2];            // commands that they need and that have not been taken
  logic [IndexBits-1:0] filter_q [2][Filters];

  assign accept = chosen_valid_i && chosen_ready_o;
  assign opens  = accept && !(filling_q[fill_q] && !dut.issued_q[fill_q]);  // a group's first filter
  assign pinned = pins_q != '0;
  assign fill_q = dut.fill_q;

  always_ff @(posedge clk_i) begin
    if (start_i) pins_q <= count_t'(pinned_i);
    else if (accept && pinned) pins_q <= pins_q - 1'b1;
    if (opens) filling_q[fill_q] <= 1'b1;
    if (accept) begin
      filter_q[fill_q][LaneBits'(opens ? '0 : lanes_q[fill_q])] <= chosen_i;
      lanes_q[fill_q] <= opens ? count_t'(1) : lanes_q[fill_q] + 1'b1;
      due_q[fill_q] <= (opens ? '0 : due_q[fill_q]) + (pinned ? '0 : count_t'(runs_i));
    end
    if (cmd_take) due_q[fill_q] <= due_q[fill_q] - 1'b1;
    if (group_take_i) begin
      filling_q[group_half_o] <= 1'b0;
      used_q[group_half_o] <= 1'b1;
    end
    if (group_done_i) begin
      used_q[done_q] <= 1'b0;
      done_q <= !done_q;
    end
    if (!rst_ni) begin
      filling_q <= '0;
      used_q <= '0;
      done_q <= 1'b0;
    end
  end

  // ---- What the neighbours promise -----------------------------------------------------------------------------------
  logic was_open_q;
  logic [IndexBits-1:0] runs_q;
  logic [AddrBits-1:0] base_q;
  logic [1:0] stride_q;
  always_ff @(posedge clk_i) begin
    was_open_q <= rst_ni && open_o;
    runs_q     <= runs_i;
    base_q     <= base_i;
    stride_q   <= stride_i;
  end

  always_comb begin
    if (!begun_q) assume (!rst_ni);
    if (run_read_o) assume ((any_first_i < any_end_i) && (32'(any_end_i) <= RecordWords));
    if (open_o && was_open_q) assume ((runs_i == runs_q) && (base_i == base_q) && (stride_i == stride_q));
    if (start_i) assume (!open_o);
    if (cmd_ready_i) assume (32'(level_q) < Queue);
    if (data_valid_i) assume (level_q != '0);
    if (group_take_i) assume (group_valid_o);
    if (group_done_i) assume (used_q != '0);
  end

  // ---- What is promised ------------------------------------------------------------------------------------------------
  count_t waiting [2];  // commands of the half whose words have not all come
  always_comb begin
    for (int unsigned h = 0; h < 2; h++) begin
      waiting[h] = '0;
      for (int unsigned i = 0; i < Queue; i++) begin
        if ((count_t'(i) < level_q) && (tag_q[i][TagBits-1] == h[0])) waiting[h] = waiting[h] + 1'b1;
      end
    end
  end

  logic readable [2];  // by the consumer
  always_comb begin
    for (int unsigned h = 0; h < 2; h++) readable[h] = used_q[h] || (group_valid_o && (group_half_o == h[0]));
  end

  always_comb begin
    if (begun_q) begin
      no_write_in_use: assert (!data_valid_i || !readable[bank_half_o]);
      written_when_filling: assert (!data_valid_i || filling_q[bank_half_o]);
      claims_free_half: assert (!opens || !(filling_q[fill_q] || used_q[fill_q]));
      place: assert (!data_valid_i || ({bank_half_o, bank_lane_o, bank_word_o} == {data_tag_i[TagBits-1:1], next_q}));
      if (group_valid_o) begin
        complete: assert (filling_q[group_half_o] && (due_q[group_half_o] == '0) && (lanes_q[group_half_o] != '0)
                          && (count_t'(group_last_lane_o) + 1'b1 == lanes_q[group_half_o]));
        arrived: assert (waiting[group_half_o] == '0);
      end
      if (readable[beat_half_i] && (count_t'(beat_lane_i) < lanes_q[beat_half_i])) begin
        keeps: assert (beat_filter_o == filter_q[beat_half_i][beat_lane_i]);
      end
      if (cmd_valid_o) begin
        asks: assert (filling_q[fill_q] && (cmd_tag_o == {fill_q, LaneBits'(lanes_q[fill_q] - 1'b1), dut.run_first_q[0]})
                      && (cmd_words_o == dut.run_end_q - dut.run_first_q));
        from: assert (cmd_addr_o == base_i + ((AddrBits'(filter_q[fill_q][LaneBits'(lanes_q[fill_q] - 1'b1)])
                                               * AddrBits'(stride_i) + AddrBits'(dut.run_first_q)) << 1));
      end
      ends: assert (open_o || ((filling_q == '0) && (used_q == '0) && (level_q == '0)));
    end
  end

  // ---- What makes it inductive ---------------------------------------------------------------------------------------
  logic building;  // a group is open for filters
  assign building = (dut.state_q != 3'd0) || (dut.lane_q != '0);

  always_comb begin
    if (begun_q) begin
      assert (32'(dut.state_q) <= 4);
      assert ((32'(dut.end_lane_q) < Filters) || !open_o);
      assert ((dut.lane_q <= dut.end_lane_q) || (dut.lane_q == '0));
      assert ((dut.asked_q == '0) || ((dut.state_q == 3'd3) && (dut.asked_q == (2'd1 << fill_q))));
      assert (count_t'(dut.occupied_q) == count_t'(filling_q[0]) + count_t'(filling_q[1]) + count_t'(used_q[0])
                                          + count_t'(used_q[1]));
      assert ((filling_q & used_q) == '0);
      assert (dut.take_q == (done_q ^ used_q[0] ^ used_q[1]));
      assert ((used_q == '0) || used_q[done_q]);
      assert ((filling_q == '0) || filling_q[dut.take_q]);
      assert (fill_q == (dut.take_q ^ dut.issued_q[0] ^ dut.issued_q[1]));
      assert ((dut.issued_q == '0) || dut.issued_q[dut.take_q]);
      assert ((filling_q & ~dut.issued_q) == (2'(building) << fill_q));
      assert ((dut.left_q == '0) || (pins_q == count_t'(dut.pinned_left_q)));
      assert (32'(level_q) <= Queue);
      for (int unsigned h = 0; h < 2; h++) begin
        assert (!dut.issued_q[h] || filling_q[h]);
        assert (32'(dut.pending_q[h]) + 32'(dut.asked_q[h]) == 32'(waiting[h]));
        assert (dut.arrived_q[h] == (dut.pending_q[h] == '0));
        assert (filling_q[h] || (waiting[h] == '0));
        if (filling_q[h] || used_q[h]) begin
          assert (((h[0] == fill_q) && building) || ((due_q[h] == '0) && (lanes_q[h] != '0) && (32'(lanes_q[h]) <= Filters)
                                                    && (lanes_q[h] == count_t'(dut.last_lane_q[h]) + 1'b1)));
          assert (filling_q[h] || !dut.issued_q[h]);
          for (int unsigned l = 0; l < Filters; l++) begin
            if ((count_t'(l) < lanes_q[h]) && !((h[0] == fill_q) && building && (count_t'(l) == count_t'(dut.lane_q)))) begin
              assert (dut.index_q[h][l] == filter_q[h][l]);
            end
          end
        end
      end
      for (int unsigned i = 0; i < Queue; i++) begin
        if (count_t'(i) < level_q) begin
          assert ((left_q[i] != '0) && (32'(left_q[i]) + 32'(i == 0 ? next_q : tag_q[i][0]) <= RecordWords));
        end
      end
      if (level_q != '0) begin
        assert (next_q == (dut.within_q ? dut.next_q : tag_q[0][0]));
      end else assert (!dut.within_q);
      if (building) begin
        assert (was_open_q);
        if (dut.state_q == 3'd0) begin
          assert ((lanes_q[fill_q] == count_t'(dut.lane_q)) && (due_q[fill_q] == '0));
          assert (count_t'(dut.last_lane_q[fill_q]) + 1'b1 == count_t'(dut.lane_q));
        end else begin
          assert (lanes_q[fill_q] == count_t'(dut.lane_q) + 1'b1);
          assert (dut.filter_q == filter_q[fill_q][dut.lane_q]);
        end
        if (dut.state_q inside {3'd1, 3'd2}) assert (due_q[fill_q] == (dut.pinned_q ? '0 : count_t'(runs_i)));
        if (dut.state_q == 3'd2) begin
          assert (dut.run_q == '0);
          assert (AddrBits'(dut.offset_q) == AddrBits'(dut.filter_q) * AddrBits'(stride_i));
        end
        if (dut.state_q inside {3'd3, 3'd4}) begin
          assert ((dut.run_first_q < dut.run_end_q) && (32'(dut.run_end_q) <= RecordWords));
          assert (dut.index_q[fill_q][dut.lane_q] == dut.filter_q);
          assert (dut.last_lane_q[fill_q] == dut.lane_q);
          assert (dut.run_q <= runs_i);
          assert (dut.record_q == base_i + ((AddrBits'(dut.filter_q) * AddrBits'(stride_i)) << 1));
        end
        if (dut.state_q == 3'd3) begin
          assert (due_q[fill_q] == (dut.pinned_q ? '0 : count_t'(runs_i) - count_t'(dut.run_q)));
        end
        if (dut.state_q == 3'd4) begin
          assert (!dut.pinned_q && (dut.run_q != '0));
          assert (due_q[fill_q] == count_t'(runs_i) - count_t'(dut.run_q) + 1'b1);
          assert (dut.cmd_words_q == dut.run_end_q - dut.run_first_q);
          assert (dut.cmd_addr_q == dut.record_q + (AddrBits'(dut.run_first_q) << 1));
        end
        if (dut.state_q inside {3'd2, 3'd3, 3'd4}) begin
          assert ((run_first_i < run_end_i) && (32'(run_end_i) <= RecordWords));
        end
      end
    end
  end

  // ---- What may happen -------------------------------------------------------------------------------------------------
  always_comb begin
    if (begun_q) begin
      both: cover (group_valid_o && (used_q != '0));
      refill: cover (data_valid_i && used_q[!bank_half_o]);
      pinned_group: cover (group_valid_o && group_weight_o[WeightBits-1]);
      short_group: cover (group_valid_o && (group_last_lane_o == '0));
    end
  end
endmodule
