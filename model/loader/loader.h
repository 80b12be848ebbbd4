// From a checkpoint to a model that can run: every weight is read once, given
// to its method a panel at a time, and accounted for.
//
// Memory: the new weights, plus a few rows in float32 for each thread. Nothing
// of the file stays.
#ifndef OUNCE_MODEL_LOADER_LOADER_H_
#define OUNCE_MODEL_LOADER_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/counting.h"
#include "model/loader/method_plan.h"
#include "model/model.h"
#include "model/weights.h"
#include "quant/compute.h"
#include "quant/error_stats.h"
#include "quant/layer_input.h"
#include "quant/quant_method.h"

namespace ounce::model {

struct LoadProgress {
  int64_t tensors_done = 0;
  int64_t tensors_total = 0;  // of the checkpoint, ignored ones included
  std::string tensor;         // the one just done
};

// What modules read, by name.
using LayerInputs =
    absl::flat_hash_map<std::string, std::shared_ptr<const quant::LayerInput>>;

struct LoadOptions {
  MethodPlan plan;
  // Absent: as the architecture does by itself (Architecture::auto_is_faster).
  // Floats of a model that multiplies them in bfloat16 are kept in memory as
  // that; reports say so in their resident bytes, stored bytes stay the
  // method's.
  std::optional<quant::Compute> compute = quant::Compute::kFloat32;
  // Called after each tensor, on the loading thread; an error ends the load
  // with that error.
  std::function<absl::Status(const LoadProgress&)> progress;
  // Measure the error of each weight (reads it twice).
  bool measure_error = false;
  // And that of the outputs of the linear layers that have inputs here. May be
  // null.
  std::shared_ptr<const LayerInputs> inputs = nullptr;
  // That weights are packed on: the caller's and others that it starts, which
  // have its priority.
  int threads = 1;
  // Modules whose matrices are read; of others the model has none, as an
  // outline has none, and the report none the less. For CausalLm::RunPiece.
  // Absent: all.
  std::optional<absl::flat_hash_set<std::string>> only = {};
};

// Where the codes of a stored matrix come from, in terms of the checkpoint
// (stored_codes.h).
struct StoredAs {
  std::string tensor;        // that has it, perhaps under another name
  quant::MethodSpec spec;    // as it is stored, whatever it is in memory
  bool keeps_codes = false;  // the checkpoint's own
  bool allows_non_finite = false;
  std::string batch_norm = {};  // module that is folded into the codes, if any
  int activations = 16;         // RuleSpec::activations
};

// What became of one tensor of the checkpoint.
struct TensorReport {
  std::string name;
  std::vector<int64_t> shape;
  std::string method;   // spec; empty if not stored (ignored, tied)
  std::string element;  // in memory: "int8", "float16", ...
  WeightRole role = WeightRole::kLinear;
  bool is_vector = false;   // a norm or a bias: 1-D, has no role
  bool transposed = false;  // the matrix is stored as [columns, rows]
  // Of a linear layer whose floats lie so (GPT-2's Conv1D), even if codes, that
  // are by output, are stored.
  bool is_conv1d = false;
  // All 0 for what is not stored.
  int64_t checkpoint_bytes = 0;  // in the checkpoint's dtype
  int64_t stored_bytes = 0;      // Hugging Face's convention
  int64_t resident_bytes = 0;    // in memory, padding and scales included
  std::optional<CountedTensor> counted;           // if it is stored
  std::optional<StoredAs> stored_as;              // if it is a stored matrix
  std::optional<quant::ErrorStats> error;         // if measured and not exact
  std::optional<quant::ErrorStats> output_error;  // likewise
  // With scales that follow from the weights, where they were given instead and
  // errors are measured (QuantMethod::Computed).
  std::optional<double> computed_relative_l2 = std::nullopt;
  // Share of the stored values that are zero, if measured and its spec has
  // stages.
  std::optional<double> sparsity = std::nullopt;
  std::string
      left_alone;  // why it is as in the checkpoint, if methods were asked for
  std::string note;  // CodeFormat::note
};

struct LoadReport {
  // The plan's text, whose rules all got something.
  std::string plan;
  // In short: MethodPlan::Label; where all is kept, the float method of the
  // linear layers' dtype.
  std::string method;
  std::vector<TensorReport> tensors;  // in the order of the architecture
  // Sums over tensors, tied ones once; resident bytes with table_bytes.
  int64_t checkpoint_bytes = 0;
  int64_t stored_bytes = 0;
  int64_t resident_bytes = 0;
  absl::flat_hash_map<std::string, int64_t> resident_bytes_by_element;
  // Of resident_bytes: float32 that the network holds and no tensor has
  // (Model::table_bytes, zeros of biases).
  int64_t table_bytes = 0;
  // The sums of checkpoint's and stored bytes by the first rule, and other ways
  // to count.
  std::vector<Footprint> footprints;

  void AddTables(int64_t bytes);
};

struct LoadedModel {
  std::unique_ptr<const Model> model;
  LoadReport report;
};

// What a load would give, found out from the config, names and shapes alone.
struct ModelPlan {
  // As LoadModel's would be, bytes to the last; without errors of weights.
  LoadReport report;
  // Without its weights: answers what follows from the config (shapes, labels,
  // scratch), but must never run a Forward.
  std::unique_ptr<const Model> outline;
};

// Judges `options` and walks the architecture without reading a weight: takes
// milliseconds and next to no memory. `progress` is not called.
// Errors: those of LoadModel, but for what only the weights' values can show.
absl::StatusOr<ModelPlan> PlanModel(const Checkpoint& checkpoint,
                                    const LoadOptions& options);

// Plans, then reads.
// Errors: kUnimplemented for an architecture that is not in architectures.def
// (names it and lists what is) and for code of the checkpoint's own;
// what MethodPolicy, Checkpoint and WeightReader return; kInvalidArgument for a
// tensor of the network's own that the config does not account for.
absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint,
                                      const LoadOptions& options);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_LOADER_H_
