// Reads the first bytes of the weight image and compares them with what they must be.
//
// `start_i` asks the read master for the bus words that hold the first `Bytes` bytes, with one command at an address that
// the surroundings know; from then on until `done_o` every word that comes is one of them. `done_o` pulses in the cycle
// after the last one, with `match_o` beside it: all bytes are those of `Expected` (the first one lowest). Bytes of the last
// word beyond them are not looked at. `start_i` again only after `done_o`.
module pen_header #(
  parameter int unsigned BusBytes  = 4,
  parameter int unsigned WordsBits = 3,
  parameter int unsigned Bytes     = 24,
  localparam int unsigned Bits   = 8 * ((Bytes > 0) ? Bytes : 1),
  parameter logic [Bits-1:0] Expected = '0
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  start_i,
  output logic                  cmd_valid_o,
  input  logic                  cmd_ready_i,
  output logic [WordsBits-1:0]  cmd_words_o,
  input  logic                  data_valid_i,
  input  logic [8*BusBytes-1:0] data_i,
  input  logic                  data_last_i,
  output logic                  done_o,
  output logic                  match_o
);

  localparam int unsigned Words     = (Bits + 8 * BusBytes - 1) / (8 * BusBytes);
  localparam int unsigned IndexBits = (Words > 1) ? $clog2(Words) : 1;
  localparam logic [Words-1:0][8*BusBytes-1:0] ExpectedWords = (8 * BusBytes * Words)'(Expected);
  localparam logic [Words-1:0][8*BusBytes-1:0] Looked = (8 * BusBytes * Words)'({Bits{1'b1}});

  if (Bytes < 1 || BusBytes < 1) begin : gen_bad_sizes
    $fatal(1, "pen_header %m: Bytes and BusBytes must be at least 1");
  end
  if ((1 << WordsBits) <= Words) begin : gen_bad_words
    $fatal(1, "pen_header %m: WordsBits does not hold the number of words");
  end

  logic                 busy_q;
  logic [IndexBits-1:0] index_q;
  logic                 same;

  assign cmd_words_o = WordsBits'(Words);
  assign same = ((data_i ^ ExpectedWords[index_q]) & Looked[index_q]) == '0;

  always_ff @(posedge clk_i) begin
    done_o <= 1'b0;
    if (cmd_ready_i) cmd_valid_o <= 1'b0;
    if (busy_q && data_valid_i) begin
      index_q <= index_q + 1'b1;
      match_o <= match_o && same;
      if (data_last_i) begin
        done_o <= 1'b1;
        busy_q <= 1'b0;
      end
    end
    if (start_i) begin
      cmd_valid_o <= 1'b1;
      busy_q <= 1'b1;
      index_q <= '0;
      match_o <= 1'b1;
    end
    if (!rst_ni) begin
      cmd_valid_o <= 1'b0;
      busy_q <= 1'b0;
      done_o <= 1'b0;
    end
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni) assert (!start_i || !busy_q) else $error("%m: started while a header is read");
  end
`endif

endmodule
