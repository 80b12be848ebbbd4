// A folder, brought to the hub as a model.
#ifndef OUNCE_HUB_PUSH_H_
#define OUNCE_HUB_PUSH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "hub/model_name.h"
#include "hub/progress.h"

namespace ounce::hub {

struct PushOptions {
  std::string folder;
  ModelName name;  // with an organization or user; the revision is a branch
  // A new repository is private; one that is there and public is refused.
  bool is_private = false;
  std::string summary = "Upload by Ounce";  // of the commit, one line
  int connections = 4;                      // at most, at once
};

struct Pushed {
  std::string page;    // where it can be seen
  std::string commit;  // empty where nothing had changed
  std::vector<FileProgress> files;
};

// Makes the repository unless it is there, and commits the folder's files to
// it, hidden ones left out, in one commit; other files there stay. What the hub
// has already is not sent again, so after an error it can simply be called
// again.
// Errors: kUnauthenticated without a token, saying what to do; HubApi's;
// kInvalidArgument for a folder that is none, is empty, or has names that
// can't be told to the hub; kAborted where somebody else has committed
// meanwhile; kFailedPrecondition offline; kDataLoss for files that can't be
// read and answers that are none of the hub's.
absl::StatusOr<Pushed> Push(const Environment& environment,
                            const PushOptions& options, const Hooks& hooks,
                            const OnProgress& on_progress);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_PUSH_H_
