#include "model/loader/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/pack.h"
#include "quant/packed_weight.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::DType;
using quant::MethodSpec;
using quant::PackedWeight;
using quant::Product;

constexpr std::string_view kWeightSuffix = ".weight";

std::string WeightName(std::string_view module) {
  return StrCat(module, kWeightSuffix);
}

std::string ModuleOf(const std::string& name) {
  return name.substr(0, name.size() - kWeightSuffix.size());
}

bool KeepsNonFinite(WeightRole role) {
  return role == WeightRole::kEmbedding || role == WeightRole::kHead;
}

int64_t VectorBytes(int64_t size) {
  return size * static_cast<int64_t>(sizeof(float));
}

// Adds `range` to disjoint, ascending ranges with gaps between.
void AddRange(RowRange range, std::vector<RowRange>& ranges) {
  ranges.push_back(range);
  std::sort(
      ranges.begin(), ranges.end(),
      [](const RowRange& a, const RowRange& b) { return a.first < b.first; });
  std::vector<RowRange> merged;
  for (const RowRange& next : ranges) {
    if (merged.empty() ||
        merged.back().first + merged.back().count < next.first) {
      merged.push_back(next);
    } else {
      merged.back().count = std::max(
          merged.back().count, next.first + next.count - merged.back().first);
    }
  }
  ranges = std::move(merged);
}

bool IsAll(const std::vector<RowRange>& ranges, int64_t rows) {
  return ranges.size() == 1 && ranges[0].first == 0 && ranges[0].count == rows;
}

absl::StatusOr<quant::CodeFormat> FormatOf(const std::string& name,
                                           const MethodSpec& spec, int64_t rows,
                                           int64_t cols, DType dtype) {
  absl::StatusOr<quant::CodeFormat> format = spec.Format(rows, cols, dtype);
  RETURN_IF_ERROR(WithContext(format.status(), StrCat("tensor '", name, "'")));
  return format;
}

absl::StatusOr<int64_t> PackedBytes(const std::string& name,
                                    const quant::CodeFormat& format,
                                    int64_t rows, int64_t cols,
                                    Product product) {
  const absl::StatusOr<int64_t> bytes =
      quant::PackedBytes(format, rows, cols, product);
  RETURN_IF_ERROR(WithContext(bytes.status(), StrCat("tensor '", name, "'")));
  return bytes;
}

// Codes may also be floats, of a file that has them in another order.
bool IsQuantized(const TensorInfo& info) {
  return info.coded != nullptr && !info.coded->spec.float_dtype().has_value();
}

// How a tensor is stored where it is left as the checkpoint has it.
MethodSpec KeptAs(const TensorInfo& info) {
  return IsQuantized(info) ? info.coded->spec
                           : quant::FloatMethodFor(info.dtype);
}

// What the rule says beside the method.
void RoundInputs(const MethodPolicy::Choice& choice,
                 quant::CodeFormat& format) {
  if (choice.activations == 8) format.input_rounding.bits = 8;
}

// total * part / whole, without overflow of the product.
int64_t Share(int64_t total, int64_t part, int64_t whole) {
  return total / whole * part + total % whole * part / whole;
}

}  // namespace

WeightLoader::WeightLoader(const Checkpoint& checkpoint,
                           const LoadOptions& options, MethodPolicy& policy,
                           ThreadPool* pool)
    : checkpoint_(checkpoint),
      options_(options),
      pool_(pool),
      policy_(policy),
      ledger_(checkpoint, pool == nullptr ? nullptr : options.progress),
      float_dtype_(options.plan.float_dtype()) {}

absl::StatusOr<LoadReport> WeightLoader::Finish() && {
  RETURN_IF_ERROR(CheckRowsUsed());
  ASSIGN_OR_RETURN(LoadReport report, std::move(ledger_).Finish());
  report.method = method_;
  // Of a model without linear layers, whatever comes first.
  for (size_t i = 0; report.method.empty() && i < report.tensors.size(); ++i) {
    report.method = report.tensors[i].method;
  }
  // Zeros beside biases that not all of a layer's sources have.
  int64_t more = vector_bytes_;
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.is_vector) more -= tensor.resident_bytes;
  }
  report.AddTables(more);
  return report;
}

