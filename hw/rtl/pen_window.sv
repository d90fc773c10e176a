// Prepares the windows of a layer one ahead of their use.
//
// A window is `Pixels` neighbouring pixels of the flat map; its output lanes are anchored there. For every tap this
// module works out which lanes fall on the map (`lookup_mask_o`) and where in the flat map the window of inputs starts
// (`lookup_pixel_o`), and for the window which taps reach the map in any lane (`reach_o`): taps that reach nothing
// need not be walked. Windows come in order and start over after the last, for as long as they are taken.
//
// Two windows are held: the one in use and the next. `valid_o` shows that the next one to be taken is ready, `take_i`
// takes it (its `half_o` goes along with every lookup), `release_i` gives back the oldest one taken. Lookups are
// combinational. Preparing costs one cycle per tap and three more, behind the use of the window before: the first window
// is ready that long after the cycle that follows `start_i`, and a place that `release_i` frees is filled again from the
// next cycle on.
// The configuration must be stable from `start_i` on; `start_i` only while nothing is taken.
module pen_window #(
  parameter int unsigned Pixels      = 4,
  parameter int unsigned CoordBits   = 6,
  parameter int unsigned PixelBits   = 10,
  parameter int unsigned MaxTaps     = 9,
  parameter int unsigned TapDepth    = 9,
  parameter string       TapFile     = "",
  localparam int unsigned TapBits     = (MaxTaps > 1) ? $clog2(MaxTaps) : 1,
  localparam int unsigned TapAddrBits = (TapDepth > 1) ? $clog2(TapDepth) : 1
) (
  input  logic                              clk_i,
  input  logic                              rst_ni,
  // Layer
  input  logic                              start_i,
  input  logic signed [CoordBits-1:0]       height_i,
  input  logic signed [CoordBits-1:0]       width_i,
  input  logic [Pixels-1:0][CoordBits-1:0]  lane_y_i,    // lanes of window 0
  input  logic [Pixels-1:0][CoordBits-1:0]  lane_x_i,
  input  logic signed [CoordBits-1:0]       step_y_i,    // from a window to the next: Pixels / width,
  input  logic signed [CoordBits-1:0]       step_x_i,    // Pixels % width
  input  logic [PixelBits-1:0]              windows_i,
  input  logic [TapBits-1:0]                last_tap_i,
  input  logic [TapAddrBits-1:0]            tap_base_i,
  // Window
  output logic                              valid_o,
  output logic                              half_o,
  output logic [MaxTaps-1:0]                reach_o,
  output logic [CoordBits-1:0]              y_o,         // lane 0
  output logic [CoordBits-1:0]              x_o,
  output logic                              last_o,      // of the map
  input  logic                              take_i,
  input  logic                              release_i,
  // Tap of a taken window
  input  logic                              lookup_half_i,
  input  logic [TapBits-1:0]                lookup_tap_i,
  output logic [Pixels-1:0]                 lookup_mask_o,
  output logic signed [PixelBits-1:0]       lookup_pixel_o
);

  if (Pixels < 1 || MaxTaps < 1 || MaxTaps > TapDepth) begin : gen_bad_taps
    $fatal(1, "pen_window %m: Pixels must be at least 1, MaxTaps at least 1 and at most TapDepth");
  end

  typedef struct packed {
    logic signed [CoordBits-1:0] dy;
    logic signed [CoordBits-1:0] dx;
    logic signed [PixelBits-1:0] shift;  // dy * width + dx
  } tap_t;

  // ---- Which half is prepared, taken, in use ------------------------------------------------------------------------
  logic       running_q;
  logic [1:0] occupied_q;  // halves being prepared, prepared or in use
  logic [1:0] ready_q;     // halves prepared and not taken
  logic       fill_q, head_q;
  logic       begin_fill, end_fill;

  // ---- Walk over the taps of the window being prepared -----------------------------------------------------------------
  logic               walk_q, check_q, store_q;
  logic [TapBits-1:0] tap_q, check_tap_q;
  logic               check_last_q;
  tap_t               tap;

  logic signed [CoordBits-1:0] y_q [Pixels];
  logic signed [CoordBits-1:0] x_q [Pixels];
  logic signed [PixelBits-1:0] pixel_q;
  logic [PixelBits-1:0]        window_q;

  logic [MaxTaps-1:0]   reach_q [2];
  logic [CoordBits-1:0] head_y_q [2];
  logic [CoordBits-1:0] head_x_q [2];
  logic                 last_q [2];

  assign begin_fill = running_q && !walk_q && !check_q && !store_q && (occupied_q != 2'd2);
  assign end_fill = store_q;

  // The table is read a tap ahead: the first one in the cycle that begins a window.
  logic [TapAddrBits-1:0] ahead_q;
  always_ff @(posedge clk_i) ahead_q <= (begin_fill ? tap_base_i : ahead_q) + 1'b1;

  pen_rom #(
    .Width($bits(tap_t)),
    .Depth(TapDepth),
    .InitFile(TapFile)
  ) u_taps (
    .clk_i,
    .read_i(begin_fill || walk_q),
    .addr_i(begin_fill ? tap_base_i : ahead_q),
    .data_o(tap)
  );

  // What every lane reads for a tap, and whether that and the lane's own place lie on the map.
  logic signed [CoordBits-1:0] tap_y_q [Pixels];
  logic signed [CoordBits-1:0] tap_x_q [Pixels];
  logic signed [PixelBits-1:0] tap_pixel_q;
  logic [Pixels-1:0]           inside_q, mask;

  always_ff @(posedge clk_i) begin
    tap_pixel_q <= pixel_q + tap.shift;
    for (int unsigned p = 0; p < Pixels; p++) begin
      tap_y_q[p] <= y_q[p] + tap.dy;
      tap_x_q[p] <= x_q[p] + tap.dx;
      inside_q[p] <= y_q[p] < height_i;
    end
  end

  always_comb begin
    for (int unsigned p = 0; p < Pixels; p++) begin
      mask[p] = inside_q[p] && (tap_y_q[p] >= 0) && (tap_y_q[p] < height_i)
                            && (tap_x_q[p] >= 0) && (tap_x_q[p] < width_i);
    end
  end

  always_ff @(posedge clk_i) begin
    store_q <= 1'b0;
    check_q <= walk_q;
    check_tap_q <= tap_q;
    check_last_q <= tap_q == last_tap_i;
    if (begin_fill) begin
      walk_q <= 1'b1;
      tap_q <= '0;
      reach_q[fill_q] <= '0;
      head_y_q[fill_q] <= y_q[0];
      head_x_q[fill_q] <= x_q[0];
      last_q[fill_q] <= window_q == windows_i - 1'b1;
    end else if (walk_q) begin
      tap_q <= tap_q + 1'b1;
      if (tap_q == last_tap_i) walk_q <= 1'b0;
    end
    if (check_q) begin
      reach_q[fill_q][check_tap_q] <= |mask;
      if (check_last_q) store_q <= 1'b1;
    end
    if (end_fill) begin
      fill_q <= !fill_q;
      if (last_q[fill_q]) begin
        window_q <= '0;
        pixel_q <= '0;
        for (int unsigned p = 0; p < Pixels; p++) begin
          y_q[p] <= signed'(lane_y_i[p]);
          x_q[p] <= signed'(lane_x_i[p]);
        end
      end else begin
        window_q <= window_q + 1'b1;
        pixel_q <= pixel_q + PixelBits'(Pixels);
        for (int unsigned p = 0; p < Pixels; p++) begin
          if (x_q[p] + step_x_i >= width_i) begin
            x_q[p] <= x_q[p] + step_x_i - width_i;
            y_q[p] <= y_q[p] + step_y_i + 1'b1;
          end else begin
            x_q[p] <= x_q[p] + step_x_i;
            y_q[p] <= y_q[p] + step_y_i;
          end
        end
      end
    end
    occupied_q <= occupied_q + 2'(begin_fill) - 2'(release_i);
    ready_q <= ready_q + 2'(end_fill) - 2'(take_i);
    if (take_i) head_q <= !head_q;
    if (start_i) begin
      running_q <= 1'b1;
      window_q <= '0;
      pixel_q <= '0;
      for (int unsigned p = 0; p < Pixels; p++) begin
        y_q[p] <= signed'(lane_y_i[p]);
        x_q[p] <= signed'(lane_x_i[p]);
      end
    end
    if (!rst_ni || start_i) begin
      walk_q <= 1'b0;
      check_q <= 1'b0;
      store_q <= 1'b0;
      occupied_q <= '0;
      ready_q <= '0;
      fill_q <= 1'b0;
      head_q <= 1'b0;
    end
    if (!rst_ni) running_q <= 1'b0;
  end

  // ---- Lookup table of both halves --------------------------------------------------------------------------------------
  pen_lutram #(
    .Width(Pixels + PixelBits),
    .Depth(2 << TapBits)
  ) u_lookup (
    .clk_i,
    .write_i(check_q),
    .waddr_i({fill_q, check_tap_q}),
    .wdata_i({mask, tap_pixel_q}),
    .raddr_i({lookup_half_i, lookup_tap_i}),
    .rdata_o({lookup_mask_o, lookup_pixel_o})
  );

  assign valid_o = ready_q != '0;
  assign half_o = head_q;
  assign reach_o = reach_q[head_q];
  assign y_o = head_y_q[head_q];
  assign x_o = head_x_q[head_q];
  assign last_o = last_q[head_q];

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && !start_i) begin
      assert (!take_i || valid_o) else $error("%m: a window is taken that is not ready");
      assert (!release_i || occupied_q > ready_q) else $error("%m: a window is released that was not taken");
    end
  end
`endif

endmodule
