#include "model/files/json_fields.h"

#include "model/files/json_file.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;

nlohmann::json Config() {
  return *ParseJsonObject("config.json", R"({
    "int": 7, "negative": -7, "whole": 4.0, "real": 4.5, "text": "abc",
    "flag": true, "nothing": null, "list": [1], "object": {},
    "huge": 18446744073709551615, "beyond": 1e300})");
}

auto Refused(const char* message) {
  return StatusIs(absl::StatusCode::kInvalidArgument, message);
}

TEST(JsonFieldsTest, ReturnsWhatIsThere) {
  const nlohmann::json config = Config();
  EXPECT_EQ(JsonInt(config, "int", 7, 7).value(), 7);
  EXPECT_EQ(JsonInt(config, "negative", -10, 10).value(), -7);
  EXPECT_EQ(JsonInt(config, "whole", 1, 10).value(), 4);
  EXPECT_EQ(JsonNumber(config, "real", 0, 10).value(), 4.5);
  EXPECT_EQ(JsonNumber(config, "int", 0, 10).value(), 7.0);
  EXPECT_EQ(JsonString(config, "text").value(), "abc");
  EXPECT_EQ(JsonBool(config, "flag").value(), true);
  EXPECT_EQ(OptionalJsonInt(config, "int", 1, 10, 3).value(), 7);
  EXPECT_EQ(OptionalJsonNumber(config, "real", 0, 10, 3).value(), 4.5);
  EXPECT_EQ(OptionalJsonString(config, "text", "x").value(), "abc");
  EXPECT_EQ(OptionalJsonBool(config, "flag", false).value(), true);
}

TEST(JsonFieldsTest, GivesTheDefaultForWhatIsAbsentOrNull) {
  const nlohmann::json config = Config();
  for (const char* key : {"absent", "nothing"}) {
    EXPECT_EQ(OptionalJsonInt(config, key, 1, 10, -3).value(), -3);
    EXPECT_EQ(OptionalJsonNumber(config, key, 0, 10, -1.5).value(), -1.5);
    EXPECT_EQ(OptionalJsonString(config, key, "x").value(), "x");
    EXPECT_EQ(OptionalJsonBool(config, key, true).value(), true);
  }
}

TEST(JsonFieldsTest, SaysWhatAFieldMustBeAndWhatItIs) {
  const nlohmann::json config = Config();
  EXPECT_THAT(JsonInt(config, "absent", 1, 10),
              Refused("'absent' must be an integer from 1 to 10, is missing"));
  EXPECT_THAT(JsonInt(config, "nothing", 1, 10),
              Refused("'nothing' must be an integer from 1 to 10, is missing"));
  EXPECT_THAT(JsonInt(config, "int", 8, 10),
              Refused("'int' must be an integer from 8 to 10, is 7"));
  EXPECT_THAT(JsonInt(config, "real", 1, 10),
              Refused("'real' must be an integer from 1 to 10, is 4.5"));
  EXPECT_THAT(JsonInt(config, "text", 1, 10),
              Refused("'text' must be an integer from 1 to 10, is 'abc'"));
  EXPECT_THAT(JsonInt(config, "flag", 0, 1),
              Refused("'flag' must be an integer from 0 to 1, is true"));
  EXPECT_THAT(JsonInt(config, "list", 0, 1),
              Refused("'list' must be an integer from 0 to 1, is an array"));
  EXPECT_THAT(JsonInt(config, "huge", 0, INT64_MAX),
              Refused("'huge' must be an integer from 0 to "
                      "9223372036854775807, is 18446744073709551615"));
  EXPECT_THAT(JsonInt(config, "beyond", 0, 9),
              Refused("'beyond' must be an integer from 0 to 9, is 1e+300"));
  EXPECT_THAT(JsonNumber(config, "real", 0, 1),
              Refused("'real' must be a number from 0 to 1, is 4.5"));
  EXPECT_THAT(JsonString(config, "object"),
              Refused("'object' must be a string, is an object"));
  EXPECT_THAT(JsonBool(config, "int"),
              Refused("'int' must be true or false, is 7"));
}

TEST(JsonFieldsTest, RefusesAWrongTypeEvenWithADefault) {
  const nlohmann::json config = Config();
  EXPECT_FALSE(OptionalJsonInt(config, "text", 1, 10, 3).ok());
  EXPECT_FALSE(OptionalJsonNumber(config, "text", 1, 10, 3).ok());
  EXPECT_FALSE(OptionalJsonString(config, "int", "x").ok());
  EXPECT_FALSE(OptionalJsonBool(config, "int", true).ok());
}

}  // namespace
}  // namespace ounce::model