bool WeightLoader::Has(std::string_view name) const {
  return checkpoint_.tensors().contains(std::string(name));
}

absl::StatusOr<SharedWeight> WeightLoader::Matrix(std::string_view module,
                                                  int64_t rows, int64_t cols,
                                                  WeightRole role) {
  const LinearSource whole = {.module = std::string(module), .rows = rows};
  ASSIGN_OR_RETURN(const std::vector<LinearPart> parts,
                   ReadParts(absl::MakeConstSpan(&whole, 1), cols, role));
  return parts[0].weight;
}

absl::StatusOr<Linear> WeightLoader::ReadLinear(
    absl::Span<const LinearSource> sources, int64_t cols, WeightRole role) {
  ASSIGN_OR_RETURN(std::vector<LinearPart> parts,
                   ReadParts(sources, cols, role));
  ASSIGN_OR_RETURN(std::vector<float> bias, ReadBias(sources, role));
  return Linear(std::move(parts), cols, std::move(bias));
}

absl::StatusOr<SharedWeight> WeightLoader::Tied(std::string_view module,
                                                std::string_view other) {
  const TensorInfo& of = checkpoint_.tensors().at(WeightName(other));
  const StoredKey key = KeyOf(of, WeightRole::kEmbedding);
  const auto packed = packed_.find({{.stored = key, .rows = of.shape[0]}});
  OUNCE_CHECK(packed != packed_.end(), "tied to what was asked for before");
  const Stored& first = stored_.at(key);
  Source source;
  source.module = std::string(module);
  source.name = WeightName(module);
  source.tensor = first.name;
  source.info = &of;
  source.slice = {key, 0, of.shape[0]};
  source.stored_rows = of.shape[0];
  const auto copy = checkpoint_.tensors().find(source.name);
  if (copy != checkpoint_.tensors().end() &&
      copy->second.storage_id != of.storage_id && !options_.only.has_value()) {
    RETURN_IF_ERROR(CheckEqual(source.name, copy->second, first.name));
  }
  const std::optional<Choice> apart = Untied(source, WeightRole::kHead);
  if (apart.has_value()) {
    ASSIGN_OR_RETURN(source.stored,
                     FindStored(source, apart, of.shape[1], WeightRole::kHead));
    ASSIGN_OR_RETURN(const LinearPart part,
                     ReadPart(absl::MakeConstSpan(&source, 1), of.shape[1],
                              WeightRole::kHead));
    return part.weight;
  }
  if (copy != checkpoint_.tensors().end()) {
    RETURN_IF_ERROR(ledger_.Done(source.name));
  }
  if (packed->second->is_outline() && Reads(std::string(module))) {
    // Wanted under its second name alone.
    std::unique_ptr<const quant::FloatRows> floats;
    ASSIGN_OR_RETURN(const auto codes,
                     CodesOf(first, of, first.name, /*transposed=*/false,
                             WeightRole::kEmbedding, floats));
    ASSIGN_OR_RETURN(PackedWeight weight,
                     quant::Pack(*codes, Product::kMatmul, pool_));
    weight.set_input_rounding(packed->second->input_rounding());
    packed->second = std::make_shared<const PackedWeight>(std::move(weight));
  }
  return packed->second;
}

