// pen_cover: points of functional coverage, bound to the blocks whose situations they name; Verilator counts them where
// PEN_WATCH=coverage asks for it, and sim/coverage.py merges the counts. A point is called group__case; the groups are the
// plan's (docs/verification.md). A point that cannot be reached is waived in sim/coverage.toml, not left out here.

`define PEN_POINT(NAME, CONDITION) NAME: cover property (@(posedge clk_i) rst_ni && (CONDITION));

// The engine's states, in their order.
`define PEN_EACH_STATE(NAME, CONDITION) \
  NAME``__idle: cover property (@(posedge clk_i) (state == 4'd0) && (CONDITION)); \
  NAME``__check: cover property (@(posedge clk_i) (state == 4'd1) && (CONDITION)); \
  NAME``__load: cover property (@(posedge clk_i) (state == 4'd2) && (CONDITION)); \
  NAME``__replay: cover property (@(posedge clk_i) (state == 4'd3) && (CONDITION)); \
  NAME``__settle: cover property (@(posedge clk_i) (state == 4'd4) && (CONDITION)); \
  NAME``__swap: cover property (@(posedge clk_i) (state == 4'd5) && (CONDITION)); \
  NAME``__start: cover property (@(posedge clk_i) (state == 4'd6) && (CONDITION)); \
  NAME``__run: cover property (@(posedge clk_i) (state == 4'd7) && (CONDITION)); \
  NAME``__finish: cover property (@(posedge clk_i) (state == 4'd8) && (CONDITION));

// A step's place in the program; one that is alone is first and last.
`define PEN_EACH_STEP(NAME, CONDITION) \
  `PEN_POINT(NAME``__first, first && (CONDITION)) \
  `PEN_POINT(NAME``__inner, !first && !last && (CONDITION)) \
  `PEN_POINT(NAME``__last, last && (CONDITION))

`define PEN_EACH_KIND(NAME, CONDITION) \
  `PEN_POINT(NAME``_linear, (kind == 2'd0) && (CONDITION)) \
  `PEN_POINT(NAME``_low_rank, (kind == 2'd1) && (CONDITION)) \
  `PEN_POINT(NAME``_paths, (kind == 2'd2) && (CONDITION)) \
  `PEN_POINT(NAME``_classes, (kind == 2'd3) && (CONDITION))

// What the engine goes through, frame by frame and layer by layer.
module pen_engine_cover #(
    parameter int unsigned Steps = 1
) (
    input logic                   clk_i,
    input logic                   rst_ni,
    input logic [3:0]             state,
    // Channels that wait
    input logic                   row_waits,
    input logic                   mark_waits,
    input logic                   ar_waits,
    input logic                   r_silent,      // beats are owed, and none comes
    input logic                   logit_waits,
    input logic                   event_waits,
    input logic                   beat_waits,
    input logic                   command_waits,
    input logic                   filter_waits,
    // Errors
    input logic                   bad_mark,
    input logic                   bus_error,
    input logic                   rresp_low,     // 0: SLVERR, 1: DECERR
    input logic                   timeout,
    input logic                   checksum,
    input logic                   wrong_image,
    input logic                   give_up,
    // Settings
    input logic                   enable,
    input logic [31:0]            base,
    input logic [Steps-1:0][15:0] keeps,
    // The step, and what has been chosen for it
    input logic                   first,
    input logic                   last,
    input logic                   lazy,
    input logic                   by_class,
    input logic                   low_rank,
    input logic                   boolean,
    input logic [1:0]             mode,
    input logic [15:0]            keep,
    input logic [15:0]            filters,
    input logic [15:0]            pinned,
    input logic [15:0]            channels,
    input logic [15:0]            present,
    input logic                   above,
    input logic                   layer_end,
    input logic [15:0]            pushed,
    // Frames
    input logic                   frame_valid,
    input logic                   begin_frame,
    input logic                   frame_done,
    input logic                   next_waits     // the frame after the one that is computed is complete
);
  localparam logic [3:0] Idle = 4'd0, Check = 4'd1, Start = 4'd6;

  logic up_q;  // out of reset in the last cycle
  logic enable_q;
  logic [31:0] base_q;
  logic [Steps-1:0][15:0] keeps_q;
  logic [31:0] since_done_q, idle_q;
  initial up_q = 1'b0;
  always_ff @(posedge clk_i) begin
    up_q <= rst_ni;
    enable_q <= enable;
    base_q <= base;
    keeps_q <= keeps;
    since_done_q <= frame_done ? '0 : since_done_q + 1'b1;
    idle_q <= ((state == Idle) && enable && !frame_valid) ? idle_q + 1'b1 : '0;
  end

  logic start, lazy_start, top, end_above;
  logic [1:0] kind;
  assign start = state == Start;
  assign lazy_start = start && lazy;
  assign top = lazy_start && (mode == 2'd1);
  assign end_above = layer_end && lazy && above;
  assign kind = by_class ? 2'd3 : low_rank ? 2'd1 : boolean ? 2'd2 : 2'd0;

  // Stalls of each channel in each state; those inside in the states in which they carry something.
  `PEN_EACH_STATE(stall_row, rst_ni && row_waits)
  `PEN_EACH_STATE(stall_mark, rst_ni && mark_waits)
  `PEN_EACH_STATE(stall_ar, rst_ni && ar_waits)
  `PEN_EACH_STATE(stall_r, rst_ni && r_silent)
  `PEN_EACH_STATE(stall_logit, rst_ni && logit_waits)
  `PEN_POINT(stall_event__replay, (state == 4'd3) && event_waits)
  `PEN_POINT(stall_event__settle, (state == 4'd4) && event_waits)
  `PEN_POINT(stall_event__run, (state == 4'd7) && event_waits)
  `PEN_EACH_STEP(stall_beat, beat_waits)
  `PEN_EACH_STEP(stall_command, command_waits && (state != Check))
  `PEN_EACH_STEP(stall_filter, filter_waits)

  // Errors in each phase.
  `PEN_POINT(error_slverr__check, (state == Check) && bus_error && !rresp_low)
  `PEN_POINT(error_decerr__check, (state == Check) && bus_error && rresp_low)
  `PEN_EACH_STEP(error_slverr, (state != Check) && bus_error && !rresp_low)
  `PEN_EACH_STEP(error_decerr, (state != Check) && bus_error && rresp_low)
  `PEN_POINT(error_timeout_request__check, (state == Check) && timeout && ar_waits)
  `PEN_POINT(error_timeout_data__check, (state == Check) && timeout && !ar_waits)
  `PEN_EACH_STEP(error_timeout_request, (state != Check) && timeout && ar_waits)
  `PEN_EACH_STEP(error_timeout_data, (state != Check) && timeout && !ar_waits)
  `PEN_EACH_STEP(error_checksum, checksum)
  `PEN_POINT(error_image__frame_waits, wrong_image && frame_valid)
  `PEN_POINT(error_image__no_frame, wrong_image && !frame_valid)
  `PEN_POINT(error_image__frame_goes_without, give_up)
  `PEN_EACH_STATE(error_length, rst_ni && bad_mark)

  // Resets and writes of settings at any time.
  `PEN_EACH_STATE(reset, up_q && !rst_ni)
  `PEN_EACH_STATE(write_keep, up_q && rst_ni && (keeps != keeps_q))
  `PEN_EACH_STATE(write_base, up_q && rst_ni && (base != base_q))
  `PEN_EACH_STATE(write_disable, up_q && rst_ni && enable_q && !enable)

  // k, thresholds and modes with each kind of predictor.
  `PEN_EACH_KIND(keep__none, top && (keep == 16'd0))
  `PEN_EACH_KIND(keep__one, top && (keep == 16'd1) && (filters > 16'd1))
  `PEN_EACH_KIND(keep__some, top && (keep > 16'd1) && (keep < filters))
  `PEN_EACH_KIND(keep__all, top && (keep == filters))
  `PEN_EACH_KIND(keep__more, top && (keep > filters))
  `PEN_EACH_KIND(mode__all, lazy_start && (mode == 2'd0))
  `PEN_EACH_KIND(threshold__none, end_above && (pushed == pinned))
  `PEN_EACH_KIND(threshold__some, end_above && (pushed > pinned) && (pushed < filters))
  `PEN_EACH_KIND(threshold__all, end_above && (pushed == filters) && (filters > pinned))
  `PEN_POINT(pinned__some, start && (pinned != 16'd0) && (pinned < filters))
  `PEN_POINT(pinned__all, start && (pinned != 16'd0) && (pinned == filters))
  `PEN_POINT(pinned__more_than_kept, top && (keep < pinned))
  `PEN_POINT(pinned__as_many_as_kept, top && (keep == pinned) && (keep < filters) && (keep != 16'd0))

  // Channels that are all zero: all of them (an empty frame, in the first step), some, none.
  `PEN_EACH_STEP(absent_dense_all, start && !lazy && (present == 16'd0))
  `PEN_EACH_STEP(absent_dense_some, start && !lazy && (present != 16'd0) && (present < channels))
  `PEN_EACH_STEP(absent_dense_none, start && !lazy && (present == channels))
  `PEN_POINT(absent_lazy_all__first, lazy_start && first && (present == 16'd0))
  `PEN_POINT(absent_lazy_all__inner, lazy_start && !first && (present == 16'd0))
  `PEN_POINT(absent_lazy_some__first, lazy_start && first && (present != 16'd0) && (present < channels))
  `PEN_POINT(absent_lazy_some__inner, lazy_start && !first && (present != 16'd0) && (present < channels))
  `PEN_POINT(absent_lazy_none__first, lazy_start && first && (present == channels))
  `PEN_POINT(absent_lazy_none__inner, lazy_start && !first && (present == channels))

  // Frames back to back and apart.
  `PEN_POINT(frame__back_to_back, begin_frame && (since_done_q <= 32'd2))
  `PEN_POINT(frame__apart, begin_frame && (idle_q >= 32'd64))
  `PEN_POINT(frame__complete_while_computing, (state != Idle) && (state != Check) && next_waits)
  `PEN_POINT(frame__waits_for_enable, (state == Idle) && !enable && frame_valid)
  `PEN_POINT(frame__waits_for_header, begin_frame && (state == Check))
  `PEN_POINT(frame__begins_before_answer_is_read, begin_frame && logit_waits)
endmodule

bind pen_engine pen_engine_cover #(
    .Steps(Steps)
) i_cover (
    .clk_i,
    .rst_ni,
    .state(state_q),
    .row_waits(row_valid_i && !row_ready_o),
    .mark_waits(mark_valid_i && !mark_ready_o),
    .ar_waits(m_axi_arvalid && !m_axi_arready),
    .r_silent((u_read.flight_q != '0) && !m_axi_rvalid && !m_axi_arvalid),
    .logit_waits(logit_valid_o && !logit_ready_i),
    .event_waits(event_valid && !event_ready),
    .beat_waits(beat_valid && !beat_ready),
    .command_waits(cmd_valid && !cmd_ready),
    .filter_waits(chosen_valid && !chosen_ready),
    .bad_mark(mark_valid_i && mark_ready_o && mark_bad_i),
    .bus_error(bus_error_o),
    .rresp_low(m_axi_rresp[0]),
    .timeout(timeout_o),
    .checksum(checksum_o),
    .wrong_image(wrong_image_o),
    .give_up,
    .enable(enable_i),
    .base(image_base_i),
    .keeps(keep_i),
    .first(current_q == '0),
    .last(last_step),
    .lazy(step_q.lazy),
    .by_class(step_q.by_class),
    .low_rank(step_q.rank != '0),
    .boolean(step_q.boolean),
    .mode(mode_q),
    .keep(keep_q),
    .filters(16'(step_q.filters)),
    .pinned(16'(step_q.pinned)),
    .channels(16'(step_q.channels)),
    .present(16'(entries)),
    .above(above_q),
    .layer_end,
    .pushed(16'(pushed_q)),
    .frame_valid,
    .begin_frame,
    .frame_done,
    .next_waits(&u_in.valid_q)
);

// The read master: bursts, errors at each of their beats, giving up.
module pen_axi_read_cover #(
    parameter int unsigned MaxBurst = 256
) (
    input logic        clk_i,
    input logic        rst_ni,
    input logic        ar_valid,
    input logic        ar_ready,
    input logic [7:0]  ar_len,
    input logic [11:0] ar_end,       // the byte behind the burst, in its page
    input logic        splits,       // a burst leaves that does not end its command
    input logic        joins,        // a command joins one that waits
    input logic        flight_full,  // a burst waits for another one's end
    input logic        queue_full,   // a command waits for another one's end
    input logic        beat,
    input logic        r_last,
    input logic        wanted,
    input logic [1:0]  r_resp,
    input logic        timeout,
    input logic        give_up,
    input logic        resume,
    input logic        lost,
    input logic        owing,        // bursts are in flight
    input logic        owed,         // some that nobody waits for
    input logic        open          // a command is
);
  logic first_q, up_q;
  initial up_q = 1'b0;
  always_ff @(posedge clk_i) begin
    up_q <= rst_ni;
    if (beat) first_q <= r_last;
    if (!rst_ni) first_q <= 1'b1;
  end

  `PEN_POINT(burst__one_beat, ar_valid && ar_ready && (ar_len == '0))
  `PEN_POINT(burst__longest, ar_valid && ar_ready && (32'(ar_len) == MaxBurst - 1))
  `PEN_POINT(burst__to_page_end, ar_valid && ar_ready && (ar_end == '0))
  `PEN_POINT(burst__of_several, splits)
  `PEN_POINT(burst__joined, joins)
  `PEN_POINT(burst__waits_for_room, flight_full)
  `PEN_POINT(burst__queue_full, queue_full)
  `PEN_POINT(beat_slverr__only, wanted && (r_resp == 2'b10) && first_q && r_last)
  `PEN_POINT(beat_slverr__first, wanted && (r_resp == 2'b10) && first_q && !r_last)
  `PEN_POINT(beat_slverr__inner, wanted && (r_resp == 2'b10) && !first_q && !r_last)
  `PEN_POINT(beat_slverr__last, wanted && (r_resp == 2'b10) && !first_q && r_last)
  `PEN_POINT(beat_decerr__only, wanted && (r_resp == 2'b11) && first_q && r_last)
  `PEN_POINT(beat_decerr__first, wanted && (r_resp == 2'b11) && first_q && !r_last)
  `PEN_POINT(beat_decerr__inner, wanted && (r_resp == 2'b11) && !first_q && !r_last)
  `PEN_POINT(beat_decerr__last, wanted && (r_resp == 2'b11) && !first_q && r_last)
  `PEN_POINT(silence__request, timeout && ar_valid)
  `PEN_POINT(silence__first_beat, timeout && !ar_valid && first_q)
  `PEN_POINT(silence__inner_beat, timeout && !ar_valid && !first_q)
  `PEN_POINT(lost__request_stays, lost && ar_valid && !ar_ready)
  `PEN_POINT(lost__request_is_taken, lost && ar_valid && ar_ready)
  `PEN_POINT(lost__nothing_owed, lost && !owing)
  `PEN_POINT(lost__beat_is_dropped, lost && beat)
  `PEN_POINT(lost__told_to, give_up)
  `PEN_POINT(late__resumed_before_all_came, resume && lost && owing)
  `PEN_POINT(late__beat_while_the_next_waits, !lost && owed && beat && open)
  late__reset_before_all_came: cover property (@(posedge clk_i) up_q && !rst_ni && owing);
endmodule

bind pen_axi_read pen_axi_read_cover #(
    .MaxBurst(MaxBurst)
) i_cover (
    .clk_i,
    .rst_ni,
    .ar_valid(m_axi_arvalid),
    .ar_ready(m_axi_arready),
    .ar_len(m_axi_arlen),
    .ar_end(12'(m_axi_araddr[11:0] + ((12'(m_axi_arlen) + 12'd1) << ByteBits))),
    .splits(issue && !final_q),
    .joins(take && !join_starts),
    .flight_full(split_valid_q && limit_known_q && !record_ready),
    .queue_full(cmd_valid_i && !open_ready),
    .beat,
    .r_last(m_axi_rlast),
    .wanted,
    .r_resp(m_axi_rresp),
    .timeout(timeout_o),
    .give_up(give_up_i),
    .resume(resume_i),
    .lost(lost_q),
    .owing(flight_q != '0),
    .owed(owed_q != '0),
    .open(open_valid)
);

// The pixel port: frames of any length, back to back and apart, with every channel stalled.
module pen_pixel_in_cover (
    input logic clk_i,
    input logic rst_ni,
    input logic valid,
    input logic ready,
    input logic tlast,
    input logic first_pixel,
    input logic last_pixel,
    input logic last_but_one,
    input logic fills,
    input logic drops,
    input logic row_waits,
    input logic mark_waits
);
  logic beat, was_last_q, dropped_q;
  logic [31:0] quiet_q;
  assign beat = valid && ready;
  always_ff @(posedge clk_i) begin
    if (beat) was_last_q <= tlast;
    if (beat) dropped_q <= drops;
    quiet_q <= beat ? '0 : quiet_q + 1'b1;
    if (!rst_ni) was_last_q <= 1'b0;
  end

  `PEN_POINT(short__first_pixel, beat && !drops && tlast && first_pixel && !last_pixel)
  `PEN_POINT(short__inner_pixel, beat && !drops && tlast && !first_pixel && !last_pixel && !last_but_one)
  `PEN_POINT(short__last_pixel_but_one, beat && !drops && tlast && last_but_one)
  `PEN_POINT(long__by_one, beat && drops && tlast && !dropped_q)
  `PEN_POINT(long__by_more, beat && drops && tlast && dropped_q)
  `PEN_POINT(pixel__waits_for_room, valid && !ready && !fills)
  `PEN_POINT(pixel__waits_for_zeros, valid && !ready && fills)
  `PEN_POINT(pixel__row_waits, row_waits && !fills && !drops)
  `PEN_POINT(pixel__row_of_zeros_waits, row_waits && fills)
  `PEN_POINT(pixel__row_waits_while_dropping, row_waits && drops)
  `PEN_POINT(pixel__mark_waits, mark_waits)
  `PEN_POINT(pixel__pause, beat && !first_pixel && (quiet_q != '0))
  `PEN_POINT(frames__back_to_back, beat && was_last_q && (quiet_q == '0))
  `PEN_POINT(frames__apart, beat && was_last_q && (quiet_q >= 32'd16))
endmodule

bind pen_pixel_in pen_pixel_in_cover i_cover (
    .clk_i,
    .rst_ni,
    .valid(pixel_valid_i),
    .ready(pixel_ready_o),
    .tlast(pixel_last_i),
    .first_pixel(count_q == '0),
    .last_pixel(frame_end),
    .last_but_one(32'(count_q) + 2 == FramePixels),
    .fills(fill_q),
    .drops(drop_q),
    .row_waits(row_valid_o && !row_ready_i),
    .mark_waits(mark_valid_o && !mark_ready_i)
);

// A head stage between its streams.
module pen_conv_stage_cover (
    input logic clk_i,
    input logic rst_ni,
    input logic in_waits,
    input logic in_quiet,
    input logic out_waits
);
  `PEN_POINT(stage__in_waits, in_waits && !out_waits)
  `PEN_POINT(stage__out_waits, out_waits && !in_waits)
  `PEN_POINT(stage__both_wait, in_waits && out_waits)
  `PEN_POINT(stage__out_waits_without_input, out_waits && in_quiet)
endmodule

bind pen_conv_stage pen_conv_stage_cover i_cover (
    .clk_i,
    .rst_ni,
    .in_waits(row_valid_i && !row_ready_o),
    .in_quiet(!row_valid_i),
    .out_waits(row_valid_o && !row_ready_i)
);

// Groups of filters and the two halves of the banks.
module pen_fetch_cover (
    input logic clk_i,
    input logic rst_ni,
    input logic start,
    input logic [15:0] count,
    input logic group_ends,     // its last filter has been asked for
    input logic last_lane,
    input logic pinned,
    input logic ends_early,     // the layer has fewer filters than it might
    input logic within_group,
    input logic take,
    input logic [1:0] occupied,
    input logic no_runs,        // of a filter that is not pinned
    input logic command_waits,
    input logic filter_waits,
    input logic waits_data,
    input logic waits_filter
);
  `PEN_POINT(group__no_filter, start && (count == '0))
  `PEN_POINT(group__full, group_ends && last_lane && !pinned)
  `PEN_POINT(group__short, group_ends && !last_lane && !pinned)
  `PEN_POINT(group__full_pinned, group_ends && last_lane && pinned)
  `PEN_POINT(group__short_pinned, group_ends && !last_lane && pinned)
  `PEN_POINT(group__cut_by_the_end, ends_early && within_group)
  `PEN_POINT(group__end_between_groups, ends_early && !within_group)
  `PEN_POINT(group__nothing_to_fetch, no_runs)
  `PEN_POINT(half__taken_while_the_other_drains, take && (occupied == 2'd2))
  `PEN_POINT(half__taken_alone, take && (occupied == 2'd1))
  `PEN_POINT(half__both_full, filter_waits && (occupied == 2'd2))
  `PEN_POINT(half__command_waits, command_waits)
  `PEN_POINT(half__compute_waits_for_data, waits_data)
  `PEN_POINT(half__compute_waits_for_filters, waits_filter)
endmodule

bind pen_fetch pen_fetch_cover i_cover (
    .clk_i,
    .rst_ni,
    .start(start_i),
    .count(16'(count_i)),
    .group_ends((state_q == Run) && runs_end && lane_end),
    .last_lane(lane_q == LaneBits'(Filters - 1)),
    .pinned(pinned_q),
    .ends_early((state_q == Wait) && end_i && !chosen_valid_i && (left_q != '0)),
    .within_group(lane_q != '0),
    .take(group_take_i),
    .occupied(occupied_q),
    .no_runs((state_q == Run) && !pinned_q && (runs_i == '0)),
    .command_waits(cmd_valid_o && !cmd_ready_i),
    .filter_waits((state_q == Wait) && chosen_valid_i && !chosen_ready_o),
    .waits_data(waits_data_o),
    .waits_filter(waits_filter_o)
);

// The selection: ties at the edge, and how many of a word are chosen.
module pen_select_cover #(
    parameter int unsigned Lanes = 8
) (
    input logic             clk_i,
    input logic             rst_ni,
    input logic             start,
    input logic             above_i,
    input logic [15:0]      keep,
    input logic [15:0]      filters,
    input logic             marks,    // a word's scores are compared
    input logic             above,
    input logic [Lanes-1:0] equal,
    input logic [Lanes-1:0] chosen,
    input logic             barred,   // some of the word's scores are
    input logic             waits
);
  logic any_equal, cut;
  assign any_equal = marks && !above && (equal != '0);
  assign cut = (equal & ~chosen) != '0;

  `PEN_POINT(select__one, start && !above_i && (keep == 16'd1))
  `PEN_POINT(select__all_but_one, start && !above_i && (keep + 16'd1 == filters) && (keep > 16'd1))
  `PEN_POINT(select__above, start && above_i)
  `PEN_POINT(select__barred, marks && barred)
  `PEN_POINT(select__stream_waits, waits)
  `PEN_POINT(select__word_of_none, marks && (chosen == '0))
  `PEN_POINT(select__word_of_some, marks && (chosen != '0) && (chosen != '1))
  `PEN_POINT(select__word_of_all, marks && (chosen == '1))
  `PEN_POINT(tie__cut, any_equal && cut && ((equal & chosen) != '0))
  `PEN_POINT(tie__all_in, any_equal && !cut)
  `PEN_POINT(tie__all_out, any_equal && ((equal & chosen) == '0))
  `PEN_POINT(tie__with_the_threshold, marks && above && (equal != '0))
endmodule

bind pen_select pen_select_cover #(
    .Lanes(Lanes)
) i_cover (
    .clk_i,
    .rst_ni,
    .start(start_i),
    .above_i,
    .keep(16'(keep_i)),
    .filters(16'(filters_i)),
    .marks(state_q == Mark),
    .above(above_q),
    .equal(equal_q),
    .chosen(mark),
    .barred(barred_i != '0),
    .waits(chosen_valid_o && !chosen_ready_i)
);

// The control port.
module pen_axil_cover (
    input logic       clk_i,
    input logic       rst_ni,
    input logic       aw,
    input logic       w,
    input logic       aw_waits,
    input logic       w_waits,
    input logic       ar_waits,
    input logic       b_waits,
    input logic       r_waits,
    input logic       aw_full,
    input logic       w_full,
    input logic       ar_full,
    input logic       busy,
    input logic       wrote,
    input logic       ack,
    input logic       ack_error,
    input logic [3:0] strobe
);
  `PEN_POINT(control_stall__aw, aw_waits)
  `PEN_POINT(control_stall__w, w_waits)
  `PEN_POINT(control_stall__b, b_waits)
  `PEN_POINT(control_stall__ar, ar_waits)
  `PEN_POINT(control_stall__r, r_waits)
  `PEN_POINT(control__address_first, aw_full && !w_full && w)
  `PEN_POINT(control__data_first, w_full && !aw_full && aw)
  `PEN_POINT(control__both_at_once, aw && w && !aw_full && !w_full)
  `PEN_POINT(control__read_waits_for_write, busy && wrote && ar_full)
  `PEN_POINT(control__write_waits_for_read, busy && !wrote && aw_full && w_full)
  `PEN_POINT(control__write_refused, ack && wrote && ack_error)
  `PEN_POINT(control__read_refused, ack && !wrote && ack_error)
  `PEN_POINT(control__part_of_a_word, w && (strobe != '0) && (strobe != '1))
  `PEN_POINT(control__no_byte, w && (strobe == '0))
endmodule

bind pen_axil pen_axil_cover i_cover (
    .clk_i,
    .rst_ni,
    .aw(s_axil_awvalid && s_axil_awready),
    .w(s_axil_wvalid && s_axil_wready),
    .aw_waits(s_axil_awvalid && !s_axil_awready),
    .w_waits(s_axil_wvalid && !s_axil_wready),
    .ar_waits(s_axil_arvalid && !s_axil_arready),
    .b_waits(s_axil_bvalid && !s_axil_bready),
    .r_waits(s_axil_rvalid && !s_axil_rready),
    .aw_full(aw_full_q),
    .w_full(w_full_q),
    .ar_full(ar_full_q),
    .busy(busy_q),
    .wrote(wrote_q),
    .ack(ack_i),
    .ack_error(ack_error_i),
    .strobe(s_axil_wstrb)
);
