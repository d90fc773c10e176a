// Checks the words of commands: a cyclic redundancy code whose state is known at both ends.
//
// The words of a command follow each other, `last_i` with the last one; `word_i`, beside the first, is its place in the
// image, in bus words. The code (reflected, least significant bit first) begins with the inverse of that, takes in every
// word, and must end with the inverse of the place behind the last one: `error_o` pulses 5 cycles leaving that one if it
// does not. With `ignore_i` beside the last word the command is not judged. Words may come in every cycle.
module pen_check #(
  parameter int unsigned Bits       = 16,
  parameter int unsigned BusBytes   = 4,
  parameter logic [31:0] Polynomial = 32'h8408  // of degree Bits, reflected
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  valid_i,
  input  logic                  last_i,
  input  logic                  ignore_i,
  input  logic [Bits-1:0]       word_i,
  input  logic [8*BusBytes-1:0] data_i,
  output logic                  error_o
);

  if (Bits < 8 || Bits > 32 || Bits > 8 * BusBytes) begin : gen_bad_bits
    $fatal(1, "pen_check %m: Bits must be 8 to 32, and no more than a bus word has");
  end

  localparam int unsigned DataBits = 8 * BusBytes;
  localparam int unsigned PartBits = 32;  // taken together in the first step
  localparam int unsigned Parts    = (DataBits + PartBits - 1) / PartBits;

  typedef logic [Bits-1:0][DataBits-1:0] matrix_t;

  // Row b: the bits of a word that reach bit b of the state, if the state was 0. A state adds to the word's lowest bits.
  function automatic matrix_t word_matrix();
    logic [Bits-1:0] column;
    word_matrix = '0;
    column = Polynomial[Bits-1:0];  // of the last bit
    for (int i = DataBits - 1; i >= 0; i--) begin
      for (int b = 0; b < Bits; b++) word_matrix[b][i] = column[b];
      column = (column >> 1) ^ (column[0] ? Polynomial[Bits-1:0] : '0);
    end
  endfunction

  localparam matrix_t Matrix = word_matrix();

  // ---- Step 1: the words' parts ----------------------------------------------------------------------------------------
  logic                       within_q;
  logic [Parts-1:0][Bits-1:0] part_q;
  logic                       s1_valid_q, s1_first_q, s1_last_q, s1_ignore_q;
  logic [Bits-1:0]            s1_word_q;

  always_ff @(posedge clk_i) begin
    if (valid_i) within_q <= !last_i;
    s1_valid_q <= valid_i;
    s1_first_q <= !within_q;
    s1_last_q <= last_i;
    s1_ignore_q <= ignore_i;
    s1_word_q <= word_i;
    for (int unsigned p = 0; p < Parts; p++) begin
      for (int unsigned b = 0; b < Bits; b++) begin
        part_q[p][b] <= ^(PartBits'(data_i >> (p * PartBits)) & PartBits'(Matrix[b] >> (p * PartBits)));
      end
    end
    if (!rst_ni) begin
      within_q <= 1'b0;
      s1_valid_q <= 1'b0;
    end
  end

  // ---- Step 2: whole words, and their places ----------------------------------------------------------------------------
  logic            s2_valid_q, s2_first_q, s2_last_q;
  logic [Bits-1:0] s2_data_q, s2_word_q, data;

  always_comb begin
    data = '0;
    for (int unsigned p = 0; p < Parts; p++) data = data ^ part_q[p];
  end

  always_ff @(posedge clk_i) begin
    s2_valid_q <= s1_valid_q;
    s2_first_q <= s1_first_q;
    s2_last_q <= s1_last_q && !s1_ignore_q;
    s2_data_q <= data;
    if (s1_valid_q) s2_word_q <= s1_first_q ? s1_word_q : s2_word_q + 1'b1;
    if (!rst_ni) s2_valid_q <= 1'b0;
  end

  // ---- Step 3: the state -------------------------------------------------------------------------------------------------
  logic            s3_last_q, s4_last_q, s4_same_q;
  logic [Bits-1:0] state_q, entering, leaving, s3_end_q;

  assign entering = s2_first_q ? ~s2_word_q : state_q;
  always_comb begin
    for (int unsigned b = 0; b < Bits; b++) leaving[b] = s2_data_q[b] ^ (^(entering & Matrix[b][Bits-1:0]));
  end

  always_ff @(posedge clk_i) begin
    if (s2_valid_q) state_q <= leaving;
    s3_last_q <= s2_valid_q && s2_last_q;
    s3_end_q <= ~(s2_word_q + 1'b1);
    if (!rst_ni) s3_last_q <= 1'b0;
  end

  // ---- Steps 4 and 5: the verdict ------------------------------------------------------------------------------------------
  always_ff @(posedge clk_i) begin
    s4_last_q <= s3_last_q;
    s4_same_q <= state_q == s3_end_q;
    error_o <= s4_last_q && !s4_same_q;
    if (!rst_ni) begin
      s4_last_q <= 1'b0;
      error_o <= 1'b0;
    end
  end

endmodule
