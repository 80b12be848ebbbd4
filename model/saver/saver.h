// A served model as a folder of files that Ounce, or another tool, loads: what
// a plan makes of a checkpoint, written as the formats of save_formats.def lay
// it out, beside the checkpoint's config and tokenizer and a card that says how
// it was made.
//
// Codes are made again from the checkpoint, as loading makes them: saving holds
// a few megabytes of a tensor at a time, whatever is served meanwhile.
#ifndef OUNCE_MODEL_SAVER_SAVER_H_
#define OUNCE_MODEL_SAVER_SAVER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/method_plan.h"

namespace ounce::model {

struct SaveProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;  // of all weight files
  std::string tensor = {};  // the one just written
};

// A table of the card, under a heading of its own.
struct CardSection {
  std::string heading;
  std::string markdown;
};

struct SaveOptions {
  MethodPlan plan;
  // The name of a format; empty: the first of AllSaveFormats that holds the
  // model as the plan stores it.
  std::string format;
  // The folder to make. It must not exist, its parent must.
  std::string folder;
  // Of one safetensors file; a tensor that is larger has one of its own, and
  // there are no more than 256 files.
  int64_t max_shard_bytes = int64_t{5'000'000'000};
  // What the model is called in the card, and in files that say it.
  std::string name;
  // What the card says beside: of measured quality, say.
  std::vector<CardSection> sections = {};
  // Called after each tensor, on the saving thread; an error ends the saving
  // with that error.
  std::function<absl::Status(const SaveProgress&)> progress = nullptr;
  // Asked when all is written and before the folder appears; an error leaves
  // nothing, too.
  std::function<absl::Status()> check = nullptr;
};

struct SavedFile {
  std::string name;  // in the folder
  int64_t bytes = 0;
};

struct SaveReport {
  std::string format;
  std::vector<SavedFile> files = {};  // by name
  int64_t weight_bytes = 0;           // of the files that hold weights
};

// A format as people choose it.
struct SaveFormatInfo {
  std::string_view name;
  std::string_view summary;  // one sentence
};
std::vector<SaveFormatInfo> SaveFormats();

// Writes into a hidden folder beside `options.folder`, which takes its name
// when all is on the disk: there is never half a folder. Whatever fails,
// nothing is left. Errors: kInvalidArgument for a format that is not in the
// list (names those that are) and what PlanModel returns; kAlreadyExists for a
// folder that is there; kNotFound, kPermissionDenied for a parent that is not,
// or is not writable; kFailedPrecondition, before anything is written, with the
// tensor, for what the format cannot hold (says which can); kResourceExhausted
// when the disk lacks room, before anything is written where it is known, or on
// the way; those of reading the checkpoint; that of `progress`.
absl::StatusOr<SaveReport> SaveModel(const Checkpoint& checkpoint,
                                     const SaveOptions& options);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_SAVER_H_
