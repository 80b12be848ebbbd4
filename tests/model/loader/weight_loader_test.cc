// What the loader makes of a linear layer's rows, wherever a checkpoint has
// them. Whole models are in loader_test.

#include "model/loader/weight_loader.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.h"
#include "tests/quant/matrix_rows.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::MemoryCheckpoint;
using ::ounce::testing::StatusIs;
using quant::DType;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kCols = 40;

LoadOptions With(const std::string& spec) {
  LoadOptions options;
  if (!spec.empty()) options.plan = *ParseMethodPlan(spec);
  options.measure_error = true;
  return options;
}

// Normal values in "`module`.weight", and in "`module`.bias".
void AddLayer(const std::string& module, int64_t rows, uint32_t seed,
              MemoryCheckpoint& checkpoint, DType dtype = DType::kF16) {
  const auto add = [&](const char* suffix, std::vector<int64_t> shape,
                       int64_t count, uint32_t number) {
    std::vector<float> values = quant::NormalValues(count, number, 0.1f);
    for (float& value : values) value = quant::RoundTo(dtype, value);
    checkpoint.Add(module + suffix, std::move(shape), std::move(values), dtype);
  };
  add(".weight", {rows, kCols}, rows * kCols, seed);
  add(".bias", {rows}, rows, seed + 100);
}

// "`module`.weight" [rows, cols] becomes [cols, rows].
void Transpose(const std::string& module, MemoryCheckpoint& checkpoint) {
  const std::string name = module + ".weight";
  const TensorInfo info = checkpoint.tensors().at(name);
  const int64_t rows = info.shape[0], cols = info.shape[1];
  const std::vector<float> values = checkpoint.values(name);
  std::vector<float> turned(values.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      turned[col * rows + row] = values[row * cols + col];
    }
  }
  checkpoint.Add(name, {cols, rows}, std::move(turned), info.dtype);
}

// q, k and v of 20, 6 and 6 rows.
MemoryCheckpoint QueryKeyValue(DType dtype = DType::kF16) {
  MemoryCheckpoint checkpoint;
  AddLayer("attn.q", 20, 1, checkpoint, dtype);
  AddLayer("attn.k", 6, 2, checkpoint, dtype);
  AddLayer("attn.v", 6, 3, checkpoint, dtype);
  return checkpoint;
}
const std::vector<LinearSource>& QueryKeyValueSources() {
  static const std::vector<LinearSource> sources = {
      {.module = "attn.q", .rows = 20, .bias = true},
      {.module = "attn.k", .rows = 6, .bias = true},
      {.module = "attn.v", .rows = 6, .bias = true}};
  return sources;
}

ThreadPool* Pool() {
  static ThreadPool pool(2);
  return &pool;
}

struct Loaded {
  Linear layer;
  LoadReport report;
};

Loaded Load(const Checkpoint& checkpoint, const LoadOptions& options,
            const std::vector<LinearSource>& sources, bool read = true) {
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, read ? Pool() : nullptr);
  absl::StatusOr<Linear> layer =
      loader.ReadLinear(sources, kCols, WeightRole::kLinear);
  OUNCE_CHECK(layer.ok(), layer.status().ToString().c_str());
  absl::StatusOr<LoadReport> report = std::move(loader).Finish();
  OUNCE_CHECK(report.ok(), report.status().ToString().c_str());
  return {*std::move(layer), *std::move(report)};
}

const TensorReport& Find(const LoadReport& report, const std::string& name) {
  for (const TensorReport& tensor : report.tensors) {
    if (tensor.name == name) return tensor;
  }
  OUNCE_CHECK(false, name.c_str());
}

std::vector<float> Values(const quant::PackedWeight& weight) {
  std::vector<float> values(weight.rows() * weight.cols());
  weight.Dequantize(0, weight.rows(), values.data());
  return values;
}

std::vector<float> Joined(std::vector<std::vector<float>> pieces) {
  std::vector<float> all;
  for (const auto& piece : pieces) {
    all.insert(all.end(), piece.begin(), piece.end());
  }
  return all;
}