absl::StatusOr<ConvolutionWeight> WeightLoader::Convolution(
    std::string_view module, const quant::ConvolutionShape& shape,
    std::string_view batch_norm) {
  const std::string name = WeightName(module);
  const int64_t channels = shape.out_channels;
  ASSIGN_OR_RETURN(const TensorInfo* info,
                   ledger_.Find(name, {channels, shape.in_channels,
                                       shape.kernel, shape.kernel}));
  const Choice choice =
      ChoiceFor({std::string(module), WeightRole::kConvolution}, *info);
  RETURN_IF_ERROR(CheckRequantized(name, *info, choice));
  const bool keeps_codes = KeepsCodes(*info, choice);
  ConvolutionWeight result;
  bool folds = false;
  std::vector<float> factors;
  if (batch_norm.empty()) {
    ASSIGN_OR_RETURN(result.bias, Vector(StrCat(module, ".bias"), channels));
  } else {
    // Codes are made of the folded weight, and then only the folded bias is
    // left of the batch norm's four vectors; floats can be stored unfolded.
    const bool is_float = choice.spec.float_dtype().has_value();
    vector_bytes_ += VectorBytes(channels);
    ASSIGN_OR_RETURN(BatchNorm norm, FoldBatchNorm(std::string(batch_norm),
                                                   channels, !is_float));
    result.bias = std::move(norm.bias);
    folds = info->coded == nullptr || !info->coded->folded;
    if (folds) factors = std::move(norm.weight);
  }
  const MethodSpec resident =
      Resident(choice, /*folded=*/!batch_norm.empty(), info->dtype);
  const TensorRows stored(checkpoint_, name, /*allows_non_finite=*/false);
  const quant::ScaledRows folded(stored, factors);
  ASSIGN_OR_RETURN(
      quant::CodeFormat format,
      FormatOf(name, resident, channels, stored.cols(), info->dtype));
  RoundInputs(choice, format);
  RETURN_IF_ERROR(WithContext(quant::ConvolutionCodes::Check(format),
                              StrCat("tensor '", name, "'")));
  ASSIGN_OR_RETURN(const int64_t bytes,
                   PackedBytes(name, format, channels, shape.packed_cols(),
                               Product::kConvolution));
  ASSIGN_OR_RETURN(const size_t report,
                   Report(name, *info, choice, resident, channels,
                          stored.cols(), WeightRole::kConvolution));
  ledger_.report(report).resident_bytes = bytes;
  StoreAs(report, name, choice, keeps_codes, WeightRole::kConvolution);
  if (folds && !choice.spec.float_dtype().has_value()) {
    ledger_.report(report).stored_as->batch_norm = std::string(batch_norm);
  }
  if (reads() && keeps_codes) {
    ASSIGN_OR_RETURN(const auto codes, info->coded->open());
    ASSIGN_OR_RETURN(result.weight, PackConvolution(*codes, shape));
  } else if (reads()) {
    ASSIGN_OR_RETURN(const auto codes, EncodeFolded(resident, stored, factors));
    ASSIGN_OR_RETURN(result.weight, PackConvolution(*codes, shape));
    if (Measures(choice, info->dtype)) {
      ASSIGN_OR_RETURN(const quant::ErrorStats error,
                       quant::MeasureError(folded, *codes));
      SetError(choice, error, ledger_.report(report));
      RETURN_IF_ERROR(MeasureComputed(resident, folded, report));
    }
  }
  RETURN_IF_ERROR(ledger_.Done(name));
  return result;
}

absl::StatusOr<SharedWeight> WeightLoader::PackConvolution(
    const quant::CodeRows& codes, const quant::ConvolutionShape& shape) const {
  ASSIGN_OR_RETURN(PackedWeight packed,
                   quant::Pack(quant::ConvolutionCodes(codes, shape),
                               Product::kConvolution, pool_));
  return std::make_shared<const PackedWeight>(std::move(packed));
}

absl::StatusOr<std::vector<float>> WeightLoader::Vector(std::string_view name,
                                                        int64_t size) {
  vector_bytes_ += VectorBytes(size);
  return ReadVector(std::string(name), size, Allowed::kNone);
}

absl::StatusOr<std::vector<float>> WeightLoader::LogitBias(
    std::string_view name, int64_t size) {
  vector_bytes_ += VectorBytes(size);
  return ReadVector(std::string(name), size, Allowed::kMinusInfinity);
}

