// One way to lay a model out in files. To add one: a file in formats/, a line
// in save_formats.def and a row in tests/model/saver/save_cases.cc.
#ifndef OUNCE_MODEL_SAVER_SAVE_FORMAT_H_
#define OUNCE_MODEL_SAVER_SAVE_FORMAT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "model/saver/new_folder.h"
#include "nlohmann/json.hpp"
#include "quant/codes.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

// A tensor as the plan stores it.
struct StoredTensorView {
  const TensorReport* report = nullptr;  // of one that is stored
  // What its codes, or floats, are called; without stages.
  quant::MethodSpec spec = {};
  quant::CodeFormat format = {};

  const std::string& name() const { return report->name; }
  // The name without ".weight".
  std::string module() const;
  // Of the codes: [rows, cols], by output, whatever the tensor's shape is.
  int64_t rows() const { return report->counted->rows; }
  int64_t cols() const { return report->counted->cols; }
  // Of what is stored as floats: in which ones (a method may take those where
  // a shape does not fit it).
  std::optional<quant::DType> float_dtype() const;
  bool is_float() const { return format.is_float(); }
};

struct ModelToSave {
  const Checkpoint& checkpoint;
  const LoadReport& report;
  std::vector<StoredTensorView> tensors = {};  // by name, each once
  int64_t max_shard_bytes = 0;
  std::string name = {};  // what people call it; may be empty

  // The codes of a tensor. Errors: of making them.
  absl::StatusOr<std::unique_ptr<const quant::CodeRows>> Open(
      const StoredTensorView& tensor) const;
  // kFailedPrecondition: that the format cannot hold this tensor, and why.
  absl::Status CannotHold(std::string_view format,
                          const StoredTensorView& tensor,
                          std::string_view why) const;
};

// Told of each tensor when it is written, and of the bytes that it took; an
// error ends the work.
using SavedTensorDone =
    std::function<absl::Status(const std::string& name, int64_t bytes)>;

// Files that hold a model's weights, laid out and not yet written.
class WeightFiles {
 public:
  virtual ~WeightFiles() = default;
  virtual int64_t bytes() const = 0;  // of all of them
  // Fields of config.json that differ from the checkpoint's (null: taken out);
  // absent: the folder has no config.json, nor what lies beside it.
  virtual std::optional<nlohmann::json> config() const = 0;
  virtual absl::Status Write(NewFolder& folder,
                             const SavedTensorDone& done) const = 0;
};

class SaveFormat {
 public:
  virtual ~SaveFormat() = default;

  // Goes to the wire, so never renamed.
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one sentence for people

  // `model` must outlive the files. Errors: kFailedPrecondition for a model
  // that the format cannot hold as it is stored (ModelToSave::CannotHold).
  virtual absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const = 0;
};

// In the order of save_formats.def.
absl::Span<const SaveFormat* const> AllSaveFormats();

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_SAVE_FORMAT_H_
