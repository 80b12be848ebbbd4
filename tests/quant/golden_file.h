// Arrays as the scripts that make goldens write them: nothing but the elements,
// little-endian.
#ifndef OUNCE_TESTS_QUANT_GOLDEN_FILE_H_
#define OUNCE_TESTS_QUANT_GOLDEN_FILE_H_

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/dtype.h"

namespace ounce::quant {

// `name` is below tests/golden.
template <class Element>
std::vector<Element> ReadGolden(const std::string& name) {
  std::ifstream file("tests/golden/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  std::vector<Element> elements(bytes.size() / sizeof(Element));
  std::memcpy(elements.data(), bytes.data(), elements.size() * sizeof(Element));
  return elements;
}

inline std::vector<float> ReadGoldenBFloat16(const std::string& name) {
  std::vector<float> values;
  for (const uint16_t element : ReadGolden<uint16_t>(name)) {
    values.push_back(BFloat16ToFloat(element));
  }
  return values;
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_GOLDEN_FILE_H_
