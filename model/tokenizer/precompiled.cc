// The normalizer Precompiled: SentencePiece's map of characters ("nmt_nfkc"),
// as the reference applies it, which is not as SentencePiece does.
//
// The map is, in base64: the bytes of a trie (32 bits, little endian), the
// trie, and the texts that its values point into, each ended by a zero byte.
// The trie is a double array (darts-clone): a unit of 32 bits has a label (its
// low byte, and bit 31 for a value), whether a value follows (bit 8), and the
// distance to its children (from bit 10 on, times 256 if bit 9 is set).
//
// Sources: Hugging Face tokenizers 0.22.2, normalizers/precompiled.rs; the
// crate spm_precompiled 0.1.
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/heap_bytes.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;

class Precompiled final : public Normalizer {
 public:
  static absl::StatusOr<std::unique_ptr<const Normalizer>> Create(
      const std::string& map) {
    const auto wrong = [](std::string_view what) {
      return absl::InvalidArgumentError(
          StrCat("'precompiled_charsmap' ", what));
    };
    if (map.size() < sizeof(uint32_t)) return wrong("is too short");
    const uint32_t trie_bytes = Word(map, 0);
    if (trie_bytes > map.size() - sizeof(uint32_t)) {
      return wrong("ends within its trie");
    }
    std::unique_ptr<Precompiled> made(new Precompiled);
    made->units_.resize(trie_bytes / sizeof(uint32_t));
    if (made->units_.empty()) return wrong("has no trie");
    for (size_t i = 0; i < made->units_.size(); ++i) {
      made->units_[i] = Word(map, (i + 1) * sizeof(uint32_t));
    }
    made->texts_ = map.substr((made->units_.size() + 1) * sizeof(uint32_t));
    if (ValidUtf8Prefix(made->texts_) != made->texts_.size()) {
      return wrong("has texts that are not UTF-8");
    }
    for (int c = 0; c < 0x80; ++c) {
      const char text = static_cast<char>(c);
      made->ascii_changes_[c] = made->Replacement({&text, 1}).has_value();
    }
    return made;
  }

  absl::Status Normalize(NormalizedText& text) const override {
    const std::string_view whole = text.text;
    std::string changed;
    changed.reserve(whole.size());
    // A map may make much of each character; what is too long is refused
    // whole, by whoever runs the steps.
    const auto is_too_long = [&] { return changed.size() > text.max_bytes; };
    for (size_t at = 0; at < whole.size() && !is_too_long();) {
      // Most characters of ASCII stay, and are clusters of their own.
      if (IsAscii(whole[at]) && !ascii_changes_[whole[at]] &&
          (at + 1 == whole.size() || IsAscii(whole[at + 1]))) {
        changed.push_back(whole[at++]);
        continue;
      }
      const std::string_view cluster =
          whole.substr(at, GraphemeBytes(whole.substr(at)));
      at += cluster.size();
      // A short cluster goes for what it begins with, marks and all.
      constexpr size_t kShort = 6;
      if (cluster.size() < kShort) {
        if (const auto replaced = Replacement(cluster)) {
          changed += *replaced;
          continue;
        }
      }
      for (size_t i = 0; i < cluster.size() && !is_too_long();) {
        const std::string_view c =
            cluster.substr(i, FirstUtf8Sequence(cluster.substr(i)).length);
        changed += Replacement(c).value_or(c);
        i += c.size();
      }
    }
    text.text = std::move(changed);
    return absl::OkStatus();
  }

  int64_t resident_bytes() const override {
    return HeapBytes(units_) + HeapBytes(texts_);
  }

 private:
  static bool IsAscii(char c) { return static_cast<uint8_t>(c) < 0x80; }

  static uint32_t Word(const std::string& bytes, size_t at) {
    uint32_t word = 0;
    for (int i = 3; i >= 0; --i) {
      word = word << 8 | static_cast<uint8_t>(bytes[at + i]);
    }
    return word;
  }

  static size_t Offset(uint32_t unit) {
    return size_t{unit >> 10} << ((unit & (1u << 9)) >> 6);
  }

  // What stands for the shortest beginning of `key` that is in the map; nothing
  // if none is, or if the map points outside of itself.
  std::optional<std::string_view> Replacement(std::string_view key) const {
    size_t node = Offset(units_[0]);
    for (const char c : key) {
      const uint8_t byte = static_cast<uint8_t>(c);
      if (byte == 0) return std::nullopt;
      node ^= byte;
      if (node >= units_.size()) return std::nullopt;
      const uint32_t unit = units_[node];
      if ((unit & (1u << 31 | 0xff)) != byte) return std::nullopt;
      node ^= Offset(unit);
      if ((unit >> 8 & 1) == 0) continue;
      if (node >= units_.size()) return std::nullopt;
      const uint32_t begin = units_[node] & 0x7fffffff;
      if (begin >= texts_.size() ||
          (static_cast<uint8_t>(texts_[begin]) & 0xc0) == 0x80) {
        return std::nullopt;
      }
      const std::string_view rest = std::string_view(texts_).substr(begin);
      return rest.substr(0, rest.find('\0'));
    }
    return std::nullopt;
  }

  std::vector<uint32_t> units_;
  std::string texts_;
  std::array<bool, 0x80> ascii_changes_ = {};
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Normalizer>> MakePrecompiled(
    const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "precompiled_charsmap"}));
  ASSIGN_OR_RETURN(const std::string base64,
                   JsonString(step, "precompiled_charsmap"));
  std::string map;
  if (!absl::Base64Unescape(base64, &map)) {
    return absl::InvalidArgumentError("'precompiled_charsmap' is not base64");
  }
  return Precompiled::Create(map);
}

}  // namespace ounce::model
