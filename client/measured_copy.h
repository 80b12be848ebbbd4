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

  // Figures of one spec, into `result`. `place` tells which one it is: "2/7".
  // The copy is gone by then, also when the calls of `client` are cancelled
  // meanwhile; if that can't be, stderr says how to end it.
  // Errors: of Quantize, Evaluate, Generate, DetectObjects and GetServer, but
  //   kInvalidArgument is the spec's alone: once the copy is made it becomes
  //   kFailedPrecondition.
  absl::Status Measure(const std::string& spec, const std::string& place,
                       Json* result);

 private:
  void Tell(const std::string& bar, const std::string& stage, int64_t done,
            int64_t total);
  absl::Status Build(const std::string& spec, Json* result);
  absl::Status MeasureText(Json* result);
  absl::Status MeasurePictures(Json* result);

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
