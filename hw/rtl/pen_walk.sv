// Walks one pass: all kept taps of all present channels, for one window and one group of filters, one tap per cycle.
//
// Channels come from a list (`entry_*`): where the channel's map lies, where its weights lie in a record, and which of
// its taps are kept. The list is walked in a circle, once per pass, so the entry after the last is the first again and
// passes follow each other without a gap. Taps that reach nothing in this window (`pass_reach_i`) are skipped; a channel
// with no tap left, and a pass with no channel at all, takes one cycle with all lanes masked.
//
// The last step of a pass waits for `room_i`: somebody must be there to take the sums. `last_issue_o` is high in the cycle
// that issues it, which is also the first that takes the next pass; `release_o` follows a cycle later if the pass was its
// window's last. `op_*` leaves 2 cycles after its step was issued, without back-pressure; the first step of a pass is
// issued in the cycle after the pass was taken. `prime_i` (list complete, nothing in flight, no pass offered) reads the
// list's first entries; a pass is taken 4 cycles after it at the earliest.
module pen_walk #(
  parameter int unsigned Pixels     = 4,
  parameter int unsigned PixelBits  = 10,
  parameter int unsigned MaxTaps    = 9,
  parameter int unsigned IndexBits  = 8,
  parameter int unsigned WordBits   = 8,   // address of a word in the map memory
  parameter int unsigned WeightBits = 10,  // address of a weight
  parameter int unsigned RingWords  = 0,   // words of a channel's ring, a power of two; 0: whole maps
  localparam int unsigned TapBits    = (MaxTaps > 1) ? $clog2(MaxTaps) : 1,
  localparam int unsigned OffsetBits = (Pixels > 1) ? $clog2(Pixels) : 1
) (
  input  logic                        clk_i,
  input  logic                        rst_ni,
  // Channel list
  input  logic                        prime_i,
  input  logic [IndexBits-1:0]        entries_i,
  output logic                        entry_read_o,
  output logic [IndexBits-1:0]        entry_addr_o,
  input  logic [WordBits-1:0]         entry_map_i,
  input  logic [WeightBits-1:0]       entry_weight_i,
  input  logic [MaxTaps-1:0]          entry_taps_i,
  // Passes
  input  logic                        pass_valid_i,
  output logic                        pass_ready_o,
  input  logic                        pass_half_i,     // window
  input  logic                        pass_release_i,  // this pass is the window's last
  input  logic [MaxTaps-1:0]          pass_reach_i,
  input  logic [WeightBits-1:0]       pass_weight_i,   // added to the entries'
  input  logic [WordBits-1:0]         pass_ring_i,     // first word of the frame in the ring
  input  logic                        room_i,
  output logic                        last_issue_o,    // the last step of a pass is issued
  // Window lookup
  output logic                        lookup_half_o,
  output logic [TapBits-1:0]          lookup_tap_o,
  input  logic [Pixels-1:0]           lookup_mask_i,
  input  logic signed [PixelBits-1:0] lookup_pixel_i,
  output logic                        release_o,
  // Steps
  output logic                        op_valid_o,
  output logic                        op_first_o,
  output logic                        op_last_o,
  output logic [WordBits-1:0]         op_word0_o,
  output logic [WordBits-1:0]         op_word1_o,
  output logic [OffsetBits-1:0]       op_offset_o,
  output logic [Pixels-1:0]           op_mask_o,
  output logic [WeightBits-1:0]       op_weight_o
);

  if (Pixels < 1 || (Pixels & (Pixels - 1)) != 0) begin : gen_bad_pixels
    $fatal(1, "pen_walk %m: Pixels must be a power of two");
  end
  if (RingWords == 1 || (RingWords & (RingWords - 1)) != 0) begin : gen_bad_ring
    $fatal(1, "pen_walk %m: RingWords must be 0 or a power of two of at least 2");
  end

  typedef struct packed {
    logic [WordBits-1:0]   map;
    logic [WeightBits-1:0] weight;
    logic [MaxTaps-1:0]    taps;
  } entry_t;

  entry_t entry_next, entry_q;
  assign entry_next = '{map: entry_map_i, weight: entry_weight_i, taps: entry_taps_i};

  // ---- Circular list: `entry_q` is the current one, the memory's output the next -------------------------------------------
  logic                 primed_q;
  logic [1:0]           priming_q;
  logic [IndexBits-1:0] addr_q;
  logic                 advance;

  assign entry_read_o = advance || (priming_q == 2'd3) || (priming_q == 2'd2);
  assign entry_addr_o = addr_q;

  always_ff @(posedge clk_i) begin
    if (entry_read_o) addr_q <= (addr_q + 1'b1 >= entries_i) ? '0 : addr_q + 1'b1;
    if (advance || (priming_q == 2'd2)) entry_q <= entry_next;
    if (priming_q != '0) priming_q <= priming_q - 1'b1;
    if (priming_q == 2'd1) primed_q <= 1'b1;
    if (prime_i) begin
      priming_q <= 2'd3;
      primed_q <= 1'b0;
      addr_q <= '0;
    end
    if (!rst_ni) begin
      priming_q <= '0;
      primed_q <= 1'b0;
    end
  end

  // ---- One step per cycle ---------------------------------------------------------------------------------------------------
  logic                  busy_q, first_q, half_q, release_q;
  logic [MaxTaps-1:0]    reach_q, rest_q, rest_after;
  logic [IndexBits-1:0]  left_q;
  logic [WeightBits-1:0] weight_q;
  logic [WordBits-1:0]   ring_q;
  logic [TapBits-1:0]    tap;
  logic                  empty, none, channel_end, pass_end, issue;

  always_comb begin
    tap = '0;
    for (int unsigned t = MaxTaps; t > 0; t--) begin
      if (rest_q[t-1]) tap = TapBits'(t - 1);
    end
  end

  assign none = entries_i == '0;
  assign empty = rest_q == '0;
  assign rest_after = rest_q & (rest_q - 1'b1);
  assign channel_end = rest_after == '0;
  assign pass_end = channel_end && (left_q <= IndexBits'(1));
  assign issue = busy_q && (!pass_end || room_i);
  assign advance = issue && channel_end;
  assign last_issue_o = issue && pass_end;
  assign pass_ready_o = primed_q && (!busy_q || last_issue_o);

  always_ff @(posedge clk_i) begin
    if (issue) begin
      first_q <= 1'b0;
      rest_q <= channel_end ? (entry_next.taps & reach_q) : rest_after;
      if (channel_end) left_q <= left_q - 1'b1;
      if (pass_end) busy_q <= 1'b0;
    end
    if (pass_valid_i && pass_ready_o) begin
      busy_q <= 1'b1;
      first_q <= 1'b1;
      half_q <= pass_half_i;
      release_q <= pass_release_i;
      reach_q <= pass_reach_i;
      weight_q <= pass_weight_i;
      ring_q <= pass_ring_i;
      left_q <= entries_i;
      rest_q <= none ? '0 : (busy_q ? entry_next.taps : entry_q.taps) & pass_reach_i;
    end
    if (!rst_ni) busy_q <= 1'b0;
  end

  // ---- Step 1: the tap's place in the window, and the rank of its weight among the channel's kept taps -----------------------
  logic                s1_valid_q, s1_first_q, s1_last_q, s1_empty_q, s1_release_q, s1_half_q;
  logic [TapBits-1:0]  s1_tap_q;
  entry_t              s1_entry_q;
  logic [WordBits-1:0] s1_ring_q;
  logic [MaxTaps-1:0]    s1_before;  // kept taps before this one

  always_ff @(posedge clk_i) begin
    s1_valid_q <= issue;
    s1_first_q <= first_q;
    s1_last_q <= pass_end;
    s1_empty_q <= empty;
    s1_release_q <= issue && pass_end && release_q;
    s1_half_q <= half_q;
    s1_tap_q <= tap;
    s1_entry_q <= '{map: entry_q.map, weight: entry_q.weight + weight_q, taps: entry_q.taps};
    s1_ring_q <= ring_q;
    if (!rst_ni) begin
      s1_valid_q <= 1'b0;
      s1_release_q <= 1'b0;
    end
  end

  assign lookup_half_o = s1_half_q;
  assign lookup_tap_o = s1_tap_q;
  assign release_o = s1_release_q;

  always_comb begin
    for (int unsigned t = 0; t < MaxTaps; t++) s1_before[t] = (t < 32'(s1_tap_q)) && s1_entry_q.taps[t];
  end

  // ---- Step 2: addresses --------------------------------------------------------------------------------------------------------
  logic [WordBits-1:0] word, word_next;
  assign word = WordBits'(lookup_pixel_i >>> $clog2(Pixels));

  if (RingWords > 0) begin : gen_ring
    localparam logic [WordBits-1:0] RingMask = WordBits'(RingWords - 1);
    assign word_next = s1_entry_q.map + ((word + s1_ring_q + 1'b1) & RingMask);
    always_ff @(posedge clk_i) op_word0_o <= s1_entry_q.map + ((word + s1_ring_q) & RingMask);
  end else begin : gen_whole
    assign word_next = s1_entry_q.map + s1_ring_q + word + 1'b1;
    always_ff @(posedge clk_i) op_word0_o <= s1_entry_q.map + s1_ring_q + word;
  end

  always_ff @(posedge clk_i) begin
    op_valid_o <= s1_valid_q;
    op_first_o <= s1_first_q;
    op_last_o <= s1_last_q;
    op_word1_o <= word_next;
    op_offset_o <= (Pixels > 1) ? OffsetBits'(lookup_pixel_i) : '0;
    op_mask_o <= s1_empty_q ? '0 : lookup_mask_i;
    op_weight_o <= s1_entry_q.weight + WeightBits'($countones(s1_before));
    if (!rst_ni) op_valid_o <= 1'b0;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!(prime_i && busy_q)) else $error("%m: primed in the middle of a pass");
      assert (!(prime_i && pass_valid_i && pass_ready_o)) else $error("%m: a pass is taken while the list is primed");
      assert (!op_valid_o || (op_word0_o[0] != op_word1_o[0])) else $error("%m: two words of one parity");
    end
  end
`endif

endmodule
