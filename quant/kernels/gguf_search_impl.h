// A group to a lane.
#ifndef OUNCE_QUANT_KERNELS_GGUF_SEARCH_IMPL_H_
#define OUNCE_QUANT_KERNELS_GGUF_SEARCH_IMPL_H_

#include <cstdint>

#include "quant/kernels/gguf_search.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// The integers from low to high that are nearest; `low` for NaN.
inline Floats NearestWithin(Floats x, float low, float high) {
  return Round(AtMost(Set(high), AtLeast(x, Set(low))));
}

// Columns of up to kLanes groups, zeros for those that are missing.
template <int kCols>
inline void LoadGroups(const float* from, int64_t groups, Floats (&to)[kCols]) {
  alignas(64) float columns[kCols][kLanes] = {};
  for (int64_t group = 0; group < groups; ++group) {
    for (int col = 0; col < kCols; ++col) {
      columns[col][group] = from[group * kCols + col];
    }
  }
  for (int col = 0; col < kCols; ++col) to[col] = Load(columns[col]);
}

template <int kCols>
inline void StoreCodes(const Floats (&codes)[kCols], int64_t groups,
                       uint8_t* to) {
  alignas(64) int32_t columns[kCols][kLanes];
  for (int col = 0; col < kCols; ++col) {
    Store(__builtin_convertvector(codes[col], Ints), columns[col]);
  }
  for (int64_t group = 0; group < groups; ++group) {
    for (int col = 0; col < kCols; ++col) {
      to[group * kCols + col] = static_cast<uint8_t>(columns[col][group]);
    }
  }
}

// Calls search(first group, groups) for up to kLanes at a time.
template <class Search>
inline void ForLanes(int64_t groups, const Search& search) {
  for (int64_t group = 0; group < groups; group += kLanes) {
    search(group, groups - group < kLanes ? groups - group : kLanes);
  }
}

// The value that is largest in magnitude, the first of several.
template <int kCols>
inline Floats Largest(const Floats (&x)[kCols]) {
  Floats magnitude{}, value{};
  for (int col = 0; col < kCols; ++col) {
    const Ints larger = Abs(x[col]) > magnitude;
    magnitude = Select(larger, Abs(x[col]), magnitude);
    value = Select(larger, x[col], value);
  }
  return value;
}

template <int kCols, bool kAbsolute>
void SearchAffine(const AffineTrials& trials, const float* from, int64_t groups,
                  float* scales, float* minima, uint8_t* codes) {
  const auto most = static_cast<float>(trials.most);
  const auto error = [](Floats difference) {
    return kAbsolute ? Abs(difference) : difference * difference;
  };
  ForLanes(groups, [&](int64_t group, int64_t count) {
    Floats x[kCols], weights[kCols];
    LoadGroups(from + group * kCols, count, x);
    Floats root{};
    if (!kAbsolute) {
      for (int col = 0; col < kCols; ++col) root += x[col] * x[col];
      for (int i = 0; i < kLanes; ++i)
        root[i] = __builtin_sqrtf(root[i] / kCols);
    }
    for (int col = 0; col < kCols; ++col) {
      weights[col] = kAbsolute ? Abs(x[col]) : root + Abs(x[col]);
    }
    Floats low = x[0], high = x[0];
    Floats sum_w = weights[0], sum_x = weights[0] * x[0];
    for (int col = 1; col < kCols; ++col) {
      low = AtMost(x[col], low);
      high = AtLeast(x[col], high);
      sum_w += weights[col];
      sum_x += weights[col] * x[col];
    }
    low = AtMost(low, Floats{});
    const Ints flat = high == low;

    // What the best codes were made with.
    Floats inverse_of_best = most / (high - low), low_of_best = low;
    // Trials begin at the best offset so far, as ggml's do.
    Floats best_scale = 1.0f / inverse_of_best, best_low = low, best_error{};
    for (int col = 0; col < kCols; ++col) {
      const Floats level =
          NearestWithin(inverse_of_best * (x[col] - low), 0, most);
      best_error += weights[col] * error(best_scale * level + low - x[col]);
    }
    Floats levels[kCols];
    for (int trial = 0; trial < trials.count; ++trial) {
      const Floats inverse =
          Set(trials.first + 0.1f * static_cast<float>(trial) + most) /
          (high - best_low);
      Floats sum_l{}, sum_ll{}, sum_xl{};
      for (int col = 0; col < kCols; ++col) {
        const Floats level =
            NearestWithin(inverse * (x[col] - best_low), 0, most);
        levels[col] = level;
        const Floats weighted = weights[col] * level;
        sum_l += weighted;
        sum_ll += weighted * level;
        sum_xl += weighted * x[col];
      }
      const Floats determinant = sum_w * sum_ll - sum_l * sum_l;
      Floats scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
      Floats offset = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
      const Ints above_zero = offset > Floats{};
      scale = Select(above_zero, sum_xl / sum_ll, scale);
      offset = Select(above_zero, Floats{}, offset);
      Floats sum_error{};
      for (int col = 0; col < kCols; ++col) {
        sum_error +=
            weights[col] * error(scale * levels[col] + offset - x[col]);
      }
      const Ints better = (determinant > Floats{}) & (sum_error < best_error);
      inverse_of_best = Select(better, inverse, inverse_of_best);
      low_of_best = Select(better, best_low, low_of_best);
      best_error = Select(better, sum_error, best_error);
      best_scale = Select(better, scale, best_scale);
      best_low = Select(better, offset, best_low);
    }
    for (int col = 0; col < kCols; ++col) {
      const Floats level =
          NearestWithin(inverse_of_best * (x[col] - low_of_best), 0, most);
      levels[col] = Select(flat, Floats{}, level);
    }
    StoreCodes(levels, count, codes + group * kCols);
    StorePart(Select(flat, Floats{}, best_scale), scales + group, count);
    StorePart(-Select(flat, low, best_low), minima + group, count);
  });
}

