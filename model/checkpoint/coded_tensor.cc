#include "model/checkpoint/coded_tensor.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

absl::StatusOr<std::unique_ptr<const quant::CodeRows>> StoredMethod::Encode(
    const quant::FloatRows& weight, const quant::ParamValues&) const {
  return absl::UnimplementedError(
      StrCat("tensor ", Quoted(weight.name()), ": ", name(),
             " codes of this kind are what other tools make; `ounce methods` "
             "lists what Ounce does"));
}

absl::Status ReadCodedFloats(const std::string& name, const TensorInfo& info,
                             int64_t first, int64_t count, float* out) {
  const int64_t elements = info.elements();
  if (first < 0 || count < 0 || first > elements || count > elements - first) {
    return absl::InvalidArgumentError(StrCat(
        "tensor ", Quoted(name), ": has ", elements, " elements, shape ",
        ShapeText(info.shape), ": too few to read ", count, " from ", first));
  }
  ASSIGN_OR_RETURN(const auto codes, info.coded->open());
  const int64_t cols = codes->cols();
  // Several rows at once, the first and the last perhaps in part.
  constexpr int64_t kAtOnce = 1 << 16;
  const int64_t at_once = std::max<int64_t>(1, kAtOnce / cols);
  std::vector<float> rows(std::min(at_once, codes->rows()) * cols);
  for (const int64_t end = first + count; first < end;) {
    const int64_t row = first / cols;
    const int64_t num_rows = std::min(at_once, (end - 1) / cols + 1 - row);
    RETURN_IF_ERROR(quant::ReadValues(*codes, row, num_rows, rows.data()));
    const int64_t from = first - row * cols;
    const int64_t n = std::min(num_rows * cols - from, end - first);
    out = std::copy_n(rows.data() + from, n, out);
    first += n;
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
