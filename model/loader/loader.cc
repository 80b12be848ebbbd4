#include "model/loader/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/missing_tensor.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/loader/glob.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"
#include "quant/float_rows.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::DType;
using quant::MethodSpec;
using quant::PackedWeight;

constexpr std::string_view kWeightSuffix = ".weight";

class CheckpointRows final : public quant::FloatRows {
 public:
  CheckpointRows(const Checkpoint& checkpoint, const std::string& name,
                 const TensorInfo& info, WeightRole role)
      : checkpoint_(checkpoint), name_(name), info_(info), role_(role) {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return info_.shape[0]; }
  int64_t cols() const override { return info_.elements() / info_.shape[0]; }
  DType dtype() const override { return info_.dtype; }
  bool allows_non_finite() const override {
    return role_ == WeightRole::kEmbedding || role_ == WeightRole::kHead;
  }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    return checkpoint_.ReadFloats(name_, first * cols(), count * cols(), out);
  }

 private:
  const Checkpoint& checkpoint_;
  const std::string& name_;
  const TensorInfo& info_;
  const WeightRole role_;
};

TensorReport Describe(const std::string& name, const TensorInfo& info) {
  TensorReport tensor;
  tensor.name = name;
  tensor.shape = info.shape;
  return tensor;
}

// Which of the values that are no finite numbers a vector may have.
enum class Allowed { kNone, kMinusInfinity, kInfinity };

bool IsAllowed(float value, Allowed allowed) {
  return std::isfinite(value) ||
         (allowed == Allowed::kMinusInfinity && value == -INFINITY) ||
         (allowed == Allowed::kInfinity && value == INFINITY);
}

// What a name begins with, up to the first dot.
std::string_view Root(std::string_view name) {
  return name.substr(0, name.find('.'));
}

class Loader final : public WeightReader {
 public:
  // `read` false: only looks at names and shapes.
  Loader(const Checkpoint& checkpoint, const LoadOptions& options, bool read)
      : checkpoint_(checkpoint),
        options_(options),
        read_(read),
        policy_(options) {
    if (options.method.has_value()) {
      float_dtype_ = FloatDType(*options.method);
      report_.method = options.method->ToString();
    }
    report_.include = options.include;
    report_.exclude = options.exclude;
    report_.convolutions = options.convolutions;
  }

  absl::Status CheckRequest() const { return policy_.CheckRequest(); }

  bool Has(std::string_view name) const override {
    return checkpoint_.tensors().contains(std::string(name));
  }

  absl::StatusOr<SharedWeight> Matrix(std::string_view module, int64_t rows,
                                      int64_t cols, WeightRole role) override {
    const std::string name = StrCat(module, kWeightSuffix);
    ASSIGN_OR_RETURN(const TensorInfo* info, Find(name, {rows, cols}));
    if (const auto known = matrices_.find(info->storage_id);
        known != matrices_.end()) {
      if (known->second.name != name && !done_.contains(name)) {
        policy_.Tied(std::string(module), Module(known->second.name));
        AddNotStored(name, *info, "tied to " + known->second.name);
        RETURN_IF_ERROR(Done(name));
      }
      return known->second.weight;
    }

    const Choice choice =
        policy_.Choose(std::string(module), role, info->dtype);
    const CheckpointRows source(checkpoint_, name, *info, role);
    ASSIGN_OR_RETURN(
        SharedWeight weight,
        Pack(name, *info, source, cols, choice,
             Resident(choice, /*folded=*/false, info->dtype), role));
    matrices_.emplace(info->storage_id, Stored{name, weight});
    RETURN_IF_ERROR(Done(name));
    return weight;
  }