int64_t MappedBytes(const Linear& layer) {
  int64_t bytes = 0;
  for (const LinearPart& part : layer.parts()) {
    bytes += part.weight->resident_bytes();
  }
  return bytes;
}

int64_t ReportedBytes(const LoadReport& report) {
  int64_t bytes = 0;
  for (const TensorReport& tensor : report.tensors) {
    if (!tensor.is_vector) bytes += tensor.resident_bytes;
  }
  return bytes;
}

TEST(ReadLinearTest, PacksNeighboursOfOneMethodAsOneMatrix) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  const Loaded loaded =
      Load(checkpoint, With("float16"), QueryKeyValueSources());
  EXPECT_EQ(loaded.layer.rows(), 32);
  EXPECT_EQ(loaded.layer.cols(), kCols);
  ASSERT_EQ(loaded.layer.parts().size(), 1u);
  const LinearPart& part = loaded.layer.parts()[0];
  EXPECT_EQ(part.rows, 32);
  EXPECT_THAT(part.modules, ElementsAre("attn.q", "attn.k", "attn.v"));
  EXPECT_EQ(Values(*part.weight), Joined({checkpoint.values("attn.q.weight"),
                                          checkpoint.values("attn.k.weight"),
                                          checkpoint.values("attn.v.weight")}));
  EXPECT_EQ(loaded.layer.bias(), Joined({checkpoint.values("attn.q.bias"),
                                         checkpoint.values("attn.k.bias"),
                                         checkpoint.values("attn.v.bias")}));
}

TEST(ReadLinearTest, ReportsEachTensorOfAJoinedMatrixUnderItsOwnName) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  const Loaded loaded =
      Load(checkpoint, With("linear"), QueryKeyValueSources());
  ASSERT_EQ(loaded.layer.parts().size(), 1u);
  // 32 rows in two panels, with a scale and a sum for each row.
  EXPECT_EQ(MappedBytes(loaded.layer), 2 * 1024 + 32 * 8);
  EXPECT_EQ(ReportedBytes(loaded.report), MappedBytes(loaded.layer));
  for (const LinearSource& source : QueryKeyValueSources()) {
    const TensorReport& joined = Find(loaded.report, source.module + ".weight");
    EXPECT_THAT(joined.shape, ElementsAre(source.rows, kCols));
    EXPECT_EQ(joined.method, "linear");
    EXPECT_EQ(joined.stored_bytes, source.rows * kCols + source.rows * 2);
    EXPECT_EQ(joined.checkpoint_bytes, source.rows * kCols * 2);
    EXPECT_EQ(joined.resident_bytes, (2 * 1024 + 32 * 8) * source.rows / 32);

    // A row is packed as it would be alone.
    const std::vector<LinearSource> one = {source};
    MemoryCheckpoint only;
    for (const char* suffix : {".weight", ".bias"}) {
      const std::string name = source.module + suffix;
      only.Add(name, checkpoint.tensors().at(name).shape,
               checkpoint.values(name), DType::kF16);
    }
    const Loaded alone = Load(only, With("linear"), one);
    const auto& error = Find(alone.report, source.module + ".weight").error;
    ASSERT_TRUE(joined.error.has_value() && error.has_value());
    EXPECT_EQ(joined.error->relative_l2, error->relative_l2);
    EXPECT_EQ(joined.error->max_abs, error->max_abs);
  }
}

TEST(ReadLinearTest, TensorsOfAJoinedMatrixHaveEachAScaleOfTheirOwn) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  std::vector<std::vector<float>> alone;
  for (const LinearSource& source : QueryKeyValueSources()) {
    // Its largest is 1, 2 or 3 times 127, and all are integers.
    std::vector<float> values = checkpoint.values(source.module + ".weight");
    const auto factor = static_cast<float>(alone.size() + 1);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = factor * static_cast<float>(i % 255) - factor * 127;
    }
    checkpoint.Add(source.module + ".weight", {source.rows, kCols}, values,
                   DType::kF16);
    alone.push_back(values);
  }
  const Loaded loaded = Load(checkpoint, With("linear:granularity=tensor"),
                             QueryKeyValueSources());
  ASSERT_EQ(loaded.layer.parts().size(), 1u);
  EXPECT_EQ(Values(*loaded.layer.parts()[0].weight), Joined(alone));
  EXPECT_EQ(Find(loaded.report, "attn.k.weight").stored_bytes, 6 * kCols + 2);
}

