#include "model/checkpoint/safetensors.h"

#include <string>
#include <vector>

#include "tests/testing/checkpoint_files.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::MakeTensor;
using ::ounce::testing::SafetensorsFile;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<TensorTable> Parse(const std::string& bytes) {
  return ParseSafetensors(*BytesInMemory("model.safetensors", bytes));
}

TEST(SafetensorsTest, ReadsNamesShapesAndValues) {
  const std::string bytes =
      SafetensorsFile({MakeTensor("b", {2, 3}, {0, 1, 2, 3, 4, 5}),
                       MakeTensor("a", {2}, {-1.5f, 0.25f}, quant::DType::kF16),
                       MakeTensor("scalar", {}, {7}, quant::DType::kBF16),
                       MakeTensor("empty", {0, 4}, {})});
  ASSERT_OK_AND_ASSIGN(const TensorTable table, Parse(bytes));
  ASSERT_EQ(table.size(), 4u);
  EXPECT_THAT(table.at("b").info.shape, ElementsAre(2, 3));
  EXPECT_THAT(table.at("scalar").info.shape, ElementsAre());
  EXPECT_EQ(table.at("scalar").info.elements(), 1);
  EXPECT_EQ(table.at("empty").info.bytes(), 0);

  const auto file = BytesInMemory("model.safetensors", bytes);
  std::vector<float> values(3);
  ASSERT_OK(ReadStoredFloats(*file, "b", table.at("b"), 2, 3, values.data()));
  EXPECT_THAT(values, ElementsAre(2, 3, 4));
  ASSERT_OK(ReadStoredFloats(*file, "a", table.at("a"), 0, 2, values.data()));
  EXPECT_EQ(values[0], -1.5f);
  ASSERT_OK(ReadStoredFloats(*file, "scalar", table.at("scalar"), 0, 1,
                             values.data()));
  EXPECT_EQ(values[0], 7.0f);
}

TEST(SafetensorsTest, TakesAPaddedHeaderAndNoMetadata) {
  ASSERT_OK_AND_ASSIGN(
      const TensorTable table,
      Parse(SafetensorsFile(
          R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}      )",
          "12345678")));
  EXPECT_EQ(table.at("a").info.dtype, quant::DType::kI64);
}

TEST(SafetensorsTest, GivesATiedNameTheStorageOfTheOther) {
  const std::vector<testing::FileTensor> tensors = {
      MakeTensor("lm_head.weight", {2}, {1, 2}), MakeTensor("b", {1}, {3})};
  ASSERT_OK_AND_ASSIGN(
      const TensorTable table,
      Parse(SafetensorsFile(tensors,
                            R"({"format":"b", "wte.weight":"lm_head.weight",
                       "b":"lm_head.weight", "note":"no tensor"})")));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_EQ(table.at("wte.weight").info.storage_id,
            table.at("lm_head.weight").info.storage_id);
  EXPECT_THAT(table.at("b").info.shape, ElementsAre(1));
  EXPECT_NE(table.at("b").info.storage_id,
            table.at("lm_head.weight").info.storage_id);
}

std::string Header(const char* dtype, const char* shape, const char* offsets) {
  return std::string(R"({"w":{"dtype":)") + dtype + R"(,"shape":)" + shape +
         R"(,"data_offsets":)" + offsets + "}}";
}

