#include "model/checkpoint/checkpoint.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "base/mapped_memory.h"
#include "nlohmann/json.hpp"
#include "tests/testing/checkpoint_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::MakeTensor;
using ::ounce::testing::SafetensorsFile;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::ounce::testing::TorchZipFile;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Made by tools/make_checkpoint_goldens.py with torch and safetensors.
constexpr char kGoldens[] = "tests/golden/checkpoint/";

std::vector<float> ReadAll(const Checkpoint& checkpoint,
                           const std::string& name) {
  std::vector<float> values(checkpoint.tensors().at(name).elements());
  EXPECT_OK(checkpoint.ReadFloats(name, 0, values.size(), values.data()));
  return values;
}

// 0/8, 1/8, ... as every float tensor of the goldens holds, from k/8 on.
std::vector<float> Ramp(int n, int k = 0) {
  std::vector<float> values(n);
  for (int i = 0; i < n; ++i) values[i] = (i + k) / 8.0f;
  return values;
}

void ExpectGoldenTensors(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors();
  EXPECT_EQ(tensors.at("f64").dtype, quant::DType::kF64);
  EXPECT_EQ(tensors.at("f16").dtype, quant::DType::kF16);
  EXPECT_EQ(tensors.at("bf16").dtype, quant::DType::kBF16);
  EXPECT_THAT(tensors.at("f16").shape, ElementsAre(2, 2, 2));
  EXPECT_EQ(ReadAll(checkpoint, "f64"), Ramp(3));
  EXPECT_EQ(ReadAll(checkpoint, "f32"), Ramp(24));
  EXPECT_EQ(ReadAll(checkpoint, "f16"), Ramp(8));
  EXPECT_EQ(ReadAll(checkpoint, "bf16"), Ramp(5));
  EXPECT_EQ(ReadAll(checkpoint, "tied"), Ramp(24));
  EXPECT_EQ(ReadAll(checkpoint, "weight"), Ramp(6));
  EXPECT_EQ(ReadAll(checkpoint, "parameter"), Ramp(3));
  EXPECT_EQ(ReadAll(checkpoint, "scalar"), Ramp(1, 28));
  EXPECT_THAT(tensors.at("scalar").shape, ElementsAre());
  EXPECT_THAT(tensors.at("empty").shape, ElementsAre(0, 3));

  EXPECT_THAT(tensors.at("transposed").shape, ElementsAre(6, 4));
  const std::vector<float> transposed = ReadAll(checkpoint, "transposed");
  for (int j = 0; j < 6; ++j) {
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(transposed[4 * j + i], (6 * i + j) / 8.0f);
    }
  }
  EXPECT_THAT(ReadAll(checkpoint, "middle"),
              ElementsAre(1, 1.125, 1.25, 1.75, 1.875, 2));
  EXPECT_THAT(ReadAll(checkpoint, "every_other"),
              ElementsAre(0, 0.25, 0.5, 1.5, 1.75, 2));

  EXPECT_EQ(tensors.at("mask").dtype, quant::DType::kBool);
  EXPECT_EQ(tensors.at("ids").dtype, quant::DType::kI64);
  EXPECT_EQ(tensors.at("i32").dtype, quant::DType::kI32);
  EXPECT_EQ(tensors.at("i16").dtype, quant::DType::kI16);
  EXPECT_EQ(tensors.at("i8").dtype, quant::DType::kI8);
  EXPECT_EQ(tensors.at("u8").dtype, quant::DType::kU8);
  float value;
  EXPECT_THAT(
      checkpoint.ReadFloats("ids", 0, 1, &value),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("tensor 'ids': dtype must be a float, is int64")));
  EXPECT_THAT(
      checkpoint.ReadFloats("nothing", 0, 1, &value),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no tensor 'nothing'")));
}

TEST(CheckpointTest, ReadsWhatTorchSaveWrote) {
  for (const char* name : {"bin", "bin_protocol4"}) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                         Checkpoint::Open(std::string(kGoldens) + name));
    ExpectGoldenTensors(*checkpoint);
    EXPECT_EQ(checkpoint->tensors().size(), 18u);  // and nothing but tensors
    EXPECT_EQ(checkpoint->tensors().at("tied").storage_id,
              checkpoint->tensors().at("f32").storage_id);
    EXPECT_EQ(checkpoint->config().at("model_type"), "test");
    EXPECT_TRUE(checkpoint->generation_config().is_null());
    EXPECT_EQ(checkpoint->folder(), std::string(kGoldens) + name);
  }
}