TEST(ReadLinearTest, GivenScalesAreReportedBesideComputedOnes) {
  const MemoryCheckpoint checkpoint = QueryKeyValue();
  const Loaded given = Load(
      checkpoint, With("attn.k=linear:granularity=tensor,scale=0.0001 linear"),
      QueryKeyValueSources());
  const Loaded computed =
      Load(checkpoint, With("attn.k=linear:granularity=tensor linear"),
           QueryKeyValueSources());
  const TensorReport& tensor = Find(given.report, "attn.k.weight");
  ASSERT_TRUE(tensor.computed_relative_l2.has_value());
  EXPECT_EQ(*tensor.computed_relative_l2,
            Find(computed.report, "attn.k.weight").error->relative_l2);
  EXPECT_GT(*tensor.error->clamped, 0.5);
  EXPECT_GT(tensor.error->relative_l2, 10 * *tensor.computed_relative_l2);
  const TensorReport& other = Find(given.report, "attn.q.weight");
  EXPECT_FALSE(other.computed_relative_l2.has_value());
  EXPECT_FALSE(other.error->clamped.has_value());
}

TEST(ReadLinearTest, WhatGetsAnotherMethodIsAPartOfItsOwn) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  const LoadOptions options = With("*.k=keep linear");
  const Loaded loaded = Load(checkpoint, options, QueryKeyValueSources());
  ASSERT_EQ(loaded.layer.parts().size(), 3u);
  const char* const modules[] = {"attn.q", "attn.k", "attn.v"};
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(loaded.layer.parts()[i].modules, ElementsAre(modules[i]));
    EXPECT_EQ(loaded.layer.parts()[i].rows, QueryKeyValueSources()[i].rows);
  }
  EXPECT_EQ(Values(*loaded.layer.parts()[1].weight),
            checkpoint.values("attn.k.weight"));
  EXPECT_EQ(Find(loaded.report, "attn.k.weight").left_alone,
            "kept by '*.k=keep'");
  EXPECT_EQ(ReportedBytes(loaded.report), MappedBytes(loaded.layer));
  EXPECT_EQ(loaded.layer.bias().size(), 32u);
}

// Scales and floats are kept in the checkpoint's dtype.
TEST(ReadLinearTest, WhatHasAnotherDTypeIsAPartOfItsOwn) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  AddLayer("attn.q", 20, 1, checkpoint, DType::kBF16);
  for (const char* spec : {"", "linear"}) {
    const Loaded loaded = Load(checkpoint, With(spec), QueryKeyValueSources());
    ASSERT_EQ(loaded.layer.parts().size(), 2u) << spec;
    EXPECT_THAT(loaded.layer.parts()[1].modules,
                ElementsAre("attn.k", "attn.v"));
  }
}

TEST(ReadLinearTest, SourcesWithoutABiasGetZerosBesideOnesWithIt) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  checkpoint.Remove("attn.q.bias");
  checkpoint.Remove("attn.v.bias");
  std::vector<LinearSource> sources = QueryKeyValueSources();
  sources[0].bias = sources[2].bias = false;
  EXPECT_EQ(Load(checkpoint, {}, sources).layer.bias(),
            Joined({std::vector<float>(20), checkpoint.values("attn.k.bias"),
                    std::vector<float>(6)}));
  checkpoint.Remove("attn.k.bias");
  sources[1].bias = false;
  EXPECT_THAT(Load(checkpoint, {}, sources).layer.bias(), IsEmpty());
}

