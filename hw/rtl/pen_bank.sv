// Double-buffered weight banks: one memory per filter lane, written in bus words, read one weight per lane and cycle.
//
// All lanes are read at the same address {half, byte of the record}; the weights come 2 cycles later, selected out of a
// register right behind the memories. Writes go to one lane. The halves keep reader and writer apart: nothing is read
// that is being written.
//
// Pinned weights lie beside the banks in a table of `PinnedRows` rows, one weight per lane in each: with `read_pinned_i`
// the address is a row of it.
module pen_bank #(
  parameter int unsigned Filters     = 4,
  parameter int unsigned BusBytes    = 4,
  parameter int unsigned RecordWords = 16,  // of one half, a power of two
  parameter int unsigned PinnedRows  = 1,
  parameter string       PinnedFile  = "",
  localparam int unsigned WordBits = $clog2(2 * RecordWords),
  localparam int unsigned ByteBits = WordBits + $clog2(BusBytes),
  localparam int unsigned RowBits  = (PinnedRows > 1) ? $clog2(PinnedRows) : 1,
  localparam int unsigned AddrBits = (ByteBits > RowBits) ? ByteBits : RowBits,
  localparam int unsigned LaneBits = (Filters > 1) ? $clog2(Filters) : 1
) (
  input  logic                       clk_i,
  input  logic                       write_i,
  input  logic [LaneBits-1:0]        write_lane_i,
  input  logic [WordBits-1:0]        write_word_i,
  input  logic [8*BusBytes-1:0]      write_data_i,
  input  logic                       read_i,
  input  logic                       read_pinned_i,
  input  logic [AddrBits-1:0]        read_addr_i,
  output logic [Filters-1:0][7:0]    weights_o
);

  localparam int unsigned SelectBits = $clog2(BusBytes);

  if (RecordWords < 1 || (RecordWords & (RecordWords - 1)) != 0) begin : gen_bad_words
    $fatal(1, "pen_bank %m: RecordWords must be a power of two");
  end
  if (BusBytes < 2 || (BusBytes & (BusBytes - 1)) != 0) begin : gen_bad_bus
    $fatal(1, "pen_bank %m: BusBytes must be a power of two of at least 2");
  end

  // A register right behind the memories; the weight is selected out of it.
  logic [1:0][SelectBits-1:0] select_q;
  logic [1:0]                 from_table_q;
  logic [Filters-1:0][7:0]    pinned, pinned_q;
  always_ff @(posedge clk_i) begin
    select_q <= {select_q[0], read_addr_i[SelectBits-1:0]};
    from_table_q <= {from_table_q[0], read_pinned_i};
    pinned_q <= pinned;
  end

  pen_rom #(
    .Width(8 * Filters),
    .Depth(PinnedRows),
    .InitFile(PinnedFile)
  ) u_pinned (
    .clk_i,
    .read_i(read_i && read_pinned_i),
    .addr_i(RowBits'(read_addr_i)),
    .data_o(pinned)
  );

  for (genvar f = 0; f < Filters; f++) begin : gen_lane
    logic [BusBytes-1:0][7:0] word, word_q;

    pen_ram #(
      .Width(8 * BusBytes),
      .Depth(2 * RecordWords)
    ) u_ram (
      .clk_i,
      .write_i(write_i && (write_lane_i == LaneBits'(f))),
      .waddr_i(write_word_i),
      .wdata_i(write_data_i),
      .read_i(read_i && !read_pinned_i),
      .raddr_i(read_addr_i[ByteBits-1:SelectBits]),
      .rdata_o(word)
    );

    always_ff @(posedge clk_i) word_q <= word;
    assign weights_o[f] = from_table_q[1] ? pinned_q[f] : word_q[select_q[1]];
  end

endmodule
