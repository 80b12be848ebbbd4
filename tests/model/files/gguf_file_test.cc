#include "model/files/gguf_file.h"

#include <limits>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/testing/gguf_builder.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::Bytes;
using ::ounce::testing::GgufBuilder;
using ::ounce::testing::GgufString;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<GgufFile> Read(const std::string& bytes, bool arrays = true) {
  const auto file = BytesInMemory("m.gguf", bytes);
  return ReadGguf(*file, [=](std::string_view) { return arrays; });
}

std::string Array(uint32_t type, uint64_t count, const std::string& bytes) {
  return Bytes(type) + Bytes(count) + bytes;
}

TEST(GgufFileTest, ReadsEveryTypeOfValue) {
  GgufBuilder builder;
  builder.Key("u8", 0, Bytes<uint8_t>(200))
      .Key("i8", 1, Bytes<int8_t>(-3))
      .Key("u16", 2, Bytes<uint16_t>(60000))
      .Key("i16", 3, Bytes<int16_t>(-300))
      .Key("u32", 4, Bytes<uint32_t>(4'000'000'000))
      .Key("i32", 5, Bytes<int32_t>(-70000))
      .Key("f32", 6, Bytes(0.5f))
      .Key("bool", 7, Bytes<uint8_t>(1))
      .Text("text", "héllo")
      .Key("array", 9, Array(8, 2, GgufString("a") + GgufString("")))
      .Key("u64", 10, Bytes(uint64_t{1} << 63))
      .Key("i64", 11, Bytes(int64_t{-1} << 40))
      .Key("f64", 12, Bytes(0.1))
      .Tensor("w", {2, 3}, 0, std::string(24, '\1'))
      .Tensor("v", {4}, 1, std::string(8, '\2'));
  ASSERT_OK_AND_ASSIGN(const GgufFile gguf, Read(builder.Build()));
  const nlohmann::json wanted = {{"u8", 200u},
                                 {"i8", -3},
                                 {"u16", 60000u},
                                 {"i16", -300},
                                 {"u32", 4'000'000'000u},
                                 {"i32", -70000},
                                 {"f32", 0.5},
                                 {"bool", true},
                                 {"text", "héllo"},
                                 {"array", {"a", ""}},
                                 {"u64", uint64_t{1} << 63},
                                 {"i64", int64_t{-1} << 40},
                                 {"f64", 0.1}};
  EXPECT_EQ(gguf.metadata, wanted);
  EXPECT_EQ(gguf.tensors.at("w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(gguf.tensors.at("w").offset, gguf.data_start);
  EXPECT_EQ(gguf.tensors.at("v").offset, gguf.data_start + 32);
  EXPECT_EQ(gguf.tensors.at("v").type, 1u);
  EXPECT_EQ(gguf.data_start % 32, 0);
}

TEST(GgufFileTest, LeavesArraysThatAreNotWantedEmpty) {
  GgufBuilder builder;
  builder.Key("texts", 9, Array(8, 2, GgufString("a") + GgufString("bc")))
      .Key("numbers", 9, Array(4, 3, std::string(12, '\0')))
      .Number("last", 7);
  ASSERT_OK_AND_ASSIGN(const GgufFile gguf, Read(builder.Build(), false));
  EXPECT_EQ(gguf.metadata["texts"], nlohmann::json::array());
  EXPECT_EQ(gguf.metadata["numbers"], nlohmann::json::array());
  EXPECT_EQ(gguf.metadata["last"], 7);
}

TEST(GgufFileTest, RefusesWhatIsMalformedWithItsPlace) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnread = absl::StatusCode::kUnimplemented;
  const auto key = [](uint32_t type, const std::string& bytes) {
    return GgufBuilder().Key("k", type, bytes).Build();
  };
  const auto with = [](auto change) {
    GgufBuilder builder;
    change(builder);
    return builder.Build();
  };
  const uint64_t huge = uint64_t{1} << 63;
  const struct {
    std::string bytes;
    absl::StatusCode code;
    const char* message;
  } faults[] = {
      {"", kInvalid, "the file ends where 4 more bytes must be"},
      {"GGML" + std::string(60, '\0'), kInvalid, "this is no GGUF file"},
      {with([](auto& b) { b.version = 1; }), kUnread, "version 1 is not read"},
      {with([](auto& b) { b.version = 0x03000000; }), kUnread, "big-endian"},
      {with([](auto& b) { b.more_keys = 1 << 20; }), kInvalid,
       "1048576 keys and 0 tensors; at most 65536"},
      {with([](auto& b) { b.more_keys = 2; }), kInvalid, "the file ends"},
      {with([](auto& b) { b.more_tensors = 9; }), kInvalid, "the file ends"},
      {key(13, ""), kInvalid, "key 'k': m.gguf: byte"},
      {key(8, Bytes(huge) + "x"), kInvalid,
       "a string of 9223372036854775808 bytes"},
      {key(8, GgufString("\xff")), kInvalid, "not UTF-8"},
      {key(7, Bytes<uint8_t>(2)), kInvalid, "truth value"},
      {key(6, Bytes(std::numeric_limits<float>::infinity())), kInvalid,
       "must be finite"},
      {key(9, Array(9, 1, "")), kInvalid, "an array in an array"},
      {key(9, Array(0, huge, "")), kInvalid, "elements; all together"},
      {with([](auto& b) { b.Number("k", 1).Number("k", 2); }), kInvalid,
       "the key 'k' comes twice"},
      {with([](auto& b) {
         b.TensorAt("t", {1}, 0, 0).TensorAt("t", {1}, 0, 0);
       }),
       kInvalid, "the tensor 't' comes twice"},
      {with([](auto& b) {
         b.TensorAt("t", {1, 1, 1, 1, 1}, 0, 0);
       }),
       kInvalid, "a tensor of 5 axes"},
      {with([](auto& b) {
         b.TensorAt("t", {1, 0}, 0, 0);
       }),
       kInvalid, "a tensor with an extent of 0"},
      {with([](auto& b) {
         b.TensorAt("t", {int64_t{1} << 40, int64_t{1} << 40}, 0, 0);
       }),
       kInvalid, "a tensor with an extent of"},
      {with([&](auto& b) { b.TensorAt("t", {1}, 0, huge); }), kInvalid,
       "a tensor at byte"},
      {with([](auto& b) { b.TensorAt("t", {1}, 0, 31); }), kInvalid,
       "begins at byte 31 of the data, not at a multiple of 32"},
      {with([](auto& b) { b.Number("general.alignment", 3); }), kInvalid,
       "'general.alignment' must be a power of two"},
  };
  for (const auto& fault : faults) {
    EXPECT_THAT(Read(fault.bytes),
                StatusIs(fault.code,
                         AllOf(HasSubstr("m.gguf"), HasSubstr(fault.message))));
  }
}

TEST(GgufFileTest, BoundsArraysThatArePassedOver) {
  const uint64_t huge = uint64_t{1} << 63;
  for (const std::string& array :
       {Array(0, huge, ""), Array(12, huge, ""), Array(8, huge, "")}) {
    EXPECT_THAT(Read(GgufBuilder().Key("k", 9, array).Build(), false),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'k'")));
  }
}

}  // namespace
}  // namespace ounce::model