  absl::StatusOr<SharedWeight> Tied(std::string_view module_view,
                                    std::string_view other_view) override {
    const std::string module(module_view), other(other_view);
    policy_.Tied(module, other);
    const auto stored =
        std::find_if(matrices_.begin(), matrices_.end(), [&](const auto& m) {
          return m.second.name == other + std::string(kWeightSuffix);
        });
    OUNCE_CHECK(stored != matrices_.end(), "tied to what was asked for before");
    const std::string name = module + std::string(kWeightSuffix);
    const auto copy = checkpoint_.tensors().find(name);
    if (copy != checkpoint_.tensors().end()) {
      const std::string& of = stored->second.name;
      AddNotStored(name, copy->second, "tied to " + of);
      if (copy->second.storage_id != stored->first) {
        RETURN_IF_ERROR(CheckEqual(name, copy->second, of));
      }
      RETURN_IF_ERROR(Done(name));
    }
    return stored->second.weight;
  }

  absl::StatusOr<ConvolutionWeight> Convolution(
      std::string_view module, const quant::ConvolutionShape& shape,
      std::string_view batch_norm) override {
    const std::string name = StrCat(module, kWeightSuffix);
    const int64_t channels = shape.out_channels;
    ASSIGN_OR_RETURN(
        const TensorInfo* info,
        Find(name, {channels, shape.in_channels, shape.kernel, shape.kernel}));
    const Choice choice = policy_.Choose(std::string(module),
                                         WeightRole::kConvolution, info->dtype);
    ConvolutionWeight result;
    std::vector<float> factors;
    if (batch_norm.empty()) {
      ASSIGN_OR_RETURN(result.bias, Vector(StrCat(module, ".bias"), channels));
    } else {
      // Codes are made of the folded weight, and then only the folded bias is
      // left of the batch norm's four vectors; floats can be stored unfolded.
      const bool is_float = FloatDType(choice.spec).has_value();
      ASSIGN_OR_RETURN(factors, FoldBatchNorm(std::string(batch_norm), channels,
                                              !is_float, &result.bias));
    }
    const MethodSpec resident =
        Resident(choice, /*folded=*/!batch_norm.empty(), info->dtype);
    const CheckpointRows stored(checkpoint_, name, *info,
                                WeightRole::kConvolution);
    const quant::ConvolutionRows source(stored, shape, std::move(factors));
    ASSIGN_OR_RETURN(result.weight,
                     Pack(name, *info, source, stored.cols(), choice, resident,
                          WeightRole::kConvolution));
    RETURN_IF_ERROR(Done(name));
    return result;
  }

  void KeepFloatsAsBFloat16() override { floats_as_bfloat16_ = true; }

  absl::StatusOr<std::vector<float>> Vector(std::string_view name,
                                            int64_t size) override {
    return ReadVector(std::string(name), size, Allowed::kNone);
  }
  absl::StatusOr<std::vector<float>> LogitBias(std::string_view name,
                                               int64_t size) override {
    return ReadVector(std::string(name), size, Allowed::kMinusInfinity);
  }

  void Ignore(std::string_view glob) override {
    for (const auto& [name, info] : checkpoint_.tensors()) {
      if (done_.contains(name) || !GlobMatches(glob, name)) continue;
      const auto known = matrices_.find(info.storage_id);
      AddNotStored(name, info,
                   known != matrices_.end() ? "tied to " + known->second.name
                                            : "not needed");
      if (ignore_status_.ok()) ignore_status_ = Done(name);
    }
  }

  // Accounts for what the architecture did not ask for.
  absl::StatusOr<LoadReport> Finish() && {
    RETURN_IF_ERROR(CheckLeftOver());
    for (const auto& [name, info] : checkpoint_.tensors()) {
      if (done_.contains(name)) continue;
      AddNotStored(name, info, "not used: the architecture does not know it");
      RETURN_IF_ERROR(Done(name));
    }
    RETURN_IF_ERROR(ignore_status_);
    RETURN_IF_ERROR(policy_.CheckChoices());
    for (const TensorReport& tensor : report_.tensors) {
      // Of a model without linear layers, whatever comes first.
      if (report_.method.empty()) report_.method = tensor.method;
      report_.checkpoint_bytes += tensor.checkpoint_bytes;
      report_.stored_bytes += tensor.stored_bytes;
      report_.resident_bytes += tensor.resident_bytes;
      if (!tensor.element.empty()) {
        report_.resident_bytes_by_element[tensor.element] +=
            tensor.resident_bytes;
      }
    }
    return std::move(report_);
  }