TEST(ReadLinearTest, CountsAllThatTheVectorsTake) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  checkpoint.Remove("attn.q.bias");
  std::vector<LinearSource> sources = QueryKeyValueSources();
  sources[0].bias = false;
  const Loaded loaded = Load(checkpoint, {}, sources);
  ASSERT_EQ(loaded.layer.bias().size(), 32u);
  EXPECT_EQ(loaded.report.resident_bytes, MappedBytes(loaded.layer) + 32 * 4);
  EXPECT_EQ(loaded.report.table_bytes, 20 * 4);
  EXPECT_EQ(loaded.report.resident_bytes_by_element.at("float32"), 32 * 4);
  const Loaded planned = Load(checkpoint, {}, sources, /*read=*/false);
  EXPECT_EQ(planned.report.resident_bytes, loaded.report.resident_bytes);

  // A norm that two layers have is in memory twice.
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, Pool());
  ASSERT_OK(loader.Vector("attn.k.bias", 6));
  ASSERT_OK(loader.Vector("attn.k.bias", 6));
  loader.Ignore("*");
  ASSERT_OK_AND_ASSIGN(const LoadReport report, std::move(loader).Finish());
  EXPECT_EQ(report.resident_bytes, 2 * 6 * 4);
}

TEST(ReadLinearTest, OnlyAHeadsBiasMayForbidAToken) {
  MemoryCheckpoint checkpoint;
  AddLayer("lm_head", 8, 1, checkpoint);
  checkpoint.values("lm_head.bias")[3] = -INFINITY;
  const LinearSource source = {.module = "lm_head", .rows = 8, .bias = true};
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  WeightLoader head(checkpoint, options, policy, Pool());
  ASSERT_OK_AND_ASSIGN(const Linear layer,
                       head.ReadLinear({source}, kCols, WeightRole::kHead));
  EXPECT_EQ(layer.bias()[3], -INFINITY);
  WeightLoader linear(checkpoint, options, policy, Pool());
  EXPECT_THAT(linear.ReadLinear({source}, kCols, WeightRole::kLinear),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'lm_head.bias': element 3 must be a finite "
                                 "number, is -inf")));
}

// As GPT-2's Conv1D: a scale belongs to an output channel, which is a column
// of what is stored.
TEST(ReadLinearTest, ATransposedTensorIsQuantizedByItsOutputChannels) {
  MemoryCheckpoint upright = QueryKeyValue();
  MemoryCheckpoint turned = QueryKeyValue();
  std::vector<LinearSource> sources = QueryKeyValueSources();
  for (LinearSource& source : sources) {
    Transpose(source.module, turned);
    source.transposed = true;
  }
  for (const char* spec : {"", "float32", "linear"}) {
    const Loaded wanted = Load(upright, With(spec), QueryKeyValueSources());
    const Loaded found = Load(turned, With(spec), sources);
    ASSERT_EQ(found.layer.parts().size(), 1u);
    EXPECT_EQ(Values(*found.layer.parts()[0].weight),
              Values(*wanted.layer.parts()[0].weight))
        << spec;
    EXPECT_EQ(found.report.stored_bytes, wanted.report.stored_bytes) << spec;
    EXPECT_EQ(found.report.resident_bytes, wanted.report.resident_bytes);
  }
  const LoadReport report = Load(turned, With("linear"), sources).report;
  const TensorReport& q = Find(report, "attn.q.weight");
  EXPECT_THAT(q.shape, ElementsAre(kCols, 20));
  EXPECT_EQ(q.stored_bytes, 20 * kCols + 20 * 2);
}

