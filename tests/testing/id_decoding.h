// How a fake tokenizer decodes: each id has a text of its own.
#ifndef OUNCE_TESTS_TESTING_ID_DECODING_H_
#define OUNCE_TESTS_TESTING_ID_DECODING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "model/tokenizer/tokenizer.h"

namespace ounce::testing {

class IdDecoding final : public model::Tokenizer::Decoding {
 public:
  explicit IdDecoding(std::function<std::string(int32_t)> text_of)
      : text_of_(std::move(text_of)) {}

  void Push(int32_t id, std::string& text) override { text += text_of_(id); }
  void Finish(std::string&) override {}

 private:
  const std::function<std::string(int32_t)> text_of_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_ID_DECODING_H_
