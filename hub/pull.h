// A model of the hub, brought onto the disk.
#ifndef OUNCE_HUB_PULL_H_
#define OUNCE_HUB_PULL_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "hub/model_name.h"
#include "hub/progress.h"

namespace ounce::hub {

struct PullOptions {
  ModelName name;
  std::vector<std::string> include = {};  // patterns (wanted_files.h)
  std::string into = {};                  // a folder; empty: the hub's cache
  int connections = 4;                    // at most, at once
};

struct Pulled {
  std::string folder;  // what --model and LoadModel take
  std::string commit;  // empty if that is not known: offline, of the cache
  std::vector<FileProgress> files;
};

// Downloads what is not there yet. `on_progress` is called now and then, from
// one thread at a time. Several pulls, of any processes, may run at once; one
// that ends early leaves what it has for the next.
//
// A finished folder (`into`) is left as it is, and the hub not asked: where it
// is the same revision of the same model with the same files. Offline, what the
// cache has is all there is.
// Errors: HubApi's, WantedFiles', Download's; kFailedPrecondition for a folder
// that holds another model, and offline for what is not there;
// kResourceExhausted where the disk has too little room, before anything is
// fetched.
absl::StatusOr<Pulled> Pull(const Environment& environment,
                            const PullOptions& options, const Hooks& hooks,
                            const OnProgress& on_progress);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_PULL_H_