 private:
  using Choice = MethodPolicy::Choice;
  struct Stored {
    std::string name;
    SharedWeight weight;
  };

  static std::string Module(const std::string& name) {
    return name.substr(0, name.size() - kWeightSuffix.size());
  }

  absl::Status Problem(const std::string& name, const std::string& what) const {
    return absl::InvalidArgumentError(
        StrCat(checkpoint_.folder(), ": tensor '", name, "' ", what));
  }

  // A tensor whose name begins like those that were asked for belongs to the
  // network; if nobody knows it, the config says less than the weights.
  absl::Status CheckLeftOver() const {
    std::string first;
    int64_t count = 0;
    for (const auto& [name, info] : checkpoint_.tensors()) {
      if (done_.contains(name) || !roots_.contains(Root(name))) continue;
      if (count++ == 0) first = name;
    }
    if (count == 0) return absl::OkStatus();
    return Problem(
        first,
        StrCat(count > 1 ? StrCat("and ", count - 1, " more are") : "is",
               " in the weights, but config.json does not account for ",
               count > 1 ? "them" : "it",
               ": the config is of another model, or has a form that is not "
               "supported"));
  }

  // Of two names of one weight, as the config says.
  absl::Status CheckEqual(const std::string& name, const TensorInfo& info,
                          const std::string& other) const {
    const TensorInfo& of = checkpoint_.tensors().at(other);
    bool equal = info.shape == of.shape;
    if (read_ && equal) {
      constexpr int64_t kAtOnce = 1 << 16;
      std::vector<float> a(kAtOnce), b(kAtOnce);
      const int64_t elements = info.elements();
      for (int64_t i = 0; i < elements && equal; i += kAtOnce) {
        const int64_t count = std::min(kAtOnce, elements - i);
        RETURN_IF_ERROR(checkpoint_.ReadFloats(name, i, count, a.data()));
        RETURN_IF_ERROR(checkpoint_.ReadFloats(other, i, count, b.data()));
        equal = std::memcmp(a.data(), b.data(), count * sizeof(float)) == 0;
      }
    }
    if (equal) return absl::OkStatus();
    return Problem(
        name, StrCat("differs from '", other,
                     "', but config.json ties the two; if they are meant to "
                     "differ, set 'tie_word_embeddings' to false, else remove "
                     "this one"));
  }

  absl::StatusOr<std::vector<float>> ReadVector(const std::string& name,
                                                int64_t size, Allowed allowed) {
    ASSIGN_OR_RETURN(const TensorInfo* info, Find(name, {size}));
    std::vector<float> values;
    if (read_) {
      values.resize(size);
      RETURN_IF_ERROR(checkpoint_.ReadFloats(name, 0, size, values.data()));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      if (!IsAllowed(values[i], allowed)) {
        return absl::InvalidArgumentError(
            StrCat("tensor '", name, "': element ", i,
                   " must be a finite number, is ", values[i]));
      }
    }
    if (done_.contains(name)) return values;

    const MethodSpec kept =
        quant::FloatMethodFor(float_dtype_.value_or(info->dtype));
    TensorReport tensor = Describe(name, *info);
    tensor.method = kept.ToString();
    tensor.element = std::string(quant::Name(DType::kF32));
    tensor.checkpoint_bytes = info->bytes();
    tensor.stored_bytes =
        kept.method->StoredBytes(1, size, info->dtype, kept.params);
    tensor.resident_bytes = size * static_cast<int64_t>(sizeof(float));
    tensor.is_vector = true;
    if (options_.method.has_value() && !float_dtype_.has_value()) {
      tensor.left_alone = "1-D: norms and biases are not quantized";
    }
    report_.tensors.push_back(std::move(tensor));
    RETURN_IF_ERROR(Done(name));
    return values;
  }

