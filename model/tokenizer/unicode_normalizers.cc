// Normalizers that look at one character after the other, or at Unicode's
// normal forms.
//
// Source: Hugging Face tokenizers 0.22.2, normalizers/{unicode,strip,bert,
// utils,byte_level}.rs.
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/utf8.h"
#include "model/files/json_fields.h"
#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer/normalizer.h"
#include "model/tokenizer/step_fields.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
using NormalizerOr = absl::StatusOr<std::unique_ptr<const Normalizer>>;

// Replaces each character by what `append(c, text)` appends for it; false says
// that it is left out.
template <typename Append>
void ForEachCharacter(NormalizedText& text, const Append& append) {
  std::string changed;
  changed.reserve(text.text.size());
  const std::string_view whole = text.text;
  bool first = true;
  for (size_t at = 0; at < whole.size();) {
    const Utf8Sequence c = FirstUtf8Sequence(whole.substr(at));
    at += c.length;
    const bool kept = append(c.code_point, changed);
    if (std::exchange(first, false) && !kept) text.at_beginning = false;
  }
  text.text = std::move(changed);
}

// A normalizer that is a function.
template <void (*kFunction)(NormalizedText&)>
class Function final : public Normalizer {
 public:
  absl::Status Normalize(NormalizedText& text) const override {
    kFunction(text);
    return absl::OkStatus();
  }
};

template <void (*kFunction)(NormalizedText&)>
NormalizerOr MakeFunction(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type"}));
  return std::make_unique<const Function<kFunction>>();
}

template <NormalForm kForm>
void ToNormalForm(NormalizedText& text) {
  text.text = Normalized(text.text, kForm);
}

void ToLowerCase(NormalizedText& text) {
  ForEachCharacter(text, [](char32_t c, std::string& out) {
    AppendLowerCase(c, out);
    return true;
  });
}

template <bool (*kGoes)(char32_t)>
void Without(NormalizedText& text) {
  ForEachCharacter(text, [](char32_t c, std::string& out) {
    if (kGoes(c)) return false;
    AppendUtf8(c, out);
    return true;
  });
}

// What SentencePiece's "nmt" rules say of controls and white space.
void ByNmtRules(NormalizedText& text) {
  ForEachCharacter(text, [](char32_t c, std::string& out) {
    if ((c >= 0x01 && c <= 0x08) || c == 0x0b || (c >= 0x0e && c <= 0x1f) ||
        c == 0x7f || c == 0x8f || c == 0x9f) {
      return false;
    }
    const bool space = c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d ||
                       c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xfeff || c == 0xfffd;
    AppendUtf8(space ? ' ' : c, out);
    return true;
  });
}

void ToByteAlphabet(NormalizedText& text) {
  std::string spelled;
  spelled.reserve(2 * text.text.size());
  for (const char c : text.text) spelled += SpelledByte(c);
  text.text = std::move(spelled);
}

// BERT's clean-up: no controls, one kind of space.
void CleanUp(NormalizedText& text) {
  ForEachCharacter(text, [](char32_t c, std::string& out) {
    const bool line_or_tab = c == '\t' || c == '\n' || c == '\r';
    if (c == 0 || c == 0xfffd || (IsControl(c) && !line_or_tab)) return false;
    AppendUtf8(IsWhiteSpace(c) ? U' ' : c, out);
    return true;
  });
}

bool IsCjkIdeograph(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

void SetIdeographsApart(NormalizedText& text) {
  ForEachCharacter(text, [](char32_t c, std::string& out) {
    const bool apart = IsCjkIdeograph(c);
    if (apart) out.push_back(' ');
    AppendUtf8(c, out);
    if (apart) out.push_back(' ');
    return true;
  });
}

class BertNormalizer final : public Normalizer {
 public:
  struct Options {
    bool clean_text = true;
    bool handle_chinese_chars = true;
    bool strip_accents = true;
    bool lowercase = true;
  };
  explicit BertNormalizer(const Options& options) : options_(options) {}

  absl::Status Normalize(NormalizedText& text) const override {
    if (options_.clean_text) CleanUp(text);
    if (options_.handle_chinese_chars) SetIdeographsApart(text);
    if (options_.strip_accents) {
      ToNormalForm<NormalForm::kNfd>(text);
      Without<&IsNonspacingMark>(text);
    }
    if (options_.lowercase) ToLowerCase(text);
    return absl::OkStatus();
  }

 private:
  const Options options_;
};

}  // namespace

NormalizerOr MakeNfc(const json& step) {
  return MakeFunction<&ToNormalForm<NormalForm::kNfc>>(step);
}
NormalizerOr MakeNfd(const json& step) {
  return MakeFunction<&ToNormalForm<NormalForm::kNfd>>(step);
}
NormalizerOr MakeNfkc(const json& step) {
  return MakeFunction<&ToNormalForm<NormalForm::kNfkc>>(step);
}
NormalizerOr MakeNfkd(const json& step) {
  return MakeFunction<&ToNormalForm<NormalForm::kNfkd>>(step);
}
NormalizerOr MakeLowercase(const json& step) {
  return MakeFunction<&ToLowerCase>(step);
}
NormalizerOr MakeStripAccents(const json& step) {
  return MakeFunction<&Without<&IsMark>>(step);
}
NormalizerOr MakeNmt(const json& step) {
  return MakeFunction<&ByNmtRules>(step);
}
NormalizerOr MakeByteLevelNormalizer(const json& step) {
  return MakeFunction<&ToByteAlphabet>(step);
}

NormalizerOr MakeBertNormalizer(const json& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "clean_text", "handle_chinese_chars",
                                   "strip_accents", "lowercase"}));
  BertNormalizer::Options options;
  ASSIGN_OR_RETURN(options.clean_text, JsonBool(step, "clean_text"));
  ASSIGN_OR_RETURN(options.handle_chinese_chars,
                   JsonBool(step, "handle_chinese_chars"));
  ASSIGN_OR_RETURN(options.lowercase, JsonBool(step, "lowercase"));
  ASSIGN_OR_RETURN(options.strip_accents,
                   OptionalJsonBool(step, "strip_accents", options.lowercase));
  return std::make_unique<const BertNormalizer>(options);
}

}  // namespace ounce::model