// The scale that is best where sum(w x l) and sum(w l l) are these.
struct BestScale {
  Floats scale, gain;

  static BestScale Of(Floats sum_xl, Floats sum_ll) {
    BestScale best;
    best.scale = Select(sum_ll > Floats{}, sum_xl / sum_ll, Floats{});
    best.gain = best.scale * sum_xl;
    return best;
  }
  // Takes what is better; returns where.
  Ints Take(Floats sum_xl, Floats sum_ll) {
    const Ints better = (sum_ll > Floats{}) & (sum_xl * sum_xl > gain * sum_ll);
    scale = Select(better, sum_xl / sum_ll, scale);
    gain = Select(better, scale * sum_xl, gain);
    return better;
  }
};

inline void SearchSymmetric16(const float* from, int64_t groups, float* scales,
                              uint8_t* codes) {
  constexpr int kCols = 16;
  constexpr float kMost = 32;
  ForLanes(groups, [&](int64_t group, int64_t count) {
    Floats x[kCols];
    LoadGroups(from + group * kCols, count, x);
    const Floats largest = Largest(x);
    const auto sums = [&](Floats inverse, Floats& sum_xl, Floats& sum_ll) {
      sum_xl = Floats{};
      sum_ll = Floats{};
      for (int col = 0; col < kCols; ++col) {
        const Floats level = NearestWithin(inverse * x[col], -kMost, kMost - 1);
        const Floats weight = x[col] * x[col];
        sum_xl += weight * x[col] * level;
        sum_ll += weight * level * level;
      }
    };
    Floats sum_xl, sum_ll;
    Floats best_inverse = -kMost / largest;
    sums(best_inverse, sum_xl, sum_ll);
    BestScale best = BestScale::Of(sum_xl, sum_ll);
    for (int trial = -9; trial <= 9; ++trial) {
      if (trial == 0) continue;
      const Floats inverse =
          Set(-(kMost + 0.1f * static_cast<float>(trial))) / largest;
      sums(inverse, sum_xl, sum_ll);
      best_inverse = Select(best.Take(sum_xl, sum_ll), inverse, best_inverse);
    }
    const Ints none = Abs(largest) < Set(kGgufZero);
    Floats levels[kCols];
    for (int col = 0; col < kCols; ++col) {
      const Floats level =
          NearestWithin(best_inverse * x[col], -kMost, kMost - 1);
      levels[col] = Select(none, Floats{}, level + kMost);
    }
    StoreCodes(levels, count, codes + group * kCols);
    StorePart(Select(none, Floats{}, best.scale), scales + group, count);
  });
}

