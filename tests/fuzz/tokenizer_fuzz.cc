// Any bytes as a tokenizer's files, and any bytes as text for what they
// describe and for a small tokenizer that is valid, so that encoding is reached
// without guessing a whole file.
//
// The input is the file, a zero byte, the text.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"
#include "tests/model/tokenizer/byte_level_bpe.h"

namespace {

using ::ounce::model::ByteLevelParts;
using ::ounce::model::Tokenizer;

// Every byte, a few merges, and added tokens with all flags.
ByteLevelParts SmallParts() {
  ByteLevelParts parts;
  int32_t id = 0;
  // In the byte alphabet: printable Latin-1 for itself, U+0100 on for the rest.
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself = (byte > 0x20 && byte < 0x7f) ||
                        (byte > 0xa0 && byte < 0xad) || byte > 0xad;
    const int c = itself ? byte : next++;
    std::string token;
    if (c < 0x80) {
      token.push_back(static_cast<char>(c));
    } else {
      token.push_back(static_cast<char>(0xc0 | c >> 6));
      token.push_back(static_cast<char>(0x80 | (c & 0x3f)));
    }
    parts.vocabulary.emplace_back(token, id++);
  }
  for (const auto& [left, right] :
       {std::pair("a", "a"), std::pair("aa", "a"), std::pair("a", "aa"),
        std::pair("aa", "aa"), std::pair("\u0120", "a"), std::pair("b", "a")}) {
    parts.merges.emplace_back(left, right);
    const std::string merged = std::string(left) + right;
    bool known = false;
    for (const auto& entry : parts.vocabulary) known |= entry.first == merged;
    if (!known) parts.vocabulary.emplace_back(merged, id++);
  }
  parts.added_tokens = {
      {.content = "  ", .normalized = true},
      {.content = "<l>", .lstrip = true},
      {.content = "<r>", .special = true, .rstrip = true},
      {.content = " ", .normalized = true, .lstrip = true, .rstrip = true},
      {.content = "word", .single_word = true}};
  return parts;
}

void Exercise(const Tokenizer& bpe, std::string_view text) {
  const auto ids = bpe.Encode(text);
  const bool valid = ounce::model::ValidUtf8Prefix(text) == text.size();
  // A pattern or a replacement may ask for too much.
  OUNCE_CHECK(ids.ok() == valid || absl::IsResourceExhausted(ids.status()),
              "Encode takes all UTF-8 and nothing else");
  if (!ids.ok()) return;
  ounce::model::StreamDecoder decoder(bpe);
  std::string streamed;
  for (const int32_t id : *ids) {
    OUNCE_CHECK(id >= 0 && id < bpe.size(), "an id is outside the vocabulary");
    streamed += decoder.Push(id);
  }
  streamed += decoder.Finish();
  OUNCE_CHECK(ounce::model::ValidUtf8Prefix(streamed) == streamed.size(),
              "a stream is not UTF-8");
  ounce::model::LossyUtf8 mended;
  std::string decoded;
  mended.Push(bpe.Decode(*ids), decoded);
  mended.Finish(decoded);
  OUNCE_CHECK(streamed == decoded, "a stream is not the decoding of all");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view file = input.substr(0, zero);
  const std::string_view text =
      zero == input.npos ? std::string_view() : input.substr(zero + 1);

  static const auto& small =
      *new auto(ounce::model::MakeByteLevelBpe(SmallParts()));
  OUNCE_CHECK(small.ok(), "the small tokenizer is valid");
  Exercise(**small, text);

  const auto bpe = ounce::model::ParseTokenizerJson("tokenizer.json", file);
  if (bpe.ok()) Exercise(**bpe, text);
  const auto merged = ounce::model::ParseTokenizerJson(
      "tokenizer.json", file, {.tokenizer_config_json = std::string(file)});
  if (merged.ok()) Exercise(**merged, text);

  ounce::model::VocabularyFiles files;
  files.vocab_json = file;
  files.merges_txt = text;
  files.companions.tokenizer_config_json = file;
  const auto older = ounce::model::ParseVocabularyFiles(files);
  if (older.ok()) Exercise(**older, text);
  return 0;
}
