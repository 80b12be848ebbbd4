// Checkpoints with a number in them that is too large for something.
#ifndef OUNCE_TESTS_TESTING_PATCHED_WEIGHT_H_
#define OUNCE_TESTS_TESTING_PATCHED_WEIGHT_H_

#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"

namespace ounce::testing {

// The first element of a bfloat16 tensor in the file of safetensors becomes
// `value`, rounded towards zero.
inline void PatchFirstWeight(const std::string& file, const std::string& tensor,
                             float value) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), sizeof(length));
  std::string header(length, '\0');
  stream.read(header.data(), static_cast<std::streamsize>(length));
  const auto found = nlohmann::json::parse(header).at(tensor);
  OUNCE_CHECK(found.at("dtype") == "BF16", "a tensor of bfloat16");
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  const auto upper = static_cast<uint16_t>(bits >> 16);
  const uint64_t begin = found.at("data_offsets").at(0);
  stream.seekp(static_cast<std::streamoff>(sizeof(length) + length + begin));
  stream.write(reinterpret_cast<const char*>(&upper), sizeof(upper));
  OUNCE_CHECK(stream.good(), "a weight was patched");
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_PATCHED_WEIGHT_H_