TEST(ReadLinearTest, ATensorCutIntoLayersIsReportedOnceWithSums) {
  MemoryCheckpoint checkpoint;
  AddLayer("attn.qkv", 32, 1, checkpoint);
  AddLayer("mlp.up", 24, 2, checkpoint);
  int64_t done = 0;
  LoadOptions options = With("linear");
  options.progress = [&](const LoadProgress& progress) {
    EXPECT_EQ(progress.tensors_done, ++done);
    return absl::OkStatus();
  };
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, Pool());
  const auto cut = [](int64_t first, int64_t rows) {
    return LinearSource{.module = "attn.qkv",
                        .rows = rows,
                        .bias = true,
                        .first_row = first,
                        .stored_rows = 32};
  };
  ASSERT_OK_AND_ASSIGN(
      const Linear keys,
      loader.ReadLinear({cut(20, 12)}, kCols, WeightRole::kLinear));
  // The queries lie in one matrix with others.
  ASSERT_OK_AND_ASSIGN(
      const Linear queries,
      loader.ReadLinear(
          {{.module = "mlp.up", .rows = 24, .bias = true}, cut(0, 20)}, kCols,
          WeightRole::kLinear));
  ASSERT_OK_AND_ASSIGN(const LoadReport report, std::move(loader).Finish());
  EXPECT_EQ(done, 4);

  const LinearSource whole = {.module = "attn.qkv", .rows = 32, .bias = true};
  MemoryCheckpoint only;
  AddLayer("attn.qkv", 32, 1, only);
  const Loaded uncut = Load(only, With("linear"), {whole});
  const std::vector<float> values = Values(*uncut.layer.parts()[0].weight);
  EXPECT_EQ(Values(*keys.parts()[0].weight),
            std::vector<float>(values.begin() + 20 * kCols, values.end()));
  const std::vector<float> joined = Values(*queries.parts()[0].weight);
  EXPECT_EQ(std::vector<float>(joined.begin() + 24 * kCols, joined.end()),
            std::vector<float>(values.begin(), values.begin() + 20 * kCols));
  EXPECT_EQ(keys.bias(), std::vector<float>(uncut.layer.bias().begin() + 20,
                                            uncut.layer.bias().end()));

  ASSERT_EQ(report.tensors.size(), 4u);
  const TensorReport& once = Find(report, "attn.qkv.weight");
  const TensorReport& reference = Find(uncut.report, "attn.qkv.weight");
  EXPECT_EQ(once.shape, reference.shape);
  EXPECT_EQ(once.checkpoint_bytes, reference.checkpoint_bytes);
  EXPECT_EQ(once.stored_bytes, reference.stored_bytes);
  EXPECT_NEAR(once.error->relative_l2, reference.error->relative_l2, 1e-12);
  EXPECT_EQ(ReportedBytes(report), MappedBytes(keys) + MappedBytes(queries));
}

TEST(ReadLinearTest, RefusesRowsThatNobodyAskedFor) {
  MemoryCheckpoint checkpoint;
  AddLayer("attn.qkv", 32, 1, checkpoint);
  const auto read = [&](std::vector<std::pair<int64_t, int64_t>> cuts) {
    const LoadOptions options;
    MethodPolicy policy(options.plan);
    WeightLoader loader(checkpoint, options, policy, nullptr);
    for (const auto& [first, rows] : cuts) {
      const LinearSource source = {.module = "attn.qkv",
                                   .rows = rows,
                                   .bias = true,
                                   .first_row = first,
                                   .stored_rows = 32};
      EXPECT_OK(loader.ReadLinear({source}, kCols, WeightRole::kLinear));
    }
    return std::move(loader).Finish().status();
  };
  EXPECT_THAT(read({{0, 16}, {20, 12}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor 'attn.qkv.weight' has row 16, which "
                                 "config.json does not account for")));
  EXPECT_THAT(read({{8, 24}}), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("has row 0, which")));
  EXPECT_OK(read({{8, 24}, {0, 10}}));
  EXPECT_OK(read({{16, 16}, {0, 8}, {8, 8}}));
}

