// Tells the predictor which classes are wanted: one event per bit set in `classes_i`, with the row of the class's mask.
//
// `start_i` (only while idle) takes the bits; then every class takes a cycle, a wanted one until its event is taken.
// `idle_o` rises Classes cycles after the start, if events are taken at once. Rows lie `row_stride_i` words from each other,
// from `row_base_i` on; both are read at the start.
module pen_classes #(
  parameter int unsigned Classes   = 10,
  parameter int unsigned TableBits = 8
) (
  input  logic                 clk_i,
  input  logic                 rst_ni,
  input  logic                 start_i,
  input  logic [Classes-1:0]   classes_i,
  input  logic [TableBits-1:0] row_base_i,
  input  logic [TableBits-1:0] row_stride_i,
  output logic                 idle_o,
  output logic                 event_valid_o,
  input  logic                 event_ready_i,
  output logic [TableBits-1:0] event_row_o
);

  if (Classes < 1 || TableBits < 1) begin : gen_bad_sizes
    $fatal(1, "pen_classes %m: Classes and TableBits must be at least 1");
  end

  logic [Classes-1:0]   wanted_q;  // classes that are still to be told, the next one in bit 0
  logic [TableBits-1:0] row_q, stride_q;

  assign idle_o = wanted_q == '0;
  assign event_valid_o = wanted_q[0];
  assign event_row_o = row_q;

  always_ff @(posedge clk_i) begin
    if (!wanted_q[0] || event_ready_i) begin
      wanted_q <= wanted_q >> 1;
      row_q <= row_q + stride_q;
    end
    if (start_i) begin
      wanted_q <= classes_i;
      row_q <= row_base_i;
      stride_q <= row_stride_i;
    end
    if (!rst_ni) wanted_q <= '0;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) assert (!start_i || idle_o) else $error("%m: started while classes are being told");
  end
`endif

endmodule
