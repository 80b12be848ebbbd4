// What tests of kernels share: every instruction set of this CPU, weights
// packed by any method, and equality to the last bit.
#ifndef OUNCE_TESTS_QUANT_EVERY_ISA_H_
#define OUNCE_TESTS_QUANT_EVERY_ISA_H_

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "gtest/gtest.h"
#include "quant/registry.h"

namespace ounce::quant {

inline std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) {
    isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

// Behind the spec may stand " activations=8".
inline PackedWeight Pack(const FloatRows& rows, std::string_view text) {
  const size_t space = text.find(' ');
  const std::string_view spec = text.substr(0, space);
  const auto parsed = ParseMethodSpec(spec);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  auto packed = parsed->method->Quantize(rows, parsed->params);
  EXPECT_TRUE(packed.ok()) << packed.status();
  if (space != std::string_view::npos) {
    EXPECT_EQ(text.substr(space), " activations=8");
    EXPECT_NE(packed->layout().form, TileForm::kFloat) << text;
    packed->set_input_rounding({.bits = 8});
  }
  return *std::move(packed);
}

inline void ExpectSameBits(const std::vector<float>& wanted,
                           const std::vector<float>& found,
                           const std::string& what) {
  ASSERT_EQ(wanted.size(), found.size()) << what;
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(wanted[i]),
              std::bit_cast<uint32_t>(found[i]))
        << what << ", output " << i << ": " << wanted[i] << " wanted, "
        << found[i] << " found";
  }
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_EVERY_ISA_H_
