// The configuration that a server runs with now, as text.
#ifndef OUNCE_SERVER_CONFIG_TEXT_H_
#define OUNCE_SERVER_CONFIG_TEXT_H_

#include <string>
#include <vector>

#include "server/config.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// What --config reads: the settings that were made, and the models that are
// served, each as it is now. Globs that a quantization was called with have no
// field there; a comment says which they were.
std::string ConfigText(const Config& config,
                       const std::vector<ModelInfo>& models);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_CONFIG_TEXT_H_
