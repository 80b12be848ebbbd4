#include "model/checkpoint/torch_zip.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "model/checkpoint/zip_archive.h"
#include "tests/testing/checkpoint_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::MakeTensor;
using ::ounce::testing::PickleWriter;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::ounce::testing::TorchZipFile;
using ::ounce::testing::ZipWriter;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<TensorTable> Parse(const std::string& bytes) {
  return ParseTorchZip(*BytesInMemory("pytorch_model.bin", bytes));
}

// A dict of one tensor 'w' over a float storage of 6 elements, 24 bytes.
std::string OneTensor(int32_t offset, const std::vector<int32_t>& shape,
                      const std::vector<int32_t>& strides,
                      int32_t storage_elements = 6) {
  PickleWriter pickle;
  pickle.Raw("}").Text("w");
  pickle.Tensor("FloatStorage", "0", storage_elements, offset, shape, strides);
  return TorchZipFile(pickle.Raw("s").Finish(),
                      {MakeTensor("w", {6}, {0, 1, 2, 3, 4, 5}).bytes});
}

std::string EmptyDict() { return PickleWriter().Raw("}").Finish(); }

TEST(TorchZipTest, ReadsTensorsOfEachFloatType) {
  const std::string bytes =
      TorchZipFile({MakeTensor("a", {2, 2}, {1, 2, 3, 4}),
                    MakeTensor("h", {2}, {-0.5f, 8}, quant::DType::kF16),
                    MakeTensor("b", {1, 1}, {2.5f}, quant::DType::kBF16)});
  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseTorchZip(*file));
  ASSERT_EQ(table.size(), 3u);
  std::vector<float> values(4);
  ASSERT_OK(ReadStoredFloats(*file, "a", table.at("a"), 0, 4, values.data()));
  EXPECT_THAT(values, ElementsAre(1, 2, 3, 4));
  ASSERT_OK(ReadStoredFloats(*file, "h", table.at("h"), 1, 1, values.data()));
  EXPECT_EQ(values[0], 8);
  ASSERT_OK(ReadStoredFloats(*file, "b", table.at("b"), 0, 1, values.data()));
  EXPECT_EQ(values[0], 2.5f);
}

TEST(TorchZipTest, FollowsStridesFromAnyElementOn) {
  const std::string bytes = OneTensor(0, {3, 2}, {1, 3});  // [2, 3] transposed
  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseTorchZip(*file));
  const std::vector<float> all = {0, 3, 1, 4, 2, 5};
  for (int64_t first = 0; first <= 6; ++first) {
    for (int64_t count = 0; first + count <= 6; ++count) {
      std::vector<float> values(count);
      ASSERT_OK(ReadStoredFloats(*file, "w", table.at("w"), first, count,
                                 values.data()));
      EXPECT_EQ(values, std::vector<float>(all.begin() + first,
                                           all.begin() + first + count));
    }
  }
  float value;
  EXPECT_THAT(ReadStoredFloats(*file, "w", table.at("w"), 6, 1, &value),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor 'w': has 6 elements, shape [3, 2]: "
                                 "too few to read 1 from 6")));
}

TEST(TorchZipTest, RefusesTensorsThatDoNotFitTheirStorage) {
  constexpr int32_t kMax = INT32_MAX;
  const struct {
    const char* name;
    std::string bytes;
    const char* reason;
  } cases[] = {
      {"one element too many", OneTensor(0, {7}, {1}), "reaches outside"},
      {"offset", OneTensor(1, {6}, {1}), "reaches outside"},
      {"offset past the end", OneTensor(7, {0}, {1}), "reaches outside"},
      {"negative offset", OneTensor(-1, {1}, {1}), "reaches outside"},
      {"stride", OneTensor(0, {2, 3}, {4, 1}), "reaches outside"},
      {"negative stride", OneTensor(5, {6}, {-1}), "stride [-1] is negative"},
      {"negative extent", OneTensor(0, {-1, -6}, {1, 1}), "negative extent"},
      {"reach overflow", OneTensor(0, {kMax, kMax, kMax}, {kMax, kMax, kMax}),
       "overflows"},
      {"shape overflow", OneTensor(0, {kMax, kMax, kMax}, {0, 0, 0}),
       "overflows 64 bits"},
      {"storage larger than its member", OneTensor(0, {7}, {1}, 7),
       "its storage has 24 bytes, too few for 7 float32"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_THAT(Parse(c.bytes),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("pytorch_model.bin: tensor 'w': "),
                               HasSubstr(c.reason))));
  }
  // Expanded views: what they would take is for those to judge who read them.
  EXPECT_OK(Parse(OneTensor(0, {kMax, 1000}, {0, 0})));
  EXPECT_OK(Parse(OneTensor(6, {0, 3}, {3, 1})));
  EXPECT_OK(Parse(OneTensor(5, {1, 1}, {kMax, 1})));
}