TEST(CheckpointTest, ReadsWhatSafetensorsWrote) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(std::string(kGoldens) + "safetensors"));
  ExpectGoldenTensors(*checkpoint);
  EXPECT_EQ(ReadAll(*checkpoint, "alias"), Ramp(24));
  EXPECT_EQ(checkpoint->tensors().at("alias").storage_id,
            checkpoint->tensors().at("f32").storage_id);
  EXPECT_EQ(checkpoint->generation_config().at("eos_token_id"), 7);
}

TEST(CheckpointTest, ReadsShards) {
  for (const char* name : {"bin_sharded", "safetensors_sharded"}) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                         Checkpoint::Open(std::string(kGoldens) + name));
    EXPECT_EQ(checkpoint->tensors().size(), 3u);
    EXPECT_EQ(ReadAll(*checkpoint, "a"), Ramp(6));
    EXPECT_EQ(ReadAll(*checkpoint, "b"), Ramp(4, 1));
    EXPECT_EQ(ReadAll(*checkpoint, "c"), Ramp(2, 2));
    const auto& tensors = checkpoint->tensors();
    EXPECT_NE(tensors.at("a").storage_id, tensors.at("c").storage_id);
    EXPECT_NE(tensors.at("b").storage_id, tensors.at("c").storage_id);
  }
}

TEST(CheckpointTest, SaysWhatToDoWithFormsThatAreNotRead) {
  const struct {
    const char* name;
    const char* reason;
  } cases[] = {
      {"legacy", "is in the form of PyTorch before 1.6, which is not"},
      {"tar", "is in the tar form of PyTorch before 0.4, which is not"},
      {"training", "torch.save(torch.load(path)['model'], path)"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Checkpoint::Open(std::string(kGoldens) + c.name),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr("pytorch_model.bin"),
                               HasSubstr(c.reason), HasSubstr("torch.save("))));
  }
  EXPECT_THAT(Checkpoint::Open(std::string(kGoldens) + "script"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("compressed (as in TorchScript)")));
}

TEST(CheckpointTest, RefusesPicklesThatWouldRunSomething) {
  const struct {
    const char* name;
    const char* global;
  } cases[] = {
      {"system", "posix.system"},
      {"eval", "__builtin__.eval"},
      {"getattr", "__builtin__.getattr"},
      {"exec", "__builtin__.exec"},
      {"system_protocol4", "posix.system"},
      {"eval_protocol4", "builtins.eval"},
      {"getattr_protocol4", "builtins.getattr"},
      {"exec_protocol4", "builtins.exec"},
  };
  for (const auto& c : cases) {
    const TempFolder folder;
    folder.WriteFile("config.json", "{}");
    std::filesystem::copy_file(
        std::string(kGoldens) + "malicious/" + c.name + ".bin",
        folder.Path("pytorch_model.bin"));
    EXPECT_THAT(Checkpoint::Open(folder.path().string()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("/pytorch_model.bin: data.pkl: "),
                               HasSubstr(std::string("refuses to load '") +
                                         c.global + "'"))));
  }
}

TEST(CheckpointTest, PrefersSafetensorsAndASingleFile) {
  const TempFolder folder;
  folder.WriteFile("config.json", "{}");
  const auto first = [&] {
    return Checkpoint::Open(folder.path().string())
        .value()
        ->tensors()
        .begin()
        ->first;
  };
  folder.WriteFile("shard.bin", TorchZipFile({MakeTensor("d", {1}, {1})}));
  folder.WriteFile("pytorch_model.bin.index.json",
                   R"({"weight_map": {"d": "shard.bin"}})");
  EXPECT_EQ(first(), "d");
  folder.WriteFile("pytorch_model.bin",
                   TorchZipFile({MakeTensor("c", {1}, {1})}));
  EXPECT_EQ(first(), "c");
  folder.WriteFile("shard.st", SafetensorsFile({MakeTensor("b", {1}, {1})}));
  folder.WriteFile("model.safetensors.index.json",
                   R"({"weight_map": {"b": "shard.st"}})");
  EXPECT_EQ(first(), "b");
  folder.WriteFile("model.safetensors",
                   SafetensorsFile({MakeTensor("a", {1}, {1})}));
  EXPECT_EQ(first(), "a");
}

TEST(CheckpointTest, NamesTheFileThatIsMissing) {
  const TempFolder folder;
  const std::string path = folder.path().string();
  EXPECT_THAT(Checkpoint::Open(path),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr(path + "/config.json: No such file")));
  folder.WriteFile("config.json", "{}");
  EXPECT_THAT(Checkpoint::Open(path),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr(path + ": no model.safetensors, ")));
  folder.WriteFile("config.json", "{");
  EXPECT_THAT(Checkpoint::Open(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/config.json: malformed JSON at byte 2")));
  folder.WriteFile("config.json", "{}");
  folder.WriteFile("generation_config.json", "[]");
  EXPECT_THAT(Checkpoint::Open(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/generation_config.json: must be a JSON "
                                 "object, is JSON array")));
}

