#include "model/checkpoint/loader.h"

#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
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

// The dtype that a float method stores; nothing for the other methods.
std::optional<DType> FloatDType(const MethodSpec& spec) {
  const auto dtype = quant::ParseDType(spec.method->element_name(spec.params));
  return dtype.has_value() && quant::IsFloat(*dtype) ? dtype : std::nullopt;
}

class CheckpointRows final : public quant::FloatRows {
 public:
  CheckpointRows(const Checkpoint& checkpoint, const std::string& name,
                 const TensorInfo& info)
      : checkpoint_(checkpoint), name_(name), info_(info) {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return info_.shape[0]; }
  int64_t cols() const override { return info_.elements() / info_.shape[0]; }
  DType dtype() const override { return info_.dtype; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    return checkpoint_.ReadFloats(name_, first * cols(), count * cols(), out);
  }

 private:
  const Checkpoint& checkpoint_;
  const std::string& name_;
  const TensorInfo& info_;
};

TensorReport Describe(const std::string& name, const TensorInfo& info) {
  TensorReport tensor;
  tensor.name = name;
  tensor.shape = info.shape;
  return tensor;
}

// The method of one matrix.
struct Choice {
  MethodSpec spec;
  std::string left_alone;  // why it isn't the one asked for
};

class Loader final : public WeightReader {
 public:
  Loader(const Checkpoint& checkpoint, const LoadOptions& options)
      : checkpoint_(checkpoint), options_(options) {
    if (options.method.has_value()) float_dtype_ = FloatDType(*options.method);
  }