inline void SearchByDescent16(const float* from, int64_t groups, float* scales,
                              uint8_t* codes) {
  constexpr int kCols = 16;
  constexpr float kMost = 4;
  ForLanes(groups, [&](int64_t group, int64_t count) {
    Floats x[kCols], levels[kCols];
    LoadGroups(from + group * kCols, count, x);
    const Floats largest = Largest(x);
    const Floats inverse = -kMost / largest;
    Floats sum_xl{}, sum_ll{};
    for (int col = 0; col < kCols; ++col) {
      levels[col] = NearestWithin(inverse * x[col], -kMost, kMost - 1);
      const Floats weight = x[col] * x[col];
      sum_xl += weight * x[col] * levels[col];
      sum_ll += weight * levels[col] * levels[col];
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
      Ints changed{};
      for (int col = 0; col < kCols; ++col) {
        const Floats weight = x[col] * x[col];
        const Floats other_xl = sum_xl - weight * x[col] * levels[col];
        const Floats other_ll = sum_ll - weight * levels[col] * levels[col];
        const Floats level =
            NearestWithin(x[col] * other_ll / other_xl, -kMost, kMost - 1);
        const Floats new_xl = other_xl + weight * x[col] * level;
        const Floats new_ll = other_ll + weight * level * level;
        const Ints better =
            (other_xl > Floats{}) & (level != levels[col]) &
            (new_ll > Floats{}) &
            (new_xl * new_xl * sum_ll > sum_xl * sum_xl * new_ll);
        levels[col] = Select(better, level, levels[col]);
        sum_xl = Select(better, new_xl, sum_xl);
        sum_ll = Select(better, new_ll, sum_ll);
        changed |= better;
      }
      bool any = false;
      for (int i = 0; i < kLanes; ++i) any |= changed[i] != 0;
      if (!any) break;
    }
    const Ints none = Abs(largest) < Set(kGgufZero);
    for (int col = 0; col < kCols; ++col) {
      levels[col] = Select(none, Floats{}, levels[col] + kMost);
    }
    StoreCodes(levels, count, codes + group * kCols);
    const Floats scale = BestScale::Of(sum_xl, sum_ll).scale;
    StorePart(Select(none, Floats{}, scale), scales + group, count);
  });
}

// What the table has nearest to x, the larger of two.
inline Floats NearestInTable(Floats x) {
  Ints level = Ints{} + kGgufTable[0];
  OUNCE_UNROLL
  for (int i = 1; i < kGgufLevels; ++i) {
    const int gap = kGgufTable[i] - kGgufTable[i - 1];
    const float middle =
        static_cast<float>(kGgufTable[i - 1]) + static_cast<float>(gap) / 2;
    level += (x >= Set(middle)) & gap;
  }
  return __builtin_convertvector(level, Floats);
}

inline void SearchTable32(const float* from, int64_t groups, float* scales) {
  constexpr int kCols = 32;
  constexpr int kTrials = 7;  // in each direction
  ForLanes(groups, [&](int64_t group, int64_t count) {
    Floats x[kCols];
    LoadGroups(from + group * kCols, count, x);
    const Floats largest = Largest(x);
    const auto sums = [&](Floats inverse, Floats& sum_xl, Floats& sum_ll) {
      sum_xl = Floats{};
      sum_ll = Floats{};
      for (int col = 0; col < kCols; ++col) {
        const Floats level = NearestInTable(inverse * x[col]);
        const Floats weighted = x[col] * x[col] * level;
        sum_xl += weighted * x[col];
        sum_ll += weighted * level;
      }
    };
    Floats sum_xl, sum_ll;
    sums(1.0f / (-largest / static_cast<float>(kGgufTable[0])), sum_xl, sum_ll);
    BestScale best = BestScale::Of(sum_xl, sum_ll);
    for (int trial = -kTrials; trial <= kTrials; ++trial) {
      sums(Set(static_cast<float>(trial + kGgufTable[0])) / largest, sum_xl,
           sum_ll);
      best.Take(sum_xl, sum_ll);
    }
    const Ints none = Abs(largest) < Set(kGgufZero);
    StorePart(Select(none, Floats{}, best.scale), scales + group, count);
  });
}

inline constexpr GgufSearches kSearches = {
    SearchAffine<32, false>, SearchAffine<16, true>, SearchSymmetric16,
    SearchByDescent16, SearchTable32};

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_GGUF_SEARCH_IMPL_H_