  absl::StatusOr<const TensorInfo*> Find(const std::string& name,
                                         const std::vector<int64_t>& shape) {
    RETURN_IF_ERROR(ignore_status_);
    roots_.insert(std::string(Root(name)));
    const auto found = checkpoint_.tensors().find(name);
    if (found == checkpoint_.tensors().end()) {
      return Problem(name, StrCat("of shape ", ShapeText(shape), " is missing",
                                  WhyMissing(checkpoint_, name)));
    }
    const TensorInfo& info = found->second;
    if (!quant::IsFloat(info.dtype)) {
      return Problem(name,
                     StrCat("must have floats, has ", quant::Name(info.dtype)));
    }
    if (info.shape != shape) {
      return Problem(name, StrCat("must be of shape ", ShapeText(shape),
                                  ", is of ", ShapeText(info.shape)));
    }
    return &info;
  }

  // What a matrix is kept in memory by.
  MethodSpec Resident(const Choice& choice, bool folded, DType dtype) const {
    if (!FloatDType(choice.spec).has_value()) return choice.spec;
    if (floats_as_bfloat16_) return quant::FloatMethodFor(DType::kBF16);
    // Factors make new values, which the checkpoint's 16 bits would round.
    if (folded && choice.spec.method->lossless_from(dtype)) {
      return quant::FloatMethodFor(DType::kF32);
    }
    return choice.spec;
  }

  // Packs what `source` gives of tensor `name` and reports it; as stored, the
  // tensor has `stored_cols` columns.
  absl::StatusOr<SharedWeight> Pack(const std::string& name,
                                    const TensorInfo& info,
                                    const quant::FloatRows& source,
                                    int64_t stored_cols, const Choice& choice,
                                    const MethodSpec& resident,
                                    WeightRole role) {
    const quant::QuantMethod& method = *choice.spec.method;
    TensorReport tensor = Describe(name, info);
    tensor.role = role;
    tensor.method = choice.spec.ToString();
    tensor.element =
        std::string(resident.method->element_name(resident.params));
    tensor.checkpoint_bytes = info.bytes();
    tensor.stored_bytes = method.StoredBytes(source.rows(), stored_cols,
                                             info.dtype, choice.spec.params);
    tensor.left_alone = choice.left_alone;
    const absl::StatusOr<int64_t> bytes = resident.method->ResidentBytes(
        source.rows(), source.cols(), resident.params);
    RETURN_IF_ERROR(WithContext(bytes.status(), StrCat("tensor '", name, "'")));
    tensor.resident_bytes = *bytes;
    SharedWeight packed;
    if (read_) {
      ASSIGN_OR_RETURN(PackedWeight weight,
                       resident.method->Quantize(source, resident.params));
      if (options_.measure_error && !method.lossless_from(info.dtype)) {
        ASSIGN_OR_RETURN(tensor.error, quant::MeasureError(source, weight));
      }
      packed = std::make_shared<const PackedWeight>(std::move(weight));
    }
    report_.tensors.push_back(std::move(tensor));
    if (report_.method.empty() && role == WeightRole::kLinear) {
      report_.method = choice.spec.ToString();
    }
    return packed;
  }

  // The factor of each output channel; `bias` becomes what is added to it.
  absl::StatusOr<std::vector<float>> FoldBatchNorm(const std::string& module,
                                                   int64_t channels,
                                                   bool keep_only_bias,
                                                   std::vector<float>* bias) {
    constexpr float kEpsilon = 1e-5f;
    const size_t first_report = report_.tensors.size();
    ASSIGN_OR_RETURN(std::vector<float> factors,
                     Vector(module + ".weight", channels));
    ASSIGN_OR_RETURN(*bias, Vector(module + ".bias", channels));
    ASSIGN_OR_RETURN(const std::vector<float> mean,
                     Vector(module + ".running_mean", channels));
    ASSIGN_OR_RETURN(
        const std::vector<float> variance,
        // An infinite one mutes its channel.
        ReadVector(module + ".running_var", channels, Allowed::kInfinity));
    for (size_t i = 0; i < factors.size(); ++i) {
      if (!(variance[i] >= 0)) {
        return Problem(module + ".running_var",
                       StrCat("must be 0 or more everywhere, element ", i,
                              " is ", variance[i]));
      }
      factors[i] /= std::sqrt(variance[i] + kEpsilon);
      (*bias)[i] -= mean[i] * factors[i];
      if (!std::isfinite(factors[i]) || !std::isfinite((*bias)[i])) {
        return absl::InvalidArgumentError(
            StrCat(checkpoint_.folder(), ": batch norm '", module,
                   "': channel ", i, " is not finite when folded"));
      }
    }
    for (size_t i = first_report; i < report_.tensors.size(); ++i) {
      TensorReport& tensor = report_.tensors[i];
      const bool is_bias = tensor.name == module + ".bias";
      if (!is_bias) tensor.resident_bytes = 0;
      if (!is_bias && keep_only_bias) tensor.stored_bytes = 0;
      if (options_.method.has_value() && !float_dtype_.has_value()) {
        tensor.left_alone = "folded into its convolution";
      }
    }
    return factors;
  }