absl::StatusOr<WeightLoader::Source> WeightLoader::FindSource(
    const LinearSource& asked, int64_t cols, WeightRole role) {
  Source source;
  source.module = asked.module;
  source.name = WeightName(asked.module);
  source.tensor = source.name;
  source.stored_rows = asked.stored_rows > 0 ? asked.stored_rows : asked.rows;
  OUNCE_CHECK(asked.rows > 0 && asked.first_row >= 0 &&
                  asked.first_row + asked.rows <= source.stored_rows,
              "rows that the tensor has");
  // Codes are by output, whatever the floats were.
  const auto there = checkpoint_.tensors().find(source.name);
  const bool is_coded =
      there != checkpoint_.tensors().end() && there->second.coded != nullptr;
  const bool transposed = asked.transposed && !is_coded;
  std::vector<int64_t> shape = {source.stored_rows, cols};
  if (transposed) std::swap(shape[0], shape[1]);
  ASSIGN_OR_RETURN(source.info, ledger_.Find(source.name, shape));
  source.slice = {KeyOf(*source.info, role, transposed), asked.first_row,
                  asked.rows};
  const std::optional<Choice> apart = Untied(source, role);
  ASSIGN_OR_RETURN(source.stored, FindStored(source, apart, cols, role));
  ledger_.report(source.stored->report).is_conv1d = asked.transposed;
  return source;
}

std::optional<WeightLoader::Choice> WeightLoader::Untied(Source& source,
                                                         WeightRole role) {
  const auto known = stored_.find(source.slice.stored);
  if (known == stored_.end() || known->second.name == source.name) {
    return std::nullopt;
  }
  const Stored& first = known->second;
  std::optional<Choice> apart =
      policy_.Tied({source.module, role}, {ModuleOf(first.name), first.role},
                   KeptAs(*source.info));
  const auto own = checkpoint_.tensors().find(source.name);
  if (apart.has_value()) {
    apart = WithActivations(*std::move(apart), *source.info);
    source.slice.stored.apart = source.name;
  } else if (own != checkpoint_.tensors().end() &&
             !ledger_.IsDone(source.name)) {
    ledger_.AddNotStored(source.name, own->second, "tied to " + first.name);
  }
  return apart;
}

absl::StatusOr<WeightLoader::Stored*> WeightLoader::FindStored(
    const Source& source, const std::optional<Choice>& apart, int64_t cols,
    WeightRole role) {
  const auto [entry, is_new] = stored_.try_emplace(source.slice.stored);
  Stored& stored = entry->second;
  if (!is_new) return &stored;
  stored.name = source.name;
  stored.role = role;
  stored.choice = apart.has_value()
                      ? *apart
                      : ChoiceFor({source.module, role}, *source.info);
  RETURN_IF_ERROR(CheckRequantized(source.name, *source.info, stored.choice));
  stored.keeps_codes = KeepsCodes(*source.info, stored.choice);
  if (stored.keeps_codes && source.info->coded->ordered &&
      role == WeightRole::kEmbedding) {
    return ledger_.Problem(
        source.name,
        StrCat("has columns that are sorted by importance (",
               stored.choice.ToString(),
               "), and rows of an embedding are looked up as they lie; store "
               "it by another method with requantize=true"));
  }
  stored.resident =
      Resident(stored.choice, /*folded=*/false, source.info->dtype);
  ASSIGN_OR_RETURN(stored.report,
                   Report(source.name, *source.info, stored.choice,
                          stored.resident, source.stored_rows, cols, role));
  ledger_.report(stored.report).transposed = source.slice.stored.transposed;
  StoreAs(stored.report, source.tensor, stored.choice, stored.keeps_codes,
          role);
  // The checkpoint has it once.
  if (apart.has_value()) {
    TensorReport& report = ledger_.report(stored.report);
    report.checkpoint_bytes = 0;
    report.counted->is_second = true;
  }
  return &stored;
}

