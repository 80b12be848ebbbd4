#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics/figures.h"

namespace ounce::server {
namespace {

using ::testing::AnyOf;
using ::testing::StartsWith;

const char* TypeName(MetricType type) {
  switch (type) {
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kCounter:
      return "counter";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "";
}

const char* EndName(SeriesEnd end) {
  switch (end) {
    case SeriesEnd::kNever:
      return "never";
    case SeriesEnd::kModel:
      return "model";
    case SeriesEnd::kVersion:
      return "version";
    case SeriesEnd::kRun:
      return "run";
    case SeriesEnd::kScrape:
      return "scrape";
  }
  return "";
}

// The table as docs/metrics.md shows it.
std::string Markdown() {
  std::string text =
      "| Name | Type | Unit | Labels | Ends | Set by | What it is |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const MetricSpec& spec : MetricTable()) {
    std::string labels = absl::StrJoin(spec.labels, "`, `");
    if (!labels.empty()) labels = absl::StrCat("`", labels, "`");
    absl::StrAppend(&text, "| `", spec.name, "` | ", TypeName(spec.type), " | ",
                    spec.unit, " | ", labels, " | ", EndName(spec.end), " | ",
                    spec.set_by, " | ", spec.help, " |\n");
  }
  return text;
}

TEST(MetricTableTest, KeepsToPrometheusConventions) {
  std::set<std::string> names;
  for (const MetricSpec& spec : MetricTable()) {
    const std::string name = spec.name;
    const std::string unit = spec.unit;
    SCOPED_TRACE(name);
    EXPECT_TRUE(names.insert(name).second);
    EXPECT_THAT(name, AnyOf(StartsWith("ounce_"), StartsWith("process_"),
                            StartsWith("exposer_")));
    EXPECT_EQ(absl::EndsWith(name, "_total"),
              spec.type == MetricType::kCounter);
    if (unit == "seconds" || unit == "bytes" || unit == "ratio") {
      EXPECT_TRUE(absl::StrContains(name, absl::StrCat("_", unit)));
    }
    EXPECT_NE(std::string(spec.help), "");
    EXPECT_NE(std::string(spec.set_by), "");
    EXPECT_EQ(spec.type == MetricType::kHistogram, !spec.buckets.empty());
    EXPECT_LE(spec.buckets.size(), 20u);
    EXPECT_TRUE(std::is_sorted(spec.buckets.begin(), spec.buckets.end()));
    if (spec.type == MetricType::kHistogram) {
      EXPECT_TRUE(absl::EndsWith(name, "_seconds") ||
                  absl::EndsWith(name, "_pictures") ||
                  absl::EndsWith(name, "_tokens"));
    }
  }
}

TEST(MetricTableTest, EndsSeriesByLabelsThatTheyHave) {
  for (const MetricSpec& spec : MetricTable()) {
    SCOPED_TRACE(spec.name);
    const std::set<std::string> labels(spec.labels.begin(), spec.labels.end());
    const bool of_a_model =
        !spec.labels.empty() && std::string(spec.labels.front()) == "model";
    switch (spec.end) {
      case SeriesEnd::kNever:
        EXPECT_FALSE(labels.contains("model"));
        break;
      case SeriesEnd::kModel:
      case SeriesEnd::kRun:
        EXPECT_TRUE(of_a_model);
        EXPECT_FALSE(labels.contains("version"));
        break;
      case SeriesEnd::kVersion:
        EXPECT_TRUE(of_a_model);
        EXPECT_TRUE(labels.contains("version"));
        break;
      case SeriesEnd::kScrape:
        EXPECT_EQ(spec.type, MetricType::kGauge);
        break;
    }
  }
}

// OUNCE_WRITE_DOCS=1 in the environment writes it there.
TEST(MetricTableTest, StandsInTheDocs) {
  const std::string path = OUNCE_SOURCE_ROOT "/docs/metrics.md";
  std::ifstream in(path);
  ASSERT_TRUE(in.is_open()) << path;
  std::string page((std::istreambuf_iterator<char>(in)), {});
  const size_t start = page.find("| Name | Type |");
  ASSERT_NE(start, std::string::npos);
  const size_t end = page.find("\n\n", start);
  const size_t size = end == std::string::npos ? end : end + 1 - start;
  if (std::getenv("OUNCE_WRITE_DOCS") != nullptr) {
    std::ofstream(path) << page.replace(start, size, Markdown());
    return;
  }
  EXPECT_EQ(page.substr(start, size), Markdown())
      << "to write it: OUNCE_WRITE_DOCS=1 and this test once more";
}

}  // namespace
}  // namespace ounce::server
