// Checkpoints whose weights another tool has quantized, as the
// `quantization_config` of their config.json says. To add a format: a file in
// formats/, a line in quantized_formats.def, and fixtures that the format's own
// tool wrote (tools/make_quantized_goldens.py).
//
// Nothing in such a file is believed: what does not fit together is named and
// refused when the checkpoint is opened, but for the values, which are judged
// when they are read.
#ifndef OUNCE_MODEL_CHECKPOINT_QUANTIZED_FORMAT_H_
#define OUNCE_MODEL_CHECKPOINT_QUANTIZED_FORMAT_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/tensor_files.h"
#include "nlohmann/json_fwd.hpp"
#include "quant/codes.h"
#include "quant/dtype.h"

namespace ounce::model {

// What a format finds its tensors in.
struct QuantizedSource {
  const nlohmann::json& config;  // quantization_config
  const TensorFiles& files;      // outlives the codes
  // Of the floats that codes stand for, unless the format says more: config's
  // torch_dtype, or float16.
  quant::DType dtype = quant::DType::kF16;

  // The tensor `name` of the file, which must be there, of one of these dtypes
  // and of this shape (negative: any extent). kInvalidArgument otherwise.
  absl::StatusOr<const TensorInfo*> Find(
      const std::string& name, const std::vector<quant::DType>& dtypes,
      const std::vector<int64_t>& shape) const;
  // "FILE: tensor 'name': `reason`"; kInvalidArgument.
  absl::Status Problem(const std::string& name,
                       const std::string& reason) const;
  // Names of the file that end so, without that end.
  std::vector<std::string> ModulesWith(std::string_view suffix) const;
};

// The weights in codes, by the names that they would have as floats.
struct CodedTensors {
  std::map<std::string, TensorInfo> weights;
  std::set<std::string> parts;  // tensors of the file that they are made of

  // Reads codes of this format, its tensors having been found to fit.
  using CodesOf = std::function<std::unique_ptr<const quant::CodeRows>(
      const quant::CodeFormat& format)>;

  // A weight [rows, cols] of what `coded` says, but for its bytes and how it is
  // opened. Errors: kInvalidArgument, with its name, for a shape that its spec
  // has no codes for.
  absl::Status Add(const std::string& name, int64_t rows, int64_t cols,
                   quant::DType dtype, CodedTensor coded, CodesOf codes);
};

class QuantizedFormat {
 public:
  virtual ~QuantizedFormat() = default;

  // The `quant_method` of the config.
  virtual std::string_view name() const = 0;

  // Adds the weights. Errors, named by tensor or by the config's field:
  // kInvalidArgument for what is malformed, kUnimplemented for what is known
  // and not served; those of reading.
  virtual absl::Status FindTensors(const QuantizedSource& source,
                                   CodedTensors& found) const = 0;
};

// In the order of quantized_formats.def.
absl::Span<const QuantizedFormat* const> AllQuantizedFormats();

// Of a whole config.json: empty if it has no quantization_config. Errors: those
// of the format, after the name of config.json; kUnimplemented for a format
// that is not in the list.
absl::StatusOr<CodedTensors> FindCodedTensors(const std::string& folder,
                                              const nlohmann::json& config,
                                              const TensorFiles& files);

// kUnimplemented: "'`key`' must be `wanted`, is `is`", with what to do.
absl::Status NotServed(std::string_view key, std::string_view wanted,
                       std::string_view is);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_QUANTIZED_FORMAT_H_
