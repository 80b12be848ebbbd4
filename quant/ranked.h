// Elements of a matrix by their rank, without sorting it.
#ifndef OUNCE_QUANT_RANKED_H_
#define OUNCE_QUANT_RANKED_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/float_rows.h"

namespace ounce::quant {

struct Ranked {
  uint32_t key = 0;
  int64_t place = 0;  // among those with this key
  int64_t equal = 0;  // how many have it
};

// The elements of these ranks, from 0 on in ascending order of `key` (a
// uint32_t of a float). Reads the matrix twice, by the upper and the lower 16
// bits of keys; holds a band of floats and 65,536 counts for each rank.
// Requires ranks within the matrix. Errors: of ForEachRow.
template <class Key>
absl::StatusOr<std::vector<Ranked>> FindRanked(const FloatRows& weight,
                                               absl::Span<const int64_t> ranks,
                                               const Key& key) {
  constexpr int kLowBits = 16;
  constexpr size_t kBuckets = size_t{1} << kLowBits;
  const int64_t cols = weight.cols();
  const auto count = [&](const auto& take) {
    return ForEachRow(weight, [&](int64_t, const float* values) {
      for (int64_t col = 0; col < cols; ++col) take(key(values[col]));
    });
  };
  // The bucket that has the place, which becomes that within it.
  const auto bucket_of = [](const std::vector<int64_t>& counts,
                            int64_t& place) {
    uint32_t bucket = 0;
    while (counts[bucket] <= place) place -= counts[bucket++];
    return bucket;
  };
  std::vector<Ranked> found;
  {
    std::vector<int64_t> counts(kBuckets);
    RETURN_IF_ERROR(count([&](uint32_t k) { ++counts[k >> kLowBits]; }));
    for (int64_t place : ranks) {
      const uint32_t upper = bucket_of(counts, place);
      found.push_back({.key = upper << kLowBits, .place = place});
    }
  }
  std::vector<std::vector<int64_t>> lower(ranks.size(),
                                          std::vector<int64_t>(kBuckets));
  RETURN_IF_ERROR(count([&](uint32_t k) {
    for (size_t i = 0; i < found.size(); ++i) {
      if (k >> kLowBits == found[i].key >> kLowBits) ++lower[i][k % kBuckets];
    }
  }));
  for (size_t i = 0; i < found.size(); ++i) {
    const uint32_t bucket = bucket_of(lower[i], found[i].place);
    found[i].key |= bucket;
    found[i].equal = lower[i][bucket];
  }
  return found;
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_RANKED_H_