TEST(ReadLinearTest, ATensorOfTwoNamesIsPackedOnceAndCountedOnce) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  checkpoint.Tie("next.q.weight", "attn.q.weight");
  checkpoint.Tie("next.k.weight", "attn.k.weight");
  const LoadOptions options = With("linear");
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, Pool());
  const auto read = [&](const std::string& q, const std::string& k) {
    return *loader.ReadLinear(
        {{.module = q, .rows = 20}, {.module = k, .rows = 6}}, kCols,
        WeightRole::kLinear);
  };
  const Linear first = read("attn.q", "attn.k");
  const Linear second = read("next.q", "next.k");
  EXPECT_EQ(first.parts()[0].weight, second.parts()[0].weight);
  EXPECT_THAT(second.parts()[0].modules, ElementsAre("next.q", "next.k"));
  ASSERT_OK(loader.ReadLinear({{.module = "attn.v", .rows = 6}}, kCols,
                              WeightRole::kLinear));
  loader.Ignore("*.bias");
  ASSERT_OK_AND_ASSIGN(const LoadReport report, std::move(loader).Finish());
  EXPECT_EQ(report.stored_bytes, 32 * kCols + 32 * 2);
  EXPECT_EQ(Find(report, "next.q.weight").left_alone, "tied to attn.q.weight");
  EXPECT_EQ(Find(report, "next.q.weight").resident_bytes, 0);
}

// One tensor that is a linear layer and a head: the method is for the first.
TEST(ReadLinearTest, ATensorOfTwoRolesGetsTheMethodOfEach) {
  MemoryCheckpoint checkpoint;
  AddLayer("layer", 20, 1, checkpoint);
  checkpoint.Tie("head.weight", "layer.weight");
  const LoadOptions options = With("linear");
  for (const bool head_first : {true, false}) {
    SCOPED_TRACE(head_first);
    MethodPolicy policy(options.plan);
    WeightLoader loader(checkpoint, options, policy, Pool());
    SharedWeight head, layer;
    for (const bool is_head : {head_first, !head_first}) {
      ASSERT_OK_AND_ASSIGN(
          (is_head ? head : layer),
          loader.Matrix(is_head ? "head" : "layer", 20, kCols,
                        is_head ? WeightRole::kHead : WeightRole::kLinear));
    }
    EXPECT_EQ(Values(*head), checkpoint.values("layer.weight"));
    EXPECT_NE(Values(*layer), checkpoint.values("layer.weight"));
    loader.Ignore("*.bias");
    ASSERT_OK_AND_ASSIGN(const LoadReport report, std::move(loader).Finish());
    EXPECT_EQ(Find(report, "layer.weight").method, "linear");
    EXPECT_EQ(Find(report, "head.weight").method, "float16");
    EXPECT_EQ(report.resident_bytes,
              head->resident_bytes() + layer->resident_bytes());
  }
}

TEST(ReadLinearTest, WhatAnEmbeddingMayHoldALinearLayerOfItMayNot) {
  MemoryCheckpoint checkpoint;
  std::vector<float> values(20 * kCols);
  values[kCols + 2] = INFINITY;
  checkpoint.Add("embed.weight", {20, kCols}, std::move(values), DType::kF16);
  checkpoint.Tie("layer.weight", "embed.weight");
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, Pool());
  ASSERT_OK(loader.Matrix("embed", 20, kCols, WeightRole::kEmbedding));
  EXPECT_THAT(loader.Matrix("layer", 20, kCols, WeightRole::kLinear),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("is not a finite number")));
}

// What lies in a matrix with others takes memory twice, but is stored once.
TEST(ReadLinearTest, WhatIsPackedTwiceIsStoredOnce) {
  MemoryCheckpoint checkpoint;
  AddLayer("embed", 20, 1, checkpoint);
  AddLayer("other", 6, 2, checkpoint);
  checkpoint.Tie("head.weight", "embed.weight");
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, Pool());
  ASSERT_OK_AND_ASSIGN(
      const SharedWeight embedding,
      loader.Matrix("embed", 20, kCols, WeightRole::kEmbedding));
  ASSERT_OK_AND_ASSIGN(const Linear head,
                       loader.ReadLinear({{.module = "head", .rows = 20},
                                          {.module = "other", .rows = 6}},
                                         kCols, WeightRole::kHead));
  loader.Ignore("*.bias");
  ASSERT_OK_AND_ASSIGN(const LoadReport report, std::move(loader).Finish());
  EXPECT_EQ(report.stored_bytes, 26 * kCols * 2);
  EXPECT_EQ(ReportedBytes(report),
            MappedBytes(head) + embedding->resident_bytes());
}