TEST(SafetensorsTest, RefusesWhatIsMalformed) {
  const std::string data(16, 'x');
  const struct {
    const char* name;
    std::string bytes;
    const char* reason;
  } cases[] = {
      {"empty file", "", "has 0 bytes: the file is too short"},
      {"short length", "1234567", "has 7 bytes: the file is too short"},
      {"header past the end", std::string("\x7f\0\0\0\0\0\0\0{}", 10),
       "has 10 bytes, its header alone 127: the file is too short"},
      {"header of 25 MB and one", std::string("\x41\x78\x7d\x01\0\0\0\0", 8),
       "its header would have 25000001 bytes, more than the format's 25000000"},
      {"header of 2^64 - 1", std::string(8, '\xff') + "{}",
       "header would have 18446744073709551615 bytes"},
      {"no JSON", SafetensorsFile("hello", ""), "header: malformed JSON"},
      {"no object", SafetensorsFile("[]", ""),
       "must be a JSON object, is JSON array"},
      {"tensor twice",
       SafetensorsFile(
           R"({"w":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},
               "w":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}})",
           data),
       "key 'w' comes twice"},
      {"name not UTF-8", SafetensorsFile("{\"w\xff\":3}", ""),
       "malformed JSON at byte 4, near '\\\"w\\xff'"},
      {"tensor no object", SafetensorsFile(R"({"w":3})", ""),
       "tensor 'w': its entry must be an object, is number"},
      {"no dtype", SafetensorsFile(R"({"w":{}})", ""), "tensor 'w': no dtype"},
      {"no shape", SafetensorsFile(R"({"w":{"dtype":"F32"}})", ""),
       "tensor 'w': no array 'shape'"},
      {"no offsets", SafetensorsFile(R"({"w":{"dtype":"F32","shape":[]}})", ""),
       "tensor 'w': no array 'data_offsets'"},
      {"unknown dtype",
       SafetensorsFile(Header(R"("F31")", "[4]", "[0,16]"), data),
       "tensor 'w': dtype 'F31' is unknown"},
      {"dtype a number", SafetensorsFile(Header("32", "[4]", "[0,16]"), data),
       "tensor 'w': no dtype"},
      {"negative extent",
       SafetensorsFile(Header(R"("F32")", "[-4]", "[0,16]"), data),
       "'shape' must hold integers from 0 to 2^63 - 1, holds -4"},
      {"fraction", SafetensorsFile(Header(R"("F32")", "[4.0]", "[0,16]"), data),
       "holds 4.0"},
      {"extent a string",
       SafetensorsFile(Header(R"("F32")", R"(["4"])", "[0,16]"), data),
       "holds string"},
      {"extent of 2^63",
       SafetensorsFile(Header(R"("F32")", "[9223372036854775808]", "[0,16]"),
                       data),
       "holds 9223372036854775808"},
      {"shape overflow",
       SafetensorsFile(Header(R"("F32")", "[4294967296,4294967296]", "[0,16]"),
                       data),
       "shape [4294967296, 4294967296] of float32 overflows"},
      {"dtype overflow",
       SafetensorsFile(Header(R"("F64")", "[2305843009213693952]", "[0,16]"),
                       data),
       "overflows 64 bits"},
      {"overflow hidden by a 0",
       SafetensorsFile(Header(R"("F32")", "[0,4294967296,4294967296]", "[0,0]"),
                       ""),
       "overflows 64 bits"},
      {"one offset", SafetensorsFile(Header(R"("F32")", "[4]", "[0]"), data),
       "data_offsets must be [begin, end], are [0]"},
      {"offsets backwards",
       SafetensorsFile(Header(R"("F32")", "[4]", "[16,0]"), data),
       "are [16, 0]"},
      {"offsets outside the file",
       SafetensorsFile(Header(R"("F32")", "[5]", "[0,20]"), data),
       "data_offsets [0, 20] go beyond the 16 bytes of data: the file is too "
       "short; download it again"},
      {"size mismatch",
       SafetensorsFile(Header(R"("F32")", "[3]", "[0,16]"), data),
       "data_offsets [0, 16] span 16 bytes, shape [3] of float32 has 12"},
      {"data after the last tensor",
       SafetensorsFile(Header(R"("F32")", "[3]", "[0,12]"), data),
       "has 16 bytes of data, its tensors 12"},
      {"data before the first",
       SafetensorsFile(Header(R"("F32")", "[3]", "[4,16]"), data),
       "must begin at byte 0 of the data, begins at 4: there is a hole"},
      {"overlap",
       SafetensorsFile(
           R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
               "b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
           data),
       "tensor 'b': must begin at byte 12 of the data, begins at 8: it "
       "overlaps"},
      {"two tensors, one place",
       SafetensorsFile(
           R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},
               "b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
           data),
       "it overlaps another"},
      {"metadata no object", SafetensorsFile(R"({"__metadata__":1})", ""),
       "__metadata__ must be an object, is number"},
      {"metadata no strings",
       SafetensorsFile(R"({"__metadata__":{"x":1}})", ""),
       "__metadata__: 'x' must be a string, is number"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_THAT(Parse(c.bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("model.safetensors: "),
                                               HasSubstr(c.reason))));
  }
}

TEST(SafetensorsTest, CountsTensorsOfDTypesThatAreNotRead) {
  for (const auto& [dtype, bytes] : {std::pair(quant::DType::kU64, 8),
                                     {quant::DType::kU32, 4},
                                     {quant::DType::kU16, 2},
                                     {quant::DType::kC64, 8},
                                     {quant::DType::kF8E4M3, 1},
                                     {quant::DType::kF8E5M2, 1},
                                     {quant::DType::kF8E8M0, 1}}) {
    SCOPED_TRACE(std::string(quant::Name(dtype)));
    const std::string bytes_in_file =
        SafetensorsFile({{"x", dtype, {3}, std::string(3 * bytes, 'x')},
                         MakeTensor("w", {1}, {7})});
    const auto file = BytesInMemory("model.safetensors", bytes_in_file);
    ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseSafetensors(*file));
    EXPECT_EQ(table.at("x").info.dtype, dtype);
    EXPECT_EQ(table.at("x").info.bytes(), 3 * bytes);
    float value = 0;
    ASSERT_OK(ReadStoredFloats(*file, "w", table.at("w"), 0, 1, &value));
    EXPECT_EQ(value, 7);
    EXPECT_THAT(ReadStoredFloats(*file, "x", table.at("x"), 0, 1, &value),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("dtype must be a float")));
  }
}

TEST(SafetensorsTest, NamesADTypeOfLessThanAByte) {
  EXPECT_THAT(Parse(SafetensorsFile(Header(R"("F4")", "[2]", "[0,1]"), "x")),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("tensor 'w': dtype F4 is not supported")));
}

TEST(SafetensorsTest, RefusesEveryPrefixOfAFile) {
  const std::string whole = SafetensorsFile(
      {MakeTensor("a", {2, 2}, {1, 2, 3, 4}), MakeTensor("b", {1}, {5})});
  ASSERT_OK(Parse(whole));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(Parse(whole.substr(0, n)).ok()) << n << " bytes";
  }
}

}  // namespace
}  // namespace ounce::model
