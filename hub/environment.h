// What the environment says about the Hugging Face hub, by the variables that
// its own tools read.
#ifndef OUNCE_HUB_ENVIRONMENT_H_
#define OUNCE_HUB_ENVIRONMENT_H_

#include <string>

#include "absl/status/statusor.h"

namespace ounce::hub {

struct Environment {
  // $HF_ENDPOINT, without a slash at its end.
  std::string endpoint = "https://huggingface.co";
  // $HF_TOKEN, else what is in the file $HF_TOKEN_PATH, else $HF_HOME/token;
  // empty: none. Never logged or printed.
  std::string token;
  std::string token_from;  // for messages: "HF_TOKEN", or the file's path
  bool offline = false;    // $HF_HUB_OFFLINE: only what is in the cache
  std::string cache;       // CacheFolder()
};

// Errors: kInvalidArgument for an endpoint that is no http:// or https://
// address, or has a user in it, and a token that holds what no token does.
absl::StatusOr<Environment> ReadEnvironment();

// The folder of downloaded models: $HF_HUB_CACHE, else $HUGGINGFACE_HUB_CACHE,
// else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub; a ~ in front and $VARIABLE or ${VARIABLE} anywhere
// in it are replaced. Source: huggingface_hub, constants.py.
std::string CacheFolder();

}  // namespace ounce::hub

#endif  // OUNCE_HUB_ENVIRONMENT_H_