TEST(ReadLinearTest, PlansToTheByteWithoutReading) {
  for (const char* spec : {"", "float32", "linear", "linear:bits=3",
                           "linear:mode=asymmetric,granularity=group"}) {
    const MemoryCheckpoint checkpoint = QueryKeyValue();
    const LoadOptions options =
        With(*spec != 0 ? StrCat("*.v=keep ", spec) : "");
    const Loaded loaded = Load(checkpoint, options, QueryKeyValueSources());
    const Loaded planned = Load(checkpoint, options, QueryKeyValueSources(),
                                /*read=*/false);
    EXPECT_EQ(planned.report.resident_bytes, loaded.report.resident_bytes);
    EXPECT_EQ(planned.report.stored_bytes, loaded.report.stored_bytes);
    EXPECT_EQ(planned.layer.rows(), loaded.layer.rows());
    EXPECT_THAT(planned.layer.bias(), IsEmpty());
    ASSERT_EQ(planned.layer.parts().size(), loaded.layer.parts().size());
    for (size_t i = 0; i < planned.layer.parts().size(); ++i) {
      const quant::PackedWeight& outline = *planned.layer.parts()[i].weight;
      EXPECT_TRUE(outline.is_outline());
      EXPECT_EQ(&outline.layout(), &loaded.layer.parts()[i].weight->layout());
      EXPECT_EQ(planned.layer.parts()[i].rows, loaded.layer.parts()[i].rows);
    }
  }
}

TEST(ReadLinearTest, NamesTheTensorAndPlaceOfAValueThatIsNoNumber) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  Transpose("attn.v", checkpoint);
  std::vector<LinearSource> sources = QueryKeyValueSources();
  sources[2].transposed = true;
  const auto load = [&] {
    const LoadOptions options = With("linear");
    MethodPolicy policy(options.plan);
    WeightLoader loader(checkpoint, options, policy, Pool());
    return loader.ReadLinear(sources, kCols, WeightRole::kLinear).status();
  };
  checkpoint.values("attn.v.weight")[7 * 6 + 5] = NAN;
  EXPECT_THAT(load(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("tensor 'attn.v.weight', row 7, "
                                         "column 5: nan is not a finite")));
  checkpoint.values("attn.k.weight")[2 * kCols + 1] = INFINITY;
  EXPECT_THAT(load(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("tensor 'attn.k.weight', row 2, "
                                         "column 1: inf is not a finite")));
}

TEST(ReadLinearTest, RefusesATensorOfAnotherShape) {
  MemoryCheckpoint checkpoint = QueryKeyValue();
  Transpose("attn.v", checkpoint);
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  WeightLoader loader(checkpoint, options, policy, nullptr);
  EXPECT_THAT(
      loader.ReadLinear(QueryKeyValueSources(), kCols, WeightRole::kLinear),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("'attn.v.weight' must be of shape [6, 40]"),
                     HasSubstr("is of [40, 6]"))));
}

TEST(WeightReaderTest, FindsThePrefixThatACheckpointHas) {
  MemoryCheckpoint checkpoint;
  checkpoint.Add("decoder.embed.weight", {1, 1}, {0});
  const LoadOptions options;
  MethodPolicy policy(options.plan);
  const WeightLoader loader(checkpoint, options, policy, nullptr);
  EXPECT_EQ(loader.PrefixOf("embed.weight", {"model.decoder.", "decoder."}),
            "decoder.");
  EXPECT_EQ(loader.PrefixOf("decoder.embed.weight", {"model.", ""}), "");
  EXPECT_EQ(loader.PrefixOf("other.weight", {"model.decoder.", "decoder."}),
            "model.decoder.");
}

}  // namespace
}  // namespace ounce::model
