// Numbers of a row of x that are too large to be rounded with the others.
#ifndef OUNCE_QUANT_OUTLIERS_H_
#define OUNCE_QUANT_OUTLIERS_H_

#include <cstdint>

namespace ounce::quant {

// A block of 64 columns that has any.
struct OutlierBlock {
  int64_t block;
  uint64_t cols;  // bit i: column 64 * block + i
};

// Of all rows; not owned.
struct Outliers {
  // [rows, blocks], ascending; only the first so many of a row. Null if there
  // are none in any row.
  const OutlierBlock* found = nullptr;
  const int32_t* num_found = nullptr;  // [rows]
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_OUTLIERS_H_