// Only who asks for such a tensor needs to know.
TEST(CheckpointTest, ReadsABinBesideEntriesOfFormsThatAreNotRead) {
  ASSERT_OK_AND_ASSIGN(
      const auto checkpoint,
      Checkpoint::Open(std::string(kGoldens) + "bin_unneeded"));
  EXPECT_EQ(ReadAll(*checkpoint, "w"), Ramp(6));
  EXPECT_THAT(ReadAll(*checkpoint, "expanded"),
              ElementsAre(0, 0, 0, 0.125, 0.125, 0.125));
  float value;
  EXPECT_THAT(checkpoint->ReadFloats("c64", 0, 1, &value),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("dtype must be a float, is complex64")));
  EXPECT_THAT(checkpoint->ReadFloats("sparse", 0, 1, &value),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(checkpoint->tensors().size(), 3u);
}

TEST(CheckpointTest, ReadsShardsFromWhereTheIndexSays) {
  const TempFolder folder;
  folder.WriteFile("config.json", "{}");
  folder.WriteFile("one.st", SafetensorsFile({MakeTensor("a", {1}, {1})}));
  folder.WriteFile("part/two.st", SafetensorsFile({MakeTensor("b", {1}, {2})}));
  folder.WriteFile("model.safetensors.index.json",
                   R"({"weight_map": {"a": "./one.st", "b": "part/two.st",
                                      "unneeded": "one.st"}})");
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  EXPECT_THAT(ReadAll(*checkpoint, "a"), ElementsAre(1));
  EXPECT_THAT(ReadAll(*checkpoint, "b"), ElementsAre(2));
  EXPECT_FALSE(checkpoint->tensors().contains("unneeded"));
}

TEST(CheckpointTest, SaysThatAnAdapterIsNoModel) {
  const TempFolder folder;
  folder.WriteFile("adapter_config.json", "{}");
  EXPECT_THAT(Checkpoint::Open(folder.path().string()),
              StatusIs(absl::StatusCode::kUnimplemented,
                       AllOf(HasSubstr("is a PEFT adapter, not a model"),
                             HasSubstr("merge_and_unload"))));
}

