// Any bytes as the map of characters of a Precompiled normalizer, and any text.
//
// The input is a byte that is the text's length, the text, the map.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "base/check.h"
#include "base/str_cat.h"
#include "base/utf8.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1,
                               size - 1);
  const size_t length = std::min<size_t>(data[0], input.size());
  ounce::model::LossyUtf8 mended;
  ounce::model::NormalizedText text;
  mended.Push(input.substr(0, length), text.text);
  mended.Finish(text.text);
  const nlohmann::json step = {
      {"type", "Precompiled"},
      {"precompiled_charsmap",
       absl::Base64Escape(ounce::ToAbsl(input.substr(length)))}};
  const auto normalizers = ounce::model::MakeNormalizers(&step);
  if (!normalizers.ok()) return 0;
  // A map may make much of little; what it points to is always text.
  (void)ounce::model::Normalize(*normalizers, text);
  OUNCE_CHECK(ounce::ValidUtf8Prefix(text.text) == text.text.size(),
              "a normalized text is not UTF-8");
  return 0;
}