absl::StatusOr<std::vector<LinearPart>> WeightLoader::ReadParts(
    absl::Span<const LinearSource> asked, int64_t cols, WeightRole role) {
  OUNCE_CHECK(!asked.empty(), "a layer of something");
  std::vector<Source> sources;
  for (const LinearSource& one : asked) {
    ASSIGN_OR_RETURN(Source source, FindSource(one, cols, role));
    sources.push_back(std::move(source));
  }
  const auto is_ordered = [](const Source& source) {
    return source.stored->keeps_codes && source.info->coded->ordered;
  };
  const auto alike = [&](const Source& a, const Source& b) {
    return a.info->dtype == b.info->dtype && !is_ordered(a) && !is_ordered(b) &&
           a.stored->keeps_codes == b.stored->keeps_codes &&
           a.stored->choice.ToString() == b.stored->choice.ToString();
  };
  std::vector<LinearPart> parts;
  for (size_t begin = 0, end = 0; begin < sources.size(); begin = end) {
    end = begin + 1;
    while (end < sources.size() && alike(sources[begin], sources[end])) ++end;
    ASSIGN_OR_RETURN(
        LinearPart part,
        ReadPart(absl::MakeConstSpan(sources).subspan(begin, end - begin), cols,
                 role));
    parts.push_back(std::move(part));
  }
  return parts;
}

absl::StatusOr<LinearPart> WeightLoader::ReadPart(
    absl::Span<const Source> sources, int64_t cols, WeightRole role) {
  LinearPart part;
  std::vector<Slice> slices;
  for (const Source& source : sources) {
    part.rows += source.slice.rows;
    if (source.slice.first_row == 0) part.modules.push_back(source.module);
    slices.push_back(source.slice);
  }
  const auto known = packed_.find(slices);
  if (known != packed_.end()) {
    part.weight = known->second;
  } else {
    ASSIGN_OR_RETURN(part.weight, PackJoined(sources, cols, role));
    packed_.emplace(std::move(slices), part.weight);
  }
  if (sources[0].stored->codes != nullptr) {
    const absl::Span<const int32_t> order = sources[0].stored->codes->order();
    part.input_order.assign(order.begin(), order.end());
  }
  for (const Source& source : sources) {
    AddRange({source.slice.first_row, source.slice.rows}, source.stored->used);
    if (!IsAll(source.stored->used, source.stored_rows)) continue;
    source.stored->codes.reset();
    source.stored->floats.reset();
    if (!ledger_.IsDone(source.name)) {
      RETURN_IF_ERROR(ledger_.Done(source.name));
    }
  }
  return part;
}

absl::StatusOr<SharedWeight> WeightLoader::PackJoined(
    absl::Span<const Source> sources, int64_t cols, WeightRole role) {
  const Choice& choice = sources[0].stored->choice;
  const MethodSpec& resident = sources[0].stored->resident;
  int64_t rows = 0;
  for (const Source& source : sources) rows += source.slice.rows;
  ASSIGN_OR_RETURN(
      quant::CodeFormat format,
      FormatOf(sources[0].name, resident, rows, cols, sources[0].info->dtype));
  RoundInputs(choice, format);
  ASSIGN_OR_RETURN(
      const int64_t bytes,
      PackedBytes(sources[0].name, format, rows, cols, Product::kMatmul));
  if (sources[0].stored->keeps_codes && sources[0].info->coded->ordered) {
    // LinearPart::input_order, of each part.
    ledger_.report(sources[0].stored->report).resident_bytes +=
        cols * static_cast<int64_t>(sizeof(int32_t));
  }
  int64_t before = 0;
  for (const Source& source : sources) {
    const int64_t after = before + source.slice.rows;
    ledger_.report(source.stored->report).resident_bytes +=
        Share(bytes, after, rows) - Share(bytes, before, rows);
    before = after;
  }
  if (!Reads(sources[0].module)) {
    return std::make_shared<const PackedWeight>(
        quant::PackedOutline(format, rows, cols));
  }

  std::vector<quant::CodeSlice> slices;
  const bool measures = !sources[0].stored->keeps_codes &&
                        Measures(choice, sources[0].info->dtype);
  for (const Source& source : sources) {
    RETURN_IF_ERROR(Encode(source, role));
    Stored& stored = *source.stored;
    quant::CodeSlice& slice = slices.emplace_back(quant::CodeSlice{
        stored.codes.get(), source.slice.first_row, source.slice.rows});
    if (!measures) continue;
    slice.error = &stored.error;
    slice.original = stored.floats.get();
    slice.output_error = &stored.output_error;
    slice.input = InputOf(source.module, cols);
  }
  ASSIGN_OR_RETURN(PackedWeight packed,
                   quant::Pack(slices, Product::kMatmul, pool_));
  packed.set_input_rounding(format.input_rounding);
  for (const Source& source : sources) {
    if (!measures) break;
    const Stored& stored = *source.stored;
    TensorReport& report = ledger_.report(stored.report);
    SetError(choice, stored.error.stats(), report);
    if (InputOf(source.module, cols) != nullptr) {
      report.output_error = stored.output_error.stats();
    }
    RETURN_IF_ERROR(
        MeasureComputed(stored.resident, *stored.floats, stored.report));
  }
  return std::make_shared<const PackedWeight>(std::move(packed));
}

