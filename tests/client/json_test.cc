#include "client/json.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {
namespace {

constexpr int64_t kExact = int64_t{1} << 53;  // of a double

TEST(JsonTest, WritesWholeNumbersAsNumbersWhereADoubleHoldsThem) {
  v1::QuantizeReport report;
  report.set_version(12);
  report.set_stored_bytes_before(kExact - 1);
  report.set_stored_bytes_after(kExact);
  report.set_resident_bytes_before(-kExact + 1);
  report.set_resident_bytes_after(-kExact);
  report.add_tensors()->add_shape(51'200);
  report.mutable_tensors(0)->add_shape(kExact);
  const auto json = ToJson(report);
  EXPECT_EQ(json["version"], 12);
  EXPECT_EQ(json["stored_bytes_before"], kExact - 1);
  EXPECT_EQ(json["stored_bytes_after"], "9007199254740992");
  EXPECT_EQ(json["resident_bytes_before"], -kExact + 1);
  EXPECT_EQ(json["resident_bytes_after"], "-9007199254740992");
  EXPECT_EQ(json["tensors"][0]["shape"][0], 51'200);
  EXPECT_EQ(json["tensors"][0]["shape"][1], "9007199254740992");

  v1::GenerateResponse response;
  response.set_seed(UINT64_MAX);
  EXPECT_EQ(ToJson(response)["seed"], "18446744073709551615");
  response.set_seed(7);
  EXPECT_EQ(ToJson(response)["seed"], 7);
}

TEST(JsonTest, WritesZerosButNothingThatIsAbsent) {
  v1::GenerateResponse response;
  const auto empty = ToJson(response);
  EXPECT_EQ(empty["text"], "");
  EXPECT_EQ(empty["token_ids"], nlohmann::json::array());
  EXPECT_EQ(empty["finish_reason"], "FINISH_REASON_UNSPECIFIED");
  EXPECT_EQ(empty["model_version"], 0);
  EXPECT_FALSE(empty.contains("usage"));  // a message
  EXPECT_FALSE(empty.contains("seed"));   // optional
  response.mutable_usage();
  response.set_seed(0);
  const auto full = ToJson(response);
  EXPECT_EQ(full["usage"]["new_tokens"], 0);
  EXPECT_EQ(full["usage"]["queue_seconds"], 0);
  EXPECT_EQ(full["seed"], 0);
}

TEST(JsonTest, KeepsTheOrderOfTheFields) {
  v1::BoundingBox box;
  box.set_x_max(2.5f);
  EXPECT_EQ(JsonLine(ToJson(box)),
            "{\"x_min\":0,\"y_min\":0,\"x_max\":2.5,\"y_max\":0}\n");
}

TEST(JsonTest, WritesErrors) {
  EXPECT_EQ(JsonLine(ToJson(absl::NotFoundError("no 'a\xff'"))),
            "{\"code\":\"NOT_FOUND\",\"message\":\"no 'a\xef\xbf\xbd'\"}\n");
}

}  // namespace
}  // namespace ounce::client
