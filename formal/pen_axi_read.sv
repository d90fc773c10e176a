// Proof of pen_axi_read, unbounded: on the bus it keeps the rules of AXI4 and its own; every word of every command comes
// once, in order, from its address and with its tag, whether bursts are split, joined or answered late; a memory that
// stays silent is given up, and beats that it still owes then reach nobody.
//
// The commands are whatever their sender likes, withdrawn and changed at will. The memory takes requests when it likes,
// answers in order and as many beats as asked for, sends what it likes while nothing is in flight, and is reset together
// with the module.
module pen_axi_read_proof #(
    parameter int unsigned MaxBurst    = 2,
    parameter int unsigned Outstanding = 2,
    parameter int unsigned Commands    = 2,
    parameter int unsigned JoinAbove   = 0,
    localparam int unsigned BusBytes   = 128,  // few words in a page
    localparam int unsigned AddrBits   = 13,   // two pages
    localparam int unsigned WordsBits  = 2,
    localparam int unsigned TagBits    = 1,
    localparam int unsigned ByteBits   = $clog2(BusBytes)
) (
    input logic                  clk_i,
    input logic                  rst_ni,
    input logic                  cmd_valid_i,
    input logic [AddrBits-1:0]   cmd_addr_i,
    input logic [WordsBits-1:0]  cmd_words_i,
    input logic [TagBits-1:0]    cmd_tag_i,
    input logic [31:0]           timeout_i,
    input logic                  give_up_i,
    input logic                  resume_i,
    input logic                  m_axi_arready,
    input logic [8*BusBytes-1:0] m_axi_rdata,
    input logic [1:0]            m_axi_rresp,
    input logic                  m_axi_rlast,
    input logic                  m_axi_rvalid,
    input logic                  pick_i,       // watch a word of the command that is taken now:
    input logic [WordsBits-1:0]  pick_word_i   // this one
);
  logic cmd_ready_o, data_valid_o, data_last_o, timeout_o, lost_o, error_o, idle_o, m_axi_arvalid, m_axi_rready;
  logic [8*BusBytes-1:0] data_o;
  logic [TagBits-1:0] data_tag_o;
  logic [AddrBits-1:0] m_axi_araddr;
  logic [7:0] m_axi_arlen;
  logic [2:0] m_axi_arsize, m_axi_arprot;
  logic [1:0] m_axi_arburst;
  logic [3:0] m_axi_arcache;

  pen_axi_read #(
      .AddrBits(AddrBits),
      .BusBytes(BusBytes),
      .WordsBits(WordsBits),
      .TagBits(TagBits),
      .MaxBurst(MaxBurst),
      .Outstanding(Outstanding),
      .Commands(Commands),
      .JoinAbove(JoinAbove)
  ) dut (
      .*
  );

  typedef logic [4:0] count_t;  // of words and bursts; fewer than 32 are ever under way
  typedef logic [AddrBits-ByteBits-1:0] word_t;  // address in bus words

  logic begun_q = 1'b0;  // the first cycle, which resets, is over
  always_ff @(posedge clk_i) begun_q <= 1'b1;

  // ---- Commands: words accepted and not delivered, and one of them that is watched ------------------------------------
  logic take, ever_q;
  count_t open_q, at_q;  // words, of all commands; of these, words before the watched one
  logic watch_q, watch_last_q;
  word_t watch_word_q;   // its address
  logic [TagBits-1:0] watch_tag_q;

  assign take = cmd_valid_i && cmd_ready_o;

  always_ff @(posedge clk_i) begin
    if (take) ever_q <= 1'b1;
    open_q <= open_q + (take ? count_t'(cmd_words_i) : '0) - count_t'(data_valid_o);
    if (data_valid_o) begin
      at_q <= at_q - 1'b1;
      if (at_q == '0) watch_q <= 1'b0;
    end
    if (take && pick_i && !watch_q && (pick_word_i < cmd_words_i)) begin
      watch_q      <= 1'b1;
      at_q         <= open_q + count_t'(pick_word_i) - count_t'(data_valid_o);
      watch_word_q <= cmd_addr_i[AddrBits-1:ByteBits] + word_t'(pick_word_i);
      watch_tag_q  <= cmd_tag_i;
      watch_last_q <= pick_word_i == cmd_words_i - 1'b1;
    end
    if (!rst_ni) begin
      ever_q  <= 1'b0;
      open_q  <= '0;
      watch_q <= 1'b0;
    end
  end

  // ---- The memory: bursts taken and not answered, the oldest first; dead ones have been given up ---------------------
  count_t level_q, level_d;
  count_t left_q [Outstanding], left_d [Outstanding];  // beats to come
  word_t word_q [Outstanding], word_d [Outstanding];   // address of the next one
  logic [Outstanding-1:0] dead_q, dead_d;
  logic ar_dead_q;                                     // of the request on the bus
  count_t flight;
  logic beat;

  assign flight = level_q + count_t'(m_axi_arvalid);
  assign beat   = m_axi_rvalid && (level_q != '0);

  always_comb begin
    level_d = level_q;
    left_d  = left_q;
    word_d  = word_q;
    dead_d  = dead_q;
    if (beat) begin
      left_d[0] = left_d[0] - 1'b1;
      word_d[0] = word_d[0] + 1'b1;
      if (m_axi_rlast) begin
        for (int unsigned i = 0; i + 1 < Outstanding; i++) begin
          left_d[i] = left_q[i+1];
          word_d[i] = word_q[i+1];
          dead_d[i] = dead_q[i+1];
        end
        level_d = level_d - 1'b1;
      end
    end
    if (m_axi_arvalid && m_axi_arready) begin
      for (int unsigned i = 0; i < Outstanding; i++) begin
        if (count_t'(i) == level_d) begin
          left_d[i] = count_t'(m_axi_arlen) + 1'b1;
          word_d[i] = m_axi_araddr[AddrBits-1:ByteBits];
          dead_d[i] = ar_dead_q;
        end
      end
      level_d = level_d + 1'b1;
    end
    if (lost_o) dead_d = '1;
  end

  always_ff @(posedge clk_i) begin
    level_q   <= rst_ni ? level_d : '0;
    left_q    <= left_d;
    word_q    <= word_d;
    dead_q    <= dead_d;
    ar_dead_q <= rst_ni && m_axi_arvalid && !m_axi_arready && (ar_dead_q || lost_o);
  end

  // ---- What the neighbours promise -----------------------------------------------------------------------------------
  logic [31:0] timeout_q;
  always_ff @(posedge clk_i) timeout_q <= timeout_i;

  always_comb begin
    if (!begun_q) assume (!rst_ni);
    if (begun_q) assume (timeout_i == timeout_q);
    if (cmd_valid_i) assume ((cmd_words_i != '0) && (cmd_addr_i[ByteBits-1:0] == '0));
    if (resume_i) assume (idle_o && !cmd_valid_i);
    if (m_axi_rvalid && (level_q != '0)) assume (m_axi_rlast == (left_q[0] == 1));
    if (m_axi_rvalid && (level_q == '0)) assume (!m_axi_arvalid);
  end

  // ---- What is promised: on the bus ------------------------------------------------------------------------------------
  logic stalled_q, was_reset_q, was_lost_q, gives_up_q, resumes_q;
  logic [AddrBits-1:0] araddr_q;
  logic [7:0] arlen_q;
  always_ff @(posedge clk_i) begin
    was_reset_q <= !rst_ni;
    stalled_q   <= rst_ni && m_axi_arvalid && !m_axi_arready;
    araddr_q    <= m_axi_araddr;
    arlen_q     <= m_axi_arlen;
    was_lost_q  <= rst_ni && lost_o;
    gives_up_q  <= rst_ni && (timeout_o || give_up_i);
    resumes_q   <= rst_ni && resume_i;
  end

  always_comb begin
    if (begun_q) begin
      request_stable: assert (!stalled_q || (m_axi_arvalid && (m_axi_araddr == araddr_q) && (m_axi_arlen == arlen_q)));
      request_form: assert (!m_axi_arvalid || ((m_axi_araddr[ByteBits-1:0] == '0) && (32'(m_axi_arlen) < MaxBurst)
                                               && (32'(m_axi_arsize) == ByteBits) && (m_axi_arburst == 2'b01)));
      page: assert (!m_axi_arvalid || (32'(m_axi_araddr[11:ByteBits]) + 32'(m_axi_arlen) < 4096 / BusBytes));
      in_flight: assert (32'(flight) <= Outstanding);
      always_ready: assert (m_axi_rready);
      reset_silence: assert (!was_reset_q || !(m_axi_arvalid || data_valid_o || error_o || timeout_o || lost_o));
      unasked_silence: assert (ever_q || !(m_axi_arvalid || data_valid_o || error_o || timeout_o));
    end
  end

  // ---- What is promised: to the sender of commands ---------------------------------------------------------------------
  logic wanted;  // a beat that answers an open command
  assign wanted = beat && !dead_q[0] && !lost_o;

  always_comb begin
    if (begun_q) begin
      idle: assert (idle_o == (open_q == '0));
      delivered: assert (data_valid_o == (wanted || (lost_o && !idle_o)));
      data: assert (data_o == m_axi_rdata);
      error: assert (error_o == (wanted && (m_axi_rresp != '0)));
      if (data_valid_o && watch_q && (at_q == '0)) begin
        tag: assert (data_tag_o == watch_tag_q);
        last: assert (data_last_o == watch_last_q);
        address: assert (lost_o || (word_q[0] == watch_word_q));
      end
    end
  end

  // ---- What is promised: of a silent memory ----------------------------------------------------------------------------
  logic silent;
  logic [32:0] silent_q;  // cycles before this one, where they count
  assign silent = !idle_o && !lost_o && !beat && !(m_axi_arvalid && m_axi_arready);
  always_ff @(posedge clk_i) silent_q <= (rst_ni && silent && (timeout_i != '0)) ? silent_q + 1'b1 : '0;

  always_comb begin
    if (begun_q) begin
      timeout: assert (timeout_o == (silent && (timeout_i != '0) && (silent_q > 33'(timeout_i))));
      loses: assert (!gives_up_q || lost_o);
      stays_lost: assert (lost_o == (gives_up_q || (was_lost_q && !resumes_q)));
      lost_silence: assert (!was_lost_q || stalled_q || !m_axi_arvalid || !lost_o);
    end
  end

  // ---- What makes it inductive: words under way add up, and lie behind each other --------------------------------------
  localparam int unsigned Places = Commands - 1;  // of the queue of open commands, behind the first

  function automatic logic [7:0] longest(input logic [11-ByteBits:0] word);
    return (32'(word) + MaxBurst <= 4096 / BusBytes) ? 8'(MaxBurst - 1) : 8'(4096 / BusBytes - 1 - 32'(word));
  endfunction

  count_t live, owed, requested, behind;
  logic found;  // the watched word is among those that are under way

  always_comb begin
    requested = m_axi_arvalid ? count_t'(m_axi_arlen) + 1'b1 : '0;
    live = '0;
    owed = count_t'(ar_dead_q);
    found = 1'b0;
    for (int unsigned i = 0; i < Outstanding; i++) begin
      if (count_t'(i) < level_q) begin
        requested = requested + left_q[i];
        if (dead_q[i]) owed = owed + 1'b1;
        else begin
          if ((at_q >= live) && (at_q < live + left_q[i])) found = word_q[i] + word_t'(at_q - live) == watch_word_q;
          live = live + left_q[i];
        end
      end
    end
    if (m_axi_arvalid && !ar_dead_q) begin
      if ((at_q >= live) && (at_q < live + count_t'(m_axi_arlen) + 1'b1)) begin
        found = m_axi_araddr[AddrBits-1:ByteBits] + word_t'(at_q - live) == watch_word_q;
      end
      live = live + count_t'(m_axi_arlen) + 1'b1;
    end
    behind = live;
    if (dut.split_valid_q) begin
      if ((at_q >= behind) && (at_q < behind + count_t'(dut.left_q) + 1'b1)) begin
        found = dut.addr_q[AddrBits-1:ByteBits] + word_t'(at_q - behind) == watch_word_q;
      end
      behind = behind + count_t'(dut.left_q) + 1'b1;
    end
    if (dut.join_valid_q) begin
      if ((at_q >= behind) && (at_q < behind + count_t'(dut.join_words_q))) begin
        found = dut.join_addr_q[AddrBits-1:ByteBits] + word_t'(at_q - behind) == watch_word_q;
      end
      behind = behind + count_t'(dut.join_words_q);
    end
    if (dut.enter_valid_q) begin
      if ((at_q >= behind) && (at_q < behind + count_t'(dut.enter_words_q))) begin
        found = dut.enter_addr_q[AddrBits-1:ByteBits] + word_t'(at_q - behind) == watch_word_q;
      end
      behind = behind + count_t'(dut.enter_words_q);
    end
  end

  // The open commands: words of those up to each, and the watched word among them.
  count_t open, slot_words, place;  // place of the watched word among those of the open commands
  logic slot_ok, watch_slot_ok;
  logic [TagBits+WordsBits-1:0] slot;
  always_comb begin
    open = '0;
    place = at_q + count_t'(dut.seen_q);
    slot_ok = 1'b1;
    watch_slot_ok = 1'b0;
    for (int unsigned i = 0; i < Commands; i++) begin
      slot = (i == 0) ? dut.u_open.first_q : dut.u_open.storage_q[(32'(dut.u_open.read_q) + i + Places - 1) % Places];
      slot_words = count_t'(slot[WordsBits-1:0]) + 1'b1;
      if (i < 32'(dut.u_open.level_q)) begin
        slot_ok = slot_ok && (slot[WordsBits-1:0] != '1);
        if ((place >= open) && (place < open + slot_words)) begin
          watch_slot_ok = (slot[WordsBits+:TagBits] == watch_tag_q)
                          && (watch_last_q == (place + 1'b1 == open + slot_words));
        end
        open = open + slot_words;
      end
    end
  end

  always_comb begin
    if (begun_q) begin
      // The queue of open commands.
      assert (32'(dut.u_open.level_q) <= Commands);
      assert (dut.u_open.valid_q == (dut.u_open.level_q != '0));
      assert (dut.u_open.more_q == (32'(dut.u_open.level_q) > 1));
      assert (dut.u_open.ready_q == (32'(dut.u_open.level_q) != Commands));
      assert (32'(dut.u_open.read_q) < Places);
      assert (32'(dut.u_open.write_q)
              == (32'(dut.u_open.read_q) + (dut.u_open.more_q ? 32'(dut.u_open.level_q) - 1 : 0)) % Places);
      assert (slot_ok && (open_q + count_t'(dut.seen_q) == open));
      if (dut.u_open.level_q == '0) assert (dut.seen_q == '0);
      else assert (dut.seen_q <= dut.open_last);
      assert (ever_q || ((open_q == '0) && (flight == '0) && !dut.split_valid_q && !dut.join_valid_q
                         && !dut.enter_valid_q));

      // In flight: what the module counts is what there is, and the dead come first.
      assert ((32'(level_q) <= Outstanding) && (count_t'(dut.flight_q) == flight));
      assert (count_t'(dut.owed_q) == owed);
      assert (32'(dut.flight_words_q) == 32'(requested));
      assert (!ar_dead_q || m_axi_arvalid);
      for (int unsigned i = 0; i < Outstanding; i++) begin
        if (count_t'(i) < level_q) begin
          assert ((left_q[i] != '0) && (32'(left_q[i]) <= MaxBurst));
          assert (!ar_dead_q || dead_q[i]);
          if (i > 0) assert (!dead_q[i] || dead_q[i-1]);
        end
      end

      // Waiting: words that are not requested yet.
      assert (lost_o || (open_q == behind));
      if (dut.split_valid_q) begin
        assert ((32'(dut.left_q) < 3) || (32'(dut.left_q) < MaxBurst));
        assert (dut.addr_q[ByteBits-1:0] == '0);
        assert (!dut.limit_known_q || (dut.limit_q == longest(dut.addr_q[11:ByteBits])));
        assert (!dut.limit_known_q || (dut.final_q == (32'(dut.left_q) <= 32'(dut.limit_q))));
      end
      if (dut.join_valid_q) begin
        assert ((dut.join_words_q != '0) && ((32'(dut.join_words_q) < 4) || (32'(dut.join_words_q) <= MaxBurst)));
        assert (dut.join_addr_q[ByteBits-1:0] == '0);
        assert (dut.join_limit_q == longest(dut.join_addr_q[11:ByteBits]));
        assert ((dut.join_spare_q >= 0) == (32'(dut.join_words_q) <= 32'(dut.join_limit_q) + 1));
        assert (32'(dut.join_spare_q) == 32'(dut.join_limit_q) + 1 - 32'(dut.join_words_q));
        assert (32'(dut.join_room_q) == ((32'(dut.join_words_q) < MaxBurst) ? MaxBurst - 32'(dut.join_words_q) : 0));
        assert (dut.join_end_q == dut.join_addr_q + (AddrBits'(dut.join_words_q) << ByteBits));
      end

      if (dut.enter_valid_q) begin
        assert (dut.enter_words_q != '0);
        assert (dut.enter_addr_q[ByteBits-1:0] == '0);
        assert (dut.enter_limit_q == longest(dut.enter_addr_q[11:ByteBits]));
        if (dut.join_valid_q && dut.joins_q) begin
          assert ((dut.enter_addr_q == dut.join_end_q) && (32'(dut.enter_words_q) <= 32'(dut.join_room_q)));
        end
      end

      // The watched word is on its way.
      if (watch_q) begin
        assert (at_q < open_q);
        assert (watch_slot_ok);
        assert (found || lost_o);
      end

      // Silence.
      assert ((timeout_i == '0) || (silent_q[31:0] == dut.silent_q));
      assert (lost_o || (dut.late_q == ((timeout_i != '0) && (silent_q > 33'(timeout_i)))));
      assert (silent_q <= 33'(timeout_i) + (lost_o ? 33'd2 : 33'd1));
    end
  end

  // ---- What may happen -------------------------------------------------------------------------------------------------
  always_comb begin
    if (begun_q) begin
      full: cover (32'(level_q) == Outstanding);
      split: cover (m_axi_arvalid && dut.split_valid_q && !dut.limit_known_q);
      watched: cover (data_valid_o && watch_q && watch_last_q && (at_q == '0) && !lost_o);
      recovered: cover (beat && !lost_o && dead_q[0]);
      joined: cover ((JoinAbove == 0) || (dut.take && dut.join_valid_q && !dut.join_leaves && !lost_o));
      timed_out: cover (timeout_o);
    end
  end
endmodule