absl::Status WeightLoader::Encode(const Source& source, WeightRole role) {
  Stored& stored = *source.stored;
  if (stored.codes != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(stored.codes, CodesOf(stored, *source.info, source.tensor,
                                         source.slice.stored.transposed, role,
                                         stored.floats));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const quant::CodeRows>> WeightLoader::CodesOf(
    const Stored& stored, const TensorInfo& info, const std::string& tensor,
    bool transposed, WeightRole role,
    std::unique_ptr<const quant::FloatRows>& floats) const {
  if (stored.keeps_codes) return info.coded->open();
  ASSIGN_OR_RETURN(
      floats, RowsOf(checkpoint_, tensor, transposed, KeepsNonFinite(role)));
  return stored.resident.Encode(*floats);
}

WeightLoader::Choice WeightLoader::ChoiceFor(const MethodPolicy::Use& use,
                                             const TensorInfo& info) {
  return WithActivations(policy_.Choose(use, KeptAs(info)), info);
}

WeightLoader::Choice WeightLoader::WithActivations(Choice choice,
                                                   const TensorInfo& info) {
  if (choice.kept && IsQuantized(info)) {
    choice.activations = info.coded->activations;
  }
  return choice;
}

void WeightLoader::StoreAs(size_t report, const std::string& tensor,
                           const Choice& choice, bool keeps_codes,
                           WeightRole role) {
  ledger_.report(report).stored_as =
      StoredAs{.tensor = tensor,
               .spec = choice.spec,
               .keeps_codes = keeps_codes,
               .allows_non_finite = KeepsNonFinite(role),
               .activations = choice.activations};
}

bool WeightLoader::KeepsCodes(const TensorInfo& info, const Choice& choice) {
  return IsQuantized(info) && choice.spec.stages.empty() &&
         choice.spec.method == info.coded->spec.method &&
         choice.spec.params == info.coded->spec.params;
}

absl::Status WeightLoader::CheckRequantized(const std::string& name,
                                            const TensorInfo& info,
                                            const Choice& choice) const {
  // What is chosen before the policy knows all names of a weight may change.
  if (!policy_.is_judged() || !IsQuantized(info) || choice.requantize ||
      KeepsCodes(info, choice)) {
    return absl::OkStatus();
  }
  return ledger_.Problem(
      name,
      StrCat("is stored as ", info.coded->spec.ToString(), " already, and ",
             choice.spec.ToString(),
             " would add its error to that; give the rule requantize=true to "
             "do so, as in '",
             choice.spec.ToString("requantize=true"),
             "', or name other weights"));
}

absl::Status WeightLoader::MeasureComputed(const MethodSpec& resident,
                                           const quant::FloatRows& floats,
                                           size_t report) {
  const auto params = resident.method->Computed(resident.params);
  TensorReport& tensor = ledger_.report(report);
  if (!params.has_value() || tensor.computed_relative_l2.has_value()) {
    return absl::OkStatus();
  }
  MethodSpec computed = resident;
  computed.params = *params;
  ASSIGN_OR_RETURN(const auto codes, computed.Encode(floats));
  ASSIGN_OR_RETURN(const quant::ErrorStats error,
                   quant::MeasureError(floats, *codes));
  tensor.computed_relative_l2 = error.relative_l2;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> WeightLoader::ReadBias(
    absl::Span<const LinearSource> sources, WeightRole role) {
  const Allowed allowed =
      role == WeightRole::kHead ? Allowed::kMinusInfinity : Allowed::kNone;
  std::vector<float> joined;
  int64_t rows = 0;
  bool any = false;
  for (const LinearSource& source : sources) {
    if (source.bias) {
      any = true;
      ASSIGN_OR_RETURN(
          const std::vector<float> stored,
          ReadVector(StrCat(source.module, ".bias"),
                     source.stored_rows > 0 ? source.stored_rows : source.rows,
                     allowed));
      if (reads()) {
        joined.resize(rows);
        joined.insert(joined.end(), stored.begin() + source.first_row,
                      stored.begin() + source.first_row + source.rows);
      }
    }
    rows += source.rows;
  }
  if (!joined.empty()) joined.resize(rows);
  if (any) vector_bytes_ += VectorBytes(rows);
  return joined;
}

bool WeightLoader::IsAllowed(float value, Allowed allowed) {
  return std::isfinite(value) ||
         (allowed == Allowed::kMinusInfinity && value == -INFINITY) ||
         (allowed == Allowed::kInfinity && value == INFINITY);
}

absl::StatusOr<std::vector<float>> WeightLoader::ReadVector(
    const std::string& name, int64_t size, Allowed allowed) {
  ASSIGN_OR_RETURN(const TensorInfo* info, ledger_.Find(name, {size}));
  std::vector<float> values;
  if (reads()) {
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
  if (ledger_.IsDone(name)) return values;

  const MethodSpec kept =
      quant::FloatMethodFor(float_dtype_.value_or(info->dtype));
  TensorReport& tensor = ledger_.report(ledger_.Add(name, *info));
  tensor.method = kept.ToString();
  tensor.element = std::string(quant::Name(DType::kF32));
  tensor.checkpoint_bytes = info->bytes();
  ASSIGN_OR_RETURN(const quant::CodeFormat format,
                   kept.Format(1, size, info->dtype));
  tensor.stored_bytes = format.StoredBytes(1, size);
  tensor.counted = CountedTensor{.rows = 1,
                                 .cols = size,
                                 .dtype = info->dtype,
                                 .spec = kept,
                                 .kept = !float_dtype_.has_value()};
  tensor.resident_bytes = VectorBytes(size);
  tensor.is_vector = true;
  tensor.left_alone =
      VectorLeftAlone("1-D: norms and biases are not quantized");
  RETURN_IF_ERROR(ledger_.Done(name));
  return values;
}

absl::StatusOr<BatchNorm> WeightLoader::FoldBatchNorm(const std::string& module,
                                                      int64_t channels,
                                                      bool keep_only_bias) {
  const size_t first_report = ledger_.size();
  BatchNorm norm;
  ASSIGN_OR_RETURN(norm.weight,
                   ReadVector(module + ".weight", channels, Allowed::kNone));
  ASSIGN_OR_RETURN(norm.bias,
                   ReadVector(module + ".bias", channels, Allowed::kNone));
  ASSIGN_OR_RETURN(norm.mean, ReadVector(module + ".running_mean", channels,
                                         Allowed::kNone));
  ASSIGN_OR_RETURN(
      norm.variance,
      // An infinite one mutes its channel.
      ReadVector(module + ".running_var", channels, Allowed::kInfinity));
  RETURN_IF_ERROR(WithContext(norm.Fold(module), checkpoint_.folder()));
  for (size_t i = first_report; i < ledger_.size(); ++i) {
    TensorReport& tensor = ledger_.report(i);
    const bool is_bias = tensor.name == module + ".bias";
    if (!is_bias) tensor.resident_bytes = 0;
    if (!is_bias && keep_only_bias) {
      tensor.stored_bytes = 0;
      tensor.counted->is_folded = true;
    }
    tensor.left_alone = VectorLeftAlone("folded into its convolution");
  }
  return norm;
}

std::string WeightLoader::VectorLeftAlone(const char* why) const {
  return options_.plan.keeps_all() || float_dtype_.has_value() ? "" : why;
}

MethodSpec WeightLoader::Resident(const Choice& choice, bool folded,
                                  DType dtype) const {
  MethodSpec method = choice.spec;
  method.stages.clear();
  if (!method.float_dtype().has_value()) return choice.spec;
  if (floats_as_bfloat16_) {
    method = quant::FloatMethodFor(DType::kBF16);
  } else if (folded && method.lossless_from(dtype)) {
    // Factors make new values, which the checkpoint's 16 bits would round.
    method = quant::FloatMethodFor(DType::kF32);
  }
  method.stages = choice.spec.stages;
  return method;
}

absl::StatusOr<size_t> WeightLoader::Report(
    const std::string& name, const TensorInfo& info, const Choice& choice,
    const MethodSpec& resident, int64_t rows, int64_t cols, WeightRole role) {
  ASSIGN_OR_RETURN(quant::CodeFormat stored,
                   FormatOf(name, choice.spec, rows, cols, info.dtype));
  const auto packed_bytes =
      KeepsCodes(info, choice) ? info.coded->packed_bytes : std::nullopt;
  if (packed_bytes) stored.packed_bytes = packed_bytes;
  ASSIGN_OR_RETURN(const quant::CodeFormat in_memory,
                   FormatOf(name, resident, rows, cols, info.dtype));
  const size_t index = ledger_.Add(name, info);
  TensorReport& tensor = ledger_.report(index);
  tensor.role = role;
  tensor.method = choice.ToString();
  tensor.element = std::string(in_memory.element);
  tensor.checkpoint_bytes = info.bytes();
  tensor.stored_bytes = stored.StoredBytes(rows, cols);
  tensor.counted = CountedTensor{.rows = rows,
                                 .cols = cols,
                                 .dtype = info.dtype,
                                 .spec = choice.spec,
                                 .kept = choice.kept};
  if (IsQuantized(info)) tensor.counted->coded_bytes = info.coded->bytes;
  tensor.counted->packed_bytes = packed_bytes;
  tensor.left_alone = choice.left_alone;
  tensor.note = stored.note;
  if (method_.empty() && role == WeightRole::kLinear) method_ = tensor.method;
  return index;
}

bool WeightLoader::Measures(const Choice& choice, DType dtype) const {
  return options_.measure_error && !choice.spec.lossless_from(dtype);
}

const quant::LayerInput* WeightLoader::InputOf(const std::string& module,
                                               int64_t cols) const {
  if (options_.inputs == nullptr) return nullptr;
  const auto found = options_.inputs->find(module);
  return found == options_.inputs->end() || found->second->cols != cols
             ? nullptr
             : found->second.get();
}

void WeightLoader::SetError(const Choice& choice,
                            const quant::ErrorStats& error,
                            TensorReport& report) {
  report.error = error;
  if (choice.spec.stages.empty()) return;
  report.sparsity = error.zeros;
  // What a stage changed would seem to be beyond the codes.
  report.error->clamped = std::nullopt;
}

// Of two names of one weight, as the config says.
absl::Status WeightLoader::CheckEqual(const std::string& name,
                                      const TensorInfo& info,
                                      const std::string& other) const {
  const TensorInfo& of = checkpoint_.tensors().at(other);
  bool equal = info.shape == of.shape;
  if (reads() && equal) {
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
  return ledger_.Problem(
      name, StrCat("differs from '", other,
                   "', but config.json ties the two; if they are meant to "
                   "differ, set 'tie_word_embeddings' to false, else remove "
                   "this one"));
}

absl::Status WeightLoader::CheckRowsUsed() const {
  for (const auto& [key, stored] : stored_) {
    if (ledger_.IsDone(stored.name)) continue;
    const RowRange& first = stored.used[0];
    return ledger_.Problem(
        stored.name,
        StrCat("has row ", first.first == 0 ? first.count : 0,
               ", which config.json does not account for: the config is of "
               "another model, or has a form that is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