TEST(TorchZipTest, GivesOneIdToNamesOfTheSameElements) {
  PickleWriter pickle;
  pickle.Raw("}(");
  const auto add = [&](const char* name, std::vector<int32_t> shape,
                       std::vector<int32_t> strides) {
    pickle.Text(name).Tensor("FloatStorage", "0", 6, 0, shape, strides);
  };
  add("a", {2, 3}, {3, 1});
  add("tied", {2, 3}, {3, 1});
  add("transposed", {3, 2}, {1, 3});
  add("part", {3}, {1});
  ASSERT_OK_AND_ASSIGN(
      const TensorTable table,
      Parse(TorchZipFile(pickle.Raw("u").Finish(), {std::string(24, 'x')})));
  const auto id = [&](const char* name) {
    return table.at(name).info.storage_id;
  };
  EXPECT_EQ(id("a"), id("tied"));
  EXPECT_NE(id("a"), id("transposed"));
  EXPECT_NE(id("a"), id("part"));
}

TEST(TorchZipTest, RefusesWhatTorchSaveNeverWrites) {
  ZipWriter deflated, parent, absolute, twice, two, none;
  deflated.Add({"a/data.pkl", EmptyDict(), /*method=*/8});
  parent.Add({"a/../data.pkl", EmptyDict()});
  absolute.Add({"/a/data.pkl", EmptyDict()});
  twice.Add({"a/data.pkl", EmptyDict()});
  twice.Add({"a/data.pkl", EmptyDict()});
  two.Add({"a/data.pkl", EmptyDict()});
  two.Add({"b/data.pkl", EmptyDict()});
  none.Add({"a/b/data.pkl", EmptyDict()});
  const struct {
    const char* name;
    std::string bytes;
    const char* reason;
  } cases[] = {
      {"empty file", "", "no zip header"},
      {"text", "hello", "no zip header"},
      {"zip header alone", "PK\x03\x04", "no zip directory at its end"},
      {"compressed", deflated.Finish(),
       "'a/data.pkl': must be stored as torch.save writes it, is compressed"},
      {"..", parent.Finish(),
       "'a/../data.pkl': its name leads out of the archive"},
      {"absolute name", absolute.Finish(), "its name leads out of the archive"},
      {"member twice", twice.Finish(), "'a/data.pkl' comes twice"},
      {"two archives", two.Finish(), "two members named data.pkl"},
      {"no data.pkl", none.Finish(), "no member NAME/data.pkl"},
      {"no zip member", ZipWriter().Finish(), "no zip directory"},
      {"storage missing",
       TorchZipFile(PickleWriter()
                        .Raw("}")
                        .Text("w")
                        .Tensor("FloatStorage", "../x", 1, 0, {1}, {1})
                        .Raw("s")
                        .Finish(),
                    {}),
       "tensor 'w': no storage '../x'"},
      {"forbidden global",
       TorchZipFile(PickleWriter().Global("os", "system").Finish(), {}),
       "pytorch_model.bin: data.pkl: pickle at byte 2: refuses to load "
       "'os.system'"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_THAT(Parse(c.bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("pytorch_model.bin: "),
                                               HasSubstr(c.reason))));
  }
}

TEST(TorchZipTest, RefusesABigEndianFile) {
  ZipWriter zip;
  zip.Add({"a/data.pkl", EmptyDict()});
  zip.Add({"a/byteorder", "big"});
  EXPECT_THAT(Parse(zip.Finish()),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("byte order must be 'little', is 'big'")));
}

TEST(TorchZipTest, ReadsZip64Members) {
  PickleWriter pickle;
  pickle.Raw("}").Text("w").Tensor("FloatStorage", "0", 1, 0, {1}, {1});
  ZipWriter zip;
  zip.Add(
      {.name = "a/data.pkl", .bytes = pickle.Raw("s").Finish(), .zip64 = true});
  zip.Add({.name = "a/data/0",
           .bytes = MakeTensor("w", {1}, {42}).bytes,
           .zip64 = true});
  const std::string bytes = zip.Finish();
  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseTorchZip(*file));
  float value = 0;
  ASSERT_OK(ReadStoredFloats(*file, "w", table.at("w"), 0, 1, &value));
  EXPECT_EQ(value, 42);
}

