// standin_probed: the ports of an accelerator's top with behaviour that can be said in a line of numpy, to test the
// Verilated harness itself. A file with the macros below is read before this one.
//
// A frame's signed pixels give strengths (sum of |a| per channel) and a total. Layer 0 emits strengths, scores
// strength[0] * (j + 1) - 1000 * j, chooses filters 0..keep-1, and reads keep * `RECORD_WORDS words from the record
// area; layer 1 reads three stretches of `RECORD_WORDS words, one bus word apart. Logit i is total * (i + 1) + the sum of
// the low 32 bits of all words read + rom[0], in 32 bits (+ i * 2**40 where logits have 64 bits).
// rom[1] selects a fault; see the enumeration.
module standin_probed #(
    parameter string MemDir = "mem"
) (
    input  logic                       clk_i,
    input  logic                       rst_ni,

    input  logic [8*`CHANNELS-1:0]     s_axis_tdata,
    input  logic                       s_axis_tvalid,
    output logic                       s_axis_tready,
    input  logic                       s_axis_tlast,

    output logic [`LOGIT_BITS-1:0]     m_axis_tdata,
    output logic                       m_axis_tvalid,
    input  logic                       m_axis_tready,
    output logic                       m_axis_tlast,
    output logic [0:0]                 m_axis_tuser,

    output logic [31:0]                m_axi_araddr,
    output logic [7:0]                 m_axi_arlen,
    output logic [2:0]                 m_axi_arsize,
    output logic [1:0]                 m_axi_arburst,
    output logic [2:0]                 m_axi_arprot,
    output logic [3:0]                 m_axi_arcache,
    output logic                       m_axi_arvalid,
    input  logic                       m_axi_arready,
    input  logic [8*`BUS_BYTES-1:0]    m_axi_rdata,
    input  logic [1:0]                 m_axi_rresp,
    input  logic                       m_axi_rlast,
    input  logic                       m_axi_rvalid,
    output logic                       m_axi_rready,

    input  logic [11:0]                s_axil_awaddr,
    input  logic [2:0]                 s_axil_awprot,
    input  logic                       s_axil_awvalid,
    output logic                       s_axil_awready,
    input  logic [31:0]                s_axil_wdata,
    input  logic [3:0]                 s_axil_wstrb,
    input  logic                       s_axil_wvalid,
    output logic                       s_axil_wready,
    output logic [1:0]                 s_axil_bresp,
    output logic                       s_axil_bvalid,
    input  logic                       s_axil_bready,
    input  logic [11:0]                s_axil_araddr,
    input  logic [2:0]                 s_axil_arprot,
    input  logic                       s_axil_arvalid,
    output logic                       s_axil_arready,
    output logic [31:0]                s_axil_rdata,
    output logic [1:0]                 s_axil_rresp,
    output logic                       s_axil_rvalid,
    input  logic                       s_axil_rready,

    output logic                       probe_strength_valid,
    output logic [7:0]                 probe_strength_layer,
    output logic [15:0]                probe_strength_channel,
    output logic [31:0]                probe_strength_value,
    output logic                       probe_score_valid,
    output logic [7:0]                 probe_score_layer,
    output logic [15:0]                probe_score_word,
    output logic [64*`SCORE_LANES-1:0] probe_score_data,
    output logic                       probe_chosen_valid,
    output logic [7:0]                 probe_chosen_layer,
    output logic [15:0]                probe_chosen_filter,
    output logic                       probe_layer_valid,
    output logic [7:0]                 probe_layer_layer,
    output logic [31:0]                probe_layer_cycles,
    output logic [31:0]                probe_layer_bytes,
    output logic [15:0]                probe_layer_chosen
);
  typedef enum logic [31:0] {
    FaultNone,
    FaultAssertion,    // an assertion of the RTL fails
    FaultAddress,      // a read one word below the image
    FaultHang,         // the answer never comes
    FaultUnstable,     // a logit changes while it waits
    FaultTwice,        // a filter is chosen twice
    FaultLast,         // TLAST comes one logit early
    FaultFinish,       // the RTL ends the simulation
    FaultScoreless,    // the last word of scores is missing
    FaultCount,        // the layer's counter disagrees with its choices
    FaultBad           // no fault of the harness: the frame is marked bad
  } fault_e;

  typedef enum logic [3:0] {
    Take, Strength, Score, Choose, Fetch0, Wait0, End0, Fetch1, Wait1, End1, Answer
  } state_e;

  localparam int unsigned ScoreWords = (`FILTERS + `SCORE_LANES - 1) / `SCORE_LANES;

  logic [31:0] rom [2];
  initial $readmemh({MemDir, "/standin.hex"}, rom);

  state_e state_q;
  logic [15:0] count_q;
  logic [31:0] strength_q [`CHANNELS];
  logic signed [31:0] total_q;
  logic [31:0] sum_q, cycles_q, bytes_q;

  logic [31:0] image_base;
  logic enable;
  logic [31:0] keep;
  logic cmd_valid, cmd_ready, data_valid, error, idle;
  logic [31:0] cmd_addr;
  logic [15:0] cmd_words;
  logic [8*`BUS_BYTES-1:0] data;

  standin_registers u_registers (
      .clk_i,
      .rst_ni,
      .s_axil_awaddr,
      .s_axil_awprot,
      .s_axil_awvalid,
      .s_axil_awready,
      .s_axil_wdata,
      .s_axil_wstrb,
      .s_axil_wvalid,
      .s_axil_wready,
      .s_axil_bresp,
      .s_axil_bvalid,
      .s_axil_bready,
      .s_axil_araddr,
      .s_axil_arprot,
      .s_axil_arvalid,
      .s_axil_arready,
      .s_axil_rdata,
      .s_axil_rresp,
      .s_axil_rvalid,
      .s_axil_rready,
      .image_base_o  (image_base),
      .timeout_o     (),
      .enable_o      (enable),
      .mode_o        (),
      .keep_o        (keep),
      .threshold_o   (),
      .classes_o     (),
      .busy_i        (state_q != Take),
      .errors_i      ('{0: error, default: 1'b0}),
      .frame_done_i  (state_q == End1),
      .frame_bad_i   (rom[1] == FaultBad),
      .stall_i       ('0),
      .layer_done_i  (probe_layer_valid),
      .layer_index_i (probe_layer_layer),
      .layer_cycles_i(probe_layer_cycles),
      .layer_bytes_i (probe_layer_bytes),
      .layer_chosen_i(probe_layer_chosen)
  );

  pen_axi_read #(
      .BusBytes   (`BUS_BYTES),
      .MaxBurst   (16),
      .Outstanding(4)
  ) u_read (
      .clk_i,
      .rst_ni,
      .cmd_valid_i (cmd_valid),
      .cmd_ready_o (cmd_ready),
      .cmd_addr_i  (cmd_addr),
      .cmd_words_i (cmd_words),
      .cmd_tag_i   (1'b0),
      .data_valid_o(data_valid),
      .data_o      (data),
      .data_tag_o  (),
      .data_last_o (),
      .timeout_i   (32'd0),
      .give_up_i   (1'b0),
      .resume_i    (1'b0),
      .timeout_o   (),
      .lost_o      (),
      .error_o     (error),
      .idle_o      (idle),
      .m_axi_araddr,
      .m_axi_arlen,
      .m_axi_arsize,
      .m_axi_arburst,
      .m_axi_arprot,
      .m_axi_arcache,
      .m_axi_arvalid,
      .m_axi_arready,
      .m_axi_rdata,
      .m_axi_rresp,
      .m_axi_rlast,
      .m_axi_rvalid,
      .m_axi_rready
  );

  assign cmd_valid = state_q == Fetch0 || state_q == Fetch1;
  assign cmd_words = (state_q == Fetch0) ? keep[15:0] * 16'(`RECORD_WORDS) : 16'(`RECORD_WORDS);
  always_comb begin
    cmd_addr = image_base + 32'd64;
    if (state_q == Fetch1) cmd_addr += 32'(count_q) * 32'((`RECORD_WORDS + 1) * `BUS_BYTES);
    if (rom[1] == FaultAddress) cmd_addr = image_base - 32'(`BUS_BYTES);
  end

  assign s_axis_tready = enable && state_q == Take;

  logic [31:0] logit;

  always_comb begin
    m_axis_tvalid = state_q == Answer && rom[1] != FaultHang;
    m_axis_tlast  = count_q == 16'(`OUTPUTS - ((rom[1] == FaultLast) ? 2 : 1));
    m_axis_tuser  = rom[1] == FaultBad;
    logit         = total_q * 32'(count_q + 16'd1) + sum_q + rom[0];
    m_axis_tdata  = `LOGIT_BITS'($signed(logit));
    if (`LOGIT_BITS == 64) m_axis_tdata += `LOGIT_BITS'({32'(count_q), 40'd0});
    if (rom[1] == FaultUnstable) m_axis_tdata ^= `LOGIT_BITS'(cycles_q);
  end

  always_comb begin
    probe_strength_valid   = state_q == Strength;
    probe_strength_layer   = 8'd0;
    probe_strength_channel = count_q;
    probe_strength_value   = strength_q[count_q];
    probe_score_valid      = state_q == Score && !(rom[1] == FaultScoreless && count_q == 16'(ScoreWords - 1));
    probe_score_layer      = 8'd0;
    probe_score_word       = count_q;
    for (int unsigned lane = 0; lane < `SCORE_LANES; lane++) begin
      probe_score_data[64*lane+:64] = 64'(strength_q[0]) * (64'(count_q) * `SCORE_LANES + 64'(lane) + 64'd1)
          - 64'd1000 * (64'(count_q) * `SCORE_LANES + 64'(lane));
    end
    probe_chosen_valid  = state_q == Choose;
    probe_chosen_layer  = 8'd0;
    probe_chosen_filter = (rom[1] == FaultTwice) ? 16'd0 : count_q;
    probe_layer_valid   = state_q == End0 || state_q == End1;
    probe_layer_layer   = 8'(state_q == End1);
    probe_layer_cycles  = cycles_q;
    probe_layer_bytes   = bytes_q;
    probe_layer_chosen  = (state_q == End1) ? 16'(`OUTPUTS) : keep[15:0] + 16'(rom[1] == FaultCount);
  end

  // Goes on to `next` when `count_q` has been through 0..last.
  function automatic void walk(input int unsigned last, input state_e next);
    count_q <= count_q + 16'd1;
    if (count_q == 16'(last)) begin
      count_q <= '0;
      state_q <= next;
    end
  endfunction

  always_ff @(posedge clk_i) begin
    cycles_q <= cycles_q + 1;
    if (data_valid) begin
      sum_q   <= sum_q + data[31:0];
      bytes_q <= bytes_q + `BUS_BYTES;
    end
    unique case (state_q)
      Take: begin
        if (s_axis_tvalid && s_axis_tready) begin
          automatic logic signed [31:0] pixel_sum = '0;
          for (int unsigned c = 0; c < `CHANNELS; c++) begin
            automatic logic signed [31:0] value = 32'($signed(s_axis_tdata[8*c+:8]));
            pixel_sum = pixel_sum + value;
            strength_q[c] <= ((count_q == 0) ? 0 : strength_q[c]) + ((value < 0) ? -value : value);
          end
          total_q <= ((count_q == 0) ? 0 : total_q) + pixel_sum;
          count_q <= count_q + 16'd1;
          if (s_axis_tlast) begin
            count_q  <= '0;
            state_q  <= Strength;
            sum_q    <= '0;
            cycles_q <= '0;
            bytes_q  <= '0;
          end
        end
      end
      Strength: walk(`CHANNELS - 1, Score);
      Score:    walk(ScoreWords - 1, Choose);
      Choose:   walk(32'(keep[15:0]) - 1, Fetch0);
      Fetch0:   if (cmd_ready) state_q <= Wait0;
      Wait0:    if (idle) state_q <= End0;
      End0: begin
        state_q  <= Fetch1;
        cycles_q <= '0;
        bytes_q  <= '0;
      end
      Fetch1: if (cmd_ready) walk(2, Wait1);
      Wait1:  if (idle) state_q <= End1;
      End1:   state_q <= Answer;
      Answer: if (m_axis_tvalid && m_axis_tready) walk(`OUTPUTS - 1, Take);
      default: state_q <= Take;
    endcase
    if (state_q == End0 && rom[1] == FaultFinish) $finish;
    if (!rst_ni) begin
      state_q <= Take;
      count_q <= '0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni && state_q == Score) begin
      assert (rom[1] != FaultAssertion) else $error("standin %m: rom asked for a failure with code %0d", rom[1]);
    end
  end
endmodule
