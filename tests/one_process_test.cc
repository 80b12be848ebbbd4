// LibTorch, gRPC with protobuf, and prometheus-cpp live in one process: each
// has brought a second copy of another's library with it before.

#include <grpcpp/grpcpp.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.pb.h"
#include "tests/one_process_torch.h"

namespace ounce {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Paths of the mapped files whose names hold `part`.
std::set<std::string> MappedFiles(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  std::set<std::string> files;
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.find('/');
    if (slash != std::string::npos &&
        line.find(part, line.rfind('/')) != std::string::npos) {
      files.insert(line.substr(slash));
    }
  }
  return files;
}

TEST(OneProcessTest, MultipliesParsesAndCounts) {
  EXPECT_THAT(TorchMatmul({1, 2, 3, 4}, {5, 6, 7, 8}, 2, 2, 2),
              ElementsAre(19, 22, 43, 50));

  v1::GenerateRequest request;
  request.set_model("code");
  request.mutable_sampling()->set_temperature(0.5f);
  v1::GenerateRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(request.SerializeAsString()));
  EXPECT_EQ(parsed.sampling().temperature(), 0.5f);
  EXPECT_THAT(grpc::Version(), HasSubstr("."));

  prometheus::Registry registry;
  prometheus::BuildCounter()
      .Name("ounce_test_total")
      .Register(registry)
      .Add({})
      .Increment(3);
  EXPECT_THAT(prometheus::TextSerializer().Serialize(registry.Collect()),
              HasSubstr("ounce_test_total 3"));
}

TEST(OneProcessTest, MapsOneOpenMpRuntime) {
  EXPECT_THAT(TorchMatmul({2}, {3}, 1, 1, 1), ElementsAre(6));
  EXPECT_THAT(MappedFiles("libgomp"), SizeIs(1));
  EXPECT_THAT(MappedFiles("libomp"), SizeIs(0));
  EXPECT_THAT(MappedFiles("libiomp"), SizeIs(0));
}

TEST(OneProcessTest, RunsThePinnedLibTorchForCpus) {
  EXPECT_EQ(TorchHeaderVersion(), OUNCE_LIBTORCH_VERSION);
  EXPECT_THAT(TorchConfig(),
              HasSubstr("TORCH_VERSION=" OUNCE_LIBTORCH_VERSION));
  EXPECT_THAT(MappedFiles("libtorch_cpu"), SizeIs(1));
  EXPECT_THAT(MappedFiles("cuda"), SizeIs(0));
}

}  // namespace
}  // namespace ounce
