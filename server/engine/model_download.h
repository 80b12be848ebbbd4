// Models that the Hugging Face cache lacks (--pull).
#ifndef OUNCE_SERVER_ENGINE_MODEL_DOWNLOAD_H_
#define OUNCE_SERVER_ENGINE_MODEL_DOWNLOAD_H_

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace ounce::server {

// Brings `location` into the cache if it is org/name[@revision] and not there,
// or only some of its files are (hub/whole_model.h); what is anything else is
// left for who opens it. Logs how far it is.
//
// Threads: `proceed`, whose error ends it, is called from several at once.
// Errors: hub::ReadEnvironment's and hub::Pull's.
absl::Status DownloadIfAbsent(const std::string& location,
                              const std::function<absl::Status()>& proceed);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_MODEL_DOWNLOAD_H_