  void AddNotStored(const std::string& name, const TensorInfo& info,
                    std::string reason) {
    TensorReport tensor = Describe(name, info);
    tensor.left_alone = std::move(reason);
    report_.tensors.push_back(std::move(tensor));
  }

  absl::Status Done(const std::string& name) {
    done_.insert(name);
    if (!read_ || !options_.progress) return absl::OkStatus();
    return options_.progress(
        {.tensors_done = static_cast<int64_t>(done_.size()),
         .tensors_total = static_cast<int64_t>(checkpoint_.tensors().size()),
         .tensor = name});
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  const bool read_;
  MethodPolicy policy_;
  std::optional<DType> float_dtype_;    // of the method asked for, if it is one
  std::map<int64_t, Stored> matrices_;  // by storage
  std::set<std::string> done_;
  std::set<std::string, std::less<>> roots_;  // of what was asked for
  absl::Status ignore_status_;                // Ignore can't return one
  bool floats_as_bfloat16_ = false;
  LoadReport report_;
};

absl::StatusOr<ModelPlan> Walk(const Checkpoint& checkpoint,
                               const Architecture& architecture,
                               const LoadOptions& options, bool read) {
  Loader loader(checkpoint, options, read);
  RETURN_IF_ERROR(loader.CheckRequest());
  ASSIGN_OR_RETURN(std::unique_ptr<const Model> model,
                   architecture.create(checkpoint, options.compute, loader));
  ASSIGN_OR_RETURN(LoadReport report, std::move(loader).Finish());
  return ModelPlan{std::move(report), std::move(model)};
}

absl::StatusOr<const Architecture*> FindFloatArchitecture(
    const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindArchitecture(checkpoint));
  if (const auto found = checkpoint.config().find("quantization_config");
      found != checkpoint.config().end() && !found->is_null()) {
    return absl::UnimplementedError(
        checkpoint.folder() +
        "/config.json: 'quantization_config' says that the weights are "
        "quantized already; only checkpoints of floats are supported");
  }
  const auto code = checkpoint.config().find("auto_map");
  if (code != checkpoint.config().end() && code->is_object()) {
    for (const auto& [name, where] : code->items()) {
      if (!name.starts_with("AutoModel")) continue;
      return absl::UnimplementedError(StrCat(
          checkpoint.folder(), "/config.json: 'auto_map' says that ", name,
          " is code of the checkpoint's own, as codegen2 has it; "
          "only the networks of transformers itself are supported"));
    }
  }
  return architecture;
}

}  // namespace

absl::StatusOr<ModelPlan> PlanModel(const Checkpoint& checkpoint,
                                    const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindFloatArchitecture(checkpoint));
  return Walk(checkpoint, *architecture, options, /*read=*/false);
}

absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint,
                                      const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindFloatArchitecture(checkpoint));
  RETURN_IF_ERROR(
      Walk(checkpoint, *architecture, options, /*read=*/false).status());
  ASSIGN_OR_RETURN(ModelPlan loaded,
                   Walk(checkpoint, *architecture, options, /*read=*/true));
  return LoadedModel{std::move(loaded.outline), std::move(loaded.report)};
}

}  // namespace ounce::model
