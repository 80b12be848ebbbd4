// See ks4_search.h. A lane of a vector is a block, so that no sum runs over
// lanes and the order of each is the same however many there are.
#ifndef OUNCE_QUANT_KERNELS_KS4_SEARCH_IMPL_H_
#define OUNCE_QUANT_KERNELS_KS4_SEARCH_IMPL_H_

#include <cstdint>

#include "quant/kernels/ks4_search.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// Between level k and the next one.
constexpr float Ks4Threshold(int table, int k) {
  return (kKs4Table[table * kKs4Levels + k] +
          kKs4Table[table * kKs4Levels + k + 1]) /
         2;
}

#if defined(__AVX512F__)
// The line from -128 to 128 in 32 pieces, none of which has more than one
// threshold: what it is, and the levels on both sides.
struct Ks4Pieces {
  alignas(64) float threshold[32];
  alignas(64) float below[32];
  alignas(64) float above[32];
};

constexpr Ks4Pieces MakeKs4Pieces(int table) {
  Ks4Pieces pieces = {};
  for (int i = 0; i < 32; ++i) {
    const float begin = static_cast<float>((i - 16) * 8);
    int k = 0;
    while (k < kKs4Levels - 1 && Ks4Threshold(table, k) < begin) ++k;
    const float* levels = kKs4Table + table * kKs4Levels;
    const bool has_one =
        k < kKs4Levels - 1 && Ks4Threshold(table, k) < begin + 8;
    pieces.threshold[i] = has_one ? Ks4Threshold(table, k) : 1e30f;
    pieces.below[i] = levels[k];
    pieces.above[i] = has_one ? levels[k + 1] : levels[k];
  }
  return pieces;
}
#endif

// The level of a table next to y, the lower one of two.
template <int kTable>
inline Floats Ks4Nearest(Floats y) {
#if defined(__AVX512F__)
  static constexpr Ks4Pieces kPieces = MakeKs4Pieces(kTable);
  const auto look_up = [](const float* values, __m512i index) {
    return _mm512_permutex2var_ps(_mm512_load_ps(values), index,
                                  _mm512_load_ps(values + 16));
  };
  const __m512 within = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(-128)),
                                      _mm512_set1_ps(127));
  const __m512i piece = _mm512_cvttps_epi32(_mm512_add_ps(
      _mm512_mul_ps(within, _mm512_set1_ps(0.125f)), _mm512_set1_ps(16)));
  return _mm512_mask_blend_ps(
      _mm512_cmp_ps_mask(y, look_up(kPieces.threshold, piece), _CMP_GT_OQ),
      look_up(kPieces.below, piece), look_up(kPieces.above, piece));
#else
  const float* levels = kKs4Table + kTable * kKs4Levels;
  Floats level = Set(levels[0]);
  OUNCE_UNROLL for (int k = 0; k < kKs4Levels - 1; ++k) {
    level += Select(y > Set(Ks4Threshold(kTable, k)),
                    Set(levels[k + 1] - levels[k]), Floats{});
  }
  return level;
#endif
}

// kLanes blocks side by side.
struct Ks4Group {
  const float* x;  // [kKs4Block][kLanes]
  Ints sizes;

  Floats at(int i) const { return Load(x + i * kLanes); }
};

struct Ks4Fit {
  Floats xq;  // sums of x * level and of level^2
  Floats qq;

  // How much smaller the squared error is than without any codes.
  Floats gain(Floats scale) const { return scale * (2.0f * xq - scale * qq); }
};

template <int kTable>
inline Ks4Fit FitKs4(const Ks4Group& group, Floats inverse) {
  Ks4Fit fit = {};
  for (int i = 0; i < kKs4Block; ++i) {
    const Floats x = group.at(i);
    const Ints is_there = group.sizes > i;
    const Floats level = reinterpret_cast<Floats>(
        reinterpret_cast<Ints>(Ks4Nearest<kTable>(x * inverse)) & is_there);
    fit.xq += x * level;
    fit.qq += level * level;
  }
  return fit;
}

