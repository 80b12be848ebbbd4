// A second copy of a served model, for `ounce compare`: made by a spec,
// measured and taken away, while the model serves on as it is.
#ifndef OUNCE_CLIENT_MEASURED_COPY_H_
#define OUNCE_CLIENT_MEASURED_COPY_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "client/client.h"
#include "client/comparison.h"
#include "client/comparison_subject.h"
#include "client/progress_line.h"

namespace ounce::client {

// Ownership: `client` and `subject` must outlive it.
class MeasuredCopy {
 public:
  // Shows how far it is on stderr, unless `json`.
  MeasuredCopy(Client& client, const Subject& subject, bool json);

  // Whether the copy's name is free.
  // Errors: kAlreadyExists when it is not; of GetModel.
  absl::Status CheckName();

  // Whether the model can be stored by `spec`, as far as the headers of its
  // checkpoint tell: a moment's work.
  // Errors: of Inspect.
  absl::Status Judge(const std::string& spec);

  // Why there are no figures, if there are none.
  struct Outcome {
    absl::Status status;
    bool concerns_all = false;  // it would be so for every other spec
    absl::Status saved = absl::OkStatus();  // beside figures
  };
  // Figures of one spec, into `result`. `place` tells which one it is: "2/7".
  // Then, unless `folder` is empty, it is saved there, which `result` tells as
  // "saved", or, if that can't be, as "not_saved".
  // The copy is gone by then, also when the calls of `client` are cancelled
  // meanwhile; if that can't be, stderr says how to end it.
  // Errors: of Quantize, Evaluate, Generate, DetectObjects and GetServer.
  Outcome Measure(const std::string& spec, const std::string& place,
                  const std::string& folder, Json* result);

 private:
  void Tell(const std::string& bar, const std::string& stage, int64_t done,
            int64_t total);
  absl::Status Build(const std::string& spec, Json* result);
  absl::Status MeasureText(Json* result);
  absl::Status MeasurePictures(Json* result);
  absl::Status Save(const std::string& folder, Json* result);

  Client& client_;
  const Subject& subject_;
  const std::string model_;
  const std::string copy_;
  const bool json_;
  std::string doing_;
  ProgressLine shown_;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_MEASURED_COPY_H_