TEST(CheckpointTest, SaysWhichLinkLeadsNowhere) {
  const TempFolder folder;
  folder.WriteFile("config.json", "{}");
  std::filesystem::create_symlink("../../blobs/gone",
                                  folder.Path("model.safetensors"));
  EXPECT_THAT(Checkpoint::Open(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.safetensors: the link leads nowhere")));
}

TEST(CheckpointTest, RefusesAnIndexThatLies) {
  const TempFolder folder;
  folder.WriteFile("config.json", "{}");
  folder.WriteFile("one.safetensors",
                   SafetensorsFile({MakeTensor("a", {1}, {1})}));
  const struct {
    const char* index;
    absl::StatusCode code;
    const char* reason;
  } cases[] = {
      {"{}", absl::StatusCode::kInvalidArgument, "no object 'weight_map'"},
      {R"({"weight_map": {"a": 1}})", absl::StatusCode::kInvalidArgument,
       "the file of tensor 'a' must be a name, is number"},
      {R"({"weight_map": {"a": "two.safetensors"}})",
       absl::StatusCode::kNotFound, "/two.safetensors: No such file"},
      {R"({"weight_map": {"a": "../one.safetensors"}})",
       absl::StatusCode::kInvalidArgument,
       "must lie in the same folder or below it, is '../one.safetensors'"},
      {R"({"weight_map": {"a": "/etc/passwd"}})",
       absl::StatusCode::kInvalidArgument, "must lie in the same folder"},
      {R"({"weight_map": {"a": "x/../../one.safetensors"}})",
       absl::StatusCode::kInvalidArgument, "must lie in the same folder"},
      {R"({"weight_map": {"a": "x/"}})", absl::StatusCode::kInvalidArgument,
       "must lie in the same folder"},
      {R"({"weight_map": {"a": "./"}})", absl::StatusCode::kInvalidArgument,
       "must lie in the same folder"},
      {R"({"weight_map": {"a": ".."}})", absl::StatusCode::kInvalidArgument,
       "must lie in the same folder"},
      {R"({"weight_map": {"a": "one\u0000.safetensors"}})",
       absl::StatusCode::kInvalidArgument, "must lie in the same folder"},
      {R"({"weight_map": {"a": ""}})", absl::StatusCode::kInvalidArgument,
       "must lie in the same folder"},
  };
  for (const auto& c : cases) {
    folder.WriteFile("model.safetensors.index.json", c.index);
    EXPECT_THAT(
        Checkpoint::Open(folder.path().string()),
        StatusIs(c.code, AllOf(HasSubstr("model.safetensors.index.json"),
                               HasSubstr(c.reason))))
        << c.index;
  }
}

TEST(CheckpointTest, TakesATensorFromTheFileThatTheIndexNames) {
  const TempFolder folder;
  folder.WriteFile("config.json", "{}");
  folder.WriteFile("1.st", SafetensorsFile({MakeTensor("a", {1}, {1}),
                                            MakeTensor("b", {1}, {10})}));
  folder.WriteFile(
      "2.st", SafetensorsFile({MakeTensor("a", {1}, {2})}, R"({"tied": "a"})"));
  folder.WriteFile("model.safetensors.index.json",
                   R"({"weight_map": {"a": "2.st", "b": "1.st"}})");
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  EXPECT_THAT(ReadAll(*checkpoint, "a"), ElementsAre(2));
  EXPECT_THAT(ReadAll(*checkpoint, "b"), ElementsAre(10));
  EXPECT_EQ(checkpoint->tensors().at("a").storage_id,
            checkpoint->tensors().at("tied").storage_id);
}

// A sparse file of one float16 tensor of 64 MB.
std::string WriteLargeFile(const TempFolder& folder) {
  folder.WriteFile("config.json", "{}");
  const std::string path = folder.WriteFile(
      "model.safetensors",
      SafetensorsFile(R"({"w":{"dtype":"F16","shape":[8192,4096],)"
                      R"("data_offsets":[0,67108864]}})",
                      ""));
  std::filesystem::resize_file(path,
                               std::filesystem::file_size(path) + 67108864);
  return path;
}

TEST(CheckpointTest, KeepsNoMemoryForWhatItHasRead) {
  const TempFolder folder;
  WriteLargeFile(folder);
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  // In few calls, for a sanitizer keeps what is freed.
  constexpr int64_t kCount = int64_t{1} << 22;
  std::vector<float> values(kCount, 1.0f);
  const int64_t before = ResidentBytes();
  for (int64_t i = 0; i < 8; ++i) {
    ASSERT_OK(checkpoint->ReadFloats("w", i * kCount, kCount, values.data()));
  }
  EXPECT_LT(ResidentBytes() - before, 8 << 20);
}

TEST(CheckpointTest, ReportsAFileThatIsTruncatedWhileItIsRead) {
  const TempFolder folder;
  const std::string path = WriteLargeFile(folder);
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  std::vector<float> values(1 << 20);
  ASSERT_OK(checkpoint->ReadFloats("w", 1 << 24, 1 << 20, values.data()));
  std::filesystem::resize_file(path, 1 << 20);
  EXPECT_THAT(checkpoint->ReadFloats("w", 1 << 24, 1 << 20, values.data()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ends at byte")));
}

TEST(CheckpointTest, ReadsAPublishedModelWithItsTiedName) {
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::string folder =
      std::string(shared == nullptr ? "../shared/data" : shared) +
      "/tinystories-656k";
  if (!std::filesystem::exists(folder + "/model.safetensors")) {
    GTEST_SKIP() << "no " << folder << "/model.safetensors";
  }
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Checkpoint::Open(folder));
  const auto& tensors = checkpoint->tensors();
  EXPECT_EQ(tensors.size(), 21u);  // 20 stored, and a second name of one
  std::map<int64_t, int64_t> bytes_of;
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(tensor.dtype, quant::DType::kF32);
    bytes_of[tensor.storage_id] = tensor.bytes();
  }
  int64_t bytes = 0;
  for (const auto& [id, size] : bytes_of) bytes += size;
  EXPECT_EQ(bytes, 2'624'000);
  EXPECT_THAT(tensors.at("model.embed_tokens.weight").shape,
              ElementsAre(2048, 128));
  EXPECT_EQ(tensors.at("model.embed_tokens.weight").storage_id,
            tensors.at("lm_head.weight").storage_id);
  EXPECT_EQ(ReadAll(*checkpoint, "model.embed_tokens.weight"),
            ReadAll(*checkpoint, "lm_head.weight"));
  EXPECT_THAT(tensors.at("model.layers.1.self_attn.k_proj.weight").shape,
              ElementsAre(64, 128));
  EXPECT_EQ(checkpoint->config().at("architectures").at(0), "LlamaForCausalLM");
  EXPECT_EQ(checkpoint->generation_config().at("eos_token_id"), 2);
}

}  // namespace
}  // namespace ounce::model
