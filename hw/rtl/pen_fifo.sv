// pen_fifo: a first-word fall-through queue on one clock.
//
// Contract
//   Order    strictly first in, first out; a word is taken on each side where valid and ready meet.
//   Latency  a word that enters at an edge is offered from that edge on: 1 cycle. There is no path from `ready_i` to
//            `ready_o` or from `valid_i` to `valid_o`; a full queue therefore takes its next word one cycle after it
//            has given one. For full throughput `Depth` is at least 2.
//   Offered  `valid_o` and `data_o` do not change until taken. They come from registers, as does `ready_o`; the words
//            behind the first lie in LUT RAM: use it for short queues.
//   Sender   `valid_i` must not be withdrawn and `data_i` must not change while `ready_o` is low.
//   Reset    empties the queue; the storage is not cleared.
//   Cost     A register of Width bits, Width x (Depth - 1) bits of LUT RAM and three counters of clog2(Depth) bits.
module pen_fifo #(
    parameter int unsigned Width     = 8,
    parameter int unsigned Depth     = 4,                // any number, not only powers of two
    parameter int unsigned LevelBits = $clog2(Depth + 1) // derived; leave as it is
) (
    input  logic                 clk_i,
    input  logic                 rst_ni,

    input  logic                 valid_i,
    output logic                 ready_o,
    input  logic [Width-1:0]     data_i,

    output logic                 valid_o,
    input  logic                 ready_i,
    output logic [Width-1:0]     data_o,

    output logic [LevelBits-1:0] level_o  // words stored
);
  if (Width < 1) begin : gen_bad_width
    $fatal(1, "pen_fifo %m: Width must be at least 1");
  end
  if (Depth < 1) begin : gen_bad_depth
    $fatal(1, "pen_fifo %m: Depth must be at least 1");
  end
  if (LevelBits != $clog2(Depth + 1)) begin : gen_bad_level
    $fatal(1, "pen_fifo %m: LevelBits is derived from Depth and must not be set");
  end

  localparam int unsigned Places = (Depth > 1) ? Depth - 1 : 1;  // behind the first word
  localparam int unsigned PointerBits = (Places > 1) ? $clog2(Places) : 1;
  localparam logic [PointerBits-1:0] LastSlot = PointerBits'(Places - 1);

  logic [Width-1:0] storage_q [Places];
  logic [Width-1:0] first_q;
  logic [PointerBits-1:0] write_q, write_d, read_q, read_d;
  logic [LevelBits-1:0] level_q, level_d;
  logic valid_q, more_q, ready_q;  // a word is stored; another behind it; there is a place
  logic put, get, store, load;

  assign ready_o = ready_q;
  assign valid_o = valid_q;
  assign data_o  = first_q;
  assign level_o = level_q;
  assign put     = valid_i && ready_q;
  assign get     = valid_q && ready_i;
  assign load    = !valid_q || get;             // the first place is free
  assign store   = put && !(load && !more_q);   // else the word goes there at once

  always_comb begin
    write_d = write_q;
    read_d  = read_q;
    level_d = level_q;
    if (store) write_d = (write_q == LastSlot) ? '0 : write_q + 1'b1;
    if (get && more_q) read_d = (read_q == LastSlot) ? '0 : read_q + 1'b1;
    if (put && !get) level_d = level_q + 1'b1;
    if (get && !put) level_d = level_q - 1'b1;
  end

  always_ff @(posedge clk_i) begin
    write_q <= write_d;
    read_q  <= read_d;
    level_q <= level_d;
    // What becomes of the flags is there before it is known whether a word comes or goes.
    if (put && !get) begin
      valid_q <= 1'b1;
      more_q  <= valid_q;
      ready_q <= level_q != LevelBits'(Depth - 1);
    end
    if (get && !put) begin
      valid_q <= more_q;
      more_q  <= 32'(level_q) > 2;
      ready_q <= 1'b1;
    end
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      level_q <= '0;
      valid_q <= 1'b0;
      more_q  <= 1'b0;
      ready_q <= 1'b1;
    end
  end

  // Apart from the control registers, so that the storage maps onto RAM: no reset reaches it. While there is a place, the
  // next one holds what is offered, taken or not.
  always_ff @(posedge clk_i) begin
    if (ready_q) storage_q[write_q] <= data_i;
    if (load) first_q <= more_q ? storage_q[read_q] : data_i;
  end

`ifndef SYNTHESIS
  logic             refused_q;  // a word was offered in the last cycle and not taken
  logic [Width-1:0] offered_q;

  always_ff @(posedge clk_i) begin
    refused_q <= rst_ni && valid_i && !ready_o;
    offered_q <= data_i;
    if (rst_ni && refused_q) begin
      assert (valid_i) else $error("pen_fifo %m: valid_i was withdrawn before ready_o");
      assert (data_i === offered_q) else $error("pen_fifo %m: data_i changed while waiting for ready_o");
    end
  end
`endif
endmodule
