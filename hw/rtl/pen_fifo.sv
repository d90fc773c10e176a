// pen_fifo: a first-word fall-through queue on one clock.
//
// Contract
//   Order    strictly first in, first out; a word is taken on each side where valid and ready meet.
//   Latency  a word that enters at an edge is offered from that edge on: 1 cycle. There is no path from `ready_i` to
//            `ready_o` or from `valid_i` to `valid_o`; a full queue therefore takes its next word one cycle after it
//            has given one. For full throughput `Depth` is at least 2.
//   Offered  `valid_o` and `data_o` do not change until taken. `data_o` is read asynchronously from the storage
//            (LUT RAM on an FPGA): use it for short queues.
//   Sender   `valid_i` must not be withdrawn and `data_i` must not change while `ready_o` is low.
//   Reset    empties the queue; the storage is not cleared.
//   Cost     Width x Depth bits of LUT RAM and three counters of clog2(Depth) bits.
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

  localparam int unsigned PointerBits = (Depth > 1) ? $clog2(Depth) : 1;
  localparam logic [PointerBits-1:0] LastSlot = PointerBits'(Depth - 1);

  logic [Width-1:0] storage_q [Depth];
  logic [PointerBits-1:0] write_q, write_d, read_q, read_d;
  logic [LevelBits-1:0] level_q, level_d;
  logic put, get;

  assign ready_o = level_q != LevelBits'(Depth);
  assign valid_o = level_q != '0;
  assign data_o  = storage_q[read_q];
  assign level_o = level_q;
  assign put     = valid_i && ready_o;
  assign get     = valid_o && ready_i;

  always_comb begin
    write_d = write_q;
    read_d  = read_q;
    level_d = level_q;
    if (put) write_d = (write_q == LastSlot) ? '0 : write_q + 1'b1;
    if (get) read_d = (read_q == LastSlot) ? '0 : read_q + 1'b1;
    if (put && !get) level_d = level_q + 1'b1;
    if (get && !put) level_d = level_q - 1'b1;
  end

  always_ff @(posedge clk_i) begin
    write_q <= write_d;
    read_q  <= read_d;
    level_q <= level_d;
    if (!rst_ni) begin
      write_q <= '0;
      read_q  <= '0;
      level_q <= '0;
    end
  end

  // Apart from the control registers, so that the storage maps onto RAM: no reset reaches it.
  always_ff @(posedge clk_i) begin
    if (put) storage_q[write_q] <= data_i;
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
