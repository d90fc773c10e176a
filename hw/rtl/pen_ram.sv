// One write port, one read port, read data one cycle after `read_i` and held until the next read.
//
// The one place where block RAM is inferred. What a read gets of a word in the cycle that writes it is undefined: the
// attribute lets Yosys leave the collision logic out (75 flip-flops per memory of 36 bits), other tools do not add any;
// in simulation it gets the old word's complement, so that whoever uses it is wrong. Contents are undefined until written.
module pen_ram #(
  parameter int unsigned Width = 8,
  parameter int unsigned Depth = 16,
  localparam int unsigned AddrBits = (Depth > 1) ? $clog2(Depth) : 1
) (
  input  logic                clk_i,
  input  logic                write_i,
  input  logic [AddrBits-1:0] waddr_i,
  input  logic [Width-1:0]    wdata_i,
  input  logic                read_i,
  input  logic [AddrBits-1:0] raddr_i,
  output logic [Width-1:0]    rdata_o
);

  (* no_rw_check *) logic [Width-1:0] mem [Depth];

  always_ff @(posedge clk_i) begin
    if (write_i) mem[waddr_i] <= wdata_i;
    if (read_i) rdata_o <= mem[raddr_i];
`ifndef SYNTHESIS
    if (read_i && write_i && (waddr_i == raddr_i)) rdata_o <= ~mem[raddr_i];
`endif
  end

endmodule
