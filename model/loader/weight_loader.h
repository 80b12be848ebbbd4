// The WeightReader of a load: each matrix gets the method that the policy picks
// and is packed by it, and the ledger learns of it.
#ifndef OUNCE_MODEL_LOADER_WEIGHT_LOADER_H_
#define OUNCE_MODEL_LOADER_WEIGHT_LOADER_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/thread_pool.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/ledger.h"
#include "model/loader/loader.h"
#include "model/loader/method_policy.h"
#include "model/loader/stored_codes.h"
#include "model/loader/tensor_rows.h"
#include "model/weights.h"
#include "quant/convolution.h"
#include "quant/dtype.h"
#include "quant/error_stats.h"
#include "quant/float_rows.h"
#include "quant/quant_method.h"

namespace ounce::model {

struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};

// Threads: one at a time.
class WeightLoader final : public WeightReader {
 public:
  // `policy` is that of the options' plan, `pool` what weights are packed on;
  // without one it only looks at names and shapes. Ownership: all four must
  // outlive it.
  WeightLoader(const Checkpoint& checkpoint, const LoadOptions& options,
               MethodPolicy& policy, ThreadPool* pool);

  // From now on matrices and convolutions that a float method stores are kept
  // in memory as bfloat16, because that is what the model multiplies.
  void KeepFloatsAsBFloat16() { floats_as_bfloat16_ = true; }

  // When the architecture has all that it wants. Of the plan the report has no
  // text. Errors: kInvalidArgument for tensors, or rows of one, that nobody
  // asked for.
  absl::StatusOr<LoadReport> Finish() &&;

  bool Has(std::string_view name) const override;
  absl::StatusOr<SharedWeight> Matrix(std::string_view module, int64_t rows,
                                      int64_t cols, WeightRole role) override;
  absl::StatusOr<Linear> ReadLinear(absl::Span<const LinearSource> sources,
                                    int64_t cols, WeightRole role) override;
  absl::StatusOr<SharedWeight> Tied(std::string_view module,
                                    std::string_view other) override;
  absl::StatusOr<ConvolutionWeight> Convolution(
      std::string_view module, const quant::ConvolutionShape& shape,
      std::string_view batch_norm) override;
  absl::StatusOr<std::vector<float>> Vector(std::string_view name,
                                            int64_t size) override;
  absl::StatusOr<std::vector<float>> LogitBias(std::string_view name,
                                               int64_t size) override;
  void Ignore(std::string_view glob) override { ledger_.Ignore(glob); }

 private:
  using Choice = MethodPolicy::Choice;

  // A stored tensor that is, or is cut into, matrices.
  struct Stored {
    std::string name;  // under which it was asked for first, and is reported
    WeightRole role = WeightRole::kLinear;  // as what
    Choice choice;
    quant::MethodSpec resident;  // what it is kept in memory by
    bool keeps_codes = false;    // the checkpoint's own
    size_t report = 0;
    std::vector<RowRange> used;  // ascending, with gaps between
    // Of all of the tensor, while rows of it are to be packed.
    std::unique_ptr<const quant::FloatRows> floats;
    std::unique_ptr<const quant::CodeRows> codes;
    // Of what has been packed.
    quant::ErrorMeter error;
    quant::ErrorMeter output_error;
  };
  // A tensor may be a linear layer and an embedding or head as well; these have
  // their methods and their rules of what is finite, so it is stored twice
  // then. So it is under each name that the plan has apart.
  struct StoredKey {
    int64_t storage_id = 0;
    bool is_linear = false;
    bool transposed = false;
    std::string apart = {};  // the name, if it is not the first
    auto operator<=>(const StoredKey&) const = default;
  };
  // Rows of a stored tensor, as one matrix has them.
  struct Slice {
    StoredKey stored;
    int64_t first_row = 0;
    int64_t rows = 0;
    auto operator<=>(const Slice&) const = default;
  };
  // A source with what is known of its tensor.
  struct Source {
    std::string module;
    std::string name;    // that of its weight
    std::string tensor;  // the checkpoint's; another one's, if it has none
    const TensorInfo* info = nullptr;
    Slice slice;
    int64_t stored_rows = 0;
    Stored* stored = nullptr;
  };

