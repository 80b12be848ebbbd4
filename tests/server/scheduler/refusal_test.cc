#include "server/scheduler/refusal.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

TEST(RefusalTest, HasTheCodeOfItsReasonAndSaysWhenToComeBack) {
  const absl::Status full = Refusal(Reason::kQueueFull, "full");
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full.message(), "full");
  EXPECT_EQ(ReasonOf(full), Reason::kQueueFull);
  EXPECT_EQ(RetryAfter(full), absl::Seconds(1));
  EXPECT_EQ(RetryAfter(Refusal(Reason::kMemoryTooSmall, "never")),
            std::nullopt);
  EXPECT_EQ(RetryAfter(absl::OkStatus()), std::nullopt);
}

TEST(RefusalTest, AnErrorOfNoReasonHasThatOfItsCode) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const ReasonRow& row = RowOf(ReasonOf(status));
    EXPECT_EQ(row.name, absl::StatusCodeToString(status.code()));
    EXPECT_EQ(row.code, status.code());
    EXPECT_EQ(RetryAfter(status), std::nullopt);
  }
}

TEST(RefusalTest, IsAboutAFieldOrAModel) {
  const absl::Status field = FieldError("top_p", "must be from 0 to 1, is 2");
  EXPECT_EQ(field.message(), "top_p: must be from 0 to 1, is 2");
  EXPECT_EQ(ReasonOf(field), Reason::kFieldInvalid);
  EXPECT_EQ(FieldOf(field), "top_p");
  EXPECT_EQ(ModelOf(field), "");
  const absl::Status model =
      AboutModel(Refusal(Reason::kModelNotFound, "no model 'a'"), "a");
  EXPECT_EQ(ModelOf(model), "a");
  EXPECT_EQ(FieldOf(model), "");
}

TEST(RefusalTest, ACheckpointThatCannotBeReadSaysWhichWay) {
  EXPECT_EQ(ReasonOf(AboutCheckpoint(absl::NotFoundError("no folder"))),
            Reason::kCheckpointNotFound);
  EXPECT_EQ(ReasonOf(AboutCheckpoint(absl::DataLossError("cut"))),
            Reason::kCheckpointDamaged);
  EXPECT_EQ(ReasonOf(AboutCheckpoint(ShuttingDown())), Reason::kShuttingDown);
  EXPECT_EQ(ReasonOf(AboutCheckpoint(absl::CancelledError("gone"))),
            Reason::kCancelled);
  EXPECT_TRUE(AboutCheckpoint(absl::OkStatus()).ok());
}

TEST(RefusalTest, ReasonsAreDistinctAndInCapitals) {
  std::set<std::string> names;
  for (const ReasonRow& row : Reasons()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    for (const char c : std::string(row.name)) {
      EXPECT_TRUE(absl::ascii_isupper(static_cast<unsigned char>(c)) ||
                  c == '_')
          << row.name;
    }
    EXPECT_NE(std::string(row.help), "");
  }
}

// With OUNCE_WRITE_DOCS set, writes the table instead of checking it.
TEST(RefusalTest, TheDocumentedTableIsTheRealOne) {
  const std::string path = OUNCE_SOURCE_ROOT "/docs/errors.md";
  std::ifstream in(path);
  std::string page(std::istreambuf_iterator<char>(in), {});
  const size_t begin = page.find("| Reason | Code |");
  ASSERT_NE(begin, std::string::npos) << "no table in " << path;
  const size_t end = page.find("\n\n", begin) + 1;
  if (std::getenv("OUNCE_WRITE_DOCS") != nullptr) {
    page.replace(begin, end - begin, ReasonsTable());
    std::ofstream(path) << page;
    return;
  }
  EXPECT_EQ(page.substr(begin, end - begin), ReasonsTable())
      << "write it by OUNCE_WRITE_DOCS=1 build/release/tests/server/scheduler/"
         "refusal_test";
}

}  // namespace
}  // namespace ounce::server