// What the search has of a block, by lane.
struct Ks4Best {
  Floats scale = {};  // of the block, in steps of d
  Floats table = {};
  Ks4Fit fit = {};
};

// The best scale of each block by itself, of one sign and table: the largest
// weight becomes one of some levels, and what codes it has then fit best to a
// scale.
template <int kTable>
inline Floats FreeKs4Scale(const Ks4Group& group, Floats largest, float sign,
                           Floats* gain) {
  constexpr float kLowest = 100, kHighest = 130, kStep = 5;
  Floats scale = {};
  *gain = Set(-1);
  for (float target = kLowest; target <= kHighest; target += kStep) {
    const Ks4Fit fit = FitKs4<kTable>(group, Set(sign * target) / largest);
    const Floats fitted = fit.xq / fit.qq;
    const Floats score = fit.xq * fitted;
    const Ints better = score > *gain;
    *gain = Select(better, score, *gain);
    scale = Select(better, fitted, scale);
  }
  return scale;
}

// Tries the three scales that d allows next to a block's own.
template <int kTable>
inline void TryKs4Scales(const Ks4Group& group, Floats own, float d,
                         Floats* best_gain, Ks4Best* best) {
  const Floats nearest = Round((own * (1 / d) - 1.0f) * 0.5f) * 2.0f + 1.0f;
  for (float step = -2; step <= 2; step += 2) {
    Floats scale = nearest + step;
    scale = Select(scale > Set(127), Set(127), scale);
    scale = Select(scale < Set(-127), Set(-127), scale);
    const Ks4Fit fit = FitKs4<kTable>(group, 1.0f / (scale * d));
    const Floats gain = fit.gain(scale * d);
    const Ints better = gain > *best_gain;
    *best_gain = Select(better, gain, *best_gain);
    best->scale = Select(better, scale, best->scale);
    best->table = Select(better, Set(kTable), best->table);
    best->fit.xq = Select(better, fit.xq, best->fit.xq);
    best->fit.qq = Select(better, fit.qq, best->fit.qq);
  }
}

// 2^-n that brings magnitudes below `largest` to 1 .. 2; 1 where that is no
// normal number.
inline float Ks4Normalizer(float largest) {
  uint32_t bits;
  __builtin_memcpy(&bits, &largest, sizeof bits);
  const uint32_t exponent = bits >> 23;
  const uint32_t inverse = exponent == 0 ? 253 : 254 - exponent;
  bits = (inverse == 0 ? 1 : inverse) << 23;
  float factor;
  __builtin_memcpy(&factor, &bits, sizeof factor);
  return factor;
}

