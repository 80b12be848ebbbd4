// Writes GGUF files for tests: valid ones, and any that are not.
#ifndef OUNCE_TESTS_TESTING_GGUF_BUILDER_H_
#define OUNCE_TESTS_TESTING_GGUF_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace ounce::testing {

template <class Number>
std::string Bytes(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}

inline std::string GgufString(std::string_view text) {
  return Bytes<uint64_t>(text.size()) + std::string(text);
}

class GgufBuilder {
 public:
  uint32_t version = 3;
  // In place of what was added.
  uint64_t more_keys = 0;
  uint64_t more_tensors = 0;

  // A key of a type's number, and its bytes.
  GgufBuilder& Key(std::string_view key, uint32_t type,
                   std::string_view bytes) {
    keys_ += GgufString(key) + Bytes(type) + std::string(bytes);
    ++num_keys_;
    return *this;
  }
  GgufBuilder& Text(std::string_view key, std::string_view text) {
    return Key(key, 8, GgufString(text));
  }
  GgufBuilder& Number(std::string_view key, uint32_t number) {
    return Key(key, 4, Bytes(number));
  }
  GgufBuilder& Float(std::string_view key, float number) {
    return Key(key, 6, Bytes(number));
  }
  // Data of a tensor goes behind that of the one before, at a multiple of 32.
  GgufBuilder& Tensor(std::string_view name, const std::vector<int64_t>& shape,
                      uint32_t type, std::string_view data) {
    TensorAt(name, shape, type, data_.size());
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    return *this;
  }
  GgufBuilder& TensorAt(std::string_view name,
                        const std::vector<int64_t>& shape, uint32_t type,
                        uint64_t offset) {
    tensors_ += GgufString(name) + Bytes(static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i > 0; --i) tensors_ += Bytes(shape[i - 1]);
    tensors_ += Bytes(type) + Bytes(offset);
    ++num_tensors_;
    return *this;
  }

  std::string Build() const {
    std::string file = "GGUF" + Bytes(version) +
                       Bytes(num_tensors_ + more_tensors) +
                       Bytes(num_keys_ + more_keys) + keys_ + tensors_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  uint64_t num_keys_ = 0;
  uint64_t num_tensors_ = 0;
  std::string keys_;
  std::string tensors_;
  std::string data_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_GGUF_BUILDER_H_
