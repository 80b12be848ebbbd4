#include "model/decoder/sizes.h"

#include <cmath>

#include "base/str_cat.h"
#include "model/config_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

// A key of a class that may know it by its usual name too.
int64_t ReadNamed(ConfigReader& reader, std::string_view key,
                  std::string_view usual, int64_t max, int64_t absent) {
  return key == usual ? reader.Int(key, 1, max, absent)
                      : reader.Int(key, usual, 1, max, absent);
}

// The one of two names that the config has, `key` where both or none.
std::string_view NameIn(const ConfigReader& reader, std::string_view key,
                        std::string_view usual) {
  return reader.json().contains(usual) && !reader.json().contains(key) ? usual
                                                                       : key;
}

void ReadHeads(ConfigReader& reader, const SizeKeys& keys,
               DecoderSizes& sizes) {
  constexpr SizeKeys kUsual;
  sizes.heads =
      ReadNamed(reader, keys.heads, kUsual.heads, kMaxWidth, sizes.heads);
  const int64_t kv_default = sizes.kv_heads;
  if (kv_default == 0) sizes.kv_heads = sizes.heads;
  if (!keys.kv_heads.empty()) {
    const bool absent = !reader.json().contains(keys.kv_heads);
    sizes.kv_heads = reader.OptionalInt(keys.kv_heads, 1, kMaxWidth,
                                        absent ? sizes.kv_heads : sizes.heads);
  }
  const std::string_view heads = NameIn(reader, keys.heads, kUsual.heads);
  if (keys.head_dim.empty()) {
    reader.CheckMultiple(NameIn(reader, keys.width, kUsual.width), sizes.width,
                         heads, sizes.heads);
    sizes.head_dim = sizes.width / sizes.heads;
  } else if (sizes.head_dim == 0) {
    sizes.head_dim = reader.OptionalInt(keys.head_dim, 1, kMaxWidth,
                                        sizes.width / sizes.heads);
  } else {
    sizes.head_dim = reader.Int(keys.head_dim, 1, kMaxWidth, sizes.head_dim);
  }
  reader.CheckMultiple(heads, sizes.heads, keys.kv_heads, sizes.kv_heads);
  if (sizes.head_dim < 1 || sizes.heads * sizes.head_dim > kMaxInner) {
    reader.Fail(
        WrongField(heads,
                   StrCat("of heads that have 1 element or more, and at most ",
                          kMaxInner, " together"),
                   StrCat(sizes.heads, ", each of ", sizes.head_dim)));
  }
}

}  // namespace

DecoderSizes ReadSizes(ConfigReader& reader, DecoderSizes sizes,
                       const SizeKeys& keys) {
  constexpr SizeKeys kUsual;
  sizes.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, sizes.vocab_size);
  sizes.positions = ReadNamed(reader, keys.positions, kUsual.positions,
                              kMaxPositions, sizes.positions);
  sizes.width =
      ReadNamed(reader, keys.width, kUsual.width, kMaxWidth, sizes.width);
  sizes.layers =
      ReadNamed(reader, keys.layers, kUsual.layers, kMaxLayers, sizes.layers);
  ReadHeads(reader, keys, sizes);
  if (keys.inner.empty()) {
    sizes.inner = 4 * sizes.width;
  } else if (sizes.inner == 0) {
    sizes.inner = reader.OptionalInt(keys.inner, 1, kMaxInner, 4 * sizes.width);
  } else {
    sizes.inner = reader.Int(keys.inner, 1, kMaxInner, sizes.inner);
  }
  if (!keys.epsilon.empty()) {
    // Less would make infinite what is all the same.
    sizes.epsilon = reader.Number(keys.epsilon, 1e-12, 1, sizes.epsilon);
  }
  sizes.mlp_activation = reader.Activation(keys.activation, sizes.activation);
  sizes.tied = reader.Bool("tie_word_embeddings", sizes.tied);
  sizes.norm_epsilon = static_cast<float>(sizes.epsilon);
  sizes.score_divisor = std::sqrt(static_cast<float>(sizes.head_dim));
  return sizes;
}

}  // namespace ounce::model
