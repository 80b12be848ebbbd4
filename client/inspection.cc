#include "client/inspection.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/byte_size.h"
#include "base/text_table.h"
#include "client/footnotes.h"
#include "client/report.h"

namespace ounce::client {
namespace {

constexpr int kLongestName = 200;  // characters

// A tensor that nobody needs, or that is another's, has none.
std::string MethodOf(const v1::InspectedTensor& tensor) {
  return tensor.report().method().empty() ? "-" : tensor.report().method();
}

// The same as a cell, with a mark where it has other codes than its method
// says; why is below.
std::string MarkedMethodOf(const v1::InspectedTensor& tensor,
                           Footnotes* footnotes) {
  const std::string& note = tensor.report().note();
  if (note.empty()) return MethodOf(tensor);
  return absl::StrCat(MethodOf(tensor), " ",
                      footnotes->Mark(Printable(note, kLongestName)));
}

std::string TotalsText(const v1::InspectResponse& response,
                       Footnotes* footnotes) {
  struct Total {
    int64_t tensors = 0, checkpoint = 0, stored = 0, resident = 0;
  };
  std::map<std::pair<std::string, std::string>, Total> totals;
  for (const v1::InspectedTensor& tensor : response.tensors()) {
    Total& total = totals[{tensor.dtype(), MarkedMethodOf(tensor, footnotes)}];
    ++total.tensors;
    total.checkpoint += tensor.report().bytes_before();
    total.stored += tensor.report().bytes_after();
    total.resident += tensor.resident_bytes();
  }
  TextTable table({"DTYPE", "STORED BY", "-TENSORS", "-CHECKPOINT", "-STORED",
                   "-IN MEMORY"});
  for (const auto& [of, total] : totals) {
    table.Add({of.first, of.second, absl::StrCat(total.tensors),
               FormatByteSize(total.checkpoint), FormatByteSize(total.stored),
               FormatByteSize(total.resident)});
  }
  return table.Text();
}

std::string DistributionText(const v1::Distribution& found) {
  constexpr int64_t kWidth = 50;
  std::string text = absl::StrFormat(
      "%d values from %.6g to %.6g, mean %.4g, standard deviation %.4g",
      found.count(), found.min(), found.max(), found.mean(),
      found.standard_deviation());
  if (found.zeros() > 0) {
    absl::StrAppendFormat(&text, "; %d are 0", found.zeros());
  }
  if (found.non_finite() > 0) {
    absl::StrAppendFormat(&text, "; besides %d that are no finite number",
                          found.non_finite());
  }
  text += "\n";
  if (found.bins().empty() || found.min() == found.max()) return text;
  const int64_t most = std::max<int64_t>(
      1, *std::max_element(found.bins().begin(), found.bins().end()));
  const double width = (found.max() - found.min()) / found.bins_size();
  for (int i = 0; i < found.bins_size(); ++i) {
    const int64_t count = found.bins(i);
    // What is there at all shows.
    const int64_t bar =
        count > 0 ? std::max<int64_t>(1, kWidth * count / most) : 0;
    absl::StrAppendFormat(
        &text, "%12.4g %s%s %d\n", found.min() + (i + 0.5) * width,
        std::string(bar, '#'), std::string(kWidth - bar, ' '), count);
  }
  return text;
}

}  // namespace

std::string InspectionText(const v1::InspectResponse& response) {
  std::string text = absl::StrFormat(
      "%s (%s)\nplan: %s\ncheckpoint %s, stored %s, in memory %s\n\n",
      Printable(response.folder(), kLongestName),
      Printable(response.architecture(), kLongestName),
      Printable(response.plan(), 2000),
      FormatByteSize(response.checkpoint_bytes()),
      FormatByteSize(response.stored_bytes()),
      FormatByteSize(response.resident_bytes()));
  Footnotes footnotes;
  absl::StrAppend(&text, TotalsText(response, &footnotes), "\n");
  TextTable table(
      {"TENSOR", "SHAPE", "DTYPE", "-CHECKPOINT", "STORED BY", "-STORED"});
  for (const v1::InspectedTensor& tensor : response.tensors()) {
    const v1::TensorReport& report = tensor.report();
    table.Add({Printable(report.name(), kLongestName),
               absl::StrJoin(report.shape(), "x"), tensor.dtype(),
               FormatByteSize(report.bytes_before()),
               MarkedMethodOf(tensor, &footnotes),
               FormatByteSize(report.bytes_after())});
  }
  return absl::StrCat(text, table.Text(), footnotes.Text());
}

std::string ValuesText(const v1::TensorValues& values) {
  std::string text = absl::StrCat(Printable(values.tensor(), kLongestName),
                                  "\n", DistributionText(values.values()));
  if (!values.has_errors()) return text;
  absl::StrAppendFormat(
      &text, "\n%s: %s, relative L2 error %.5f%s\n",
      Printable(values.method(), kLongestName),
      FormatByteSize(values.method_bytes()), values.relative_l2_error(),
      values.has_snr_db() ? absl::StrFormat(", SNR %.1f dB", values.snr_db())
                          : "");
  if (!values.note().empty()) {
    absl::StrAppend(&text, Printable(values.note(), kLongestName), "\n");
  }
  return text + "errors: " + DistributionText(values.errors());
}

}  // namespace ounce::client
