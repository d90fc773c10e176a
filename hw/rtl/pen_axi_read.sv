// pen_axi_read: an AXI4 read master that turns commands "so many bus words from here" into bursts.
//
// Contract
//   Commands   `cmd_addr_i` is aligned to the bus, `cmd_words_i` is at least 1. Up to `Commands` of them are between their
//              acceptance and their last word, so that the bursts of the next ones are requested while data of earlier
//              ones still returns: commands that follow each other lose no bus cycle as long as `Outstanding` covers the
//              memory's latency. One at most is taken every second cycle.
//   Bursts     INCR, full bus width, at most `MaxBurst` beats, never across a 4 KB boundary; as long as these rules
//              allow, from the command's first word on. A command of one burst issues in one cycle, the further bursts
//              of a longer command every second cycle (the split arithmetic is registered).
//   Joining    While at least `JoinAbove` words are in flight, the bus is busy and a command that waits for its request
//              is joined by those that continue it in memory, up to `MaxBurst` words: they share a burst. The wait
//              ends when a command comes that does not continue it, or when fewer words are in flight. 0: no joining.
//   In flight  at most `Outstanding` bursts between their request and their last beat. No IDs: data comes in order.
//   Latency    ARVALID of a command that finds the module idle: 4 cycles after the one in which it is taken. Data passes
//              in the cycle in which the bus delivers it.
//   Data       one word per `data_valid_o`, in address order within a command and in order of commands, tagged with the
//              command's tag; `data_last_o` marks the last word of a command. There is no back-pressure: RREADY is
//              constant 1 and the consumer always takes.
//   Errors     `error_o` pulses with each beat whose RRESP is not OKAY; the beat is delivered like any other.
//   Giving up  When commands wait for words and for more than `timeout_i` cycles (0: for ever) no request is taken and no
//              beat comes, `timeout_o` pulses, and the module gives up; `give_up_i` makes it do so too. From the next cycle
//              on (`lost_o`) it requests nothing more, and gives every command, old and new, its words at once: one per
//              cycle, with any data. `resume_i` ends that, when no command is open; the next one may come the cycle after.
//              A request on the bus stays there until it is taken. Beats that the memory still owes are taken and dropped
//              whenever they come, before those of later commands; until then their bursts count as in flight.
//   Idle       `idle_o` is high while no accepted command has words outstanding: low from the cycle after a command is
//              taken to the cycle of its last word.
//   Reset      forgets all commands. The memory port must be reset with it, or be quiet: beats that answer a forgotten
//              burst are dropped as long as no new burst is in flight.
module pen_axi_read #(
    parameter int unsigned AddrBits    = 32,
    parameter int unsigned BusBytes    = 4,    // 1..128, a power of two
    parameter int unsigned WordsBits   = 16,   // width of a command's length in bus words
    parameter int unsigned TagBits     = 1,
    parameter int unsigned MaxBurst    = 256,  // 1..256
    parameter int unsigned Outstanding = 4,
    parameter int unsigned Commands    = 2 * Outstanding + 2,
    parameter int unsigned JoinAbove   = 0
) (
    input  logic                  clk_i,
    input  logic                  rst_ni,

    input  logic                  cmd_valid_i,
    output logic                  cmd_ready_o,
    input  logic [AddrBits-1:0]   cmd_addr_i,  // byte address of the first word
    input  logic [WordsBits-1:0]  cmd_words_i,
    input  logic [TagBits-1:0]    cmd_tag_i,

    output logic                  data_valid_o,
    output logic [8*BusBytes-1:0] data_o,
    output logic [TagBits-1:0]    data_tag_o,
    output logic                  data_last_o,

    input  logic [31:0]           timeout_i,
    input  logic                  give_up_i,
    input  logic                  resume_i,
    output logic                  timeout_o,
    output logic                  lost_o,

    output logic                  error_o,
    output logic                  idle_o,

    output logic [AddrBits-1:0]   m_axi_araddr,
    output logic [7:0]            m_axi_arlen,
    output logic [2:0]            m_axi_arsize,
    output logic [1:0]            m_axi_arburst,
    output logic [2:0]            m_axi_arprot,
    output logic [3:0]            m_axi_arcache,
    output logic                  m_axi_arvalid,
    input  logic                  m_axi_arready,
    input  logic [8*BusBytes-1:0] m_axi_rdata,
    input  logic [1:0]            m_axi_rresp,
    input  logic                  m_axi_rlast,
    input  logic                  m_axi_rvalid,
    output logic                  m_axi_rready
);
  if (BusBytes < 1 || BusBytes > 128 || (BusBytes & (BusBytes - 1)) != 0) begin : gen_bad_bus
    $fatal(1, "pen_axi_read %m: BusBytes must be a power of two from 1 to 128");
  end
  if (MaxBurst < 1 || MaxBurst > 256) begin : gen_bad_burst
    $fatal(1, "pen_axi_read %m: MaxBurst must be 1 to 256, the beats that ARLEN can say");
  end
  if (Outstanding < 1) begin : gen_bad_outstanding
    $fatal(1, "pen_axi_read %m: Outstanding must be at least 1");
  end
  if (Commands < 2) begin : gen_bad_commands
    $fatal(1, "pen_axi_read %m: Commands must be at least 2");
  end
  if (AddrBits < 13) begin : gen_bad_addr
    $fatal(1, "pen_axi_read %m: AddrBits must be at least 13, more than one 4 KB page");
  end
  if (WordsBits < 1 || TagBits < 1) begin : gen_bad_widths
    $fatal(1, "pen_axi_read %m: WordsBits and TagBits must be at least 1");
  end

  localparam int unsigned ByteBits = $clog2(BusBytes);
  localparam int unsigned PageBits = 12 - ByteBits;  // of a word's index in its 4 KB page
  localparam int unsigned BurstBits = 8;             // of a burst's length less one, as ARLEN
  localparam int unsigned LengthBits = (WordsBits > BurstBits) ? WordsBits : BurstBits;
  localparam int unsigned FlightBits = $clog2(Outstanding * MaxBurst + 1);

  // ---- Commands whose words have not all come ---------------------------------------------------------------------
  logic open_valid, open_ready;
  logic [TagBits-1:0] open_tag;
  logic [WordsBits-1:0] open_last;  // its words, less one
  logic [WordsBits-1:0] seen_q;  // words of the oldest one that have come
  logic lost_q;                  // given up
  logic put;                     // a command enters
  logic [$clog2(Commands+1)-1:0] unused_open_level;

  pen_fifo #(
      .Width(TagBits + WordsBits),
      .Depth(Commands)
  ) u_open (
      .clk_i,
      .rst_ni,
      .valid_i(put),
      .ready_o(open_ready),
      .data_i ({cmd_tag_i, cmd_words_i - 1'b1}),
      .valid_o(open_valid),
      .ready_i(data_last_o),
      .data_o ({open_tag, open_last}),
      .level_o(unused_open_level)
  );

  // Longest burst, less one, that starts at a word of a page: to the end of the page, at most MaxBurst.
  function automatic logic [BurstBits-1:0] longest(input logic [PageBits-1:0] word);
    logic [PageBits-1:0] to_page_end;
    to_page_end = ~word;  // words of the page after this one
    return (32'(to_page_end) + 1 < MaxBurst) ? BurstBits'(to_page_end) : BurstBits'(MaxBurst - 1);
  endfunction

  // ---- The command that has entered: whether it may join the one before is worked out on its way in ------------------
  logic enter_valid_q, joins_q;
  logic [AddrBits-1:0] enter_addr_q;
  logic [WordsBits-1:0] enter_words_q;
  logic [BurstBits-1:0] enter_limit_q;  // longest burst, less one, that may start there
  logic take;
  logic [AddrBits-1:0] join_end_q;   // one past the command taken last
  logic [BurstBits:0] join_room_q;   // words that may still join it

  assign cmd_ready_o = open_ready && (!enter_valid_q || lost_q);
  assign put         = cmd_valid_i && cmd_ready_o;

  always_ff @(posedge clk_i) begin
    if (take) enter_valid_q <= 1'b0;
    if (put) begin
      enter_valid_q <= 1'b1;
      enter_addr_q  <= cmd_addr_i;
      enter_words_q <= cmd_words_i;
      enter_limit_q <= longest(cmd_addr_i[11:ByteBits]);
      // Until it is taken, only what it compares with may leave; then there is nothing to join.
      joins_q <= (JoinAbove > 0) && (cmd_addr_i == join_end_q) && (32'(cmd_words_i) <= 32'(join_room_q));
    end
    if (!rst_ni || lost_q) enter_valid_q <= 1'b0;
  end

  // ---- The command that waits to be split, and those that have joined it --------------------------------------------
  logic join_valid_q, join_hold, join_leaves, join_starts, split_ready;
  logic [AddrBits-1:0] join_addr_q;
  logic [LengthBits:0] join_words_q;  // one more bit than any command needs
  logic [BurstBits-1:0] join_limit_q; // longest burst, less one, that may start there
  logic signed [LengthBits+1:0] join_spare_q;  // words that such a burst has more; below 0 it does not hold the command

  logic [FlightBits-1:0] flight_words_q;  // requested and not yet come

  assign join_hold   = (JoinAbove > 0) && (32'(flight_words_q) >= JoinAbove) && (!enter_valid_q || joins_q);
  assign join_leaves = join_valid_q && split_ready && !join_hold;
  assign join_starts = !join_valid_q || join_leaves;
  assign take        = enter_valid_q && (!join_valid_q || split_ready || joins_q);

  always_ff @(posedge clk_i) begin
    if (join_leaves) join_valid_q <= 1'b0;
    if (take) begin
      join_valid_q <= 1'b1;
      join_end_q   <= enter_addr_q + (AddrBits'(enter_words_q) << ByteBits);
      if (join_starts) begin
        join_addr_q  <= enter_addr_q;
        join_limit_q <= enter_limit_q;
        join_words_q <= (LengthBits + 1)'(enter_words_q);
        join_spare_q <= (LengthBits + 2)'(enter_limit_q) + 1'b1 - (LengthBits + 2)'(enter_words_q);
        join_room_q  <= (32'(enter_words_q) < MaxBurst) ? (BurstBits + 1)'(MaxBurst - 32'(enter_words_q)) : '0;
      end else begin
        join_words_q <= join_words_q + (LengthBits + 1)'(enter_words_q);
        join_spare_q <= join_spare_q - (LengthBits + 2)'(enter_words_q);
        join_room_q  <= join_room_q - (BurstBits + 1)'(enter_words_q);
      end
    end
    if (!rst_ni || lost_q) join_valid_q <= 1'b0;
  end

  // ---- The command that is being split --------------------------------------------------------------------------
  // Lengths are held less one, as ARLEN wants them: then neither the comparison nor the request needs a subtraction.
  // `limit` is the longest burst that may start at `addr`, and `final` says that it holds what is left; both are wrong for
  // one cycle after the address has moved.
  logic split_valid_q, split_valid_d, limit_known_q, limit_known_d, final_q, final_d;
  logic [AddrBits-1:0] addr_q, addr_d;
  logic [LengthBits-1:0] left_q, left_d;  // words left, less one
  logic [BurstBits-1:0] limit_q, limit_d;

  // ---- The request on the bus -----------------------------------------------------------------------------------
  logic ar_valid_q, ar_valid_d;
  logic [AddrBits-1:0] ar_addr_q, ar_addr_d;
  logic [BurstBits-1:0] ar_len_q, ar_len_d;
  logic record_ready, issue;

  assign issue       = split_valid_q && limit_known_q && record_ready && (!ar_valid_q || m_axi_arready) && !lost_q;
  assign split_ready = !split_valid_q || (issue && final_q);

  always_comb begin
    split_valid_d = split_valid_q;
    limit_known_d = limit_known_q;
    addr_d        = addr_q;
    left_d        = left_q;
    limit_d       = limit_q;
    final_d       = final_q;
    if (split_ready) begin
      split_valid_d = join_leaves;
      limit_known_d = 1'b1;
      addr_d        = join_addr_q;
      left_d        = LengthBits'(join_words_q - 1'b1);
      limit_d       = join_limit_q;
      final_d       = join_spare_q >= 0;
    end else if (issue) begin
      limit_known_d = 1'b0;
      addr_d        = addr_q + ((AddrBits'(limit_q) + 1'b1) << ByteBits);
      left_d        = left_q - LengthBits'(limit_q) - 1'b1;
    end else if (!limit_known_q) begin
      limit_known_d = 1'b1;
      limit_d       = longest(addr_q[11:ByteBits]);
      final_d       = left_q <= LengthBits'(longest(addr_q[11:ByteBits]));
    end
  end

  always_comb begin
    ar_valid_d = ar_valid_q;
    ar_addr_d  = ar_addr_q;
    ar_len_d   = ar_len_q;
    if (issue) begin
      ar_valid_d = 1'b1;
      ar_addr_d  = addr_q;
      ar_len_d   = final_q ? left_q[BurstBits-1:0] : limit_q;
    end else if (m_axi_arready) begin
      ar_valid_d = 1'b0;
    end
  end

  always_ff @(posedge clk_i) begin
    split_valid_q <= split_valid_d;
    limit_known_q <= limit_known_d;
    addr_q        <= addr_d;
    left_q        <= left_d;
    limit_q       <= limit_d;
    final_q       <= final_d;
    ar_valid_q    <= ar_valid_d;
    ar_addr_q     <= ar_addr_d;
    ar_len_q      <= ar_len_d;
    if (!rst_ni || lost_q) split_valid_q <= 1'b0;
    if (!rst_ni) ar_valid_q <= 1'b0;
  end

  assign m_axi_araddr  = ar_addr_q;
  assign m_axi_arlen   = ar_len_q;
  assign m_axi_arsize  = 3'(ByteBits);
  assign m_axi_arburst = 2'b01;    // INCR
  assign m_axi_arprot  = 3'b000;   // unprivileged, secure, data
  assign m_axi_arcache = 4'b0011;  // normal memory, not cacheable, bufferable
  assign m_axi_arvalid = ar_valid_q;

  // ---- What the beats that return belong to -----------------------------------------------------------------------
  logic [$clog2(Outstanding+1)-1:0] flight_q;  // bursts
  logic [$clog2(Outstanding+1)-1:0] owed_q;    // of these, the first ones, which nobody waits for any more
  logic [FlightBits-1:0] flight_change;
  logic beat, burst_end, wanted;

  // Lengths are held less one: with a beat in the same cycle, the length is the change.
  assign flight_change = issue ? FlightBits'(final_q ? left_q[BurstBits-1:0] : limit_q) : {FlightBits{beat}};
  assign record_ready = flight_q != ($clog2(Outstanding+1))'(Outstanding);
  assign m_axi_rready = 1'b1;
  assign beat         = m_axi_rvalid && (flight_q != '0);
  assign burst_end    = beat && m_axi_rlast;
  assign wanted       = beat && (owed_q == '0) && !lost_q;
  assign data_valid_o = wanted || (lost_q && open_valid);
  assign data_o       = m_axi_rdata;
  assign data_tag_o   = open_tag;
  assign data_last_o  = data_valid_o && (seen_q == open_last);
  assign error_o      = wanted && m_axi_rresp != 2'b00;
  assign idle_o       = !open_valid;

  always_ff @(posedge clk_i) begin
    flight_q       <= flight_q + ($clog2(Outstanding+1))'(issue) - ($clog2(Outstanding+1))'(burst_end);
    flight_words_q <= flight_words_q + flight_change + FlightBits'(issue && !beat);
    if (data_valid_o) seen_q <= data_last_o ? '0 : seen_q + 1'b1;
    if (lost_q) owed_q <= flight_q - ($clog2(Outstanding+1))'(burst_end);
    else if (owed_q != '0) owed_q <= owed_q - ($clog2(Outstanding+1))'(burst_end);
    if (!rst_ni) begin
      owed_q         <= '0;
      flight_q       <= '0;
      flight_words_q <= '0;
      seen_q         <= '0;
    end
  end

  // ---- Silence ----------------------------------------------------------------------------------------------------
  logic [31:0] silent_q;  // cycles
  logic late_q, silent;

  assign silent    = open_valid && !lost_q && !beat && !(ar_valid_q && m_axi_arready);
  assign timeout_o = late_q && silent;
  assign lost_o    = lost_q;

  always_ff @(posedge clk_i) begin
    silent_q <= silent ? silent_q + 1'b1 : '0;
    late_q   <= silent && (timeout_i != '0) && (silent_q >= timeout_i);
    if (timeout_o || give_up_i) lost_q <= 1'b1;
    else if (resume_i) lost_q <= 1'b0;
    if (!rst_ni) begin
      silent_q <= '0;
      late_q   <= 1'b0;
      lost_q   <= 1'b0;
    end
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && resume_i) begin
      assert (!open_valid && !cmd_valid_i) else $error("pen_axi_read %m: resumed while commands are open");
    end
    if (rst_ni && cmd_valid_i) begin
      assert (cmd_words_i != '0) else $error("pen_axi_read %m: a command of no words");
      assert ((cmd_addr_i & AddrBits'(BusBytes - 1)) == '0)
      else $error("pen_axi_read %m: cmd_addr_i %h is not aligned to %0d bytes", cmd_addr_i, BusBytes);
    end
    if (rst_ni && ar_valid_q) begin
      assert (32'(ar_addr_q[11:ByteBits]) + 32'(ar_len_q) < 4096 / BusBytes)
      else $error("pen_axi_read %m: burst at %h of %0d beats crosses 4 KB", ar_addr_q, 32'(ar_len_q) + 1);
    end
  end
`endif
endmodule
