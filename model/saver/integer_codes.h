// Integers with scales for groups of columns, as the formats of several tools
// have them: what the method linear makes, or the codes of such a file. They
// are read in the form of GroupedIntegers: from 0 to 2^bits - 1, beside
// zero-points.
#ifndef OUNCE_MODEL_SAVER_INTEGER_CODES_H_
#define OUNCE_MODEL_SAVER_INTEGER_CODES_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/saver/safetensors_files.h"
#include "model/saver/save_format.h"

namespace ounce::model {

// Absent: the tensor is stored as something else.
std::optional<GroupedIntegers> IntegersOf(const StoredTensorView& tensor);

// Some rows.
struct IntegerBand {
  int64_t first_row = 0;
  int64_t rows = 0;
  std::vector<uint8_t> codes;  // [rows, cols]
  std::vector<float> scales;   // [rows, groups]
  // [rows, groups]; of symmetric ones 2^(bits - 1).
  std::vector<uint8_t> zeros;
};

// As ForEachBand, in bands that begin with a multiple of 32 rows, so that
// numbers of any bits, one of each row, begin a word there. Requires
// IntegersOf(tensor).
absl::Status ForEachIntegerBand(
    const ModelToSave& model, const StoredTensorView& tensor,
    const std::function<absl::Status(const IntegerBand& band)>& take);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_INTEGER_CODES_H_
