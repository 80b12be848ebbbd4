// Any bytes as a tokenizer.model, and any bytes as text for what it describes.
//
// The input is a byte that chooses the class and its settings, a byte for the
// text's length, the text, the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/tokenizer_json.h"

namespace {

constexpr const char* kConfigs[] = {
    R"({"tokenizer_class": "LlamaTokenizer"})",
    R"({"tokenizer_class": "LlamaTokenizer", "legacy": false,
        "add_eos_token": true})",
    R"({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false,
        "added_tokens_decoder": {"1": {"content": "<x>"}}})",
    R"({"tokenizer_class": "GemmaTokenizer", "pad_token": "<x>"})"};

void Exercise(const ounce::model::Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text);
  const bool valid = ounce::model::ValidUtf8Prefix(text) == text.size();
  OUNCE_CHECK(!ids.ok() || valid, "Encode takes what is no UTF-8");
  if (!ids.ok()) return;
  ounce::model::StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (const int32_t id : *ids) {
    OUNCE_CHECK(id >= 0 && id < tokenizer.size(),
                "an id is outside the vocabulary");
    streamed += decoder.Push(id);
  }
  streamed += decoder.Finish();
  OUNCE_CHECK(ounce::model::ValidUtf8Prefix(streamed) == streamed.size(),
              "a stream is not UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data + 2),
                              size - 2);
  const std::string_view text =
      rest.substr(0, std::min<size_t>(data[1], rest.size()));
  ounce::model::SentencePieceFiles files;
  files.tokenizer_model = rest.substr(text.size());
  files.companions.tokenizer_config_json = kConfigs[data[0] % 4];
  const auto tokenizer = ounce::model::ParseSentencePieceFiles(files);
  if (tokenizer.ok()) Exercise(**tokenizer, text);
  return 0;
}
