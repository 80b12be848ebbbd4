// Checkpoints that other tools have quantized, as fixtures that these tools
// wrote (tools/make_quantized_goldens.py), and what is wrong with them when it
// is. Models that are made of them are in decoder/quantized_golden_test.

#include "model/checkpoint/quantized_format.h"

#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/str_cat.h"
#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/testing/checkpoint_files.h"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::FileTensor;
using ::ounce::testing::QuantizedFixture;
using ::ounce::testing::SafetensorsFile;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using quant::DType;
using ::testing::HasSubstr;

constexpr char kFixtures[] = "tests/golden/quantized";

json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::vector<float> ValuesOf(const Checkpoint& checkpoint,
                            const std::string& name) {
  std::vector<float> values(checkpoint.tensors().at(name).elements());
  EXPECT_OK(checkpoint.ReadFloats(name, 0, static_cast<int64_t>(values.size()),
                                  values.data()));
  return values;
}

class FixtureTest : public ::testing::TestWithParam<QuantizedFixture> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, Checkpoint::Open(GetParam().location));
    sums_ = ReadJson(GetParam().folder + "/expected.json")["values"]
                .get<std::map<std::string, uint32_t>>();
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::map<std::string, uint32_t> sums_;  // CRC-32 of a weight's values
};

TEST_P(FixtureTest, ValuesAreThoseOfTheToolToTheBit) {
  for (const auto& [name, sum] : sums_) {
    const std::vector<float> values = ValuesOf(*checkpoint_, name);
    EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(values.data()),
                    static_cast<uInt>(values.size() * 4)),
              sum)
        << name;
  }
}

TEST_P(FixtureTest, WeightsInCodesStandForTheirParts) {
  for (const auto& [name, info] : checkpoint_->tensors()) {
    EXPECT_EQ(info.coded != nullptr, sums_.contains(name)) << name;
    EXPECT_TRUE(quant::IsFloat(info.dtype)) << name;
  }
  EXPECT_EQ(std::count_if(
                checkpoint_->tensors().begin(), checkpoint_->tensors().end(),
                [](const auto& t) { return t.second.coded != nullptr; }),
            static_cast<int64_t>(sums_.size()));
}

TEST_P(FixtureTest, AnyRowsCanBeReadByThemselves) {
  for (const auto& [name, sum] : sums_) {
    const TensorInfo& info = checkpoint_->tensors().at(name);
    ASSERT_OK_AND_ASSIGN(const auto codes, info.coded->open());
    const int64_t rows = codes->rows(), cols = codes->cols();
    ASSERT_EQ(info.shape, (std::vector<int64_t>{rows, cols}));
    const std::vector<float> all = ValuesOf(*checkpoint_, name);
    std::vector<float> some(rows * cols);
    for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{
             {rows - 3, 3}, {5, 1}, {1, 9}, {0, 16}, {7, rows - 7}}) {
      ASSERT_OK(quant::ReadValues(*codes, first, count, some.data()));
      EXPECT_TRUE(std::equal(all.begin() + first * cols,
                             all.begin() + (first + count) * cols,
                             some.begin()))
          << name << ", rows from " << first;
    }
    // From within a row to within another.
    ASSERT_OK(checkpoint_->ReadFloats(name, cols - 1, cols + 2, some.data()));
    EXPECT_TRUE(std::equal(all.begin() + cols - 1, all.begin() + 2 * cols + 1,
                           some.begin()))
        << name;
    EXPECT_THAT(checkpoint_->ReadFloats(name, rows * cols - 1, 2, some.data()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("too few to read 2")));
  }
}

