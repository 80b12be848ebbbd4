// What `ounce compare` found out, as the files that it leaves.
//
// A comparison is a JSON object:
//
//   {"model": ..., "settings": {...}, "notes": [...],
//    "results": [{"spec": ..., FIGURE: number, ..., "tensors": [...]}, ...]}
//
// "tensors" tells of each its name, shape, method, bytes and error, whether the
// plan chose its method (norms and what it left alone are not), which is what
// bits per weight and the weights' error are of, and a note where it has other
// codes than its method says.
// A result that could not be had holds "error" (json.h) in place of figures,
// and a figure that was not measured is absent. Which figures there are says
// one list (comparison.cc).
#ifndef OUNCE_CLIENT_COMPARISON_H_
#define OUNCE_CLIENT_COMPARISON_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

using Json = nlohmann::ordered_json;

// Of a quantization: plan, bytes, bits per weight, the weights' error, what
// became of detections, and each tensor.
void AddReport(const v1::QuantizeReport& report, Json* result);

// For a terminal, as Markdown, for a spreadsheet. Figures that no result has
// are left out.
std::string ComparisonTable(const Json& comparison);
std::string ComparisonMarkdown(const Json& comparison);
std::string ComparisonCsv(const Json& comparison);

// The comparison that `folder` holds, to be gone on with; absent if it holds
// none, or one in which nothing was measured.
// Errors: of ReadInput; kDataLoss for a file that is none; kFailedPrecondition
//   when it has other settings than `now`: the first of them, by name.
absl::StatusOr<std::optional<Json>> ReadComparison(const std::string& folder,
                                                   const Json& now);

// Writes results.json, results.csv and results.md, each whole or not at all.
// Errors: of WriteFile.
absl::Status WriteComparison(const std::string& folder, const Json& comparison);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COMPARISON_H_
