// Proof of pen_bank, unbounded: a weight that is read is the one that was written last at its place, two cycles before;
// pinned weights come from their table. All that is assumed is that no word is read in the cycle that writes it, which
// pen_fetch's halves see to (its proof). One word of one lane, any one, stands for all.
module pen_bank_proof #(
    parameter int unsigned Filters      = 2,
    parameter int unsigned RecordWords  = 2,
    localparam int unsigned BusBytes    = 2,
    localparam int unsigned PinnedRows  = 2,
    localparam int unsigned WordBits    = $clog2(2 * RecordWords),
    localparam int unsigned ByteBits    = WordBits + 1,
    localparam int unsigned LaneBits    = (Filters > 1) ? $clog2(Filters) : 1
) (
    input logic                  clk_i,
    input logic                  write_i,
    input logic [LaneBits-1:0]   write_lane_i,
    input logic [WordBits-1:0]   write_word_i,
    input logic [8*BusBytes-1:0] write_data_i,
    input logic                  read_i,
    input logic                  read_pinned_i,
    input logic [ByteBits-1:0]   read_addr_i
);
  logic [Filters-1:0][7:0] weights_o;

  pen_bank #(
      .Filters(Filters),
      .BusBytes(BusBytes),
      .RecordWords(RecordWords),
      .PinnedRows(PinnedRows),
      .PinnedFile("zeros.hex")
  ) dut (
      .*
  );

  // ---- The word that is followed, and reads of it on their way ---------------------------------------------------------
  logic begun_q = 1'b0;
  logic [LaneBits-1:0] lane_q;  // never change
  logic [WordBits-1:0] place_q;
  logic [BusBytes-1:0][7:0] word_q;  // what was written last
  logic read, pinned;
  logic [1:0] read_q = '0, pinned_q = '0, byte_q;
  logic [1:0][BusBytes-1:0][7:0] wanted_q;

  assign read = read_i && !read_pinned_i && (read_addr_i[ByteBits-1:1] == place_q);
  assign pinned = read_i && read_pinned_i;

  always_ff @(posedge clk_i) begin
    begun_q <= 1'b1;
    lane_q <= lane_q;
    place_q <= place_q;
    if (write_i && (write_lane_i == lane_q) && (write_word_i == place_q)) word_q <= write_data_i;
    read_q <= {read_q[0], read};
    pinned_q <= {pinned_q[0], pinned};
    byte_q <= {byte_q[0], read_addr_i[0]};
    wanted_q <= {wanted_q[0], word_q};
  end

  always_comb begin
    assume (32'(lane_q) < Filters);
    assume (!(read_i && !read_pinned_i && write_i && (write_word_i == read_addr_i[ByteBits-1:1])));
  end

  for (genvar f = 0; f < Filters; f++) begin : gen_lane
    always_comb begin
      if (lane_q == LaneBits'(f)) begin
        if (!begun_q) assume (dut.gen_lane[f].u_ram.mem[place_q] == word_q);
        last_written: assert (!read_q[1] || (weights_o[f] == wanted_q[1][byte_q[1]]));
        from_the_table: assert (!pinned_q[1] || (weights_o[f] == '0));
        // What makes it inductive
        assert (!begun_q || (dut.gen_lane[f].u_ram.mem[place_q] == word_q));
        assert (!read_q[0] || (dut.gen_lane[f].u_ram.rdata_o == wanted_q[0]));
        assert (!read_q[1] || (dut.gen_lane[f].word_q == wanted_q[1]));
        assert (!pinned_q[0] || (dut.pinned[f] == '0));
        assert (!pinned_q[1] || (dut.pinned_q[f] == '0));
      end
    end
  end

  always_comb begin
    for (int unsigned i = 0; i < 2; i++) begin
      assert (dut.u_pinned.mem[i] == '0);
      assert (!read_q[i] || !dut.from_table_q[i]);
      assert (!pinned_q[i] || dut.from_table_q[i]);
      assert (!(read_q[i] || pinned_q[i]) || (dut.select_q[i] == byte_q[i]));
    end
  end

  // ---- What may happen -------------------------------------------------------------------------------------------------
  always_comb begin
    if (begun_q) begin
      other_half_is_filled: cover (read && write_i && (write_word_i[WordBits-1] != place_q[WordBits-1]));
      one_after_the_other: cover ((read_q == 2'b11) && (byte_q == 2'b01));
      table_between: cover ((read_q == 2'b01) && pinned_q[1]);
    end
  end
endmodule
