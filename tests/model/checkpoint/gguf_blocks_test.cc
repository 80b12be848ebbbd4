// That codes go into blocks as they come out of them; that blocks are ggml's is
// in quant/gguf_method_test.
#include "model/checkpoint/gguf_blocks.h"

#include <cmath>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/dtype.h"

namespace ounce::model {

// For the tests' names.
void PrintTo(const GgufBlockType& type, std::ostream* out) {
  *out << type.name;
}

namespace {

std::vector<GgufBlockType> MadeTypes() {
  std::vector<GgufBlockType> types;
  for (uint32_t id = 0; id < 64; ++id) {
    const GgufBlockType* type = FindGgufBlockType(id);
    if (type != nullptr && type->pack != nullptr) types.push_back(*type);
  }
  return types;
}

class GgufBlocksTest : public ::testing::TestWithParam<GgufBlockType> {};

TEST_P(GgufBlocksTest, WhatIsPackedComesOutAgain) {
  const GgufBlockType& type = GetParam();
  const quant::CodeFormat format =
      *type.method().Format(1, type.cols, quant::DType::kF32, {});
  EXPECT_EQ(format.StoredBytes(1, type.cols), type.bytes);
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint8_t> codes(type.cols), codes_again(type.cols);
    for (uint8_t& code : codes) {
      code = static_cast<uint8_t>(random() & ((1u << format.bits) - 1));
    }
    std::vector<std::vector<float>> fields, fields_again;
    std::vector<const float*> from;
    std::vector<float*> to;
    for (const quant::CodeField& field : format.fields) {
      std::vector<float>& values = fields.emplace_back();
      for (int64_t i = 0; i < type.cols / field.reach.cols; ++i) {
        const int span = 1 << (field.is_integer() ? field.bits : 11);
        const int lowest =
            field.type == quant::CodeField::Type::kUnsigned ? 0 : -span / 2;
        const auto value =
            static_cast<int>(random() % static_cast<unsigned>(span)) + lowest;
        values.push_back(static_cast<float>(value) /
                         (field.is_integer() ? 1.0f : 64.0f));
      }
      fields_again.emplace_back(values.size());
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      from.push_back(fields[i].data());
      to.push_back(fields_again[i].data());
    }
    std::vector<uint8_t> block(type.bytes);
    type.pack({codes.data(), from.data()}, block.data());
    type.unpack(block.data(), {codes_again.data(), to.data()});
    ASSERT_EQ(codes_again, codes);
    ASSERT_EQ(fields_again, fields);
  }
}

TEST_P(GgufBlocksTest, ATypeIsFoundByTheFormatOfItsCodes) {
  const GgufBlockType& type = GetParam();
  const GgufBlockType* found = FindGgufBlockTypeOf(
      *type.method().Format(1, type.cols, quant::DType::kF32, {}));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->id, type.id);
}

TEST_P(GgufBlocksTest, AllBitsOfABlockAreCodesOrFields) {
  const GgufBlockType& type = GetParam();
  const quant::CodeFormat format =
      *type.method().Format(1, type.cols, quant::DType::kF32, {});
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint8_t> block(type.bytes), again(type.bytes);
    for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
    std::vector<uint8_t> codes(type.cols);
    std::vector<std::vector<float>> fields;
    std::vector<float*> to;
    for (const quant::CodeField& field : format.fields) {
      fields.emplace_back(type.cols / field.reach.cols);
    }
    bool is_number = true;
    for (std::vector<float>& field : fields) to.push_back(field.data());
    type.unpack(block.data(), {codes.data(), to.data()});
    for (const std::vector<float>& field : fields) {
      is_number = is_number && std::isfinite(field[0]);
    }
    if (!is_number) continue;
    type.pack({codes.data(), to.data()}, again.data());
    ASSERT_EQ(again, block);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufBlocksTest, ::testing::ValuesIn(MadeTypes()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace ounce::model