TEST(TorchZipTest, ComparesTheCrcOfThePickleAtOnceAndOfAStorageWhenItIsRead) {
  PickleWriter pickle;
  pickle.Raw("}(");
  pickle.Text("good").Tensor("FloatStorage", "0", 1, 0, {1}, {1});
  pickle.Text("bad").Tensor("FloatStorage", "1", 1, 0, {1}, {1});
  const std::string data_pkl = pickle.Raw("u").Finish();
  ZipWriter zip;
  zip.Add({"a/data.pkl", data_pkl});
  zip.Add({"a/data/0", "1234"});
  zip.Add({.name = "a/data/1", .bytes = "1234", .right_crc = false});
  const std::string bytes = zip.Finish();
  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseTorchZip(*file));
  float value = 0;
  EXPECT_OK(ReadStoredFloats(*file, "good", table.at("good"), 0, 1, &value));
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(ReadStoredFloats(*file, "bad", table.at("bad"), 0, 1, &value),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("tensor 'bad': pytorch_model.bin"),
                               HasSubstr("'a/data/1': CRC-32"),
                               HasSubstr("the file is damaged"))));
  }

  ZipWriter damaged;
  damaged.Add({.name = "a/data.pkl", .bytes = data_pkl, .right_crc = false});
  EXPECT_THAT(Parse(damaged.Finish()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'a/data.pkl': CRC-32")));
}

// Parses and, if that succeeds, reads every tensor.
void ReadAll(const std::string& bytes) {
  const auto file = BytesInMemory("pytorch_model.bin", bytes);
  const absl::StatusOr<TensorTable> table = ParseTorchZip(*file);
  if (!table.ok()) return;
  for (const auto& [name, tensor] : *table) {
    std::vector<float> values(tensor.info.elements());
    (void)ReadStoredFloats(*file, name, tensor, 0, values.size(),
                           values.data());
  }
}

TEST(TorchZipTest, RefusesEveryPrefixOfAFile) {
  const std::string whole = OneTensor(0, {2, 3}, {3, 1});
  ASSERT_OK(Parse(whole));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(Parse(whole.substr(0, n)).ok()) << n << " bytes";
  }
}

TEST(TorchZipTest, SurvivesAnyFlippedByte) {
  const std::string whole = OneTensor(0, {3, 2}, {1, 3});
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ flip);
      ReadAll(bytes);
    }
  }
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    for (int flips = 0; flips < 8; ++flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    ReadAll(bytes);
  }
}

// An archive of hundreds of thousands of members takes long to list.
TEST(TorchZipTest, ListingEndsWhenNobodyWantsItAnyMore) {
  ZipWriter zip;
  for (int i = 0; i < 1000; ++i) {
    zip.Add({.name = absl::StrCat("m/data/", i), .bytes = "x"});
  }
  const TempFolder folder;
  int asked = 0;
  ASSERT_OK_AND_ASSIGN(
      const auto file,
      OpenFile(folder.WriteFile("pytorch_model.bin", zip.Finish()), [&] {
        return ++asked < 10 ? absl::OkStatus() : absl::CancelledError("gone");
      }));
  EXPECT_THAT(ParseTorchZip(*file),
              StatusIs(absl::StatusCode::kCancelled, "gone"));
  EXPECT_EQ(asked, 10);
}

TEST(TorchZipTest, CheckingAStorageEndsWhenNobodyWantsItAnyMore) {
  const TempFolder folder;
  bool wanted = true;
  ASSERT_OK_AND_ASSIGN(
      const auto file,
      OpenFile(
          folder.WriteFile("pytorch_model.bin", OneTensor(0, {6}, {1})), [&] {
            return wanted ? absl::OkStatus() : absl::CancelledError("gone");
          }));
  ASSERT_OK_AND_ASSIGN(const TensorTable table, ParseTorchZip(*file));
  wanted = false;
  std::vector<float> values(6);
  EXPECT_THAT(ReadStoredFloats(*file, "w", table.at("w"), 0, 6, values.data()),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("gone")));
}

}  // namespace
}  // namespace ounce::model