  absl::StatusOr<Source> FindSource(const LinearSource& asked, int64_t cols,
                                    WeightRole role);
  static StoredKey KeyOf(const TensorInfo& info, WeightRole role,
                         bool transposed = false) {
    return {info.storage_id, role == WeightRole::kLinear, transposed};
  }
  // What the plan chooses for a source of a known tensor if it has it apart
  // under this name. Marks the source so, else as tied in the ledger.
  std::optional<Choice> Untied(Source& source, WeightRole role);
  absl::StatusOr<Stored*> FindStored(const Source& source,
                                     const std::optional<Choice>& apart,
                                     int64_t cols, WeightRole role);
  absl::StatusOr<std::vector<LinearPart>> ReadParts(
      absl::Span<const LinearSource> asked, int64_t cols, WeightRole role);
  absl::StatusOr<LinearPart> ReadPart(absl::Span<const Source> sources,
                                      int64_t cols, WeightRole role);
  absl::StatusOr<SharedWeight> PackJoined(absl::Span<const Source> sources,
                                          int64_t cols, WeightRole role);
  bool reads() const { return pool_ != nullptr; }
  // Whether the matrices of a module are wanted.
  bool Reads(const std::string& module) const {
    return reads() &&
           (!options_.only.has_value() || options_.only->contains(module));
  }
  absl::StatusOr<std::vector<float>> ReadBias(
      absl::Span<const LinearSource> sources, WeightRole role);
  // Makes the codes of the tensor that a source is of.
  absl::Status Encode(const Source& source, WeightRole role);
  // The codes of a stored tensor; `floats`, which they may be made of, must
  // outlive them.
  absl::StatusOr<std::unique_ptr<const quant::CodeRows>> CodesOf(
      const Stored& stored, const TensorInfo& info, const std::string& tensor,
      bool transposed, WeightRole role,
      std::unique_ptr<const quant::FloatRows>& floats) const;
  // Whether the choice is to leave codes as the checkpoint has them.
  static bool KeepsCodes(const TensorInfo& info, const Choice& choice);
  absl::Status CheckRequantized(const std::string& name, const TensorInfo& info,
                                const Choice& choice) const;

  // Which of the values that are no finite numbers a vector may have.
  enum class Allowed { kNone, kMinusInfinity, kInfinity };
  static bool IsAllowed(float value, Allowed allowed);
  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name,
                                                int64_t size, Allowed allowed);

  absl::StatusOr<SharedWeight> PackConvolution(
      const quant::CodeRows& codes, const quant::ConvolutionShape& shape) const;
  // TensorReport::stored_as.
  void StoreAs(size_t report, const std::string& tensor, const Choice& choice,
               bool keeps_codes, WeightRole role);
  // The plan's choice for a tensor, by one of its names.
  Choice ChoiceFor(const MethodPolicy::Use& use, const TensorInfo& info);
  // What is kept in codes rounds inputs as the checkpoint says.
  static Choice WithActivations(Choice choice, const TensorInfo& info);
  // Its vectors, folded. `keep_only_bias`: only the bias is stored.
  absl::StatusOr<BatchNorm> FoldBatchNorm(const std::string& module,
                                          int64_t channels,
                                          bool keep_only_bias);
  // Why vectors are as in the checkpoint, though methods were asked for.
  std::string VectorLeftAlone(const char* why) const;
  quant::MethodSpec Resident(const Choice& choice, bool folded,
                             quant::DType dtype) const;
  // A report of a matrix that is stored as `choice` says, [rows, cols].
  absl::StatusOr<size_t> Report(const std::string& name, const TensorInfo& info,
                                const Choice& choice,
                                const quant::MethodSpec& resident, int64_t rows,
                                int64_t cols, WeightRole role);
  bool Measures(const Choice& choice, quant::DType dtype) const;
  // What a module reads, [any rows, cols], if that is known.
  const quant::LayerInput* InputOf(const std::string& module,
                                   int64_t cols) const;
  // Measures what scales that follow from the weights would do, if the method
  // was given others.
  absl::Status MeasureComputed(const quant::MethodSpec& resident,
                               const quant::FloatRows& floats, size_t report);
  static void SetError(const Choice& choice, const quant::ErrorStats& error,
                       TensorReport& report);
  absl::Status CheckEqual(const std::string& name, const TensorInfo& info,
                          const std::string& other) const;
  absl::Status CheckRowsUsed() const;

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  ThreadPool* const pool_;
  MethodPolicy& policy_;
  Ledger ledger_;
  // Of vectors, if they too are to be stored in another one.
  const std::optional<quant::DType> float_dtype_;
  std::map<StoredKey, Stored> stored_;
  std::map<std::vector<Slice>, SharedWeight> packed_;
  int64_t vector_bytes_ = 0;  // of all vectors that were given out
  bool floats_as_bfloat16_ = false;
  std::string method_;  // of the first linear layer
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_WEIGHT_LOADER_H_
