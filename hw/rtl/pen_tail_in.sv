// The tail's input: two frames of maps with their channels' strengths, one being read while the other is filled.
//
// A row stream fills a buffer: the words of a channel in order, those of several channels in any alternation, the last
// word of the last channel last of all. 4 cycles after that one the strengths are complete and `frame_valid_o` rises
// (for the older of two). `frame_done_i` gives the buffer back. Channel c's map starts at word `frame_base_o` + c *
// Words. Window reads take 2 cycles (pen_map_ram), strength reads one; both only while `frame_valid_o` is high. A third
// frame waits outside: `row_ready_o` is low from the last word of the second until a buffer is given back.
module pen_tail_in #(
  parameter int unsigned Channels     = 4,
  parameter int unsigned Words        = 4,  // of one channel's map
  parameter int unsigned Pixels       = 4,
  parameter int unsigned StrengthBits = 16,
  parameter bit          InSigned     = 1'b0,
  localparam int unsigned ChannelBits  = (Channels > 1) ? $clog2(Channels) : 1,
  localparam int unsigned MapWordBits  = (Words > 1) ? $clog2(Words) : 1,
  localparam int unsigned FrameWords   = Channels * Words,
  localparam int unsigned RamBits      = (FrameWords > 1) ? $clog2(FrameWords) + 1 : 2,
  localparam int unsigned OffsetBits   = (Pixels > 1) ? $clog2(Pixels) : 1
) (
  input  logic                    clk_i,
  input  logic                    rst_ni,
  input  logic                    row_valid_i,
  output logic                    row_ready_o,
  input  logic [ChannelBits-1:0]  row_channel_i,
  input  logic [MapWordBits-1:0]  row_word_i,
  input  logic [Pixels-1:0][7:0]  row_data_i,
  output logic                    frame_valid_o,
  output logic [RamBits-1:0]      frame_base_o,
  input  logic                    frame_done_i,
  input  logic [ChannelBits-1:0]  strength_channel_i,
  output logic [StrengthBits-1:0] strength_o,
  input  logic                    read_i,
  input  logic [RamBits-1:0]      word0_i,
  input  logic [RamBits-1:0]      word1_i,
  input  logic [OffsetBits-1:0]   offset_i,
  input  logic [Pixels-1:0]       mask_i,
  output logic [Pixels-1:0][7:0]  window_o
);

  if (Channels < 1 || Words < 1 || StrengthBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_tail_in %m: Channels, Words and StrengthBits must be at least 1");
  end

  logic       fill_q, read_q;   // buffer
  logic [1:0] full_q;           // all words in
  logic [1:0] valid_q;          // and the strengths complete
  logic [2:0] settle_q;         // until the last strength is stored
  logic [2:0] settle_buffer_q;
  logic       write, write_end;

  assign row_ready_o = !full_q[fill_q];
  assign write = row_valid_i && row_ready_o;
  assign write_end = write && (row_channel_i == ChannelBits'(Channels - 1)) && (row_word_i == MapWordBits'(Words - 1));
  assign frame_valid_o = valid_q[read_q];
  assign frame_base_o = read_q ? RamBits'(FrameWords) : '0;

  always_ff @(posedge clk_i) begin
    settle_q <= {settle_q[1:0], write_end};
    settle_buffer_q <= {settle_buffer_q[1:0], fill_q};
    if (write_end) begin
      full_q[fill_q] <= 1'b1;
      fill_q <= !fill_q;
    end
    if (settle_q[2]) valid_q[settle_buffer_q[2]] <= 1'b1;
    if (frame_done_i) begin
      full_q[read_q] <= 1'b0;
      valid_q[read_q] <= 1'b0;
      read_q <= !read_q;
    end
    if (!rst_ni) begin
      fill_q <= 1'b0;
      read_q <= 1'b0;
      full_q <= '0;
      valid_q <= '0;
      settle_q <= '0;
    end
  end

  logic [RamBits-1:0] write_word;
  assign write_word = (fill_q ? RamBits'(FrameWords) : '0) + RamBits'(32'(row_channel_i) * Words) + RamBits'(row_word_i);

  pen_map_ram #(
    .Pixels(Pixels),
    .Words(2 * FrameWords)
  ) u_map (
    .clk_i,
    .write_i(write),
    .waddr_i(write_word),
    .wdata_i(row_data_i),
    .read_i,
    .word0_i,
    .word1_i,
    .offset_i,
    .mask_i,
    .window_o
  );

  logic                    event_valid;
  logic [ChannelBits:0]    event_channel;
  logic [StrengthBits-1:0] event_strength;

  pen_strength #(
    .Pixels(Pixels),
    .Depth(Channels),
    .ChannelBits(ChannelBits + 1),
    .StrengthBits(StrengthBits)
  ) u_strength (
    .clk_i,
    .rst_ni,
    .signed_i(InSigned),
    .valid_i(write),
    .index_i(row_channel_i),
    .channel_i({fill_q, row_channel_i}),
    .word_i(row_data_i),
    .first_i(row_word_i == '0),
    .last_i(row_word_i == MapWordBits'(Words - 1)),
    .valid_o(event_valid),
    .channel_o(event_channel),
    .strength_o(event_strength)
  );

  pen_ram #(
    .Width(StrengthBits),
    .Depth(2 << ChannelBits)
  ) u_strengths (
    .clk_i,
    .write_i(event_valid),
    .waddr_i(event_channel),
    .wdata_i(event_strength),
    .read_i(frame_valid_o),
    .raddr_i({read_q, strength_channel_i}),
    .rdata_o(strength_o)
  );

endmodule
