// Answers of the server as text for people.
#ifndef OUNCE_CLIENT_REPORT_H_
#define OUNCE_CLIENT_REPORT_H_

#include <optional>
#include <string>

#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

// Text that nobody vouches for, on one line: what moves a terminal's cursor,
// colours or turns it becomes U+FFFD, what is longer than `max_characters` is
// cut.
std::string Printable(const std::string& text, int max_characters);

// A share: "12.34%". Never rounded up to all of it.
std::string Percent(double ratio);

// What each model does, then what it weighs; columns of a KV cache if any model
// has one.
std::string ModelsText(const v1::ListModelsResponse& response);

// The same without what only ModelAdmin tells.
std::string ServedModelsText(const v1::ListServedModelsResponse& response);

std::string MethodsText(const v1::ListMethodsResponse& response);

// What was saved and where, a table of its files, and how to serve it.
std::string SavedText(const v1::SaveModelReport& report);

// Of a quantization of `source`. Bytes before and after, or, if it is served
// beside `source` under another name, what it takes; where detections moved, if
// that was asked for; bytes by kind of tensor; then the tensors: those whose
// names differ only in numbers on one line, with their worst error, and all
// norms and biases on one; each on its own if `all`. Why some were left alone
// or have other codes comes as notes below, which keeps lines short.
std::string ReportText(const v1::QuantizeReport& report,
                       const std::string& source, bool all);

// A table of objects, best first, with the corners of their boxes; or that
// there is none above `threshold` (absent: the default one).
std::string DetectionsText(const v1::DetectObjectsResponse& response,
                           std::optional<float> threshold);

// A DetectObjects on one line: the picture's size, times, what answered.
std::string DetectionUsageText(const std::string& model,
                               const v1::DetectObjectsResponse& response);

// The last message of a Generate on one line: tokens, speed if decoding took
// long enough to tell it, the seed if tokens were drawn, why it ended.
std::string UsageText(const std::string& model,
                      const v1::GenerateResponse& last);

// Of an evaluation, in a few lines, with the floats if they were compared with.
std::string EvaluationText(const v1::EvaluateReport& report);

// One line for a terminal: a bar, counts, and the tensor if there are any.
std::string ProgressBar(const v1::QuantizeProgress& progress);
std::string ProgressBar(const v1::EvaluateProgress& progress);
std::string ProgressBar(const v1::SaveModelProgress& progress);

// "loading", "ready", "quantizing", "unloading".
std::string StateName(v1::ModelState state);

// "reading", "quantizing", "evaluating", "swapping", "done".
std::string StageName(v1::QuantizeStage stage);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_REPORT_H_
