// Cycle counts that the cycle model takes from the contracts of the RTL modules, named after the module that promises
// them. Whoever adds a register to one of these paths changes one number here, and tests/test_cycles.py says whether it
// was the right one.
//
// Cycles are numbered; a register that is written at the end of cycle t shows its value from t + 1 on.
#ifndef PEN_CONTRACTS_H
#define PEN_CONTRACTS_H

#include <cstdint>

namespace pen::contract {

// pen_window: of a window's preparation, beside one cycle per tap; from a release to the next preparation
constexpr int64_t kWindowPrepare = 3;
constexpr int64_t kWindowRefill = 1;
// pen_walk: from the last step of a window's last pass to its release
constexpr int64_t kRelease = 1;
// pen_walk, memories, pen_array, pen_drain: from a pass's last step to its first pixel at the drain's last step
constexpr int64_t kStepToPixel = 10;
// pen_drain: from that pixel, if it completes a word, to the first beat
constexpr int64_t kPixelToBeat = 1;

// pen_conv_stage: from the last channel of a word to the first pass that may read it; from the last step of a window's
// last pass to the first word that takes its place in the ring
constexpr int64_t kWordToPass = 1;
constexpr int64_t kStepToFree = 3;

// pen_pixel_in: from a word's last pixel to its first channel
constexpr int64_t kPixelToWord = 1;
// pen_tail_in: from the last word to frame_valid; from frame_done to the first word of the next but one frame
constexpr int64_t kInputValid = 4;
constexpr int64_t kInputFree = 1;

// pen_strength: from a map's last beat to the strength in the queue of finished channels
constexpr int64_t kBeatToEvent = 2;
// pen_fifo: from a word's entry to its offer
constexpr int64_t kFifo = 1;
// pen_engine: from a change of the queue's level to beats being let through or held
constexpr int64_t kRoomDelay = 2;
// and strengths in the queue up to which they are let through
constexpr int64_t queue_room(int64_t lanes) { return 2 * lanes; }

// pen_present: look-up of an event's channel
constexpr int64_t kEventLookup = 1;
// pen_predict: from start to the first event, and to idle, beside a cycle per word of scores; of an event, at least; from
// an event to idle, beside a cycle per word, and at least
constexpr int64_t kPredictStart = 2;
constexpr int64_t kPredictStartIdle = 3;
constexpr int64_t kPredictEvent = 4;
constexpr int64_t kPredictIdle = 3;
constexpr int64_t kPredictIdleLeast = 5;
// pen_classes: from the start to the first class
constexpr int64_t kStartToClass = 1;
// pen_hidden: from the start, or from a value taken, to the read of a word of sums at least; from there to its first event
constexpr int64_t kStartToHidden = 1;
constexpr int64_t kReadToHidden = 4;
// pen_select: of one digit, beside a cycle per word; of a word, up to its first filter
constexpr int64_t kSelectDigit = 3;
constexpr int64_t kSelectWord = 3;

// pen_fetch: from a filter taken to its first command; from a command taken to the next one, or to the next filter; from
// a filter taken that has no command to the next filter
constexpr int64_t kFilterToCommand = 4;
constexpr int64_t kCommandToNext = 2;
constexpr int64_t kFilterEmpty = 4;
constexpr int64_t kEndToFetch = 1;  // from the end of the choice to the end of its last group
constexpr int64_t kDataToGroup = 1;  // from a group's last word to its first pass
constexpr int64_t kDoneToFetch = 1;  // from a group's last beat to the first filter of the next but one

// pen_axi_read: from a command's entry to where it may join the one before, and so leave the way in; from there to its
// leaving, at least; from there to its first burst; between bursts of a
// command; from a burst's end to one that waits for its place; from a burst issued to its request on the bus
constexpr int64_t kCommandEnters = 1;
constexpr int64_t kCommandHeld = 1;
constexpr int64_t kCommandToBurst = 1;
constexpr int64_t kBurstToBurst = 2;
constexpr int64_t kBurstFree = 1;
constexpr int64_t kBurstToRequest = 1;
constexpr int64_t kWordSeen = 1;  // from a word's arrival to its being counted as arrived
// pen_engine: commands of which not all words have come
constexpr int64_t commands(int64_t outstanding) { return 4 * outstanding + 16; }

// pen_engine, sequence: from frame_valid in Idle to the start of the predictor; to the first strength replayed; from
// there to its entry into the queue; from the last one replayed, or the last beat of a group, to the end of settling;
// from the end of a layer, or of settling, to the next layer's start; from there to the first pass, beside a window's
// preparation; to the next layer's predictor, where nothing is selected; from the last layer's end to Idle
constexpr int64_t kFrameToBuild = 3;
constexpr int64_t kFrameToReplay = 5;
constexpr int64_t kReplayToEvent = 1;
constexpr int64_t kSettle = 4;
constexpr int64_t kEndToStart = 2;
constexpr int64_t kStartToWindow = 1;
constexpr int64_t kStartToBuild = 1;
constexpr int64_t kEndToIdle = 2;
// from the start to the first filter of the list in order, and between two of them; from the last to the selected ones
constexpr int64_t kStartToListed = 2;
constexpr int64_t kListed = 2;
// to the first score read
constexpr int64_t kStartToSelect = 1;
// from the last beat to the last logit on the bus (pen_skid)
constexpr int64_t kBeatToLogit = 1;

}  // namespace pen::contract

#endif