// The tensors of the file that a weight is made of, but for what describes
// them.
TEST_P(FixtureTest, BytesAreThoseOfTheFile) {
  constexpr std::string_view kCounted[] = {".qweight",
                                           ".qzeros",
                                           ".scales",
                                           ".g_idx",
                                           ".weight",
                                           ".SCB",
                                           ".weight_format",
                                           ".absmax",
                                           ".quant_map",
                                           ".nested_absmax",
                                           ".nested_quant_map",
                                           ".weight_packed",
                                           ".weight_scale",
                                           ".weight_scale_inv",
                                           ".weight_zero_point",
                                           ".W_q",
                                           ".codes",
                                           ".scale",
                                           ".zero",
                                           ".q_weight",
                                           ".q_groups",
                                           ".q_scale",
                                           ".q_scale_max",
                                           ".q_invperm",
                                           "_weight_qdata",
                                           "_weight_scale",
                                           "_weight_zero_point"};
  if (GetParam().is_gguf()) {
    // A tensor is blocks and nothing else.
    for (const auto& [name, sum] : sums_) {
      const TensorInfo& info = checkpoint_->tensors().at(name);
      const std::string spec = info.coded->spec.ToString();
      if (spec == "gguf-q8_0") {
        EXPECT_EQ(info.bytes(), info.elements() / 32 * 34) << name;
      } else if (spec == "gguf-tq1_0") {
        EXPECT_EQ(info.bytes(), info.elements() / 256 * 54) << name;
      }
    }
    return;
  }
  ASSERT_OK_AND_ASSIGN(const TensorFiles files,
                       OpenTensorFiles(GetParam().folder));
  int64_t of_file = 0, of_weights = 0;
  for (const auto& [name, place] : files.tensors) {
    const bool counts =
        std::any_of(std::begin(kCounted), std::end(kCounted),
                    [&](std::string_view end) { return name.ends_with(end); });
    if (!checkpoint_->tensors().contains(name) ||
        checkpoint_->tensors().at(name).coded != nullptr) {
      of_file += counts ? place.tensor.info.bytes() : 0;
    }
  }
  for (const auto& [name, sum] : sums_) {
    of_weights += checkpoint_->tensors().at(name).bytes();
  }
  const std::string& fixture = GetParam().name;
  const bool is_padded = fixture == "awq_gemv" || fixture == "hqq_3" ||
                         fixture == "compressed_pack3_old";
  if (is_padded) {
    EXPECT_GT(of_file, of_weights);
  } else {
    EXPECT_EQ(of_file, of_weights);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, FixtureTest, ::testing::ValuesIn(ounce::testing::QuantizedFixtures()),
    [](const auto& info) { return info.param.name; });

TEST(QuantizedFormatTest, EveryFormatHasAFixture) {
  std::set<std::string> of_fixtures, listed;
  for (const QuantizedFixture& fixture : ounce::testing::QuantizedFixtures()) {
    if (fixture.is_gguf()) continue;
    of_fixtures.insert(
        ReadJson(fixture.folder +
                 "/config.json")["quantization_config"]["quant_method"]);
  }
  for (const QuantizedFormat* format : AllQuantizedFormats()) {
    listed.emplace(format->name());
  }
  EXPECT_EQ(of_fixtures, listed);
}

// A fixture that can be changed before it is opened.
class Changed {
 public:
  explicit Changed(const std::string& fixture) {
    const std::string folder = StrCat(kFixtures, "/", fixture);
    config = ReadJson(folder + "/config.json");
    const TensorFiles files = *OpenTensorFiles(folder);
    for (const auto& [name, place] : files.tensors) {
      const TensorInfo& info = place.tensor.info;
      FileTensor& tensor = tensors[name];
      tensor = {name, info.dtype, info.shape, std::string(info.bytes(), '\0')};
      EXPECT_OK(
          files.ReadElements(name, 0, info.elements(), tensor.bytes.data()));
    }
  }

  json& quantization() { return config["quantization_config"]; }
  // Of elements of this type.
  template <class Element>
  void Set(const std::string& name, int64_t index, Element value) {
    std::memcpy(tensors.at(name).bytes.data() + index * sizeof(Element), &value,
                sizeof(Element));
  }
  // As many bytes as the shape has.
  void Reshape(const std::string& name, std::vector<int64_t> shape) {
    FileTensor& tensor = tensors.at(name);
    tensor.shape = std::move(shape);
    int64_t bytes = quant::SizeOf(tensor.dtype);
    for (const int64_t extent : tensor.shape) bytes *= extent;
    tensor.bytes.resize(bytes);
  }
  void SetText(const std::string& name, const std::string& text) {
    tensors.at(name).bytes = text;
    tensors.at(name).shape = {static_cast<int64_t>(text.size())};
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() {
    std::vector<FileTensor> all;
    for (const auto& [name, tensor] : tensors) all.push_back(tensor);
    folder_.WriteFile("config.json", config.dump());
    folder_.WriteFile("model.safetensors", SafetensorsFile(all));
    return Checkpoint::Open(folder_.path().string());
  }

  json config;
  std::map<std::string, FileTensor> tensors;

 private:
  TempFolder folder_;
};

constexpr char kQ[] = "model.layers.0.self_attn.q_proj";
std::string Q(const char* suffix) { return StrCat(kQ, suffix); }

struct Fault {
  std::string fixture;
  std::function<void(Changed&)> make;
  absl::StatusCode code;
  std::string message;
};

TEST(QuantizedFormatTest, NamesWhatIsWrongWhenACheckpointIsOpened) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kNotServed = absl::StatusCode::kUnimplemented;
  const auto set = [](const char* key, json value) {
    return [=](Changed& c) { c.quantization()[key] = value; };
  };
  const auto without = [](const char* suffix) {
    return [=](Changed& c) { c.tensors.erase(Q(suffix)); };
  };
  const auto shaped = [](const char* suffix, std::vector<int64_t> shape) {
    return [=](Changed& c) { c.Reshape(Q(suffix), shape); };
  };
  const auto weight = [](const char* key, json value) {
    return [=](Changed& c) {
      c.quantization()["weights"][Q(".weight")][key] = value;
    };
  };
  const Fault faults[] = {
      {"gptq_4", [](Changed& c) { c.quantization() = 4; }, kInvalid,
       "'quantization_config' must be an object, is number"},
      {"gptq_4", set("quant_method", "quip"), kNotServed,
       "'quant_method' must be one of awq, bitsandbytes, compressed-tensors, "
       "exl2, fbgemm_fp8, fp8, gptq, hqq, ounce, torchao, is 'quip'; serve the "
       "model's "
       "floats"},
      {"gptq_4", set("quant_method", nullptr), kInvalid, "quant_method"},

      {"gptq_4", set("bits", 5), kNotServed, "'bits' must be 2, 3, 4 or 8"},
      {"gptq_4", set("bits", "4"), kInvalid, "'bits'"},
      {"gptq_4", set("bits", 8), kInvalid, "must be of shape"},
      {"gptq_4", set("group_size", 0), kInvalid, "'group_size'"},
      {"gptq_4", set("group_size", 64), kInvalid,
       "qzeros': must be of shape [2, 8], is of [3, 8]"},
      {"gptq_4", set("checkpoint_format", "marlin"), kNotServed,
       "'checkpoint_format' must be gptq or gptq_v2, is 'marlin'"},
      {"gptq_4", without(".scales"), kInvalid,
       "q_proj.scales': of shape [2, 64] is missing; it belongs to a quantized "
       "weight"},
      {"gptq_4", shaped(".scales", {3, 64}), kInvalid,
       "must be of shape [2, 64], is of [3, 64]"},
      {"gptq_4",
       [](Changed& c) { c.tensors.at(Q(".qweight")).dtype = DType::kF32; },
       kInvalid, "must have int32, has float32"},
      {"gptq_3", shaped(".qweight", {7, 64}), kInvalid,
       "has 7 words of a column, which end within a number of 3 bits"},
      {"gptq_4_order", [](Changed& c) { c.Set<int32_t>(Q(".g_idx"), 3, -1); },
       kInvalid,
       "g_idx': must have each group 32 times, the last perhaps fewer"},
      {"gptq_4_order",
       [](Changed& c) { c.Set<int32_t>(Q(".g_idx"), 3, 1 << 30); }, kInvalid,
       "is of group 1073741824"},
      {"gptq_4",
       [](Changed& c) {
         c.tensors[Q(".weight")] =
             ounce::testing::MakeTensor(Q(".weight"), {1, 1}, {0.0f});
       },
       kInvalid, "is there both as floats and in codes"},

      {"awq_gemm", set("bits", 3), kNotServed, "'bits' must be 4, is '3'"},
      {"awq_gemm", set("zero_point", false), kNotServed, "'zero_point'"},
      {"awq_gemm", set("version", "exllama"), kNotServed,
       "'version' must be gemm or gemv"},
      {"awq_gemm", set("group_size", 16), kInvalid,
       "must be of shape [6, 8], is of [3, 8]"},
      {"awq_gemv", shaped(".qzeros", {64, 0}), kInvalid, "qzeros"},
      {"awq_gemv", shaped(".scales", {64, 8}), kInvalid,
       "must be of shape [64, 32], is of [64, 8]"},

      {"bnb_int8", shaped(".SCB", {32}), kInvalid,
       "must be of shape [64], is of [32]"},
      {"bnb_int8",
       [](Changed& c) { c.Set<uint8_t>(Q(".weight_format"), 0, 2); },
       kNotServed, "must be 0 (rows as they are), is 2, an order for GPUs"},
      {"bnb_int8", set("llm_int8_threshold", -1), kInvalid,
       "'llm_int8_threshold'"},
      {"bnb_nf4", without(".weight.absmax"), kInvalid,
       "absmax': of shape [64] is missing"},
      {"bnb_nf4",
       [](Changed& c) {
         c.SetText(Q(".weight.quant_state.bitsandbytes__nf4"), "{}");
       },
       kInvalid, "bitsandbytes__nf4': 'blocksize'"},
      {"bnb_nf4",
       [](Changed& c) {
         c.SetText(Q(".weight.quant_state.bitsandbytes__nf4"), "no JSON");
       },
       kInvalid, "bitsandbytes__nf4"},
      {"bnb_nf4",
       [](Changed& c) {
         c.SetText(Q(".weight.quant_state.bitsandbytes__nf4"),
                   R"({"blocksize":64,"dtype":"float16","shape":[64,65]})");
       },
       kInvalid, "weight': must be of shape [2080, 1], is of [2048, 1]"},
      {"bnb_nf4",
       [](Changed& c) {
         c.SetText(Q(".weight.quant_state.bitsandbytes__nf4"),
                   R"({"blocksize":32,"dtype":"float16","shape":[64,64]})");
       },
       kNotServed, "block"},
      {"bnb_nf4",
       [](Changed& c) { c.Set<float>(Q(".weight.quant_map"), 3, 0.5f); },
       kInvalid, "must be bitsandbytes' own map: element 3"},
      {"bnb_nf4_double",
       [](Changed& c) { c.Set<float>(Q(".weight.nested_quant_map"), 9, 7.0f); },
       kInvalid, "nested_quant_map': must be bitsandbytes' own map: element 9"},

      {"compressed_pack4", set("format", "marlin-24"), kNotServed,
       "'format' must be int-quantized, naive-quantized, float-quantized or "
       "pack-quantized, is 'marlin-24'"},
      {"compressed_pack4", set("config_groups", nullptr), kInvalid,
       "no object 'config_groups'"},
      {"compressed_pack4",
       [](Changed& c) {
         c.quantization()["config_groups"]["group_0"]["weights"]["group_size"] =
             0;
       },
       kInvalid, "'config_groups': 'group_0': 'group_size' must be more"},
      {"compressed_pack4",
       [](Changed& c) {
         c.quantization()["config_groups"]["group_0"]["weights"]["num_bits"] =
             16;
       },
       kNotServed, "'num_bits' must be 1 to 8, is '16'"},
      {"compressed_pack4", set("sparsity_config", {{"format", "bitmask"}}),
       kNotServed, "'sparsity_config.format' must be dense, is 'bitmask'"},
      {"compressed_pack4",
       [](Changed& c) { c.Set<int64_t>(Q(".weight_shape"), 1, 1 << 20); },
       kInvalid, "is not the shape of what"},
      {"compressed_pack4", shaped(".weight_scale", {64, 3}), kInvalid,
       "are those of none of the 1 config_groups"},
      {"compressed_int8", without(".weight"), kInvalid,
       "weight': of shape [any, any] is missing"},

      {"exl2", without(".q_scale_max"), kInvalid,
       "q_scale_max': of shape [2] is missing"},
      {"exl2", without(".q_invperm"), kInvalid,
       "q_perm': of shape [any] is missing"},
      {"exl2", [](Changed& c) { c.Set<int32_t>(Q(".q_invperm"), 3, 64); },
       kInvalid, "q_invperm': must have each of 0 to 63 once: element 3 is 64"},
      {"exl2",
       [](Changed& c) {
         c.Set<int32_t>(Q(".q_invperm"), 3, 5);
         c.Set<int32_t>(Q(".q_invperm"), 4, 5);
       },
       kInvalid, "q_invperm': must have each of 0 to 63 once"},
      {"exl2", [](Changed& c) { c.Set<int16_t>(Q(".q_groups"), 0, 7); },
       kInvalid, "q_groups': must have 2 to 8 bits, not 7"},
      {"exl2", [](Changed& c) { c.Set<int16_t>(Q(".q_groups"), 3, 99); },
       kInvalid, "group 0 does not fit"},
      {"exl2", [](Changed& c) { c.Set<int16_t>(Q(".q_groups"), 2, 8); },
       kInvalid, "all of 64 columns together: group 2 does not fit"},
      {"exl2",
       [](Changed& c) { c.Set<uint16_t>(Q(".q_scale_max"), 1, 0x7C00); },
       kInvalid, "q_scale_max': element 1 must be a finite number, is inf"},
      {"exl2", shaped(".q_scale", {2, 7}), kInvalid, "must be of shape [2, 8]"},

      {"fp8_blocks", set("weight_block_size", {32}), kInvalid,
       "'weight_block_size' must be [rows, columns]"},
      {"fp8_blocks", set("weight_block_size", {32, 0}), kInvalid,
       "weight_block_size[1]"},
      {"fp8_blocks", set("weight_block_size", {16, 16}), kInvalid,
       "must have 24 floats, the scales of"},
      {"fbgemm_fp8", shaped(".weight_scale", {1, 1}), kInvalid,
       "must have 64 floats"},

      {"hqq_4", [](Changed& c) { c.Set<int32_t>(Q(".axis"), 0, 0); },
       kNotServed, "axis' must be 1, is 0, which is not served"},
      {"hqq_4", [](Changed& c) { c.Set<int32_t>(Q(".nbits"), 0, 5); }, kInvalid,
       "nbits': must be 8, 4, 3, 2 or 1, is 5"},
      {"hqq_4", [](Changed& c) { c.Set<int32_t>(Q(".group_size"), 0, 48); },
       kInvalid, "must divide the 4096 elements, is 48"},
      {"hqq_4", [](Changed& c) { c.Set<int64_t>(Q(".shape"), 0, -4); },
       kInvalid, "must be a shape, has -4"},
      {"hqq_4", [](Changed& c) { c.Set<int64_t>(Q(".shape"), 0, 32); },
       kInvalid, "W_q': must be of shape [32, 32], is of [64, 32]"},
      {"hqq_4", without(".zero"), kInvalid, "zero': of shape [128, 1]"},

      {"ounce", set("version", 2), kNotServed, "'version' must be 1, is '2'"},
      {"ounce", set("weights", json::array()), kInvalid,
       "'weights' must be an object"},
      {"ounce", weight("method", "linear:bits=99"), kInvalid,
       "q_proj.weight': parameter 'bits' of method 'linear' must be"},
      {"ounce", weight("method", "float16"), kInvalid,
       "'method' must be one that makes codes, without stages, is 'float16'"},
      {"ounce", weight("method", "prune-24+linear"), kInvalid,
       "without stages"},
      {"ounce", weight("dtype", "int8"), kInvalid,
       "'dtype' must be a float's, is 'int8'"},
      {"ounce", weight("shape", {64}), kInvalid, "'shape' must be 2 or 4"},
      {"ounce", weight("shape", {64, -64}), kInvalid, "'shape' must be 2 or 4"},
      {"ounce", weight("shape", {1 << 30, 1 << 30}), kInvalid,
       "at most 2^40 elements"},
      {"ounce", weight("shape", {64, 32}), kInvalid,
       "q_proj.weight.codes': must be of shape ["},
      {"ounce", weight("activations", 12), kInvalid,
       "'activations' must be 8 or 16, is 12"},
      {"ounce", weight("folded", "yes"), kInvalid, "'folded'"},
      {"ounce", without(".weight.codes"), kInvalid,
       "codes': of shape [1536] is missing"},
      {"torchao_int8", without("._weight_scale"), kInvalid,
       "q_proj._weight_scale': of shape [any, any] is missing"},
      {"torchao_int8", shaped("._weight_scale", {32, 2}), kInvalid,
       "must have a row for each of 64, and groups that divide 64 columns"},
      {"torchao_intx_groups", shaped("._weight_zero_point", {2, 64}), kInvalid,
       "must be of shape [64, 2], is of [2, 64]"},
      {"torchao_int4", shaped("._weight_zero_point", {64, 2}), kInvalid,
       "must be of shape [2, 64], is of [64, 2]"},
      {"torchao_int4",
       [](Changed& c) {
         c.tensors.at(Q("._weight_scale")).name = Q("._weight_scale_and_zero");
       },
       kNotServed,
       "q_proj._weight_scale_and_zero' belongs to a layout or a kind of "
       "quantization that is not served"},
      {"ounce", without(".weight.zero"), kInvalid, "zero': of shape [128]"},
  };
  for (const Fault& fault : faults) {
    Changed changed(fault.fixture);
    ASSERT_OK(changed.Open().status()) << fault.fixture;
    fault.make(changed);
    EXPECT_THAT(changed.Open(), StatusIs(fault.code, HasSubstr(fault.message)))
        << fault.fixture;
  }
}

TEST(QuantizedFormatTest, NamesTheNumberThatIsWrongWhenCodesAreRead) {
  const Fault faults[] = {
      {"gptq_4",
       [](Changed& c) { c.Set<uint16_t>(Q(".scales"), 70, 0x7C00); },
       {},
       "row 6, group 1: the scale must be a finite number, is inf"},
      {"gptq_4",
       [](Changed& c) { c.Set<uint32_t>(Q(".qzeros"), 0, 0); },
       {},
       "row 0, group 0: the zero-point must be 8, since config.json says that "
       "all are symmetric, is 1"},
      {"bnb_int8",
       [](Changed& c) { c.Set<uint32_t>(Q(".SCB"), 5, 0x7FC00000); },
       {},
       "SCB': element 5 must be a finite number of at most 1e+30, is nan"},
      {"bnb_nf4",
       [](Changed& c) { c.Set<uint32_t>(Q(".weight.absmax"), 9, 0x7F800000); },
       {},
       "absmax': element 9 must be a finite number of at most 1e+30, is inf"},
      {"fp8_blocks",
       [](Changed& c) { c.Set<uint8_t>(Q(".weight"), 65, 0x7F); },
       {},
       "row 1, column 1: must be a finite number"},
      {"hqq_4",
       [](Changed& c) { c.Set<uint16_t>(Q(".zero"), 2, 0x7F80); },
       {},
       "zero': element 2 must be a finite number of at most 1e+30, is inf"},
  };
  for (const Fault& fault : faults) {
    Changed changed(fault.fixture);
    fault.make(changed);
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, changed.Open());
    std::vector<float> values(64 * 64);
    EXPECT_THAT(
        checkpoint->ReadFloats(Q(".weight"), 0, 64 * 64, values.data()),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(fault.message)))
        << fault.fixture;
  }
}

TEST(QuantizedFormatTest, FilesMayHaveTheNamesThatToolsGiveThem) {
  const TempFolder folder;
  const std::string fixture = StrCat(kFixtures, "/exl2/");
  std::filesystem::copy(fixture + "config.json", folder.Path("config.json"));
  std::filesystem::copy(fixture + "model.safetensors",
                        folder.Path("output.safetensors"));
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  EXPECT_NE(checkpoint->tensors().at(Q(".weight")).coded, nullptr);
  std::filesystem::copy(fixture + "model.safetensors",
                        folder.Path("output-2.safetensors"));
  EXPECT_THAT(Checkpoint::Open(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("output-2.safetensors too")));
}

TEST(QuantizedFormatTest, AConfigWithoutQuantizationHasNoCodes) {
  Changed changed("gptq_4");
  for (const json& none : {json(), json(nullptr)}) {
    changed.quantization() = none;
    ASSERT_OK_AND_ASSIGN(const auto checkpoint, changed.Open());
    EXPECT_EQ(checkpoint->tensors().at(Q(".qweight")).coded, nullptr);
    EXPECT_FALSE(checkpoint->tensors().contains(Q(".weight")));
  }
}

}  // namespace
}  // namespace ounce::model
