#include "server/engine/float_pieces.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "server/engine/background_thread.h"
#include "server/engine/built_version.h"

namespace ounce::server {
namespace {

// Shared with a reading thread that may be left behind.
struct Opened {
  std::string folder;
  CheckpointFingerprint fingerprint;
  // Asks `waiter`, that of the thread that reads it.
  std::unique_ptr<model::Checkpoint> checkpoint;
  Waiter* waiter = nullptr;
  model::ModelPlan plan;
};

// Runs what reads the checkpoint.
absl::Status ReadInBackground(const std::shared_ptr<Opened>& opened,
                              std::function<absl::Status()> read,
                              const FloatPieces::Proceed& proceed) {
  return RunInBackground(
      [opened, read = std::move(read)](Waiter& waiter) {
        opened->waiter = &waiter;
        const absl::Status status = read();
        opened->waiter = nullptr;
        return status;
      },
      proceed);
}

const model::CausalLm& Outline(const Opened& opened) {
  return *opened.plan.outline->causal_lm();
}

// Every piece has all vectors and tables.
int64_t LargestBytes(const Opened& opened) {
  const model::LoadReport& report = opened.plan.report;
  absl::flat_hash_map<std::string, int64_t> bytes_of;
  for (const model::TensorReport& tensor : report.tensors) {
    bytes_of[tensor.name] = tensor.resident_bytes;
  }
  int64_t matrices = 0;
  int64_t largest = 0;
  int64_t embedding = 0;
  for (int64_t piece = 0; piece < Outline(opened).num_pieces(); ++piece) {
    int64_t bytes = 0;
    for (const std::string& module : Outline(opened).PieceModules(piece)) {
      const auto found = bytes_of.find(module + ".weight");
      if (found != bytes_of.end()) bytes += found->second;
    }
    matrices += bytes;
    if (piece == 0) embedding = bytes;
    // A tied head's are the embedding's.
    largest = std::max({largest, bytes, embedding});
  }
  return report.resident_bytes - matrices + largest;
}

class Pieces final : public FloatPieces {
 public:
  explicit Pieces(std::shared_ptr<Opened> opened)
      : opened_(std::move(opened)), largest_bytes_(LargestBytes(*opened_)) {}

  const model::CausalLm& outline() const override { return Outline(*opened_); }
  int64_t largest_bytes() const override { return largest_bytes_; }

  absl::StatusOr<std::unique_ptr<const model::Model>> Load(
      int64_t piece, const Proceed& proceed) override {
    const auto made = std::make_shared<std::unique_ptr<const model::Model>>();
    model::LoadOptions options;
    const std::vector<std::string> modules =
        Outline(*opened_).PieceModules(piece);
    options.only.emplace(modules.begin(), modules.end());
    RETURN_IF_ERROR(ReadInBackground(
        opened_,
        [made, options, opened = opened_]() mutable -> absl::Status {
          options.progress = [&](const model::LoadProgress&) {
            return opened->waiter->CheckProceed();
          };
          absl::StatusOr<model::LoadedModel> loaded =
              model::LoadModel(*opened->checkpoint, options);
          // A file that was changed meanwhile explains most errors.
          if (loaded.ok() || absl::IsDataLoss(loaded.status()) ||
              absl::IsInvalidArgument(loaded.status())) {
            ASSIGN_OR_RETURN(const CheckpointFingerprint now,
                             FingerprintOf(*opened->checkpoint));
            RETURN_IF_ERROR(
                CheckUnchanged(opened->fingerprint, now, opened->folder));
          }
          RETURN_IF_ERROR(loaded.status());
          *made = std::move(loaded->model);
          return absl::OkStatus();
        },
        proceed));
    return std::move(*made);
  }

 private:
  const std::shared_ptr<Opened> opened_;
  const int64_t largest_bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FloatPieces>> FloatPieces::Open(
    const std::string& folder, const CheckpointFingerprint& loaded,
    const Proceed& proceed) {
  const auto opened = std::make_shared<Opened>();
  opened->folder = folder;
  opened->fingerprint = loaded;
  RETURN_IF_ERROR(ReadInBackground(
      opened,
      [opened]() -> absl::Status {
        ASSIGN_OR_RETURN(opened->checkpoint,
                         ReopenCheckpoint(opened->folder, opened->fingerprint,
                                          [of = opened.get()] {
                                            return of->waiter->CheckProceed();
                                          }));
        ASSIGN_OR_RETURN(opened->plan,
                         model::PlanModel(*opened->checkpoint, {}));
        return absl::OkStatus();
      },
      proceed));
  return std::make_unique<Pieces>(opened);
}

}  // namespace ounce::server
