#include "model/files/json_file.h"

#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

TEST(JsonFileTest, ReadsAnObject) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile(
      "config.json",
      R"({"a": [1, -2, 3.5, {"b": null}], "c": {"d": "é", "e": true}, "f": []})");
  ASSERT_OK_AND_ASSIGN(const nlohmann::json json, ReadJsonObject(path));
  EXPECT_EQ(json.dump(),
            R"({"a":[1,-2,3.5,{"b":null}],"c":{"d":"é","e":true},"f":[]})");
}

TEST(JsonFileTest, RefusesWhatIsMalformedWithItsPlace) {
  const struct {
    const char* name;
    std::string text;
    const char* reason;
  } cases[] = {
      {"empty", "", "malformed JSON at byte 1"},
      {"truncated", R"({"a": [1, )", "malformed JSON at byte 11"},
      {"trailing", R"({"a": 1} x)", "malformed JSON at byte 10"},
      {"not JSON", "{a: 1}", "malformed JSON at byte 2, near '{a'"},
      {"half a NaN", R"({"a": Na})", "malformed JSON at byte 7"},
      {"malformed beside a NaN", R"({"a": NaN, )", "malformed JSON at byte 7"},
      {"huge number", R"({"a": 1e999})", "malformed JSON"},
      {"not UTF-8", "{\"a\": \"\xff\"}", "malformed JSON at byte 8"},
      {"array", "[1]", "must be a JSON object, is JSON array"},
      {"number", "1", "must be a JSON object, is JSON number"},
      {"duplicate key", R"({"a": 1, "b": 2, "a": 3})", "key 'a' comes twice"},
      {"duplicate deep key", R"({"x": [{"a": 1, "a": 3}]})",
       "key 'a' comes twice"},
      {"deep arrays", R"({"a": )" + std::string(100'000, '['),
       "nested deeper than 32"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_THAT(ParseJsonObject("some/config.json", c.text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::AllOf(HasSubstr("some/config.json: "),
                                          HasSubstr(c.reason))));
  }
}

TEST(JsonFileTest, TakesPythonsWordsForNumbersThatAreNotFinite) {
  ASSERT_OK_AND_ASSIGN(
      const nlohmann::json json,
      ParseJsonObject("x", R"({"a": NaN, "b": [Infinity, -Infinity],
                               "text \" NaN": "\\Infinity", "c": 1})"));
  EXPECT_EQ(json.dump(), R"({"a":"NaN","b":["Infinity","-Infinity"],)"
                         R"("c":1,"text \" NaN":"\\Infinity"})");
}

TEST(JsonFileTest, TakesTheDeepestNestingAllowed) {
  const std::string text = R"({"a":)" + std::string(kMaxJsonDepth - 1, '[') +
                           std::string(kMaxJsonDepth - 1, ']') + "}";
  EXPECT_OK(ParseJsonObject("x", text));
}

TEST(JsonFileTest, RefusesALongFileBeforeReadingIt) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile("config.json", "{}");
  std::filesystem::resize_file(path, kMaxJsonBytes + 1);
  EXPECT_THAT(
      ReadJsonObject(path),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("must have at most 50000000 bytes, has 50000001")));
}

TEST(JsonFileTest, NamesAFileThatIsNotThere) {
  EXPECT_THAT(ReadJsonObject("/nowhere/config.json"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("/nowhere/config.json: No such file")));
}

}  // namespace
}  // namespace ounce::model
