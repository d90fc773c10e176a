// AXI4-Stream of pixels, channels last, to the row stream: words of `Pixels` neighbouring pixels of one channel.
//
// A beat holds one pixel, channel c in byte c. Pixels are collected into one word per channel; when a word's worth is
// in (or the frame's last pixel, the rest of the word being zero), the words leave in order of channels while the next
// are collected, the first in the cycle after the word's last pixel. Throughput: a word takes as many cycles as it has
// pixels, or `Channels` where that is more; so one pixel per cycle if Channels <= Pixels, but for a frame's last word.
//
// A frame is `FramePixels` beats, the last with `tlast`. After a short one (`tlast` comes early) its missing pixels are
// filled with zeros, one per cycle, before the next beat is taken; of a long one (no `tlast` with the last pixel) what
// follows is dropped up to and with its `tlast`. So every `tlast` ends one frame, whatever its length, and the next is
// whole again. `short_o` and `long_o` pulse in the cycle after the pixel that showed it.
//
// For every frame one mark leaves, bad or not, in order: offered from the cycle after its last pixel on. A frame's last
// pixel is not taken before the mark of the frame before has left.
module pen_pixel_in #(
  parameter int unsigned Channels    = 1,
  parameter int unsigned FramePixels = 64,
  parameter int unsigned Pixels      = 4,
  localparam int unsigned ChannelBits = (Channels > 1) ? $clog2(Channels) : 1,
  localparam int unsigned Words       = (FramePixels + Pixels - 1) / Pixels,
  localparam int unsigned WordBits    = (Words > 1) ? $clog2(Words) : 1
) (
  input  logic                     clk_i,
  input  logic                     rst_ni,
  input  logic                     pixel_valid_i,
  output logic                     pixel_ready_o,
  input  logic [Channels-1:0][7:0] pixel_i,
  input  logic                     pixel_last_i,
  output logic                     row_valid_o,
  input  logic                     row_ready_i,
  output logic [ChannelBits-1:0]   row_channel_o,
  output logic [WordBits-1:0]      row_word_o,
  output logic [Pixels-1:0][7:0]   row_data_o,
  output logic                     mark_valid_o,
  input  logic                     mark_ready_i,
  output logic                     mark_bad_o,
  output logic                     short_o,
  output logic                     long_o
);

  if (Pixels < 1 || (Pixels & (Pixels - 1)) != 0) begin : gen_bad_pixels
    $fatal(1, "pen_pixel_in %m: Pixels must be a power of two");
  end
  if (Channels < 1 || FramePixels < 1) begin : gen_bad_frame
    $fatal(1, "pen_pixel_in %m: Channels and FramePixels must be at least 1");
  end

  localparam int unsigned CountBits = (FramePixels > 1) ? $clog2(FramePixels) : 1;
  localparam int unsigned SlotBits = (Pixels > 1) ? $clog2(Pixels) : 1;

  logic [Channels-1:0][Pixels-1:0][7:0] collect_q, words_q;
  logic [CountBits-1:0]                 count_q;
  logic [SlotBits-1:0]                  slot;
  logic                                 take, frame_end, word_end, out_end;
  logic [ChannelBits-1:0]               channel_q;
  logic [WordBits-1:0]                  word_q;
  logic                                 busy_q, room;
  logic                                 fill_q;  // the rest of a short frame
  logic                                 drop_q;  // what follows a long one
  logic [Channels-1:0][7:0]             pixel;

  assign slot = (Pixels > 1) ? SlotBits'(count_q) : '0;
  assign frame_end = count_q == CountBits'(FramePixels - 1);
  assign word_end = frame_end || (slot == SlotBits'(Pixels - 1));
  assign out_end = row_ready_i && (channel_q == ChannelBits'(Channels - 1));
  assign room = !(word_end && busy_q && !out_end) && !(frame_end && mark_valid_o && !mark_ready_i);
  assign pixel_ready_o = drop_q || (room && !fill_q);
  assign take = room && !drop_q && (fill_q || pixel_valid_i);
  assign pixel = fill_q ? '0 : pixel_i;

  always_ff @(posedge clk_i) begin
    short_o <= take && !fill_q && pixel_last_i && !frame_end;
    long_o <= take && !fill_q && !pixel_last_i && frame_end;
    if (mark_ready_i) mark_valid_o <= 1'b0;
    if (take && frame_end) begin
      mark_valid_o <= 1'b1;
      mark_bad_o <= fill_q || !pixel_last_i;
    end
    if (take) begin
      fill_q <= !frame_end && (fill_q || pixel_last_i);
      drop_q <= frame_end && !fill_q && !pixel_last_i;
    end else if (drop_q && pixel_valid_i && pixel_last_i) begin
      drop_q <= 1'b0;
    end
    if (busy_q && row_ready_i) begin
      words_q <= words_q >> (8 * Pixels);
      channel_q <= channel_q + 1'b1;
      if (out_end) busy_q <= 1'b0;
    end
    if (take) begin
      count_q <= frame_end ? '0 : count_q + 1'b1;
      for (int unsigned c = 0; c < Channels; c++) begin
        if (slot == '0) collect_q[c] <= '0;
        collect_q[c][slot] <= pixel[c];
      end
      if (word_end) begin
        busy_q <= 1'b1;
        channel_q <= '0;
        word_q <= WordBits'(count_q >> $clog2(Pixels));
        for (int unsigned c = 0; c < Channels; c++) begin
          words_q[c] <= (slot == '0) ? '0 : collect_q[c];
          words_q[c][slot] <= pixel[c];
        end
      end
    end
    if (!rst_ni) begin
      count_q <= '0;
      busy_q <= 1'b0;
      mark_valid_o <= 1'b0;
      fill_q <= 1'b0;
      drop_q <= 1'b0;
      short_o <= 1'b0;
      long_o <= 1'b0;
    end
  end

  assign row_valid_o = busy_q;
  assign row_channel_o = channel_q;
  assign row_word_o = word_q;
  assign row_data_o = words_q[0];

endmodule
