// Walks one pass: all kept taps of all present channels, for one window and one group of filters, one tap per cycle.
//
// Channels come from a list (`entry_*`): where the channel's map lies, where its weights lie in a record, and which of
// its taps are kept. The list is walked in a circle, once per pass, so the entry after the last is the first again and
// passes follow each other without a gap. Taps that reach nothing in this window (`pass_reach_i`) are skipped; a channel
// with no tap left, and a pass with no channel at all, takes one cycle with all lanes masked.
//
// The last step of a pass waits for `room_i`: somebody must be there to take the sums. `last_issue_o` is high in the cycle
// that issues it, which is also the first that takes the next pass; `release_o` follows a cycle later if the pass was its
// window's last. A tap is looked up in the cycle that issues its step, and `op_*` leaves in the next, through an adder,
// without back-pressure; the first step of a pass is issued in the cycle after the pass was taken. `prime_i` (list
// complete, nothing in flight, no pass offered) reads the list's first entries; a pass is taken 4 cycles after it at the
// earliest. With rings, `entry_map_i` is a multiple of `RingWords`.
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

  localparam int unsigned PlaceBits = (RingWords > 0) ? $clog2(RingWords) : WordBits;  // of a word in its ring, or map

  logic unused_bits;
  assign unused_bits = ^pass_ring_i;

  typedef struct packed {
    logic [WordBits-1:0]   map;
    logic [WeightBits-1:0] weight;
    logic [MaxTaps-1:0]    taps;
  } entry_t;

  // ---- Circular list: `entry_q` is the current one, `next_q` follows, and the memory's output after that ---------------------
  entry_t               entry_q, next_q;
  logic                 primed_q;
  logic [1:0]           priming_q;
  logic [IndexBits-1:0] addr_q;
  logic                 advance, shift;

  assign shift = advance || (priming_q == 2'd2) || (priming_q == 2'd1);
  assign entry_read_o = advance || (priming_q != '0);
  assign entry_addr_o = addr_q;

  always_ff @(posedge clk_i) begin
    if (entry_read_o) addr_q <= (addr_q + 1'b1 >= entries_i) ? '0 : addr_q + 1'b1;
    if (shift) begin
      entry_q <= next_q;
      next_q <= '{map: entry_map_i, weight: entry_weight_i, taps: entry_taps_i};
    end
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
  logic                  channel_end_q;  // `rest_q` has one tap at most
  logic                  last_channel_q;
  logic [MaxTaps-1:0]    reach_q, rest_q;
  logic [IndexBits-1:0]  left_q;         // channels after this one
  logic [WeightBits-1:0] weight_q;
  logic [PlaceBits-1:0]  ring_q;
  logic                  take, none, pass_end, issue;

  assign take = pass_valid_i && pass_ready_o;
  assign none = entries_i == '0;
  assign pass_end = channel_end_q && last_channel_q;
  assign issue = busy_q && (!pass_end || room_i);
  assign advance = issue && channel_end_q;
  assign last_issue_o = issue && pass_end;
  assign pass_ready_o = primed_q && (!busy_q || last_issue_o);

  // What `rest_q` may become, each with its `channel_end_q`, so that what decides between them comes last.
  typedef struct packed {
    logic               last;
    logic [MaxTaps-1:0] taps;
  } rest_t;

  function automatic rest_t rest(input logic [MaxTaps-1:0] taps);
    return '{last: (taps & (taps - 1'b1)) == '0, taps: taps};
  endfunction

  rest_t rest_here, rest_next, rest_first, rest_second;
  assign rest_here = rest(rest_q & (rest_q - 1'b1));
  assign rest_next = rest(next_q.taps & reach_q);
  assign rest_first = rest(entry_q.taps & pass_reach_i);  // of the next pass, the list standing still
  assign rest_second = rest(next_q.taps & pass_reach_i);  // or moving on

  always_ff @(posedge clk_i) begin
    if (issue) {channel_end_q, rest_q} <= channel_end_q ? rest_next : rest_here;
    if (take) {channel_end_q, rest_q} <= none ? rest('0) : busy_q ? rest_second : rest_first;
    if (issue) begin
      first_q <= 1'b0;
      if (channel_end_q) begin
        left_q <= left_q - 1'b1;
        last_channel_q <= left_q <= IndexBits'(1);
      end
      if (pass_end) busy_q <= 1'b0;
    end
    if (take) begin
      busy_q <= 1'b1;
      first_q <= 1'b1;
      half_q <= pass_half_i;
      release_q <= pass_release_i;
      reach_q <= pass_reach_i;
      weight_q <= pass_weight_i;
      ring_q <= PlaceBits'(pass_ring_i);
      left_q <= entries_i - 1'b1;
      last_channel_q <= entries_i <= IndexBits'(1);
    end
    if (!rst_ni) busy_q <= 1'b0;
  end

  // The tap, and the rank of its weight among the channel's kept taps.
  logic [TapBits-1:0] tap;
  logic [MaxTaps-1:0] kept_below;
  always_comb begin
    tap = '0;
    for (int unsigned t = MaxTaps; t > 0; t--) begin
      if (rest_q[t-1]) tap = TapBits'(t - 1);
    end
    kept_below = entry_q.taps & ~rest_q & (rest_q - 1'b1);
  end

  assign lookup_half_o = half_q;
  assign lookup_tap_o = tap;

  // ---- Addresses ------------------------------------------------------------------------------------------------------------
  logic                        s1_valid_q, s1_first_q, s1_last_q, s1_release_q;
  logic [Pixels-1:0]           s1_mask_q;
  logic signed [PixelBits-1:0] s1_pixel_q;
  logic [PlaceBits-1:0]        s1_word;
  logic [WeightBits-1:0]       s1_weight_q, s1_rank_q;

  always_ff @(posedge clk_i) begin
    s1_valid_q <= issue;
    s1_first_q <= first_q;
    s1_last_q <= pass_end;
    s1_release_q <= issue && pass_end && release_q;
    s1_mask_q <= (rest_q == '0) ? '0 : lookup_mask_i;
    s1_pixel_q <= lookup_pixel_i;
    s1_rank_q <= WeightBits'($countones(kept_below));
    s1_weight_q <= entry_q.weight + weight_q;
    if (!rst_ni) begin
      s1_valid_q <= 1'b0;
      s1_release_q <= 1'b0;
    end
  end

  assign s1_word = PlaceBits'(s1_pixel_q >>> $clog2(Pixels));

  // The second word is added up beside the first, not after it.
  if (RingWords > 0) begin : gen_ring
    logic [WordBits-1:0]  map_q;
    logic [PlaceBits-1:0] ring_first_q, ring_next_q, first, next;
    always_ff @(posedge clk_i) begin
      map_q <= entry_q.map;
      ring_first_q <= ring_q;
      ring_next_q <= ring_q + 1'b1;
    end
    assign first = s1_word + ring_first_q;
    assign next = s1_word + ring_next_q;
    assign op_word0_o = map_q | WordBits'(first);
    assign op_word1_o = map_q | WordBits'(next);
  end else begin : gen_whole
    logic [WordBits-1:0] map_first_q, map_next_q;
    always_ff @(posedge clk_i) begin
      map_first_q <= entry_q.map + ring_q;
      map_next_q <= entry_q.map + ring_q + 1'b1;
    end
    assign op_word0_o = map_first_q + s1_word;
    assign op_word1_o = map_next_q + s1_word;
  end

  assign release_o = s1_release_q;
  assign op_valid_o = s1_valid_q;
  assign op_first_o = s1_first_q;
  assign op_last_o = s1_last_q;
  assign op_offset_o = (Pixels > 1) ? OffsetBits'(s1_pixel_q) : '0;
  assign op_mask_o = s1_mask_q;
  assign op_weight_o = s1_weight_q + s1_rank_q;

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!(prime_i && busy_q)) else $error("%m: primed in the middle of a pass");
      assert (!(prime_i && pass_valid_i && pass_ready_o)) else $error("%m: a pass is taken while the list is primed");
      assert (!op_valid_o || (op_word0_o[0] != op_word1_o[0])) else $error("%m: two words of one parity");
      assert ((RingWords == 0) || !take || (WordBits'(entry_q.map & WordBits'(RingWords - 1)) == '0))
        else $error("%m: a ring begins at word %0d", entry_q.map);
    end
  end
`endif

endmodule