  // A glob that can match nothing is refused before the long work begins.
  absl::Status CheckIncludes() const {
    for (const std::string& glob : options_.include) {
      bool matches = false;
      for (const auto& [name, info] : checkpoint_.tensors()) {
        matches |= IsMatrix(name, info) && GlobMatches(glob, Module(name));
      }
      if (!matches) return NothingIncluded(glob);
    }
    return absl::OkStatus();
  }

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
        AddNotStored(name, *info, "tied to " + known->second.name);
        RETURN_IF_ERROR(Done(name));
      }
      return known->second.weight;
    }

    const Choice choice = Choose(std::string(module), role, info->dtype);
    const CheckpointRows source(checkpoint_, name, *info);
    ASSIGN_OR_RETURN(
        SharedWeight weight,
        Pack(name, *info, source, cols, choice,
             Resident(choice, /*folded=*/false, info->dtype), role));
    matrices_.emplace(info->storage_id, Stored{name, weight});
    RETURN_IF_ERROR(Done(name));
    return weight;
  }

  absl::StatusOr<ConvolutionWeight> Convolution(
      std::string_view module, const quant::ConvolutionShape& shape,
      std::string_view batch_norm) override {
    const std::string name = StrCat(module, kWeightSuffix);
    const int64_t channels = shape.out_channels;
    ASSIGN_OR_RETURN(
        const TensorInfo* info,
        Find(name, {channels, shape.in_channels, shape.kernel, shape.kernel}));
    const Choice choice =
        Choose(std::string(module), WeightRole::kConvolution, info->dtype);
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
        Resident(choice, /*folded=*/!factors.empty(), info->dtype);
    const CheckpointRows stored(checkpoint_, name, *info);
    const quant::ConvolutionRows source(stored, shape, std::move(factors));
    ASSIGN_OR_RETURN(result.weight,
                     Pack(name, *info, source, stored.cols(), choice, resident,
                          WeightRole::kConvolution));
    RETURN_IF_ERROR(Done(name));
    return result;
  }

  void KeepFloatsAsBFloat16() override { floats_as_bfloat16_ = true; }

  absl::StatusOr<std::vector<float>> Vector(std::string_view name_view,
                                            int64_t size) override {
    const std::string name(name_view);
    ASSIGN_OR_RETURN(const TensorInfo* info, Find(name, {size}));
    std::vector<float> values(size);
    RETURN_IF_ERROR(checkpoint_.ReadFloats(name, 0, size, values.data()));
    for (int64_t i = 0; i < size; ++i) {
      if (!std::isfinite(values[i])) {
        return absl::InvalidArgumentError(
            StrCat("tensor '", name, "': element ", i, " is ", values[i],
                   ", a finite number wanted"));
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
    for (const auto& [name, info] : checkpoint_.tensors()) {
      if (done_.contains(name)) continue;
      AddNotStored(name, info, "not used: the architecture does not know it");
      RETURN_IF_ERROR(Done(name));
    }
    RETURN_IF_ERROR(ignore_status_);
    for (const std::string& glob : options_.include) {
      if (!included_.contains(glob)) return NothingIncluded(glob);
    }
    for (const TensorReport& tensor : report_.tensors) {
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
  struct Stored {
    std::string name;
    SharedWeight weight;
  };

  static bool IsMatrix(const std::string& name, const TensorInfo& info) {
    return info.shape.size() >= 2 && name.ends_with(kWeightSuffix);
  }
  static std::string Module(const std::string& name) {
    return name.substr(0, name.size() - kWeightSuffix.size());
  }

  absl::Status NothingIncluded(const std::string& glob) const {
    std::string example;
    for (const auto& [name, info] : checkpoint_.tensors()) {
      if (IsMatrix(name, info) && Module(name).size() > example.size()) {
        example = Module(name);
      }
    }
    return absl::InvalidArgumentError(StrCat(
        "include '", glob,
        "' matches no matrix of the model; names look like '", example, "'"));
  }

  absl::StatusOr<const TensorInfo*> Find(const std::string& name,
                                         const std::vector<int64_t>& shape) {
    RETURN_IF_ERROR(ignore_status_);
    const auto found = checkpoint_.tensors().find(name);
    const auto problem = [&](const std::string& what) {
      return absl::InvalidArgumentError(
          StrCat(checkpoint_.folder(), ": tensor '", name, "': ", what));
    };
    const std::string wanted = StrCat("[", absl::StrJoin(shape, ", "), "]");
    if (found == checkpoint_.tensors().end()) {
      return problem(StrCat("missing, shape ", wanted, " wanted"));
    }
    const TensorInfo& info = found->second;
    if (!quant::IsFloat(info.dtype)) {
      return problem(
          StrCat("dtype ", quant::Name(info.dtype), " found, a float wanted"));
    }
    if (info.shape != shape) {
      return problem(StrCat("shape [", absl::StrJoin(info.shape, ", "),
                            "] found, ", wanted, " wanted"));
    }
    return &info;
  }

  Choice Choose(const std::string& module, WeightRole role, DType dtype) {
    const MethodSpec kept = quant::FloatMethodFor(dtype);
    if (!options_.method.has_value()) return {kept, ""};
    bool included = false;
    for (const std::string& glob : options_.include) {
      if (!GlobMatches(glob, module)) continue;
      included_.insert(glob);
      included = true;
    }
    for (const std::string& glob : options_.exclude) {
      if (GlobMatches(glob, module)) {
        return {kept, StrCat("excluded by '", glob, "'")};
      }
    }
    if (!options_.include.empty()) {
      if (included) return {*options_.method, ""};
      return {kept, "not among those included"};
    }
    if (role == WeightRole::kLinear || float_dtype_.has_value() ||
        (role == WeightRole::kConvolution && options_.convolutions)) {
      return {*options_.method, ""};
    }
    return {kept, StrCat("kept: ", RoleName(role),
                         " stays in the checkpoint's dtype unless included")};
  }

  static std::string_view RoleName(WeightRole role) {
    switch (role) {
      case WeightRole::kHead:
        return "the head";
      case WeightRole::kEmbedding:
        return "an embedding";
      case WeightRole::kConvolution:
        return "a convolution";
      case WeightRole::kLinear:
        break;
    }
    return "a linear layer";
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
    ASSIGN_OR_RETURN(PackedWeight packed,
                     resident.method->Quantize(source, resident.params));
    TensorReport tensor = Describe(name, info);
    tensor.role = role;
    tensor.method = choice.spec.ToString();
    tensor.element =
        std::string(resident.method->element_name(resident.params));
    tensor.checkpoint_bytes = info.bytes();
    tensor.stored_bytes = method.StoredBytes(source.rows(), stored_cols,
                                             info.dtype, choice.spec.params);
    tensor.resident_bytes = packed.resident_bytes();
    tensor.left_alone = choice.left_alone;
    if (options_.measure_error && !method.lossless_from(info.dtype)) {
      ASSIGN_OR_RETURN(tensor.error, quant::MeasureError(source, packed));
    }
    report_.tensors.push_back(std::move(tensor));
    if (report_.method.empty() && role == WeightRole::kLinear) {
      report_.method = options_.method.has_value() ? options_.method->ToString()
                                                   : choice.spec.ToString();
    }
    return std::make_shared<const PackedWeight>(std::move(packed));
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
    ASSIGN_OR_RETURN(const std::vector<float> variance,
                     Vector(module + ".running_var", channels));
    for (int64_t i = 0; i < channels; ++i) {
      if (!(variance[i] >= 0)) {
        return absl::InvalidArgumentError(
            StrCat(checkpoint_.folder(), ": tensor '", module,
                   ".running_var': element ", i, " is ", variance[i],
                   ", at least 0 wanted"));
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
    if (!options_.progress) return absl::OkStatus();
    return options_.progress(
        {.tensors_done = static_cast<int64_t>(done_.size()),
         .tensors_total = static_cast<int64_t>(checkpoint_.tensors().size()),
         .tensor = name});
  }

  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  std::optional<DType> float_dtype_;    // of the method asked for, if it is one
  std::map<int64_t, Stored> matrices_;  // by storage
  std::set<std::string> done_;
  std::set<std::string> included_;  // globs that met a matrix
  absl::Status ignore_status_;      // Ignore can't return one
  bool floats_as_bfloat16_ = false;
  LoadReport report_;
};

}  // namespace

bool GlobMatches(std::string_view glob, std::string_view name) {
  // On a mismatch, the last `*` swallows one character more.
  size_t g = 0, n = 0;
  size_t star = std::string_view::npos, star_name = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_name = n;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == name[n])) {
      ++g;
      ++n;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

absl::StatusOr<LoadedModel> LoadModel(const Checkpoint& checkpoint,
                                      const LoadOptions& options) {
  ASSIGN_OR_RETURN(const Architecture* architecture,
                   FindArchitecture(checkpoint));
  if (const auto found = checkpoint.config().find("quantization_config");
      found != checkpoint.config().end() && !found->is_null()) {
    return absl::UnimplementedError(
        checkpoint.folder() +
        "/config.json: 'quantization_config' found, a float checkpoint wanted");
  }
  Loader loader(checkpoint, options);
  RETURN_IF_ERROR(loader.CheckIncludes());
  ASSIGN_OR_RETURN(std::unique_ptr<const Model> model,
                   architecture->create(checkpoint, options.compute, loader));
  ASSIGN_OR_RETURN(LoadReport report, std::move(loader).Finish());
  return LoadedModel{std::move(model), std::move(report)};
}

}  // namespace ounce::model
