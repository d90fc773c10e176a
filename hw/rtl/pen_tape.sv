// Residuals: what a layer leaves, word by word, until a later layer adds it.
//
// A layer that records writes its beats as they leave the drain: those of a word, one per filter lane, make an entry, and
// entries follow one another. A layer that plays back has the same filters in the same groups and a pass for every
// word, so its passes take the entries in the order in which they were written: no address but a count is needed.
//
// `start_i` begins a layer at the entries `write_base_i` and `read_base_i`. `record_i` takes a beat. `words_o` is the entry
// to be taken, from 2 cycles after `start_i` or `take_i` (which goes on to the next entry) on. A layer may record over the
// entries that it plays back, each after it has been taken. Lanes that were not recorded say nothing.
module pen_tape #(
  parameter int unsigned Filters = 4,
  parameter int unsigned Pixels  = 4,
  parameter int unsigned Entries = 16,
  localparam int unsigned LaneBits  = (Filters > 1) ? $clog2(Filters) : 1,
  localparam int unsigned EntryBits = (Entries > 1) ? $clog2(Entries) : 1
) (
  input  logic                                clk_i,
  input  logic                                rst_ni,
  input  logic                                start_i,
  input  logic [EntryBits-1:0]                write_base_i,
  input  logic [EntryBits-1:0]                read_base_i,
  input  logic                                record_i,
  input  logic [LaneBits-1:0]                 record_lane_i,
  input  logic                                record_last_i,  // of the entry
  input  logic [Pixels-1:0][7:0]              record_word_i,
  input  logic                                take_i,
  output logic [Filters-1:0][Pixels-1:0][7:0] words_o
);

  if (Filters < 1 || Pixels < 1 || Entries < 1) begin : gen_bad_sizes
    $fatal(1, "pen_tape %m: Filters, Pixels and Entries must be at least 1");
  end

  logic [EntryBits-1:0] write_q, read_q;
  logic                 look_q;  // the entry at `read_q` is read

  always_ff @(posedge clk_i) begin
    look_q <= start_i || take_i;
    if (take_i) read_q <= read_q + 1'b1;
    if (record_i && record_last_i) write_q <= write_q + 1'b1;
    if (start_i) begin
      write_q <= write_base_i;
      read_q <= read_base_i;
    end
    if (!rst_ni) look_q <= 1'b0;
  end

  for (genvar f = 0; f < Filters; f++) begin : gen_lane
    pen_ram #(
      .Width(8 * Pixels),
      .Depth(Entries)
    ) u_ram (
      .clk_i,
      .write_i(record_i && (record_lane_i == LaneBits'(f))),
      .waddr_i(write_q),
      .wdata_i(record_word_i),
      .read_i(look_q),
      .raddr_i(read_q),
      .rdata_o(words_o[f])
    );
  end

endmodule