inline float Ks4SearchOnce(const float* x, int64_t cols, float* room,
                           uint8_t* scales, uint8_t* codes) {
  constexpr int kFree = 4;  // two signs of two tables
  const int64_t blocks = Ks4Blocks(cols);
  const int64_t groups = (blocks + kLanes - 1) / kLanes;
  const int64_t lanes = groups * kLanes;
  float* const all_x = room;  // [groups][kKs4Block][kLanes]
  float* const free_scales = all_x + lanes * kKs4Block;  // [groups][kFree]..
  float* const chosen = free_scales + lanes * kFree;     // [3][groups]..

  float largest = 0;
  for (int64_t i = 0; i < cols; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    if (magnitude > largest) largest = magnitude;
  }
  for (int64_t block = 0; block < blocks; ++block) scales[block] = 128;
  for (int64_t i = 0; i < cols; ++i) codes[i] = 8;  // 1 step of d
  if (largest == 0) return 0;
  const float normalizer = Ks4Normalizer(largest);
  for (int64_t i = 0; i < lanes * kKs4Block; ++i) all_x[i] = 0;
  for (int64_t i = 0; i < cols; ++i) {
    const int64_t block = i / kKs4Block;
    all_x[(block / kLanes * kKs4Block + i % kKs4Block) * kLanes +
          block % kLanes] = x[i] * normalizer;
  }
  const auto group_of = [&](int64_t index) {
    Ks4Group group = {all_x + index * kKs4Block * kLanes, {}};
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t left = cols - (index * kLanes + lane) * kKs4Block;
      group.sizes[lane] =
          static_cast<int32_t>(left > kKs4Block ? kKs4Block : left);
    }
    return group;
  };

  float largest_scale = 0;
  for (int64_t index = 0; index < groups; ++index) {
    const Ks4Group group = group_of(index);
    Floats magnitude = {};
    for (int i = 0; i < kKs4Block; ++i) {
      magnitude = Max(Max(group.at(i), -group.at(i)), magnitude);
    }
    // Blocks of zeros have scales of 0.
    const Floats divisor = Select(magnitude > Floats{}, magnitude, Set(1));
    Floats gains[kFree];
    const Floats free[kFree] = {FreeKs4Scale<0>(group, divisor, 1, &gains[0]),
                                FreeKs4Scale<1>(group, divisor, 1, &gains[1]),
                                FreeKs4Scale<0>(group, divisor, -1, &gains[2]),
                                FreeKs4Scale<1>(group, divisor, -1, &gains[3])};
    Floats best = free[0], gain = gains[0];
    for (int k = 0; k < kFree; ++k) {
      Store(free[k], free_scales + (index * kFree + k) * kLanes);
      best = Select(gains[k] > gain, free[k], best);
      gain = Select(gains[k] > gain, gains[k], gain);
    }
    const float here = ReduceMax(Max(best, -best));
    if (here > largest_scale) largest_scale = here;
  }

  // Scales of blocks and d in turns: the best multiples of d, then the d that
  // fits best to these codes.
  float d = largest_scale / 127;
  for (int turn = 0; turn < 2; ++turn) {
    for (int64_t index = 0; index < groups; ++index) {
      const Ks4Group group = group_of(index);
      const auto free = [&](int k) {
        return Load(free_scales + (index * kFree + k) * kLanes);
      };
      Ks4Best best;
      Floats gain = Set(-1e30f);
      TryKs4Scales<0>(group, free(0), d, &gain, &best);
      TryKs4Scales<1>(group, free(1), d, &gain, &best);
      TryKs4Scales<0>(group, free(2), d, &gain, &best);
      TryKs4Scales<1>(group, free(3), d, &gain, &best);
      // The lowest bit says which table.
      Store(best.scale + 127.0f + best.table, chosen + index * kLanes);
      Store(best.scale * best.fit.xq, chosen + lanes + index * kLanes);
      Store(best.scale * best.scale * best.fit.qq,
            chosen + 2 * lanes + index * kLanes);
    }
    double xq = 0, qq = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      scales[block] = static_cast<uint8_t>(chosen[block]);
      xq += double{chosen[lanes + block]};
      qq += double{chosen[2 * lanes + block]};
    }
    d = static_cast<float>(xq / qq);
  }

  for (int64_t index = 0; index < groups; ++index) {
    const Ks4Group group = group_of(index);
    Floats inverse = {};
    Ints is_second = {};
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t block = index * kLanes + lane;
      if (block >= blocks) break;
      inverse[lane] = 1 / (static_cast<float>((scales[block] & 254) - 127) * d);
      is_second[lane] = -(scales[block] & 1);
    }
    for (int i = 0; i < kKs4Block; ++i) {
      const Floats y = group.at(i) * inverse;
      Ints code = {};
      for (int k = 0; k < kKs4Levels - 1; ++k) {
        code -= y > Select(is_second, Set(Ks4Threshold(1, k)),
                           Set(Ks4Threshold(0, k)));
      }
      for (int lane = 0; lane < kLanes; ++lane) {
        const int64_t col = (index * kLanes + lane) * kKs4Block + i;
        if (col < cols) codes[col] = static_cast<uint8_t>(code[lane]);
      }
    }
  }
  return d / normalizer;
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_KS4_SEARCH_IMPL_H_
