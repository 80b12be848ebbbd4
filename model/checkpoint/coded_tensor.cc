#include "model/checkpoint/coded_tensor.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"

namespace ounce::model {

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
  std::vector<float> row(cols);
  for (const int64_t end = first + count; first < end;) {
    RETURN_IF_ERROR(quant::ReadValues(*codes, first / cols, 1, row.data()));
    const int64_t from = first % cols;
    const int64_t n = std::min(cols - from, end - first);
    out = std::copy_n(row.data() + from, n, out);
    first += n;
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
