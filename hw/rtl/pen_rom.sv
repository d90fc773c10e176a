// A table from a file of hexadecimal words: data one cycle after `read_i`, held until the next read.
//
// The one place where tables are inferred (block ROM, or LUTs where they are small). `InitFile` is read by $readmemh.
module pen_rom #(
  parameter int unsigned Width    = 8,
  parameter int unsigned Depth    = 16,
  parameter string       InitFile = "",
  localparam int unsigned AddrBits = (Depth > 1) ? $clog2(Depth) : 1
) (
  input  logic                clk_i,
  input  logic                read_i,
  input  logic [AddrBits-1:0] addr_i,
  output logic [Width-1:0]    data_o
);

  logic [Width-1:0] mem [Depth];

  initial $readmemh(InitFile, mem);

  always_ff @(posedge clk_i) begin
    if (read_i) data_o <= mem[addr_i];
  end

endmodule
